"""Embeds texts with sentence-transformers, fp32, as its users would. Run by bench.py in an environment of its own.

Reads JSON lines on standard input, each a list of texts; answers each with one line: seconds, wall and processor.
"""

# ruff: noqa: INP001  a program, not part of a package
import json
import sys
import time

import torch  # type: ignore[import-not-found]  # not of this environment
from sentence_transformers import SentenceTransformer  # type: ignore[import-not-found]  # as above


def main() -> None:
    """Answer until the input ends."""
    torch.set_num_threads(int(sys.argv[2]))
    model = SentenceTransformer(sys.argv[1], device="cpu")
    model.max_seq_length = 256
    model.encode(["The first call is slower."])
    print(json.dumps({"threads": torch.get_num_threads(), "torch": torch.__version__}), flush=True)  # noqa: T201  the protocol
    for line in sys.stdin:
        texts = json.loads(line)
        wall, processor = time.perf_counter(), time.process_time()
        model.encode(texts, batch_size=32)
        spent = {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}
        print(json.dumps(spent), flush=True)  # noqa: T201  the protocol


if __name__ == "__main__":
    main()
