"""Takes inline markup out of one block of Markdown: what a reader sees stays.

Every pattern stops at the next delimiter of its kind, so that none can go quadratic on a hostile line.
"""

from __future__ import annotations

import html
import re

_CODE = re.compile(r"``([^`]+)``|`([^`\n]+)`")
_IMAGE = re.compile(r"!\[([^\[\]]*)\]\((?:<[^<>\n]*>|[^()\s]*(?:\([^()\s]*\)[^()\s]*)?)[^()\n]*\)")
_LINK = re.compile(r"\[([^\[\]]*)\]\((?:<[^<>\n]*>|[^()\s]*(?:\([^()\s]*\)[^()\s]*)?)[^()\n]*\)")
_REFERENCE = re.compile(r"!?\[([^\[\]]+)\]\[[^\[\]]*\]")
_FOOTNOTE = re.compile(r"\[\^[^\[\]\s]+\]")
_AUTOLINK = re.compile(r"<((?:https?|ftp|mailto):[^<>\s]+)>")
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_STRONG = re.compile(r"\*{2,3}(?=\S)([^*\n]+)\*{2,3}")
_EMPHASIS = re.compile(r"(?<![\w*\\])\*(?=[^\s*])([^*\n]+)(?<=\S)\*(?![\w*])")
_UNDERSCORE = re.compile(r"(?<![\w\\])_{1,3}(?=[^\s_])([^_\n]+)(?<=\S)_{1,3}(?!\w)")
_STRIKE = re.compile(r"~~(?=\S)([^~\n]+)~~")
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")
_SPECIAL = re.compile(r"[\[`<*_~\\&]")
# Private use characters stand for code spans and escaped characters while the rest is taken out.
_HELD = re.compile("\ue000(\\d+)\ue001")


def plain(text: str) -> str:  # noqa: C901  one step a kind of markup, in order
    """The block's text without markup."""
    if not _SPECIAL.search(text):
        return text
    held: list[str] = []

    def hold(value: str) -> str:
        held.append(value)
        return f"\ue000{len(held) - 1}\ue001"

    text = text.replace("\ue000", "").replace("\ue001", "")
    if "`" in text:
        text = _CODE.sub(lambda m: hold((m.group(1) or m.group(2)).strip()), text)
    if "\\" in text:
        text = _ESCAPE.sub(lambda m: hold(m.group(1)), text)
    if "[" in text:
        text = _IMAGE.sub(r"\1", text)
        text = _LINK.sub(r"\1", text)
        text = _FOOTNOTE.sub("", text)
        text = _REFERENCE.sub(r"\1", text)
    if "<" in text:
        text = _AUTOLINK.sub(r"\1", text)
        text = _BREAK.sub("\n", text)
        text = _TAG.sub("", text)
    if "*" in text:
        text = _STRONG.sub(r"\1", text)
        text = _EMPHASIS.sub(r"\1", text)
    if "_" in text:
        text = _UNDERSCORE.sub(r"\1", text)
    if "~" in text:
        text = _STRIKE.sub(r"\1", text)
    if "&" in text:
        text = html.unescape(text)
    return _HELD.sub(lambda m: held[int(m.group(1))], text) if held else text


def without_comments(text: str) -> str:
    """The text without `<!-- ... -->`: what no reader of the page would see is not the document's text."""
    if "<!--" not in text:
        return text
    kept = []
    position = 0
    while (start := text.find("<!--", position)) >= 0:
        end = text.find("-->", start + 4)
        if end < 0:
            break
        kept.append(text[position:start])
        position = end + 3
    kept.append(text[position:])
    return "".join(kept)
