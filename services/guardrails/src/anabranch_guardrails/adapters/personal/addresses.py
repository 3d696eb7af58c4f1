"""Addresses on the net: mail, pages, machines."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Final

from anabranch_guardrails.adapters.personal.kinds import EMAIL, IP, MAC, URL, WALLET, Found

_EMAIL: Final = re.compile(
    r"(?<![\w.+-])[\w][\w.+%'-]{0,63}@(?:[^\W_](?:[\w-]{0,62})\.){1,8}[^\W\d_]{2,24}(?![\w-])"
    r"|(?<![\w.+-])\"[\w .+-]{1,64}\"@(?:[^\W_](?:[\w-]{0,62})\.){1,8}[^\W\d_]{2,24}(?![\w-])"
)
_SPELT: Final = re.compile(
    r"(?<![\w.])[\w][\w.+-]{0,63} ?[\[({<] ?at ?[\])}>] ?"
    r"[\w-]{1,63}(?: ?[\[({<] ?dot ?[\])}>] ?[\w-]{2,63}|\.[\w-]{2,63}){1,4}"
    r"|(?<![\w.])[\w][\w.+-]{0,63} at [\w-]{1,63}(?: dot [\w-]{2,63}){1,4}(?!\w)",
    re.IGNORECASE,
)
_URL: Final = re.compile(
    r"(?<![\w@])(?:(?:https?|ftps?|sftp|wss?)://[^\s<>\"'`{}|\\^\[\]]{2,2000}|www\d?\.[^\s<>\"'`{}|\\^\[\]@]{3,2000})",
    re.IGNORECASE,
)
_DOMAIN: Final = re.compile(
    r"(?<![\w@./:-])(?:[a-z0-9](?:[a-z0-9-]{0,62})\.){1,5}"
    r"(?:com|org|net|edu|gov|mil|info|biz|eu|de|fr|uk|nl|ch|at|be|it|es|pt|se|no|dk|fi|cz|hu|ro|gr|ie|us|ca|au|nz|br|mx|"
    r"jp|cn|in|kr|ru|ua|tr|za|io|app|dev|cloud|online|site|shop|xyz|tech|co)"
    r"(?![\w@-]|\.\w)(?:/[^\s<>\"'`{}|\\^\[\]]{0,2000})?",
    re.IGNORECASE,
)
_DOMAIN_WORDS: Final = re.compile(
    r"\b(?:visit|website|web ?site|site|domain|url|link|homepage|web ?page|page|browse|host|hosted at|online at|go to|"
    r"log ?in (?:at|to)|blog|portal)\b[^.!?\n]{0,24}$",
    re.IGNORECASE,
)
_V4: Final = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)")
_VERSION_WORD: Final = re.compile(
    r"\b(?:version|versions|ver|release|build|firmware|kernel|driver|section|chapter|clause|oid|v)\b"
    r"[\w .:=,]{0,12}$|==\s?$",
    re.IGNORECASE,
)
_V6: Final = re.compile(
    r"(?<![\w:.])(?=[0-9a-fA-F:.]*:[0-9a-fA-F:.]*:)[0-9a-fA-F:]{2,39}(?:\d{1,3}(?:\.\d{1,3}){3})?(?:%[\w]{1,15})?(?![\w:]|\.\d)"
)
_FEW: Final = 40
_PRIVATE: Final = 10
_FAMOUS: Final = frozenset(("0.0.0.0", "1.1.1.1", "1.0.0.1", "8.8.8.8", "8.8.4.4", "9.9.9.9"))  # noqa: S104  read
_MACHINE_WORDS: Final = re.compile(
    r"\b(?:ip|ips|ipv4|address|addresses|host|hosts|server|ping|dns|subnet|gateway|router|client|network|from|at)\b"
    r"[^.!?\n]{0,24}$|://$",
    re.IGNORECASE,
)
_MAC: Final = re.compile(r"(?<![\w:-])[0-9A-Fa-f]{2}([:-])(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}(?![\w:-])")
_WALLET: Final = re.compile(
    r"(?<!\w)(?:bc1[02-9ac-hj-np-z]{25,60}|[13][1-9A-HJ-NP-Za-km-z]{25,34}|0x[0-9a-fA-F]{40})(?!\w)"
)
_WALLET_WORDS: Final = re.compile(r"\b(?:wallet|bitcoin|btc|eth|ethereum|crypto)", re.IGNORECASE)
_MARKS: Final = ".,;:!?*'\"\N{RIGHT SINGLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}"
_OPEN: Final = {")": "(", "]": "[", "}": "{"}


def mails(text: str) -> Iterator[Found]:
    """Addresses of mail, those spelt out (`name [at] domain [dot] org`) too."""
    for match in _EMAIL.finditer(text):
        yield Found(start=match.start(), end=match.end(), kind=EMAIL, score=1.0)
    if " at " in text or "at]" in text or "at)" in text or "at }" in text or "at ]" in text or "at )" in text:
        for match in _SPELT.finditer(text):
            yield Found(start=match.start(), end=match.end(), kind=EMAIL, score=0.7)


def pages(text: str) -> Iterator[Found]:
    """Addresses of pages; bare names of hosts where a path follows or the words before say so."""
    for match in _URL.finditer(text):
        end = _trimmed(text, match.start(), match.end())
        if "." in text[match.start() : end] or "://" in text[match.start() : end]:
            yield Found(start=match.start(), end=end, kind=URL, score=1.0)
    for match in _DOMAIN.finditer(text):
        end = _trimmed(text, match.start(), match.end())
        path = "/" in text[match.start() : end]
        if path or _DOMAIN_WORDS.search(text, max(0, match.start() - 48), match.start()):
            yield Found(start=match.start(), end=end, kind=URL, score=0.8)


def _trimmed(text: str, start: int, end: int) -> int:
    """Without the sentence's own marks at its end."""
    while end > start + 1:
        char = text[end - 1]
        opening = _OPEN.get(char)
        if char not in _MARKS and (opening is None or text.count(char, start, end) <= text.count(opening, start, end)):
            break
        end -= 1
    return end


