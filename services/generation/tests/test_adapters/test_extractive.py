from __future__ import annotations

import json
import os
import random
import re
import string
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch_faults import Invalid
from anabranch_generation.adapters.extractive import features, picker
from anabranch_generation.adapters.extractive import text as texts
from anabranch_generation.adapters.extractive.backend import ABSTENTION, ExtractiveBackend
from anabranch_generation.adapters.extractive.picker import choose, shipped
from anabranch_generation.adapters.extractive.question import Wanted, read, wanted
from anabranch_generation.domain import (
    Citation,
    Delta,
    DocumentRef,
    Event,
    Finished,
    FinishReason,
    Passage,
    Request,
    Sentence,
    Settings,
    estimate_tokens,
)

DOCUMENTS = {
    "eiffel": (
        "Eiffel Tower",
        (
            "The Eiffel Tower is a wrought-iron lattice tower in Paris, France. It is named after the engineer Gustave"
            " Eiffel, whose company designed and built the tower from 1887 to 1889. The tower is 330 metres tall."
        ),
    ),
    "louvre": (
        "Louvre",
        (
            "The Louvre is a museum in Paris. It received 7.7 million visitors in 2022. Its pyramid was designed by the"
            " architect I. M. Pei and completed in 1989."
        ),
    ),
    "nile": (
        "Nile",
        (
            "The Nile is a major river in northeastern Africa. It flows north into the Mediterranean Sea because the"
            " land falls away from the highlands. It is about 6,650 km long."
        ),
    ),
    "linger": (
        "Producer settings",
        (
            "linger.ms is how long the producer waits for more records. Its default value is 5. Larger values give"
            " fewer requests."
        ),
    ),
}


def found(*names: str) -> tuple[Passage, ...]:
    return tuple(
        Passage(
            text=DOCUMENTS[name][1],
            title=DOCUMENTS[name][0],
            document=DocumentRef(document_id=name),
            sentences=tuple(Sentence(a, b) for a, b in texts.sentences(DOCUMENTS[name][1])),
        )
        for name in (names or DOCUMENTS)
    )


async def answer(question: str, passages: Sequence[Passage] | None = None, **settings: object) -> list[Event]:
    request = Request(
        question=question,
        passages=tuple(found() if passages is None else passages),
        settings=Settings(**settings),  # type: ignore[arg-type]  # keywords of Settings
    )
    return [event async for event in ExtractiveBackend().answer(request)]


def said(events: Sequence[Event]) -> str:
    return "".join(e.text for e in events if isinstance(e, Delta))


def finished(events: Sequence[Event]) -> Finished:
    assert isinstance(events[-1], Finished)
    return events[-1]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("How tall is the Eiffel Tower?", "330 metres"),
        ("Who is the Eiffel Tower named after?", "Gustave Eiffel"),
        ("When was the Eiffel Tower built?", "1887 to 1889"),
        ("Who designed the pyramid of the Louvre?", "Pei"),
        ("How many visitors did the Louvre receive in 2022?", "7.7 million"),
        ("Why does the Nile flow north?", "highlands"),
        ("What is the default value of linger.ms?", "5"),
        ("how long is the nile", "6,650 km"),
    ],
)
async def test_the_answer_stands_in_the_quoted_text_and_in_a_citation(question: str, expected: str) -> None:
    events = await answer(question)
    assert expected in said(events)
    assert any(expected in e.text for e in events if isinstance(e, Citation))
    assert finished(events).reason is FinishReason.STOP
    assert 0.3 < finished(events).support <= 1


@pytest.mark.parametrize(
    "question",
    [
        "What is the boiling point of mercury?",
        "Who won the 1998 World Cup?",
        "what does the fox say",
        "Why did the Roman empire fall?",
    ],
)
async def test_a_question_that_the_passages_do_not_answer_is_an_abstention(question: str) -> None:
    events = await answer(question)
    assert said(events) == ABSTENTION
    assert finished(events).abstained
    assert finished(events).reason is FinishReason.ABSTAINED
    assert not [e for e in events if isinstance(e, Citation)]


@pytest.mark.parametrize(
    "passages", [(), (Passage(text=""),), (Passage(text=" ... "),)], ids=["none", "empty", "wordless"]
)
async def test_nothing_found_is_an_abstention(passages: tuple[Passage, ...]) -> None:
    assert finished(await answer("What is the Nile?", passages)).abstained


async def test_at_most_as_many_sentences_as_asked_for_and_two_by_default() -> None:
    for most, expected in ((0, 2), (1, 1), (3, 3)):
        events = await answer("What about Paris?", max_sentences=most, abstain_below=0.000001)
        assert len([e for e in events if isinstance(e, Citation)]) == expected


