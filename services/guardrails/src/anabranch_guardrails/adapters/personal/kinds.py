"""Kinds of personal data, and what others call them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

CARD: Final = "CARD"
PHONE: Final = "PHONE"
EMAIL: Final = "EMAIL"
IBAN: Final = "IBAN"
IP: Final = "IP"
SSN: Final = "SSN"
URL: Final = "URL"
DATE_OF_BIRTH: Final = "DATE_OF_BIRTH"
LICENCE: Final = "LICENCE"
PASSPORT: Final = "PASSPORT"
NATIONAL_ID: Final = "NATIONAL_ID"
MAC: Final = "MAC"
WALLET: Final = "WALLET"
PERSON: Final = "PERSON"

KINDS: Final = (
    CARD,
    PHONE,
    EMAIL,
    IBAN,
    IP,
    SSN,
    URL,
    DATE_OF_BIRTH,
    LICENCE,
    PASSPORT,
    NATIONAL_ID,
    MAC,
    WALLET,
    PERSON,
)
"""All that can be asked for. PERSON knows names only where a title or "my name is" introduces them."""
DEFAULT: Final = tuple(kind for kind in KINDS if kind not in {PERSON, URL})
"""What is looked for where the policy names no kinds: addresses of pages are rarely anybody's secret."""
STRUCTURED: Final = (CARD, PHONE, EMAIL, IBAN, IP, SSN, URL)
"""Kinds whose form gives them away."""
TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        CARD: "CREDIT_CARD",
        PHONE: "PHONE_NUMBER",
        EMAIL: "EMAIL_ADDRESS",
        IBAN: "IBAN_CODE",
        IP: "IP_ADDRESS",
        SSN: "US_SSN",
        URL: "DOMAIN_NAME",
        DATE_OF_BIRTH: "DATE_TIME",
        LICENCE: "US_DRIVER_LICENSE",
        PERSON: "PERSON",
    }
)
"""Each kind's name in common sets of labelled text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Personal data in a folded text, `start` to `end`."""

    start: int
    end: int
    kind: str
    score: float
