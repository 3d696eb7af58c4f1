"""HTML to blocks, by walking the tree lexbor builds: what a reader of the page sees, in order, with its structure.

The walk keeps its own stack, so depth costs memory and not the process. Scripts, styles, hidden parts, forms' choices
and navigation are left out; tables that only lay a page out are read as ordinary blocks.
"""

from __future__ import annotations

from selectolax.lexbor import LexborHTMLParser, LexborNode

from anabranch_ingestion.domain.text import Composer

_SKIP_WORDS = (
    "script style noscript template svg head iframe object embed select option datalist audio video canvas map nav "
    "button input textarea dialog"
)
_SKIP = frozenset(_SKIP_WORDS.split())
_BLOCKS_WORDS = (
    "address article aside blockquote body center dd details div dl dt fieldset figcaption figure footer form "
    "header hgroup hr html legend li main ol p section summary table tbody td tfoot th thead tr ul caption"
)
_BLOCKS = frozenset(_BLOCKS_WORDS.split())
_HEADINGS = {f"h{n}": n for n in range(1, 7)}
_CODE = frozenset(("pre", "listing", "xmp"))
_CELL_CAP = 4000


def compose(html: str, out: Composer) -> None:
    """Adds the page's blocks and its title."""
    tree = LexborHTMLParser(html)
    title = tree.css_first("head > title") or tree.css_first("title")
    if title is not None and not out.title:
        out.title = title.text() or ""
    if tree.body is None:
        return
    _Walk(out).run(tree.body)
    if out.empty:
        # A page that is nothing but navigation still says something.
        _Walk(out, skip=_SKIP - {"nav", "noscript", "button"}).run(tree.body)
    if out.empty:
        # Pages rendered in the browser keep their text in a template.
        for script in tree.css("script[type*=template], script[type='text/html'], template"):
            _Walk(out).run_page(LexborHTMLParser(script.html[script.html.find(">") + 1 :] if script.html else ""))


class _Walk:
    def __init__(self, out: Composer, skip: frozenset[str] = _SKIP) -> None:
        self._out = out
        self._skip = skip
        self._inline: list[str] = []
        self._marker = ""
        self._in_item = 0
        # Open lists: the number of the next item, None for bullets.
        self._lists: list[int | None] = []

    def run(self, root: LexborNode) -> None:
        node: LexborNode | None = root
        open_nodes: list[LexborNode] = []
        while node is not None:
            child = self._enter(node)
            if child is not None:
                open_nodes.append(node)
                node = child
                continue
            if not open_nodes:
                self._leave(node)
                break
            self._leave(node)
            following = node.next
            while following is None and open_nodes:
                parent = open_nodes.pop()
                self._leave(parent)
                if parent.parent is None or not open_nodes:
                    following = None
                    break
                following = parent.next
            node = following
        self._flush()

    def run_page(self, tree: LexborHTMLParser) -> None:
        if tree.body is not None:
            self.run(tree.body)

    def _enter(self, node: LexborNode) -> LexborNode | None:  # noqa: PLR0911  one return a case
        """Takes a node in; its first child when the walk goes on below it."""
        tag = node.tag or ""
        if tag == "-text":
            self._inline.append((node.text_content or "").replace("\n", " "))
            return None
        if tag in self._skip or tag[:1] in "_-!" or _hidden(node):
            return None
        if tag == "br":
            self._inline.append("\n")
            return None
        if tag in _HEADINGS:
            self._flush()
            self._out.heading(node.text(separator=" ") or "", _HEADINGS[tag])
            return None
        if tag in _CODE:
            self._flush()
            self._out.code(node.text() or "")
            return None
        if tag == "table" and not _lays_out(node):
            self._flush()
            self._table(node)
            return None
        if tag in _BLOCKS:
            self._flush()
            self._open_list(node, tag)
        return node.child

    def _open_list(self, node: LexborNode, tag: str) -> None:
        if tag in ("ul", "dl"):
            self._lists.append(None)
        elif tag == "ol":
            self._lists.append(_start(node))
        elif tag in ("li", "dd"):
            self._in_item += 1
            number = self._lists[-1] if self._lists else None
            self._marker = "- " if number is None else f"{number}. "
            if number is not None:
                self._lists[-1] = number + 1

    def _leave(self, node: LexborNode) -> None:
        tag = node.tag or ""
        if tag not in _BLOCKS or tag in self._skip:
            return
        self._flush()
        if tag in ("ul", "ol", "dl") and self._lists:
            self._lists.pop()
        elif tag in ("li", "dd"):
            self._in_item = max(0, self._in_item - 1)
            self._marker = ""

    def _flush(self) -> None:
        if not self._inline:
            return
        text = "".join(self._inline)
        self._inline.clear()
        if not text.strip():
            return
        if self._in_item:
            self._out.item(self._marker + text.strip())
            self._marker = ""
        else:
            self._out.prose(text)

    def _table(self, table: LexborNode) -> None:
        caption = table.css_first("caption")
        if caption is not None:
            self._out.prose(caption.text(separator=" ") or "")
        rows = []
        for row in table.css("tr"):
            cells = [cell for cell in row.iter(include_text=False) if cell.tag in ("td", "th")]
            rows.append([(cell.text(separator=" ") or "")[:_CELL_CAP] for cell in cells])
        self._out.table(rows)


def _hidden(node: LexborNode) -> bool:
    attributes = node.attributes
    if not attributes:
        return False
    style = (attributes.get("style") or "").replace(" ", "").lower()
    return "hidden" in attributes or "display:none" in style or "visibility:hidden" in style


def _lays_out(table: LexborNode) -> bool:
    """True for a table that holds other structure: it arranges a page and is no table of values."""
    if len(table.css("table")) > 1 or len(table.css("td,th")) == 1:
        return True
    return table.css_first("pre,h1,h2,h3,h4,h5,h6") is not None


def _start(node: LexborNode) -> int:
    value = (node.attributes.get("start") or "1").strip()
    return int(value) if value.isdigit() and len(value) < 9 else 1  # noqa: PLR2004  no list is that long