async def test_sentences_of_one_passage_come_in_the_order_of_its_text() -> None:
    events = await answer("When was the Eiffel Tower built and how tall is it?", found("eiffel"), max_sentences=3)
    spans = [e.span.start for e in events if isinstance(e, Citation)]
    assert spans == sorted(spans)


async def test_white_space_is_folded_in_the_answer_and_kept_in_the_citation() -> None:
    text = "The Nile is about\n  6,650 km long."
    events = await answer(
        "How long is the Nile?", [Passage(text=text, title="Nile", sentences=(Sentence(0, len(text)),))]
    )
    assert said(events) == "The Nile is about 6,650 km long. [1]"
    (citation,) = [e for e in events if isinstance(e, Citation)]
    assert citation.text == text
    assert said(events)[citation.answer_span.start : citation.answer_span.end] == "The Nile is about 6,650 km long."


SETTINGS = """linger.ms

How long the producer waits for more records before it sends a batch.

Type: | long
Default: | 5
Importance: | medium

batch.size

How many bytes of records are put into one batch.

Type: | int
Default: | 16384
Importance: | high"""


def lines_of(text: str, headings: Sequence[str]) -> Passage:
    """As the chunker does: headings are in the text, and no sentence covers them."""
    sentences, at = [], 0
    for line in text.split("\n"):
        if line and line not in headings:
            sentences.append(Sentence(at, at + len(line)))
        at += len(line) + 1
    return Passage(text=text, document=DocumentRef(document_id="docs/settings.html"), sentences=tuple(sentences))


@pytest.mark.parametrize(("setting", "expected"), [("linger.ms", "Default: 5"), ("batch.size", "Default: 16384")])
async def test_a_field_of_the_thing_asked_about_is_quoted_and_not_its_neighbours(setting: str, expected: str) -> None:
    table = lines_of(SETTINGS, ("linger.ms", "batch.size"))
    events = await answer(f"What is the default value of {setting}?", [table], max_sentences=1)
    assert said(events) == f"{expected} [1]"
    (citation,) = [e for e in events if isinstance(e, Citation)]
    assert citation.text == expected.replace(": ", ": | ")


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is the status of PEP 602?", "Status: Active"),
        ("Who wrote PEP 602?", "Author: Lukasz Langa"),
        ("On what date was PEP 8 created?", "Created: 05-Jul-2001"),
    ],
)
async def test_headers_of_the_right_document_are_quoted(question: str, expected: str) -> None:
    headers = [
        lines_of("PEP: 602\nTitle: Annual Releases\nAuthor: Lukasz Langa\nStatus: Active\nCreated: 04-Jun-2019", ()),
        lines_of("PEP: 8\nTitle: Style Guide\nAuthor: Guido van Rossum\nStatus: Final\nCreated: 05-Jul-2001", ()),
    ]
    # [n] is the passage's place, not the sentence's: the right document may not be the first.
    assert re.fullmatch(rf"{re.escape(expected)} \[\d\]", said(await answer(question, headers, max_sentences=1)))


async def test_two_sentences_of_one_passage_carry_its_number() -> None:
    passages = [
        lines_of("The garden has forty roses and a pond.", ()),
        lines_of("The reading room opens at nine in the morning.\nThe reading room closes at six in the evening.", ()),
    ]
    events = await answer("When does the reading room open and close?", passages, max_sentences=2)
    assert [event.number for event in events if isinstance(event, Citation)] == [2, 2]
    assert said(events).count("[2]") == 2


async def test_one_sentence_that_leaves_no_doubt_stands_alone() -> None:
    events = await answer("How many visitors did the Louvre receive in 2022?")
    assert [e.text for e in events if isinstance(e, Citation)] == ["It received 7.7 million visitors in 2022."]


async def test_the_same_sentence_from_two_documents_is_said_once() -> None:
    twice = found("nile", "nile")
    events = await answer("How long is the Nile?", twice, max_sentences=6)
    quotes = [e.text for e in events if isinstance(e, Citation)]
    assert len(quotes) == len(set(quotes)) == 3


async def test_the_bar_for_abstention_can_be_moved() -> None:
    assert finished(await answer("How tall is the Eiffel Tower?", abstain_below=1.0)).abstained
    assert not finished(await answer("What is the boiling point of mercury?", abstain_below=0.000001)).abstained


async def test_an_answer_longer_than_its_tokens_ends_after_its_first_sentence() -> None:
    events = await answer("How tall is the Eiffel Tower?", max_tokens=5)
    assert len([e for e in events if isinstance(e, Citation)]) == 1
    assert finished(events).reason is FinishReason.LENGTH


async def test_context_tokens_bound_what_is_read() -> None:
    question = "How long is the Nile?"
    whole, bounded = finished(await answer(question)), finished(await answer(question, context_tokens=40))
    assert bounded.usage.prompt_tokens <= 40 + estimate_tokens(question) < whole.usage.prompt_tokens


