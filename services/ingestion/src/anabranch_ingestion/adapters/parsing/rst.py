"""reStructuredText to blocks: sections, field lists, literal blocks, directives, tables; roles rendered to plain text.

Reads what docutils would show, without running directives: nothing is included, nothing is evaluated. Linear.
"""

from __future__ import annotations

import re

from anabranch_ingestion.domain.text import Composer, clean

_UNDERLINE = re.compile(r"^([!-/:-@\[-`{-~])\1{2,}[ \t]*$")
_FIELD = re.compile(r"^:?([A-Za-z][\w -]{0,40}):(?:[ \t]+(.*))?$")
_PEP_FIELD = re.compile(r"^(?:PEP|Title|Author|Status|Type|Created|Version):")
_DIRECTIVE = re.compile(r"^\.\. (?:\|[^|]+\| )?([\w-]+)::[ \t]*(.*)$")
_TARGET = re.compile(r"^\.\. (?:_[^:]*(?:`[^`]*`)?:|__)[ \t]*\S*")
_NOTE = re.compile(r"^\.\. \[(#?\w*\*?)\][ \t]+(.*)$")
_OPTION = re.compile(r"^:[\w-]+:")
_ITEM = re.compile(r"^(?:[-*+\u2022]|\(?(?:\d{1,3}|[a-zA-Z]|#)[.)])[ \t]+")
_GRID = re.compile(r"^\+[-=+]+\+[ \t]*$")
_SIMPLE = re.compile(r"^={2,}(?:[ \t]+={2,})+[ \t]*$|^={2,}$")
_ROLE = re.compile(r":([\w.:+-]+):`([^`\n]+)`")
_LITERAL = re.compile(r"``([^`]+)``")
_LINK = re.compile(r"`([^`<>]*[^`<>\s])\s*<[^`<>]*>`__?")
_REFERENCE = re.compile(r"`([^`\n]+)`__?")
_INTERPRETED = re.compile(r"`([^`]+)`")
_STRONG = re.compile(r"\*\*(?=\S)([^*\n]+)\*\*")
_EMPHASIS = re.compile(r"(?<![\w*\\])\*(?=[^\s*])([^*\n]+)(?<=\S)\*(?![\w*])")
_NOTE_REFERENCE = re.compile(r"[ ]?\[#?[\w*]+\]_")
_SUBSTITUTION = re.compile(r"\|([^|\s][^|\n]*)\|_{0,2}")
_NAME = re.compile(r"(?<=\w)_{1,2}(?=[\s.,;:)!?]|$)")
_CODE = frozenset(("code", "code-block", "sourcecode", "parsed-literal", "productionlist", "math", "highlight"))
_SILENT_WORDS = (
    "image contents include raw index toctree default-role role meta header footer sectnum target-notes "
    "tabularcolumns currentmodule module highlight"
)
_SILENT = frozenset(_SILENT_WORDS.split())


def compose(text: str, out: Composer) -> None:
    """Adds the text's blocks."""
    _Reader(clean(text).expandtabs(8).split("\n"), out).read()


