from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch_faults import TooLarge
from anabranch_ingestion.domain.text import BlockKind, Composer, clean, paragraphs


@given(st.text())
def test_cleaning_twice_is_cleaning_once_and_leaves_what_utf_8_can_carry(text: str) -> None:
    cleaned = clean(text)
    assert clean(cleaned) == cleaned
    cleaned.encode("utf-8")
    assert "\x00" not in cleaned
    assert "\r" not in cleaned


@given(st.text(alphabet=st.sampled_from(list("ab \n\t")), max_size=100))
def test_paragraphs_hold_every_character_that_is_not_blank(text: str) -> None:
    assert "".join("".join(text[a:b].split()) for a, b in paragraphs(text)) == "".join(text.split())


def test_line_ends_of_all_systems_become_line_feeds() -> None:
    assert clean("a\r\nb\rc\u2028d\x0ce") == "a\nb\nc\nd\ne"


def test_blocks_know_where_they_lie_in_the_text() -> None:
    out = Composer(limit=1_000)
    out.heading("  A   title ", 1)
    out.page = 2
    out.prose("First   line\n  second line")
    out.item("- one")
    out.item("- two")
    out.code("\n    if x:\n        y\n")
    out.table([["", "a", "b"], ["", "1", ""], ["", "", ""]])
    made = out.build(parser="p", content_type="t")
    assert [(b.kind, made.text[b.start : b.end], b.page) for b in made.blocks] == [
        (BlockKind.HEADING, "A title", 0),
        (BlockKind.PROSE, "First line\nsecond line", 2),
        (BlockKind.ITEM, "- one", 2),
        (BlockKind.ITEM, "- two", 2),
        (BlockKind.CODE, "if x:\n    y", 2),
        (BlockKind.TABLE, "a | b\n1", 2),
    ]
    assert "- one\n- two" in made.text


def test_a_text_over_its_limit_is_refused_while_it_grows() -> None:
    out = Composer(limit=100)
    out.prose("some words " * 8)
    with pytest.raises(TooLarge, match="longer than 100 bytes"):
        out.prose("some words")


def test_a_document_that_is_only_a_title_has_that_title_as_its_text() -> None:
    out = Composer(limit=100)
    out.title = "Runbooks"
    assert out.build(parser="p", content_type="t").text == "Runbooks"
