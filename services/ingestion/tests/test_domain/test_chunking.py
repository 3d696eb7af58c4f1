from __future__ import annotations

import functools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anabranch_ingestion.adapters.tokens import MiniLmTokens
from anabranch_ingestion.domain.chunking import Chunk, Window, chunk
from anabranch_ingestion.domain.text import Block, BlockKind, Composer, Extracted, clean, paragraphs

WINDOW = Window()
WORDS = st.text(
    alphabet=st.sampled_from(list("abcdeé .,;!?\n-_'\"0123\uff08。漢")), min_size=1, max_size=400
) | st.text(min_size=1, max_size=300)
LONG = st.builds(lambda word, n: (word + " ") * n, st.text(min_size=1, max_size=12), st.integers(1, 400))
BLOCKS = st.lists(
    st.one_of(
        st.tuples(st.just("heading"), st.text(min_size=1, max_size=60), st.integers(1, 4)),
        st.tuples(st.sampled_from(["prose", "item", "code"]), WORDS | LONG, st.just(0)),
        st.tuples(st.just("table"), st.lists(st.lists(st.text(max_size=20), max_size=4), max_size=40), st.just(0)),
    ),
    max_size=12,
)


def composed(blocks: list[tuple[str, object, int]]) -> Extracted:
    out = Composer(limit=1 << 24)
    for kind, value, level in blocks:
        if kind == "heading":
            out.heading(str(value), level)
        elif kind == "table":
            assert isinstance(value, list)
            out.table(value)
        else:
            getattr(out, kind)(str(value))
    return out.build(parser="test", content_type="text/plain")


def plain(text: str) -> Extracted:
    text = clean(text)
    blocks = tuple(Block(kind=BlockKind.PROSE, start=a, end=b) for a, b in paragraphs(text))
    return Extracted(text=text, blocks=blocks)


def cut(document: Extracted, title: str = "") -> list[Chunk]:
    return chunk(document, title=title, tokens=MiniLmTokens.load(), window=WINDOW)


@functools.cache
def model_tokens(text: str) -> int:
    return len(MiniLmTokens.load()._tokenizer.encode(text, add_special_tokens=False))


def check_laws(document: Extracted, title: str, chunks: list[Chunk]) -> None:
    position = 0
    for ordinal, one in enumerate(chunks):
        assert one.ordinal == ordinal
        assert position <= one.start < one.end <= len(document.text)
        assert not document.text[position : one.start].strip(), "a chunk leaves nothing out"
        assert one.text == document.text[one.start : one.end]
        assert one.text == one.text.strip()
        assert one.line == document.text.count("\n", 0, one.start) + 1
        assert one.token_count == model_tokens(one.text)
        prefix = sum(model_tokens(part) for part in (title, " > ".join(one.title_path)) if part)
        assert one.token_count + min(prefix, WINDOW.prefix) + WINDOW.specials <= WINDOW.tokens
        assert len(one.text) <= WINDOW.characters
        floor = 0
        for start, end in one.sentences:
            assert floor <= start < end <= len(one.text)
            assert one.text[start:end].strip()
            floor = end
        assert one.sentences
        position = one.end
    assert not document.text[position:].strip()


@settings(max_examples=60, deadline=None)
@given(BLOCKS, st.text(max_size=30))
def test_the_laws_of_chunks_hold_for_structured_texts(blocks: list[tuple[str, object, int]], title: str) -> None:
    title = " ".join(clean(title).split())
    document = composed(blocks)
    check_laws(document, title, cut(document, title))


@settings(max_examples=40, deadline=None)
@given(st.lists(WORDS | LONG, max_size=6).map("\n\n".join))
def test_the_laws_of_chunks_hold_for_plain_texts(text: str) -> None:
    document = plain(text)
    check_laws(document, "", cut(document))


