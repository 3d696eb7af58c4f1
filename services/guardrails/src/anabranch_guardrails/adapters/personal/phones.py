"""Telephone numbers: by their form, by where they would ring, and by what is said around them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

import phonenumbers

from anabranch_guardrails.adapters.personal.kinds import PHONE, Found

_CANDIDATE: Final = re.compile(
    r"(?<![\w./#@$€£&%+-])(?<!\d:)(?<!\D\d,)(?<!\D\d\d,)(?<!\D\d\d\d,)"
    r"(?:\+\s?|\(\+|00[ -]?)?\(?\d{1,15}\)?"
    r"(?:(?:\s-\s|  |[ .\-/\u2022])?\(\d{1,5}\)|(?<=\))\d{1,12}|(?:\s-\s|  |[ .\-/\u2022])\d{1,12}){0,9}"
    r"(?:[ ,;]{0,2}(?:extension|extn|ext\.?|x|\#)[ .:]{0,2}\d{1,6})?"
    r"(?![\w@]|[.:/-]\d|,\d{1,3}(?![\d.(-])|%)",
    re.IGNORECASE,
)
_EXTENSION: Final = re.compile(r"[ ,;]{0,2}(?:extension|extn|ext\.?|x|\#)[ .:]{0,2}\d{1,6}$", re.IGNORECASE)
_DATE: Final = re.compile(
    r"^(?:(?:18|19|20|21)\d{2}(?: - |[-./ ])(?:0?[1-9]|1[0-2])(?: - |[-./ ])(?:0?[1-9]|[12]\d|3[01])(?!\d)"
    r"|(?:0?[1-9]|[12]\d|3[01])(?: - |[-./])(?:0?[1-9]|[12]\d|3[01])(?: - |[-./])(?:19|20)?\d{2}(?!\d))"
)
_WORDS: Final = re.compile(
    r"\b(?:phone|phones|telephone|tele?|tel\.|mobile|mob|cell|cellphone|cellular|call|calls|called|calling|caller|"
    r"ring|dial|dialled|dialed|fax|desk|sms|text(?:ed|s)?(?: me| us| him| her| them)?(?= (?:at|on|to))|text me|texts|"
    r"text messages?|whatsapp|signal|telegram|messages?|voicemail|landline|hotline|helpline|"
    r"switchboard|handset|pager|reach(?:ed|able)?|contact(?:ed)?|ph|hp|direct line|home line|work line|"
    r"tel[eé]fono|t[eé]l[eé]phone|t[eé]l|telefon|telefonnummer|telefoonnummer|telefoon|telefone|telefono|handy|"
    r"handynummer|mobil|mobiel|rufnummer|m[oó]vil|celular|cellulare|portable|puhelin|puhelinnumero|tlf|rappel\w*|"
    r"appel\w*|anrufen|erreichen|ll[aá]m\w*|chiam\w*|bel)\b",
    re.IGNORECASE,
)
_NUMBER_WORD: Final = re.compile(
    r"(?<!-)\b(?:number|numbers|no\.|num|nummer|n[uú]mero|num[eé]ro|registered)\b", re.IGNORECASE
)
_NOT_PHONE: Final = re.compile(
    r"(?:\b(?:orders?|invoice|tracking|shipment|parcel|account|acct|routing|sort code|isbn|issn|doi|version|v|release|"
    r"build|zip(?: ?code)?|postal code|postcode|serial|sku|ticket|case|ssn|social security|passport|licen[cs]e|card|"
    r"policy|pin|port|id|ids|vat|tax|patent|flight|reference|ref|part|model|item|batch|lot|page|pages|section|rfc|"
    r"pmid|population|salary|price|total|sum|amount|balance|usd|eur|gbp|chf|inr|jpy|room|error|code|timestamp|"
    r"bytes|hash|iban|coordinates|latitude|longitude|lat|lon|postcode|fine of|worth|approximately|about|over)\b"
    r"[ ]?(?:number|no\.?|num|#|code|id)?[ ]{0,2}(?:is|was|are|of|:|=|#)?[ ]{0,2}[\"'(]?|[$€£¥₹]\s?)$",
    re.IGNORECASE,
)
_NOT_AFTER: Final = re.compile(
    r"^\s{0,2}(?:%|€|\$|£|¥|usd|eur|dollars?|euros?|pounds?|people|inhabitants|residents|bytes|kb|mb|gb|km|kg|miles|"
    r"metres|meters|units|years|tokens|rows|ms|seconds|hours)\b",
    re.IGNORECASE,
)
_TIGHT: Final = re.compile(
    rf"(?:{_WORDS.pattern}|{_NUMBER_WORD.pattern})"
    r"(?:\W{0,3}(?:me|us|him|her|them|back|number|no|nr|is|was|at|on|to|via|by)){0,4}\W{0,3}$",
    re.IGNORECASE,
)
_STREET: Final = re.compile(
    r"^,? (?!(?:to|the|a|an|are|does|still|been|and|or|for|so|i|please|if|because|when|but|as|with|before|after|asap|"
    r"now|today|is|in|from|about|my|at|on|tomorrow|anytime|it|was|has|he|she|we|they|you|this|that|then|thanks|thank|"
    r"instead|until|since|any|whenever)\b)[^\W\d_]{2}",
    re.IGNORECASE,
)
_PLAIN_GROUPS: Final = re.compile(r"^\d{1,5} \d{1,5}(?: \d{1,5})?$")
_YEARS: Final = re.compile(r"^(?:1[5-9]|20|21)\d{2}[-/ ](?:1[5-9]|20|21)\d{2}$")
_LABEL: Final = re.compile(
    r"^\s{0,2}[-(:,\[]\s{0,2}(?:office|fax|mobile|mob|home|work|cell|phone|tel|telephone|direct|main|desk)\b",
    re.IGNORECASE,
)
_POSTCODE: Final = re.compile(r"^(?:\d{4}-\d{3}|\d{5}-\d{3,4})$")
_SPEAKER: Final = re.compile(r"^\W{0,4}(?:[\w.]{1,20}(?: [\w.]{1,20})?\s?[:>]\s{0,3})?\W{0,3}$")
_NANP: Final = re.compile(r"^(?:(?:\+?1|001)[ .-]?)?(?:\(\d{3}\)[ .-]{0,3}|\d{3}[.-]|\d{3} )\d{3}[ .-]\d{4}$")
_TRUNK: Final = re.compile(r"^\(?0\d{1,4}\)?(?:[ ./-]\d{2,8}){1,5}$")
_THOUSANDS: Final = re.compile(r"^\d{1,3}(?:[ .]\d{3})+$")
_NOT_DIGIT: Final = re.compile(r"\D")
_BEFORE: Final = 64
_AFTER: Final = 24
_FEWEST: Final = 7
_WHOLE: Final = 10
"""Digits that a number without gaps has, area code and all."""
_MOST: Final = 15
REGIONS: Final = (
    "GB",
    "FR",
    "DE",
    "AU",
    "IT",
    "ES",
    "NL",
    "BE",
    "CH",
    "AT",
    "SE",
    "IN",
    "BR",
    "JP",
    "ZA",
    "NZ",
    "IE",
    "FI",
)
"""Whose national numbers are known without a word that says so."""


def phones(text: str) -> Iterator[Found]:
    """Telephone numbers, extensions included."""
    for match in _CANDIDATE.finditer(text):
        start, end = match.span()
        shown = match.group()
        plain = _EXTENSION.sub("", shown)
        if shown.count("(") != shown.count(")"):
            # A bracket that belongs to the sentence.
            start, end, shown, plain = _unbracketed(start, shown, plain)
        count = sum(char.isdigit() for char in plain)
        while count > _MOST and " " in plain:
            # Two numbers side by side: the first is what is left of the last gap.
            plain = plain[: plain.rindex(" ")].rstrip(" -./")
            end = start + len(plain)
            shown = plain
            count = sum(char.isdigit() for char in plain)
        if not _FEWEST <= count <= _MOST:
            continue
        score = _score(text, start, end, plain, extended=len(plain) < len(shown))
        if score:
            yield Found(start=start, end=end, kind=PHONE, score=score)


def _unbracketed(start: int, shown: str, plain: str) -> tuple[int, int, str, str]:
    if shown.startswith("("):
        start, shown, plain = start + 1, shown[1:], plain[1:]
    elif plain.endswith(")"):
        plain = plain[:-1]
        shown = plain
    return start, start + len(shown), shown, plain


def _score(text: str, start: int, end: int, plain: str, *, extended: bool) -> float:
    """How surely it is one, 0 for not at all."""
    before = text[max(0, start - _BEFORE) : start]
    # What another line says is about another number.
    own = line = before[before.rfind("\n") + 1 :]
    if "\n" in before and _SPEAKER.match(line):
        # A label alone, or somebody's name: the line before is what is answered.
        line = before[before.rfind("\n", 0, len(before) - len(line) - 1) + 1 :]
    after = text[end : end + _AFTER]
    said = _WORDS.search(line) is not None or _LABEL.match(after) is not None
    if _is_other(plain, line, own, after):
        return 0.0
    if plain.startswith(("+", "(+", "00")) and (said or _rings_abroad(_international(plain))):
        return 1.0 if said else 0.95
    grouped = not plain.isdigit()
    if said and (grouped or extended):
        return 1.0
    if said and (len(plain) >= _WHOLE or _TIGHT.search(line) or _LABEL.match(after)):
        return 0.9
    return _unsaid(plain, line, after, extended=extended) if grouped or plain.startswith("0") else 0.0


def _is_other(plain: str, line: str, own: str, after: str) -> bool:
    """Whether it is a date, years, a sum or somebody's number of another kind, or stands in an address."""
    if _DATE.match(plain) or _YEARS.match(plain) or _NOT_PHONE.search(line) or _NOT_AFTER.match(after):
        return True
    # A postcode and a number before a street.
    if _PLAIN_GROUPS.match(plain):
        return _STREET.match(after) is not None and not _TIGHT.search(own)
    return _POSTCODE.match(plain) is not None and not _TIGHT.search(own)


