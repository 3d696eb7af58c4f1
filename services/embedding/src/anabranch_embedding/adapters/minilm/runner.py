"""Runs tokenised texts through the graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import onnxruntime  # type: ignore[import-untyped]  # ships no types

from anabranch_embedding.adapters.minilm.tokens import Tokenised
from anabranch_embedding.domain import Encoding, quantise, unit

__all__ = ["Runner"]

_PADDING: Final = -10_000.0
_UNMASKED: Final = np.zeros((1, 1, 1, 1), np.float32)
_ERRORS_ONLY: Final = 3


class Runner:
    """A loaded graph. Any number of threads may run it at once; each run works in its caller's thread alone.

    So the number of threads is decided in one place, by whoever calls, and texts run side by side without ever
    waiting for each other, as the threads of one run would.
    """

    def __init__(self, graph: bytes) -> None:
        """Loads the graph: 0.1 to 0.3 s, and 60 MB (int8) or 100 MB (fp32)."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        # The graph is written as it is to be run: fusing its layer norms would slow it down.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = _ERRORS_ONLY
        self._session: Any = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def run(self, texts: Sequence[Tokenised]) -> list[Encoding]:
        """Return the encodings of texts of about one length, in their order. Blocks, and releases the GIL."""
        width = max(len(text.ids) for text in texts)
        rows = 1 + max(len(text.sentences) for text in texts)
        ids = np.zeros((len(texts), width), np.int32)
        pools = np.empty((len(texts), rows, width), np.float32)
        mask = _UNMASKED
        if any(len(text.ids) < width for text in texts):
            mask = np.zeros((len(texts), 1, 1, width), np.float32)
        for index, text in enumerate(texts):
            ids[index, : len(text.ids)] = text.ids
            pools[index] = text.pools(width, rows)
            if mask is not _UNMASKED:
                mask[index, 0, 0, len(text.ids) :] = _PADDING
        (vectors,) = self._session.run(None, {"ids": ids, "mask": mask, "pools": pools})
        found = []
        for text, row in zip(texts, vectors, strict=True):
            units = unit(row[: 1 + len(text.sentences)])
            found.append(Encoding(vector=units[0], sentences=quantise(units[1:]), tokens=len(text.ids)))
        return found