class _Reader:
    def __init__(self, lines: list[str], out: Composer) -> None:
        self._lines = lines
        self._out = out
        self._styles: list[str] = []

    def read(self) -> None:
        position = self._preamble()
        while position < len(self._lines):
            position = self._block(position)

    def _preamble(self) -> int:
        """A PEP opens with mail-like fields: each a line of one block, and a title."""
        if not self._lines or not _PEP_FIELD.match(self._lines[0]):
            return 0
        fields: list[str] = []
        position = 0
        while position < len(self._lines) and self._lines[position].strip():
            line = self._lines[position]
            if line[0] == " " and fields:
                fields[-1] += " " + line.strip()
            else:
                fields.append(plain(line.strip()))
            position += 1
        values = dict(field.partition(":")[::2] for field in fields)
        if values.get("Title"):
            number = values.get("PEP", "").strip()
            self._out.title = f"PEP {number}: {values['Title'].strip()}" if number else values["Title"].strip()
        for field in fields:
            if not field.endswith(":"):
                self._out.item(field)
        return position

    def _block(self, at: int) -> int:  # noqa: PLR0911  one return a case
        lines = self._lines
        line = lines[at]
        if not line.strip():
            return at + 1
        following = lines[at + 1] if at + 1 < len(lines) else ""
        if line[0] != " ":
            if _UNDERLINE.match(line) and at + 2 < len(lines) and lines[at + 2].rstrip() == line.rstrip():
                self._heading(following, line[0] * 2)
                return at + 3
            if _UNDERLINE.match(following) and len(following.rstrip()) >= min(len(line.rstrip()), 3):
                self._heading(line, following[0])
                return at + 2
            if line.startswith("..") and (len(line) == 2 or line[2] == " "):  # noqa: PLR2004  two dots alone
                return self._explicit(at)
        stripped = line.strip()
        if _GRID.match(stripped):
            return self._grid(at)
        if _SIMPLE.match(stripped) and following.strip():
            return self._simple(at)
        if _UNDERLINE.match(line):
            return at + 1
        return self._paragraph(at)

    def _heading(self, text: str, style: str) -> None:
        if style not in self._styles:
            self._styles.append(style)
        self._out.heading(plain(text), self._styles.index(style) + 1)

    def _explicit(self, at: int) -> int:
        line = self._lines[at]
        end = self._indented_end(at + 1)
        body = self._lines[at + 1 : end]
        if (note := _NOTE.match(line)) is not None:
            self._out.prose(plain("\n".join([note.group(2), *body])))
            return end
        if (directive := _DIRECTIVE.match(line)) is None:
            # A target, a comment: nothing a reader sees.
            return end
        name, argument = directive.group(1).lower(), directive.group(2)
        while body and (not body[0].strip() or _OPTION.match(body[0].strip())):
            body.pop(0)
        if name in _CODE:
            self._out.code("\n".join([argument, *body] if name == "math" else body))
        elif name not in _SILENT:
            if argument:
                self._out.prose(plain(argument))
            nested = _Reader(_outdent(body), self._out)
            nested._styles = self._styles
            nested.read()
        return end

    def _indented_end(self, at: int) -> int:
        end = at
        for position in range(at, len(self._lines)):
            line = self._lines[position]
            if line.strip():
                if line[0] != " ":
                    break
                end = position + 1
        return end

    def _paragraph(self, at: int) -> int:
        lines = self._lines
        indent = _indent(lines[at])
        item = _ITEM.match(lines[at].strip())
        field = _FIELD.match(lines[at].strip()) if lines[at].lstrip()[:1] == ":" else None
        end = at + 1
        while end < len(lines) and lines[end].strip():
            deeper = _indent(lines[end]) - indent
            if deeper < 0 or (deeper <= 0 and (item or field) and _ITEM.match(lines[end].strip())):
                break
            if _ITEM.match(lines[end].strip()) and (item or deeper > 0):
                break
            if field and deeper <= 0:
                break
            end += 1
        text = "\n".join(line.strip() for line in lines[at:end])
        literal = text.endswith("::")
        if literal:
            text = text[:-2].rstrip() if text[:-2].endswith((" ", "\n")) or text == "::" else text[:-1]
        if field is not None:
            text = text[1:].replace(":", ": ", 1)
        if text.strip():
            (self._out.item if item or field else self._out.prose)(plain(text))
        return self._literal(end, indent) if literal else end

    def _literal(self, at: int, indent: int) -> int:
        end = at
        for position in range(at, len(self._lines)):
            line = self._lines[position]
            if line.strip():
                if _indent(line) <= indent:
                    break
                end = position + 1
        self._out.code("\n".join(self._lines[at:end]))
        return max(end, at)

    def _grid(self, at: int) -> int:
        rows: list[list[str]] = []
        current: list[str] = []
        end = at
        while end < len(self._lines) and self._lines[end].strip()[:1] in ("+", "|") and self._lines[end].strip():
            line = self._lines[end].strip()
            if line[0] == "+":
                if any(current):
                    rows.append(current)
                current = []
            else:
                cells = [cell.strip() for cell in line.strip("|").split("|")]
                if len(cells) == len(current):
                    current = [f"{a} {b}".strip() for a, b in zip(current, cells, strict=True)]
                else:
                    if any(current):
                        rows.append(current)
                    current = cells
            end += 1
        if any(current):
            rows.append(current)
        self._out.table([[plain(cell) for cell in row] for row in rows])
        return end

    def _simple(self, at: int) -> int:
        rule = self._lines[at]
        starts = [m.start() for m in re.finditer(r"=+", rule)]
        rows: list[list[str]] = []
        end, rules = at + 1, 1
        while end < len(self._lines):
            line = self._lines[end]
            end += 1
            if _SIMPLE.match(line.strip()):
                rules += 1
                following = self._lines[end] if end < len(self._lines) else ""
                if rules >= 3 or not following.strip():  # noqa: PLR2004  above, below the header, below the body
                    break
                continue
            if not line.strip() or re.fullmatch(r"[-\s]+", line):
                continue
            cells = [line[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)]
            if rows and not cells[0]:
                rows[-1] = [f"{a} {b}".strip() for a, b in zip(rows[-1], cells, strict=True)]
            else:
                rows.append(cells)
        self._out.table([[plain(cell) for cell in row] for row in rows])
        return end


def plain(text: str) -> str:
    """The text without inline markup."""
    if "`" in text:
        text = _ROLE.sub(_role, text)
        text = _LITERAL.sub(r"\1", text)
        text = _LINK.sub(r"\1", text)
        text = _REFERENCE.sub(r"\1", text)
        text = _INTERPRETED.sub(r"\1", text)
    if "*" in text:
        text = _STRONG.sub(r"\1", text)
        text = _EMPHASIS.sub(r"\1", text)
    if "_" in text:
        text = _NOTE_REFERENCE.sub("", text)
        text = _NAME.sub("", text)
    if "|" in text:
        text = _SUBSTITUTION.sub(r"\1", text)
    return text.replace("\\ ", "") if "\\" in text else text


def _role(match: re.Match[str]) -> str:
    role, text = match.group(1).lower(), match.group(2)
    shown = text.split("<", 1)[0].strip() or text.strip("<>")
    if role in ("pep", "rfc") and shown[:1].isdigit():
        return f"{role.upper()} {shown}"
    return shown.lstrip("~!")


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _outdent(lines: list[str]) -> list[str]:
    indent = min((_indent(line) for line in lines if line.strip()), default=0)
    return [line[indent:] for line in lines]