def _unsaid(plain: str, line: str, after: str, *, extended: bool) -> float:
    """The same where no word before it says that it is one."""
    grouped = not plain.isdigit()
    if grouped and (extended or _NANP.match(plain)):
        return 0.85
    slashed = "/" in plain and plain[0] != "0"
    whole = grouped or len(plain) >= _WHOLE - 1
    if (_NUMBER_WORD.search(line) and whole and not slashed) or (grouped and _WORDS.search(after)):
        return 0.7
    rings = _TRUNK.match(plain) and not _THOUSANDS.match(plain) and _rings(_NOT_DIGIT.sub("", plain))
    return 0.7 if rings else 0.0


def _international(plain: str) -> str:
    digits = _NOT_DIGIT.sub("", plain.replace("(0)", ""))
    return "+" + (digits if not plain.startswith("00") else digits[2:])


@lru_cache(maxsize=4_096)
def _rings_abroad(number: str) -> bool:
    try:
        return phonenumbers.is_possible_number(phonenumbers.parse(number, None))
    except phonenumbers.NumberParseException:
        return False


@lru_cache(maxsize=4_096)
def _rings(digits: str) -> bool:
    """Whether it is given out somewhere among the regions."""
    for region in REGIONS:
        try:
            if phonenumbers.is_valid_number(phonenumbers.parse(digits, region)):
                return True
        except phonenumbers.NumberParseException:
            return False
    return False


def warmed() -> None:
    """Loads what is known of the regions' numbers now rather than within somebody's question."""
    _rings("0000000")
