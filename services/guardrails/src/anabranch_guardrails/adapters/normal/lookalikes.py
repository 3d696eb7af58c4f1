"""Letters of other scripts that look like Latin ones."""
# ruff: noqa: RUF001, E501  letters that may be taken for others are what this file is about, in tables

from __future__ import annotations

from typing import Final

__all__ = ["LOOKALIKES"]

_PAIRS: Final = (
    # Cyrillic
    ("аАӑӓ", "a"), ("ЬъЪ", "b"), ("сСҫ", "c"), ("ԁ", "d"), ("еЕёЁєЄәҽ", "e"), ("ԍ", "g"), ("һҺнН", "h"), ("іІїЇ", "i"),
    ("јЈ", "j"), ("кКқҚ", "k"), ("ӏӀ", "l"), ("мМ", "m"), ("пҥ", "n"), ("оОөӧ", "o"), ("рРҏ", "p"), ("ԛ", "q"),
    ("ѕЅ", "s"), ("тТ", "t"), ("ц", "u"), ("ѵѴ", "v"), ("ԝшщ", "w"), ("хХҳ", "x"), ("уУүҮў", "y"), ("ВвБ", "b"), ("ҙ", "z"),
    # Greek
    ("αΑά", "a"), ("βΒ", "b"), ("ϲϹ", "c"), ("εΕέ", "e"), ("ηΗή", "n"), ("ιΙίϊ", "i"), ("κΚ", "k"), ("Μ", "m"), ("νΝ", "v"),
    ("οΟόσ", "o"), ("ρΡ", "p"), ("τΤ", "t"), ("υύμ", "u"), ("ωώ", "w"), ("χΧ", "x"), ("γΥ", "y"), ("Ζζ", "z"),
    # Small capitals and turned letters
    ("ᴀɑɐ", "a"), ("ʙ", "b"), ("ᴄɔ", "c"), ("ᴅɗ", "d"), ("ᴇǝɘ", "e"), ("ꜰɟ", "f"), ("ɢɡ", "g"), ("ʜɥ", "h"), ("ɪɩı", "i"), ("ᴊ", "j"),
    ("ᴋʞ", "k"), ("ʟɭ", "l"), ("ᴍɯ", "m"), ("ɴɲ", "n"), ("ᴏ", "o"), ("ᴘ", "p"), ("ǫ", "q"), ("ʀɹ", "r"), ("ꜱʂ", "s"), ("ᴛʇ", "t"),
    ("ᴜʊ", "u"), ("ᴠʌ", "v"), ("ᴡʍ", "w"), ("ʏʎ", "y"), ("ᴢʐ", "z"),
    # Armenian, Cherokee and others that lists of homoglyphs hold
    ("ցɋ", "g"), ("հ", "h"), ("ո", "n"), ("օ", "o"), ("ս", "u"), ("զ", "q"), ("ք", "p"), ("Ꭺ", "a"), ("Ᏼ", "b"), ("Ꮯ", "c"), ("Ꭰ", "d"),
    ("Ꭼ", "e"), ("Ꮐ", "g"), ("Ꮋ", "h"), ("Ꭻ", "j"), ("Ꮶ", "k"), ("Ꮮ", "l"), ("Ꮇ", "m"), ("Ꮲ", "p"), ("Ꭱ", "r"), ("Ꮪ", "s"), ("Ꭲ", "t"),
    ("Ꮩ", "v"), ("Ꮃ", "w"), ("Ꮓ", "z"),
)  # fmt: skip

_SQUARED: Final = (0x1F130, 0x1F150, 0x1F170, 0x1F1E6)
"""Letters in boxes and circles, and those that flags are made of: 26 each."""

LOOKALIKES: Final = {letter: latin for letters, latin in _PAIRS for letter in letters} | {
    chr(first + place): chr(ord("a") + place) for first in _SQUARED for place in range(26)
}