def machines(text: str) -> Iterator[Found]:
    """IP addresses of both kinds, hardware addresses, wallets."""
    for match in _V4.finditer(text):
        parts = match.group().split(".")
        if any(int(part) > 255 or (len(part) > 1 and part[0] == "0") for part in parts):  # noqa: PLR2004  an octet
            continue
        if _is_version(text, match, [int(part) for part in parts]):
            continue
        yield Found(start=match.start(), end=match.end(), kind=IP, score=0.95)
    if ":" in text:
        for match in _V6.finditer(text):
            if _is_v6(match.group()):
                yield Found(start=match.start(), end=match.end(), kind=IP, score=0.95)
        for match in _MAC.finditer(text):
            yield Found(start=match.start(), end=match.end(), kind=MAC, score=0.9)
    for match in _WALLET.finditer(text):
        if _WALLET_WORDS.search(text, max(0, match.start() - 64), match.start()):
            yield Found(start=match.start(), end=match.end(), kind=WALLET, score=0.9)


def _is_version(text: str, match: re.Match[str], parts: list[int]) -> bool:
    """Whether it numbers a version or a section rather than a machine: such numbers are small."""
    before = text[max(0, match.start() - 40) : match.start()]
    if _VERSION_WORD.search(before) or (parts[0] == 0 and any(parts)):
        return True
    if max(parts) >= _FEW or parts[0] == _PRIVATE or match.group() in _FAMOUS:
        return False
    return _MACHINE_WORDS.search(before) is None


def _is_v6(shown: str) -> bool:
    if not any(char.isdigit() for char in shown) or shown.count(":") < 2 or shown.endswith("::"):  # noqa: PLR2004  as in ::1
        return False
    try:
        ipaddress.IPv6Address(shown)
    except ValueError:
        return False
    return True