@pytest.mark.parametrize(
    "text", ["x" * 30_000, "ab,cd;" * 4_000, "漢" * 3_000, "é" * 5_000, "a" * 99 + " " + "b" * 4_200]
)
def test_words_that_fit_no_window_are_cut_and_nothing_is_lost(text: str) -> None:
    document = plain(text)
    chunks = cut(document)
    check_laws(document, "", chunks)
    assert "".join(one.text for one in chunks) == text.replace(" ", "")


def test_a_heading_opens_a_chunk_and_is_the_path_of_those_that_follow() -> None:
    body = "This sentence says something about rivers and their many side arms. " * 30
    document = composed([("heading", "Rivers", 1), ("heading", "Arms", 2), ("prose", body, 0), ("heading", "Lakes", 1)])
    chunks = cut(document)
    assert chunks[0].text.startswith("Rivers\n\nArms\n\n")
    assert chunks[0].title_path == ()
    assert {one.title_path for one in chunks[1:-1]} == {("Rivers", "Arms")}
    assert chunks[-1].text == "Lakes"


def test_short_sections_of_one_parent_share_a_chunk_and_others_do_not() -> None:
    document = composed(
        [
            ("heading", "A", 1),
            ("prose", "Short.", 0),
            ("heading", "A one", 2),
            ("prose", "Short too.", 0),
            ("heading", "B", 1),
            ("prose", "Elsewhere.", 0),
        ]
    )
    assert [one.text for one in cut(document)] == ["A\n\nShort.\n\nA one\n\nShort too.\n\nB\n\nElsewhere."]
    long = "Plenty of words stand here so that the chunk is long enough to stand alone for a reader. " * 5
    document = composed([("heading", "A", 1), ("prose", long, 0), ("heading", "B", 1), ("prose", "Elsewhere.", 0)])
    assert [one.text.split("\n")[0] for one in cut(document)] == ["A", "B"]


def test_a_chunk_never_crosses_from_a_subsection_into_another_section() -> None:
    long = "Plenty of words stand here so that the chunk is long enough to stand alone for a reader. " * 14
    document = composed(
        [("heading", "A", 1), ("prose", long, 0), ("heading", "A one", 2), ("prose", long, 0), ("heading", "B", 1)]
    )
    chunks = cut(document)
    assert all("B" not in one.text.split() for one in chunks if one.title_path[:1] == ("A",))


def test_a_table_that_fits_stays_whole_and_one_that_does_not_is_cut_between_rows_with_its_header_in_the_path() -> None:
    small = [["Name", "Value"], ["alpha", "1"], ["beta", "2"]]
    chunks = cut(composed([("prose", "Before the table. " * 50, 0), ("table", small, 0)]))
    assert "Name | Value\nalpha | 1\nbeta | 2" in chunks[-1].text
    large = [["Name", "Value"], *[[f"setting number {n}", str(n)] for n in range(200)]]
    document = composed([("heading", "Settings", 1), ("table", large, 0)])
    chunks = cut(document)
    assert len(chunks) > 3
    assert all(one.kind is BlockKind.TABLE for one in chunks)
    assert chunks[0].title_path == ()
    assert {one.title_path for one in chunks[1:]} == {("Settings", "Name | Value")}
    rows = [row for one in chunks for row in one.text.split("\n") if "|" in row]
    assert rows == document.text.split("\n")[2:]


def test_code_is_kept_with_its_indentation_and_cut_between_lines() -> None:
    code = "def f(x):\n    if x:\n        return 1\n    return 2"
    (one,) = cut(composed([("code", code, 0)]))
    assert (one.text, one.kind) == (code, BlockKind.CODE)


def test_sentences_leave_headings_and_list_markers_out() -> None:
    document = composed([("heading", "Steps", 1), ("item", "1. Open it.", 0), ("item", "- Close it.", 0)])
    (one,) = cut(document)
    assert [one.text[a:b] for a, b in one.sentences] == ["Open it.", "Close it."]


def test_a_text_of_a_megabyte_is_cut_in_a_moment() -> None:
    text = ("The quick brown fox jumps over the lazy dog near the river bank. " * 40 + "\n\n") * 400
    chunks = cut(plain(text))
    assert len(chunks) > 800