async def test_a_model_or_an_adapter_it_does_not_have_is_invalid() -> None:
    assert not finished(await answer("How tall is the Eiffel Tower?", model=shipped().version)).abstained
    with pytest.raises(Invalid):
        await answer("How tall is the Eiffel Tower?", model="gpt")
    with pytest.raises(Invalid):
        await answer("How tall is the Eiffel Tower?", adapter="lora")


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("Who wrote it?", Wanted.PERSON),
        ("what happens when it rains", Wanted.THING),
        ("when did it rain", Wanted.DATE),
        ("In which year did it rain?", Wanted.DATE),
        ("How many are there?", Wanted.NUMBER),
        ("What is the population of Rome?", Wanted.NUMBER),
        ("Which city is it?", Wanted.PLACE),
        ("Why?", Wanted.REASON),
        ("how do bees fly", Wanted.MANNER),
        ("What is photosynthesis?", Wanted.DEFINITION),
    ],
)
def test_a_question_tells_the_shape_of_its_answer(question: str, kind: Wanted) -> None:
    assert wanted(question) is kind


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        (
            "Dr. Smith met J. R. Tolkien in St. Louis. He left.",
            ["Dr. Smith met J. R. Tolkien in St. Louis.", "He left."],
        ),
        (
            "It cost 3.5 million, e.g. in the U.S. and elsewhere. Fine.",
            ["It cost 3.5 million, e.g. in the U.S. and elsewhere.", "Fine."],
        ),
        ('He said "stop." Then he left.', ['He said "stop."', "Then he left."]),
        ("Heading\n\nText here", ["Heading", "Text here"]),
        ("  ", []),
    ],
)
def test_a_text_is_split_into_sentences(text: str, expected: list[str]) -> None:
    assert [text[a:b] for a, b in texts.sentences(text)] == expected


@given(st.text())
def test_sentences_are_in_order_and_nothing_but_space_is_left_out(text: str) -> None:
    spans = texts.sentences(text)
    assert all(a < b for a, b in spans)
    assert all(b <= c for (_, b), (c, _) in pairwise(spans))
    assert "".join("".join(text[a:b] for a, b in spans).split()) == "".join(text.split())


@given(st.text(min_size=1, max_size=50), st.lists(st.text(max_size=80), max_size=4))
def test_any_text_gives_a_choice_with_a_support_between_0_and_1(question: str, found_texts: list[str]) -> None:
    choice = choose(read(question), [Passage(text=t) for t in found_texts], most=2)
    assert 0 <= choice.support <= 1
    assert len(choice.picked) <= 2


def test_the_file_names_no_coefficient_that_is_not_read() -> None:
    raw = json.loads(Path(picker.__file__).with_name("coefficients.json").read_text())
    for situation in ("with_similarity", "without_similarity"):
        assert raw[situation]["first"].keys() <= set(features.NAMES)
        assert raw[situation]["second"].keys() <= set(picker.SECOND)
        assert raw[situation]["support"].keys() <= {*picker.SUPPORT, "bias"}


DATA = Path(os.environ.get("ANABRANCH_DATA") or Path(__file__).resolve().parents[5] / "shared" / "data")


def normal(text: str) -> str:
    text = "".join(" " if c in string.punctuation else c for c in text.lower())
    words = re.sub(r"\b(a|an|the)\b", " ", text).split()
    return f" {' '.join(words)} "


@pytest.mark.skipif(not (DATA / "qa_beerqa").is_dir(), reason="no data folder: set ANABRANCH_DATA")
def test_answers_of_single_hop_questions_stand_in_two_sentences_chosen_by_words_alone() -> None:
    corpus = [json.loads(line) for line in (DATA / "qa_beerqa" / "corpus.jsonl").read_text().splitlines()]
    queries = [json.loads(line) for line in (DATA / "qa_beerqa" / "queries.jsonl").read_text().splitlines()]
    by_id = {row["_id"]: row for row in corpus}
    draw = random.Random(7)  # noqa: S311  a fixed draw
    hits = asked = 0
    begun = time.process_time()
    for query in (q for q in queries if q["source"] == "squad"):
        # The right paragraph among four others of the same length class, in no order that tells.
        rows = [by_id[i] for i in query["paragraph_ids"]] + draw.sample(corpus, 4)
        draw.shuffle(rows)
        passages = [Passage(text=row["text"], title=row["title"]) for row in rows]
        choice = choose(read(query["text"]), passages, most=2)
        quoted = " ".join(
            passages[p.candidate.passage].text[p.candidate.sentence.start : p.candidate.sentence.end]
            for p in choice.picked
        )
        asked += 1
        hits += any(normal(answer_) in normal(quoted) for answer_ in query["answers"] if normal(answer_).strip())
    assert asked == 441
    assert hits / asked >= 0.83
    assert (time.process_time() - begun) / asked < 0.02  # generous: the machine may be busy
