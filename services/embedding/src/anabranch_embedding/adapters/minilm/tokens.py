"""Texts to token ids, and sentences to rows of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer

from anabranch_embedding.adapters.minilm.weights import WINDOW
from anabranch_embedding.domain import Float32, Text

__all__ = ["PREFIX_TOKENS", "Tokenised", "Vocabulary"]

PREFIX_TOKENS: Final = 48
"""What a prefix may take of the window; the rest of it is not seen."""

_BEGIN: Final = 101
_END: Final = 102


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenised:
    """One text as the model reads it; `sentences` are half-open ranges of tokens, empty where none is in the window."""

    ids: npt.NDArray[np.int32]
    sentences: Sequence[tuple[int, int]]

    def pools(self, width: int, rows: int) -> Float32:
        """Return weights of `width` tokens in `rows` vectors: the text's own first, then one a sentence, then zeros."""
        pools = np.zeros((rows, width), np.float32)
        pools[0, : len(self.ids)] = 1 / len(self.ids)
        for row, (start, end) in enumerate(self.sentences, start=1):
            if start < end:
                pools[row, start:end] = 1 / (end - start)
        return pools


class Vocabulary:
    """The model's tokenizer. Threads may share it; it holds no lock while it works."""

    def __init__(self, path: Path) -> None:
        """Reads the tokenizer.json: 20 ms."""
        self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def tokenise(self, text: Text) -> Tokenised:
        """Return the prefix's first 48 tokens, then as much of the body as the window of 256 takes.

        The two are read apart, which gives the same tokens as reading them with a newline between, and offsets that
        count from the body's beginning.
        """
        head = self._encode(text.prefix).ids[:PREFIX_TOKENS] if text.prefix else []
        body = self._encode(text.body)
        ids = np.array([_BEGIN, *head, *body.ids[: WINDOW - 2 - len(head)], _END], np.int32)
        first = 1 + len(head)
        if not text.sentences:
            return Tokenised(ids=ids, sentences=())
        seen = len(ids) - 1 - first
        # A token belongs to the sentence in which it begins.
        starts = np.fromiter((start for start, _ in body.offsets[:seen]), np.int64, seen)
        edges = np.searchsorted(starts, np.array(text.sentences, np.int64)) + first
        return Tokenised(ids=ids, sentences=[(int(start), int(end)) for start, end in edges])

    def _encode(self, text: str) -> Encoding:
        return self._tokenizer.encode(text, add_special_tokens=False)
