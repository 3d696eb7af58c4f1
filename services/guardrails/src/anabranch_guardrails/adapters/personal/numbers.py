"""Cards, accounts and numbers of persons: what check digits and the words before them give away."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from anabranch_guardrails.adapters.personal.kinds import CARD, IBAN, NATIONAL_ID, SSN, Found

_CARD: Final = re.compile(
    r"(?<![\w.,+$€£-])(?:\d{4}([ .-]{1,2})\d{4}\1\d{4}\1\d{4}(?:\1\d{1,3})?|\d{4}([ .-])\d{6}\2\d{4,5}|\d{12,19}"
    r"|\d(?:[ -]\d){12,18})(?![\w-]|[.,]\d)"
)
_CARD_WORDS: Final = re.compile(
    r"\b(?:card|cards|visa|mastercard|amex|american express|maestro|diners|discover|jcb|unionpay|credit|debit|cc|pan|"
    r"tarjeta|carte|karte|kreditkarte|carta|cart[aã]o|kaart|kort)\b",
    re.IGNORECASE,
)
_NOT_CARD: Final = re.compile(
    r"\b(?:order|orders|invoice|tracking|shipment|parcel|sku|isbn|ean|upc|gtin|barcode|imei|serial|ticket|case|"
    r"timestamp|hash|commit|revision|build|uuid|transaction id|request id|trace id|reference|ref|account|"
    r"job|run|event|batch|po|id|ids)\b[\s\w]{0,12}[#:=.]{0,2}\s{0,2}[\"']?$",
    re.IGNORECASE,
)
_IBAN_PREFIX: Final = re.compile(r"(?<![^\W_])[A-Za-z]{2}\d{2}(?=[ -]?[A-Za-z0-9])")
_IBAN_WORD: Final = re.compile(r"\biban\b", re.IGNORECASE)
_SSN: Final = re.compile(r"(?<![\w.#$€£-])(\d{3})([ -])(\d{2})\2(\d{4})(?![\w-]|[.,]\d)")
_SSN_BARE: Final = re.compile(r"(?<![\w.#$€£-])(\d{3})(\d{2})(\d{4})(?![\w-]|[.,]\d)")
_SSN_WORDS: Final = re.compile(r"\b(?:ssn|social security|social|itin|tax(?:payer)? id)", re.IGNORECASE)
_NINO: Final = re.compile(r"(?<!\w)(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z]{2} ?\d{2} ?\d{2} ?\d{2} ?[A-D](?!\w)")
_NOT_DIGIT: Final = re.compile(r"\D")
_BEFORE: Final = 60
_AFTER: Final = 20
_IBAN_LENGTHS: Final = {
    country: int(length)
    for country, length in (
        part.split(":")
        for part in (  # noqa: SIM905  eighty quoted words are no easier to read
            "AD:24 AE:23 AL:28 AT:20 AZ:28 BA:20 BE:16 BG:22 BH:22 BI:27 BR:29 BY:28 CH:21 CR:22 CY:28 CZ:24 DE:22 "
            "DJ:27 DK:18 DO:28 EE:20 EG:29 ES:24 FI:18 FK:18 FO:18 FR:27 GB:22 GE:22 GI:23 GL:18 GR:27 GT:28 HR:21 "
            "HU:28 IE:22 IL:23 IQ:23 IS:26 IT:27 JO:30 KW:30 KZ:20 LB:28 LC:32 LI:21 LT:20 LU:20 LV:21 LY:25 MC:27 "
            "MD:24 ME:22 MK:19 MN:20 MR:27 MT:31 MU:30 NI:28 NL:18 NO:15 OM:23 PK:24 PL:28 PS:29 PT:25 QA:29 RO:24 "
            "RS:22 RU:33 SA:24 SC:31 SD:18 SE:24 SI:19 SK:24 SM:27 SO:23 ST:25 SV:28 TL:23 TN:24 TR:26 UA:29 VA:22 "
            "VG:24 XK:20 YE:30"
        ).split()
    )
}


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of those before it."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = ord(digit) - 48
        if place % 2:
            value = value * 2 - 9 * (value > 4)  # noqa: PLR2004  two digits are added up
        total += value
    return total % 10 == 0


def issued(digits: str) -> bool:
    """Whether an issuer makes cards that begin so, of that length; Maestro's twelve and more are left to the words."""
    size, two, three, four = len(digits), int(digits[:2]), int(digits[:3]), int(digits[:4])
    return (
        (digits[0] == "4" and size in {13, 16, 19})
        or (size == 16 and (51 <= two <= 55 or 2221 <= four <= 2720 or 2200 <= four <= 2204))  # noqa: PLR2004  issuers'
        or (size == 15 and (two in {34, 37} or four in {2131, 1800}))  # noqa: PLR2004  issuers'
        or (size == 14 and (two in {36, 38, 39} or 300 <= three <= 305 or four == 3095))  # noqa: PLR2004  issuers'
        or (16 <= size <= 19 and (3528 <= four <= 3589 or two in {36, 38, 62, 64, 65} or four == 6011))  # noqa: PLR2004  issuers'
        or (16 <= size <= 19 and four in {5018, 5020, 5038, 5893, 6304, 6759, 6761, 6762, 6763})  # noqa: PLR2004  issuers'
    )


