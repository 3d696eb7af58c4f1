from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anabranch_ingestion.domain.sentences import sentences

# Text that is full of what the rules look at.
TRICKY = st.text(alphabet=st.sampled_from(list("aAbB.!?…\"' ”)(\n1 5-•。\uff1f")), max_size=200) | st.text(max_size=80)


def cut(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Dr. Smith met Mrs. Jones. They talked.", ["Dr. Smith met Mrs. Jones.", "They talked."]),
        ("J. K. Rowling wrote it. She did.", ["J. K. Rowling wrote it.", "She did."]),
        ("It costs 3.5 dollars. Or 4,000.25.", ["It costs 3.5 dollars.", "Or 4,000.25."]),
        ('He said "Stop." Then he left.', ['He said "Stop."', "Then he left."]),
        ('"Go!" she cried. "Now?" he asked.', ['"Go!" she cried.', '"Now?" he asked.']),
        ("The U.S. Army came. It left.", ["The U.S. Army came.", "It left."]),
        ("He lives in the U.S. The house is big.", ["He lives in the U.S.", "The house is big."]),
        ("See Fig. 3 and No. 5 of vol. 2. Done.", ["See Fig. 3 and No. 5 of vol. 2.", "Done."]),
        ("Use e.g. Kafka, i.e. a log. Fine.", ["Use e.g. Kafka, i.e. a log.", "Fine."]),
        ("Acme Inc. was sold. Acme Inc. The end.", ["Acme Inc. was sold.", "Acme Inc.", "The end."]),
        ("At 5 p.m. we ate. At 6 p.m. We slept.", ["At 5 p.m. we ate.", "At 6 p.m.", "We slept."]),
        ("Wait... what? Yes.", ["Wait... what?", "Yes."]),
        ("1. First step. 2. Second", ["1. First step.", "2. Second"]),
        ("- one thing\n- another thing", ["- one thing", "- another thing"]),
        ("A line that\nis wrapped. Next\none.", ["A line that\nis wrapped.", "Next\none."]),
        ("这是第一句。这是第二句\uff01", ["这是第一句。", "这是第二句\uff01"]),
        ("version 1.2.3 of foo.bar is out", ["version 1.2.3 of foo.bar is out"]),
        ("", []),
        ("   \n ", []),
    ],
)
def test_a_paragraph_is_cut_where_a_reader_would_cut_it(text: str, expected: list[str]) -> None:
    assert cut(text) == expected


@given(TRICKY)
def test_spans_are_in_order_disjoint_and_hold_every_character_that_is_not_blank(text: str) -> None:
    position = 0
    for start, end in sentences(text):
        assert position <= start < end <= len(text)
        assert not text[position:start].strip()
        assert text[start:end] == text[start:end].strip()
        position = end
    assert not text[position:].strip()


@settings(max_examples=20, deadline=2_000)
@given(
    st.sampled_from(["." * 60_000 + "x", "a. " * 20_000, "!" * 50_000, "A.B." * 10_000, '"' * 60_000, "\n- x" * 9_000])
)
def test_a_hostile_paragraph_takes_time_in_proportion_to_its_length(text: str) -> None:
    assert sentences(text)
