"""How many tokens a text is, roughly."""

from __future__ import annotations

from typing import Final

_CHARACTERS_A_TOKEN: Final = 4


def estimate_tokens(text: str) -> int:
    """Tokens of a text without a tokenizer: a quarter of its ASCII characters, and each other character in full.

    Byte-pair vocabularies give English prose 4 to 5 characters a token and most other scripts 0.5 to 2, so this is
    rather too many than too few: a budget kept by the estimate is kept by the model.
    """
    ascii_characters = len(text) if text.isascii() else len(text.encode("ascii", "ignore"))
    return -(-ascii_characters // _CHARACTERS_A_TOKEN) + len(text) - ascii_characters
