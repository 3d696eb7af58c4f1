"""Personal data in free text, found by patterns and, where there are any, by their check digits."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

import phonenumbers

__all__ = ["PatternRedactor"]

# Every repetition is bounded: a million @ must not take a second.
_EMAIL: Final = re.compile(r"[A-Za-z0-9._%+'-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}")
_IBAN: Final = re.compile(r"\b[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]{2,4}){3,8}\b", re.IGNORECASE)
_CARD: Final = re.compile(r"(?<![\d.-])\d(?:[ -]?\d){12,18}(?![\d-])")
_SSN: Final = re.compile(r"(?<![\d-])(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\d-])")
_IPV4: Final = re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d]|\.\d)")
_IPV6: Final = re.compile(
    r"(?<![0-9A-Fa-f:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?:\.\d{1,3}){0,3}(?![0-9A-Fa-f:])"
)
_GAP: Final = re.compile(r"[ -]")
_DIGIT: Final = re.compile(r"\d")
_PHONE_DIGITS: Final = 6
_CARD_DOUBLED: Final = 9
_IBAN_LENGTHS: Final = range(15, 35)


class PatternRedactor:
    """Puts [email], [iban], [card], [ip], [ssn] and [phone] in the place of what it finds."""

    def __init__(self, *, phone_region: str = "US") -> None:
        """`phone_region`: whose numbers are meant where no country code is given."""
        self._region = phone_region

    def redact(self, text: str) -> str:
        """As in the port."""
        if "@" in text:
            text = _EMAIL.sub("[email]", text)
        if ":" in text:
            text = _IPV6.sub(_ip, text)
        if len(_DIGIT.findall(text)) < _PHONE_DIGITS - 2:
            return text
        text = _IBAN.sub(_iban, text)
        text = _CARD.sub(lambda found: "[card]" if _is_card(found[0]) else found[0], text)
        text = _SSN.sub("[ssn]", text)
        text = _IPV4.sub(_ip, text)
        return self._without_phones(text) if len(_DIGIT.findall(text)) >= _PHONE_DIGITS else text

    def _without_phones(self, text: str) -> str:
        parts: list[str] = []
        end = 0
        for match in phonenumbers.PhoneNumberMatcher(text, self._region):
            parts += [text[end : match.start], "[phone]"]
            end = match.end
        return "".join([*parts, text[end:]])


def _iban(found: re.Match[str]) -> str:
    """The pattern also takes words that follow: the longest part that is one counts."""
    whole = found[0]
    ends = [len(whole), *(match.start() for match in reversed(list(_GAP.finditer(whole))))]
    for end in ends:
        if _is_iban(whole[:end]):
            return "[iban]" + whole[end:]
    return whole


def _is_iban(found: str) -> bool:
    letters = _GAP.sub("", found).upper()
    if len(letters) not in _IBAN_LENGTHS:
        return False
    return int("".join(str(int(letter, 36)) for letter in letters[4:] + letters[:4])) % 97 == 1


def _is_card(found: str) -> bool:
    """Luhn's check."""
    total = 0
    for place, digit in enumerate(reversed(_GAP.sub("", found))):
        value = int(digit) * (1 + place % 2)
        total += value - _CARD_DOUBLED if value > _CARD_DOUBLED else value
    return total % 10 == 0 and set(found) - set("0 -") != set()


def _ip(found: re.Match[str]) -> str:
    try:
        ipaddress.ip_address(found[0])
    except ValueError:
        return found[0]
    # :: alone is punctuation, and 12:30:15 was no address anyway.
    return "[ip]" if _DIGIT.search(found[0]) else found[0]
