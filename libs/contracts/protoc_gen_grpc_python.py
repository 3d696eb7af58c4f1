"""A protoc plugin for gRPC's Python stubs: grpcio-tools has the generator only inside of its own protoc."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse
from google.protobuf.descriptor_pb2 import FileDescriptorSet


def main() -> int:
    """Answers one request on standard input."""
    request = CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    response = CodeGeneratorResponse(supported_features=CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL)
    with tempfile.TemporaryDirectory() as scratch:
        files = Path(scratch) / "files.binpb"
        files.write_bytes(FileDescriptorSet(file=request.proto_file).SerializeToString())
        out = Path(scratch) / "out"
        out.mkdir()
        command = ["-m", "grpc_tools.protoc", f"--descriptor_set_in={files}", f"--grpc_python_out={out}"]
        done = subprocess.run(
            [sys.executable, *command, *request.file_to_generate], check=False, capture_output=True, text=True
        )
        response.error = done.stderr if done.returncode else ""
        for path in sorted(out.rglob("*_pb2_grpc.py")):
            response.file.add(name=path.relative_to(out).as_posix(), content=path.read_text())
    if not response.error:
        response.ClearField("error")
    sys.stdout.buffer.write(response.SerializeToString())
    return 0


if __name__ == "__main__":
    sys.exit(main())
