"""Graphs written once a machine: built on first use, kept in the data folder, checked whenever they are read."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from anabranch_embedding.adapters.minilm.weights import REVISION, PackagedModel, Quantisation
from anabranch_observability import get_logger
from anabranch_observability.names import embedding as names

__all__ = ["GraphCache"]

log = get_logger()

_DIGEST = 64


class GraphCache:
    """ONNX graphs as files `<version>-g<revision>.onnx`: their sha256 in hex, then the graph's bytes.

    Several processes may share the folder: a file appears whole or not at all, and all would write the same.
    """

    def __init__(self, folder: Path) -> None:
        """Takes the folder; it is made when first written to."""
        self._folder = folder

    def graph(self, model: PackagedModel, quantisation: Quantisation) -> bytes:
        """Return the graph's bytes. Blocks: 0.1 s from the cache, 2 s when it has to be built first."""
        path = self._folder / f"{model.identity(quantisation).version}-g{REVISION}.onnx"
        return self._read(path) or self._write(path, lambda: _build(model, quantisation))

    def _read(self, path: Path) -> bytes | None:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        digest, graph = content[:_DIGEST], content[_DIGEST:]
        if hashlib.sha256(graph).hexdigest().encode() == digest:
            return graph
        log.warning(names.Log.GRAPH_DISCARDED, path=str(path), reason="its digest does not fit its content")
        return None

    def _write(self, path: Path, build: Callable[[], bytes]) -> bytes:
        graph = build()
        self._folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=self._folder, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(graph).hexdigest().encode())
                file.write(graph)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        log.info(names.Log.GRAPH_BUILT, path=str(path), bytes=len(graph))
        return graph


def _build(model: PackagedModel, quantisation: Quantisation) -> bytes:
    # onnx and safetensors cost 0.3 s and 60 MB to import; a start from the cache needs neither.
    from safetensors.numpy import load_file  # noqa: PLC0415  see above

    from anabranch_embedding.adapters.minilm import graph  # noqa: PLC0415  see above

    return graph.build(load_file(model.weights), quantisation).SerializeToString()
