"""Scores of answers by words and by meaning: what they say, and that they come out the same every time."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from anabranch_evaluation.adapters.judging import LibraryJudge
from anabranch_evaluation.adapters.vectors import GrpcVectors
from anabranch_evaluation.application.ports import Written
from anabranch_evaluation.application.scoring import Material, ScoreAnswers
from anabranch_evaluation.bootstrap import database_of
from anabranch_evaluation.domain.golden import GoldenQuestion
from anabranch_evaluation.testing.vectors import VectorServer
from anabranch_faults import Overloaded, Transient
from anabranch_grounding import Meaning, groundedness, quantised, relevance
from anabranch_rpc import connect
from anabranch_store import Database

PASSAGES = (
    "The tower was finished in 1889. It is 330 metres tall. Many people climb it.",
    "Maria Oliveira designed the harbour in Porto. The harbour opened in 1925.",
)
SAME = {"completed": "finished", "building": "tower"}
MATERIAL = Material(
    question="When was the tower finished?", answer="The building was completed in 1889.", contexts=PASSAGES
)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = database_of(database_url)
    await database.migrate()
    yield database
    await database.close()


@asynccontextmanager
async def scorer(database: Database, world: VectorServer, **options: Any) -> AsyncIterator[ScoreAnswers]:
    channel = connect(world.address)
    try:
        yield ScoreAnswers(vectors=GrpcVectors(channel, database, version="default"), **options)
    finally:
        await channel.close()


def vectors_of(*texts: str, world: VectorServer | None = None) -> Meaning:
    known = world or VectorServer(same=SAME, tremor=0.0)
    return Meaning(
        version="words-1", vectors={text: quantised(known.vector(text).astype(np.float32)) for text in texts}
    )


async def test_meaning_supports_what_other_words_say(database: Database) -> None:
    async with VectorServer(same=SAME) as world, scorer(database, world) as score:
        (by_meaning,) = await score([MATERIAL])
        (by_words,) = await ScoreAnswers()([MATERIAL])
    assert by_words.version == "gr-2"
    assert by_meaning.version == "gr-2+words-1"
    for metric in ("groundedness", "answer_relevance"):
        assert by_meaning.scores[metric] > by_words.scores[metric] + 0.1
    assert by_meaning.sentences[0].passage == 0


async def test_equal_answers_get_equal_bits_in_any_order_and_company(database: Database) -> None:
    answers = [
        replace(MATERIAL, answer=f"The building was completed in {year}. It is tall.") for year in range(1880, 1900)
    ]
    async with VectorServer(same=SAME) as world, scorer(database, world) as score:
        first = await score(answers)
        order = list(range(len(answers)))
        random.Random(3).shuffle(order)  # noqa: S311  an order is no secret
        shuffled = await score([answers[place] for place in order])
        alone = [(await score([one]))[0] for one in answers[:3]]
        asked = len(world.calls)
        async with scorer(database, world) as replica:
            anew = await replica(answers)
        # The other replica asked for the version alone: every vector was there.
        assert world.calls[asked:] == [["version"]]
    assert [shuffled[order.index(place)] for place in range(len(answers))] == first
    assert alone == first[:3]
    assert anew == first


async def test_two_replicas_that_embed_at_once_go_by_the_same_vectors(database: Database) -> None:
    async with VectorServer() as world:
        channels = [connect(world.address), connect(world.address)]
        one, two = (GrpcVectors(channel, database) for channel in channels)
        # The second finds nothing kept, embeds too, and is the later to keep.
        real = two._kept
        seen = 0

        async def late(version: str, digests: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen == 1:
                found = await real(version, digests)
                await one.of(["a text"])
                return found
            return await real(version, digests)

        two._kept = late  # type: ignore[method-assign]
        found = await two.of(["a text"])
        assert found["a text"].tolist() == (await one.of(["a text"]))["a text"].tolist()
        assert sum("a text" in call for call in world.calls) == 2
        for channel in channels:
            await channel.close()


@pytest.mark.parametrize("fault", [Transient("slow"), Overloaded("full")])
async def test_without_embedding_the_words_stand_and_the_version_says_so(database: Database, fault: Transient) -> None:
    heard: list[str] = []
    async with VectorServer(fault=fault) as world, scorer(database, world, missed=heard.append) as score:
        (found,) = await score([MATERIAL])
        assert found == (await ScoreAnswers()([MATERIAL]))[0]
        assert len(heard) == 1
        with pytest.raises(Transient):
            await score.version()
        world.fault = None
        assert await score.version() == "gr-2+words-1"


async def test_scores_do_not_wait_for_an_embedding_service_that_hangs(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anabranch_evaluation.application.scoring.PATIENCE", timedelta(milliseconds=200))
    heard: list[str] = []
    async with VectorServer(delay=timedelta(seconds=5)) as world, scorer(database, world, missed=heard.append) as score:
        (found,) = await score([MATERIAL])
    assert found.version == "gr-2"
    assert "longer" in heard[0]


async def test_a_version_that_is_gone_is_looked_up_again(database: Database) -> None:
    async with VectorServer() as world, scorer(database, world) as score:
        assert await score.version() == "gr-2+words-1"
        world.version = "words-2"
        (found,) = await score([MATERIAL])
        assert found.version == "gr-2"
        (found,) = await score([MATERIAL])
        assert found.version == "gr-2+words-2"


async def test_no_blank_text_is_embedded_and_none_twice(database: Database) -> None:
    async with VectorServer() as world:
        channel = connect(world.address)
        await GrpcVectors(channel, database).of(["a", " ", "", "b", "a"])
        assert world.calls == [["version"], ["a", "b"]]
        many = [f"text {n}" for n in range(300)]
        found = await GrpcVectors(channel, database).of(many)
        assert list(found) == many
        assert max(map(len, world.calls)) <= 128
        await channel.close()


def test_cosines_of_unknown_texts_are_nothing_and_of_equal_ones_are_all() -> None:
    meaning = vectors_of("one text", "another")
    assert meaning.cosines("one text", ["one text", "unknown", "another"])[:2] == [1.0, 0.0]
    assert meaning.cosines("unknown", ["one text"]) == [0.0]
    assert meaning.cosines("one text", []) == []


def test_cosines_do_not_depend_on_what_they_are_taken_with() -> None:
    texts = [f"text number {n}" for n in range(200)]
    meaning = vectors_of(*texts)
    together = meaning.cosines(texts[0], texts)
    assert [meaning.cosines(texts[0], [text])[0] for text in texts] == together
    assert meaning.cosines(texts[0], texts[::-1]) == together[::-1]


def test_a_sentence_copied_from_a_passage_is_borne_out_whole() -> None:
    sentence = "Maria Oliveira designed the harbour in Porto."
    texts = [sentence, "The harbour opened in 1925.", *("The tower was finished in 1889.", "It is 330 metres tall.")]
    for meaning in (None, vectors_of(*texts)):
        assert groundedness(sentence, PASSAGES, meaning).score == 1.0


def test_each_fact_that_nothing_bears_out_takes_its_share() -> None:
    right = "The tower was finished in 1889 and is 330 metres tall."
    scores = [
        groundedness(right.replace("1889", year).replace("330", height), PASSAGES[:1]).score
        for year, height in (("1889", "330"), ("1899", "330"), ("1899", "400"))
    ]
    assert scores[0] == 1.0
    assert scores[0] > scores[1] > scores[2]
    assert scores[2] < 0.5


def test_a_negation_counts_only_against_a_sentence_that_says_the_same() -> None:
    passage = ["The tower was finished in 1889. Nobody climbs in winter."]
    assert groundedness("The tower was not finished in 1889.", passage).sentences[0].contradictions == ("negation",)
    assert "negation" not in groundedness("People climb the tower in winter.", passage).sentences[0].contradictions


def test_an_answer_to_another_question_is_less_relevant() -> None:
    question, answer, other = "When was the tower finished?", "It was completed in 1889.", "Porto has a harbour."
    assert relevance(question, answer) == relevance(question, other) == 0.0
    meaning = vectors_of(question, answer, other)
    assert relevance(question, answer, meaning) > relevance(question, other, meaning)


ASKED = GoldenQuestion(
    question_id="q", text="Who designed the harbour?", answers=("Maria Oliveira", "Maria Oliveira designed it")
)


def metrics(text: str, question: GoldenQuestion = ASKED, *, abstained: bool = False, **more: Any) -> dict[str, float]:
    return dict(LibraryJudge().answer(question, Written(text=text, abstained=abstained), PASSAGES, **more))


def test_a_right_answer_has_every_answer_metric_at_one() -> None:
    meaning = vectors_of("Maria Oliveira", *ASKED.answers)
    found = metrics("Maria Oliveira", meaning=meaning)
    assert {name: found[name] for name in ("em", "f1", "rouge_l", "bleu", "chrf", "similarity")} == pytest.approx(
        dict.fromkeys(("em", "f1", "rouge_l", "bleu", "chrf", "similarity"), 1.0)
    )
    assert "similarity" not in metrics("Maria Oliveira")


def test_the_right_answer_that_is_nearest_counts_and_no_mixture_of_two() -> None:
    question = replace(ASKED, answers=("one two three four five", "six seven eight nine ten"))
    mixed = metrics("one two three eight nine ten", question)
    alone = metrics("one two three eight nine ten", replace(question, answers=question.answers[:1]))
    assert mixed["bleu"] == pytest.approx(alone["bleu"], abs=0.05)
    assert 0 < mixed["bleu"] < 0.6
    assert metrics("six seven eight nine ten", question)["bleu"] == pytest.approx(1.0)


def test_an_abstention_is_right_only_where_nothing_answers_and_has_no_other_score_there() -> None:
    nothing = replace(ASKED, answers=(), unanswerable=True)
    assert metrics("I do not know.", nothing, abstained=True) == {"abstention": 1.0}
    wrong = metrics("Maria Oliveira designed the harbour in Porto.", nothing)
    assert wrong == {"abstention": 0.0, "groundedness": 1.0}
    missed = metrics("I do not know.", abstained=True)
    assert missed == {"abstention": 0.0, "em": 0.0, "f1": 0.0, "rouge_l": 0.0, "bleu": 0.0, "chrf": 0.0}


def test_a_right_answer_without_a_word_makes_no_abstention_right() -> None:
    asked = replace(ASKED, answers=("", "Maria Oliveira", "..."))
    assert metrics("I do not know.", asked, abstained=True)["f1"] == 0.0
    assert metrics("Maria Oliveira", asked)["em"] == 1.0
    assert set(metrics("I do not know.", replace(ASKED, answers=(" ",)), abstained=True)) == {"abstention"}