def cards(text: str) -> Iterator[Found]:
    """Card numbers: the check digit is right, and the issuer or the words around say so."""
    for match in _CARD.finditer(text):
        digits = _NOT_DIGIT.sub("", match.group())
        before = text[max(0, match.start() - _BEFORE) : match.start()]
        said = bool(_CARD_WORDS.search(before) or _CARD_WORDS.search(text, match.end(), match.end() + _AFTER))
        known = issued(digits) and len(set(digits)) > 1
        right = luhn(digits) and len(set(digits)) > 1
        if right and said:
            score = 1.0
        elif right and known and not _NOT_CARD.search(before):
            score = 0.9
        elif said and known and not _NOT_CARD.search(before):
            score = 0.6  # mistyped, but nothing else is written so
        else:
            continue
        yield Found(start=match.start(), end=match.end(), kind=CARD, score=score)


def accounts(text: str) -> Iterator[Found]:
    """IBANs: as long as the country's are, and the check digits are right (or the word stands before it)."""
    end = 0
    for match in _IBAN_PREFIX.finditer(text):
        length = _IBAN_LENGTHS.get(match.group()[:2].upper())
        if length is None or match.start() < end:
            continue
        stop = _reach(text, match.start(), length)
        if stop is None:
            continue
        number = re.sub(r"[ -]", "", text[match.start() : stop]).upper()
        before = text[max(0, match.start() - _BEFORE) : match.start()]
        score = 1.0 if _mod_97(number) else 0.6 if _IBAN_WORD.search(before) else 0.0
        if score:
            end = stop
            yield Found(start=match.start(), end=stop, kind=IBAN, score=score)


def _reach(text: str, start: int, length: int) -> int | None:
    """Where the number that begins there has as many letters and digits as it must, None where it does not end so."""
    place, seen, gap = start, 0, 0
    while place < len(text) and seen < length:
        char = text[place]
        if char.isascii() and char.isalnum():
            seen, gap = seen + 1, 0
        elif char in " -" and not gap:
            gap = 1
        else:
            return None
        place += 1
    if seen < length or (place < len(text) and text[place].isalnum()):
        return None
    return place


def _mod_97(number: str) -> bool:
    turned = number[4:] + number[:4]
    return int("".join(str(int(char, 36)) for char in turned)) % 97 == 1


def persons(text: str) -> Iterator[Found]:
    """Numbers of persons: American social security, British national insurance."""
    for match in _SSN.finditer(text):
        said = _SSN_WORDS.search(text, max(0, match.start() - _BEFORE), match.start()) is not None
        if _assigned(match.group(1), match.group(3), match.group(4), said=said) and (said or match.group(2) == "-"):
            yield Found(start=match.start(), end=match.end(), kind=SSN, score=1.0 if said else 0.85)
    for match in _SSN_BARE.finditer(text):
        said = _SSN_WORDS.search(text, max(0, match.start() - _BEFORE), match.start()) is not None
        if said and _assigned(match.group(1), match.group(2), match.group(3), said=said):
            yield Found(start=match.start(), end=match.end(), kind=SSN, score=0.9)
    for match in _NINO.finditer(text):
        yield Found(start=match.start(), end=match.end(), kind=NATIONAL_ID, score=0.85)


def _assigned(area: str, group: str, serial: str, *, said: bool) -> bool:
    if group == "00" or serial == "0000" or area in {"000", "666"}:
        return False
    return said or area[0] != "9"
