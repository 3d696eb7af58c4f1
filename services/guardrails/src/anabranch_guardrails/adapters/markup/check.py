"""The check `markup`: what a page that shows the answer would run, load or send."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from anabranch_guardrails.adapters.options import Options
from anabranch_guardrails.domain import Finding, Span, Subject

VERSION: Final = "markup-1"
MOST_CHARACTERS: Final = 500_000
"""Of a text that are looked at; the finding says so where there are more."""
SCRIPT: Final = "SCRIPT"
HANDLER: Final = "HANDLER"
ACTIVE: Final = "ACTIVE_CONTENT"
SCHEME: Final = "UNSAFE_SCHEME"
IMAGE: Final = "FOREIGN_IMAGE"
LINK: Final = "FOREIGN_LINK"

_FENCED: Final = re.compile(r"(?m)^ {0,3}(?P<mark>`{3,10}|~{3,10})[^\n]{0,200}\n[\s\S]*?(?:^ {0,3}(?P=mark)|\Z)")
_INLINE: Final = re.compile(r"(?<!`)(`{1,2})(?!`)[^`\n]{1,1000}\1(?!`)")
_SCRIPT: Final = re.compile(
    r"<\s{0,5}script\b[^<]{0,5000}(?:<(?!\s{0,5}/\s{0,5}script)[^<]{0,5000}){0,50}(?:<\s{0,5}/\s{0,5}script[^>]{0,100}>)?",
    re.IGNORECASE,
)
_TAG: Final = re.compile(
    r"<\s{0,3}/?\s{0,3}(?P<name>[a-zA-Z][a-zA-Z0-9:-]{0,40})(?P<rest>(?:[\s/][^<>]{0,4000})?)(?:>|\Z|(?=<))"
)
_HANDLER: Final = re.compile(r"(?:^|[\s/\"'])on[a-z]{3,30}\s{0,5}=", re.IGNORECASE)
_ATTRIBUTE: Final = re.compile(
    r"\b(?P<name>href|src|srcset|action|formaction|data|poster|background|xlink:href|style|content|ping|cite|manifest)\s{0,5}=\s{0,5}"
    r"(?:\"(?P<double>[^\"]{0,3000})(?:\"|\Z)|'(?P<single>[^']{0,3000})(?:'|\Z)|(?P<bare>[^\s\"'>]{1,3000}))",
    re.IGNORECASE,
)
_STYLE_URL: Final = re.compile(
    r"url\(\s{0,5}['\"]?(?P<url>[^'\")]{1,2000})|@import\s{1,5}['\"]?(?P<imported>[^'\";]{1,2000})", re.IGNORECASE
)
_MARKDOWN: Final = re.compile(
    r"(?P<image>!)?\[(?P<label>(?:[^\[\]\\]|\\.|\[[^\[\]]{0,300}\]){0,500})\]\(\s{0,5}<?(?P<url>[^\s()<>]{1,3000}(?:\([^\s()]{0,500}\)[^\s()<>]{0,500})?)>?"
    r"(?:\s{1,5}(?:\"[^\"]{0,500}\"|'[^']{0,500}'|\([^)]{0,500}\)))?\s{0,5}\)"
)
_REFERENCE: Final = re.compile(
    r"(?m)^ {0,3}\[(?P<label>[^\]\n]{1,200})\]:\s{0,5}<?(?P<url>[^\s<>]{1,3000})>?[^\n]{0,300}$"
)
_REFERRED: Final = re.compile(
    r"!\[[^\[\]\n]{0,300}\]\[(?P<label>[^\]\n]{0,200})\]|!\[(?P<short>[^\[\]\n]{1,200})\](?![\[(])"
)
_BARE: Final = re.compile(r"(?<![\w/(\"'=])https?://[^\s<>\"'`\]\)]{3,2000}", re.IGNORECASE)
_ANY_URL: Final = re.compile(r"https?://[^\s<>\"'`\])}]{3,2000}", re.IGNORECASE)
_CONTROL: Final = re.compile(r"[\x00-\x20\x7f\u00ad\u200b-\u200f\u2060\ufeff]+")
_HOST: Final = re.compile(r"(?:\*\.)?[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63}){0,8}")
_UNSAFE: Final = (
    "javascript:",
    "vbscript:",
    "livescript:",
    "data:text",
    "data:application",
    "data:image/svg",
    "data:,",
    "data:;",
    "file:",
    "blob:",
)
_EMBEDDING: Final = frozenset(
    (
        "iframe",
        "frame",
        "frameset",
        "object",
        "embed",
        "applet",
        "base",
        "meta",
        "link",
        "form",
        "svg",
        "math",
        "portal",
        "template",
        "noscript",
        "xml",
    )
)
_LOADING: Final = frozenset(
    ("img", "image", "video", "audio", "source", "track", "input", "picture", "body", "table", "td")
)
_LONG_PATH: Final = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    start: int
    end: int
    kind: str
    score: float


class Markup:
    """Finds script, handlers, embedded content, unsafe schemes, and images and links to hosts nobody vouches for.

    An image is loaded as soon as it is shown: its address can carry away what the answer holds. What stands in code is
    shown and not run, and passes.
    """

    name = "markup"
    version = VERSION

    def __init__(self, *, hosts: frozenset[str], links: bool) -> None:
        """Hosts that may be linked to, with all below them; `links`: whether links are looked at beside images."""
        self._hosts = hosts
        self._links = links

    def look(self, subject: Subject) -> Finding:
        """Spans are to be taken out; those of images and links hold the whole Markdown or tag."""
        text = subject.text[:MOST_CHARACTERS]
        reasons: list[str] = []
        if len(subject.text) > MOST_CHARACTERS:
            reasons.append(f"only the first {MOST_CHARACTERS} characters were looked at")
        if not any(mark in text for mark in ("<", "](", "://", "//", "]:")):
            return Finding(score=0.0, reason="; ".join(reasons))
        shown = _without_code(text)
        vouched = _Vouched(subject, self._hosts)
        found = sorted(self._all(shown, vouched), key=lambda one: (one.start, -one.end))
        spans: list[Span] = []
        for one in found:
            if spans and one.start < spans[-1].end:
                if one.score > spans[-1].score:
                    last = spans[-1]
                    spans[-1] = Span(start=last.start, end=max(last.end, one.end), kind=one.kind, score=one.score)
                continue
            spans.append(Span(start=one.start, end=one.end, kind=one.kind, score=one.score))
        counts = Counter(span.kind for span in spans)
        reasons[:0] = [f"{count} x {kind}" for kind, count in sorted(counts.items())]
        return Finding(
            score=max((span.score for span in spans), default=0.0), spans=tuple(spans), reason="; ".join(reasons)
        )

    def _all(self, text: str, vouched: _Vouched) -> Iterator[_Seen]:
        if "<" in text:
            yield from self._html(text, vouched)
        images = {_label(match) for match in _REFERRED.finditer(text)} if "![" in text else set()
        if "](" in text:
            for match in _MARKDOWN.finditer(text):
                image = match.group("image") is not None
                yield from self._address(match.group("url"), match.span(), image=image, vouched=vouched)
        if "]:" in text:
            for match in _REFERENCE.finditer(text):
                image = match.group("label").casefold() in images
                yield from self._address(match.group("url"), match.span(), image=image, vouched=vouched)
        if self._links and "//" in text:
            for match in _BARE.finditer(text):
                end = match.start() + len(match.group().rstrip(".,;:!?*_"))
                yield from self._address(text[match.start() : end], (match.start(), end), image=False, vouched=vouched)

    def _html(self, text: str, vouched: _Vouched) -> Iterator[_Seen]:
        for match in _SCRIPT.finditer(text):
            yield _Seen(start=match.start(), end=match.end(), kind=SCRIPT, score=1.0)
        for match in _TAG.finditer(text):
            name, rest = match.group("name").lower(), match.group("rest")
            if name in _EMBEDDING:
                yield _Seen(start=match.start(), end=match.end(), kind=ACTIVE, score=0.95)
            if not rest:
                continue
            if _HANDLER.search(rest):
                yield _Seen(start=match.start(), end=match.end(), kind=HANDLER, score=1.0)
            for attribute in _ATTRIBUTE.finditer(rest):
                for address, loads in _addresses(name, attribute):
                    yield from self._address(address, match.span(), image=loads, vouched=vouched)

    def _address(self, address: str, span: tuple[int, int], *, image: bool, vouched: _Vouched) -> Iterator[_Seen]:
        plain = _CONTROL.sub("", html.unescape(address)).replace("\\", "/")
        lowered = _unquoted(plain).lower()
        if lowered.startswith(_UNSAFE):
            yield _Seen(start=span[0], end=span[1], kind=SCHEME, score=1.0)
            return
        if not lowered.startswith(("http:", "https:", "//", "ftp:", "ws:", "wss:")):
            return
        if not image and not self._links:
            return
        score = vouched.doubt(plain, image=image)
        if score:
            yield _Seen(start=span[0], end=span[1], kind=IMAGE if image else LINK, score=score)


def configured(options: Mapping[str, object]) -> Markup:
    """`hosts`: allowed, each with all below it; `links`: whether links are looked at beside images (true)."""
    read = Options(options, known=("hosts", "links"))
    hosts = [host.strip().lower() for host in read.texts("hosts")]
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise read.fault("hosts", f"{host[:80]} is no host; write example.org, which holds for all below it too")
    return Markup(hosts=frozenset(host.removeprefix("*.") for host in hosts), links=read.flag("links", default=True))


class _Vouched:
    """Addresses and hosts that the passages hold, and those that the policy allows."""

    def __init__(self, subject: Subject, hosts: frozenset[str]) -> None:
        self._hosts = hosts
        self._subject = subject
        self._known: tuple[frozenset[str], frozenset[str]] | None = None

    def doubt(self, address: str, *, image: bool) -> float:
        """0 for what is vouched for, up to 1."""
        parts = _split(address)
        if parts is None:
            return 0.95
        host, tail = parts
        if any(host == allowed or host.endswith("." + allowed) for allowed in self._hosts):
            return 0.0
        addresses, hosts = self._passages()
        carries = "?" in tail or "#" in tail or len(tail) > _LONG_PATH
        if _bare(address) in addresses:
            return 0.0 if not image else 0.3
        if host in hosts:
            # Of a passage's host, but not what it says: what is carried there the passage may have asked for.
            return (0.85 if image else 0.7) if carries else (0.4 if image else 0.1)
        return 0.95 if image else 0.85 if carries else 0.6

    def _passages(self) -> tuple[frozenset[str], frozenset[str]]:
        if self._known is None:
            found: set[str] = set()
            for context in self._subject.contexts:
                if context.source_uri:
                    found.add(context.source_uri)
                if "://" in context.text:
                    found.update(match.group().rstrip(".,;:!?*_") for match in _ANY_URL.finditer(context.text))
            hosts = {parts[0] for parts in map(_split, found) if parts is not None}
            self._known = frozenset(map(_bare, found)), frozenset(hosts)
        return self._known


def _addresses(tag: str, attribute: re.Match[str]) -> Iterator[tuple[str, bool]]:
    """The addresses that an attribute holds, and whether they are loaded unasked."""
    name = attribute.group("name").lower()
    value = attribute.group("double") or attribute.group("single") or attribute.group("bare") or ""
    if name == "style":
        for inner in _STYLE_URL.finditer(value):
            yield inner.group("url") or inner.group("imported"), True
        return
    loads = tag in _LOADING or name in {"src", "srcset", "poster", "background"}
    for address in value.split(",") if name == "srcset" else (value,):
        if address.strip():
            yield address.strip().split(" ")[0], loads


def _split(address: str) -> tuple[str, str] | None:
    """The host, and what follows it; None where there is no making it out."""
    whole = "https:" + address if address.startswith("//") else address
    try:
        parts = urlsplit(whole)
        host = parts.hostname
    except ValueError:
        return None
    if not host or "@" in parts.netloc:
        return None
    tail = parts.path + ("?" + parts.query if parts.query else "") + ("#" + parts.fragment if parts.fragment else "")
    return host.rstrip(".").lower(), tail


def _bare(address: str) -> str:
    return address.split("#", 1)[0].rstrip("/").lower()


def _unquoted(address: str) -> str:
    return address.replace("%3a", ":").replace("%3A", ":") if "%3" in address[:16] else address


def _label(match: re.Match[str]) -> str:
    return (match.group("label") or match.group("short") or "").casefold()


def _without_code(text: str) -> str:
    """The text with code blotted out, as long as before."""
    if "`" not in text and "~~~" not in text:
        return text
    text = _FENCED.sub(lambda match: " " * len(match.group()), text)
    return _INLINE.sub(lambda match: " " * len(match.group()), text)
