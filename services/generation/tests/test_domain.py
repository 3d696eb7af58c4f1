from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch_faults import Invalid, TooLarge
from anabranch_generation.domain import (
    Passage,
    Request,
    Role,
    Sentence,
    Settings,
    Turn,
    estimate_tokens,
    pack,
    recent,
    shared,
    stand_alone,
)
from anabranch_generation.domain.difficulty import FEATURES, difficulty, features
from anabranch_generation.testing import passage


def conversation(*texts: str) -> list[Turn]:
    return [Turn(Role.ASSISTANT if i % 2 else Role.USER, text) for i, text in enumerate(texts)]


HAMLET = ("Who wrote Hamlet?", "Hamlet is a tragedy written by William Shakespeare. [1]")
CAPITAL = ("What is the capital of France?", "Paris is the capital and most populous city of France. [1]")
TOWER = ("When was the Eiffel Tower built?", "The Eiffel Tower was built from 1887 to 1889. [1]")

FOLLOW_UPS = [
    (HAMLET, "When was he born?", "When was William Shakespeare born?"),
    (HAMLET, "When was it first performed?", "When was Hamlet first performed?"),
    ((*HAMLET, "When was he born?", "In 1564."), "Where was he born?", "Where was William Shakespeare born?"),
    (("When was Marie Curie born?", "In 1867."), "What did she discover?", "What did Marie Curie discover?"),
    (("When was Marie Curie born?", "In 1867."), "Who was her husband?", "Who was Marie Curie's husband?"),
    (("Who is the president of France?", "Emmanuel Macron."), "How old is he?", "How old is Emmanuel Macron?"),
    (
        ("Who was Ada Lovelace?", "An English mathematician."),
        "What was her father's name?",
        "What was Ada Lovelace's father's name?",
    ),
    (
        ("Who painted the Mona Lisa?", "The Mona Lisa was painted by Leonardo da Vinci. [1]"),
        "Where is it kept?",
        "Where is the Mona Lisa kept?",
    ),
    (TOWER, "How tall is it?", "How tall is the Eiffel Tower?"),
    (CAPITAL, "How many people live there?", "How many people live in Paris?"),
    (CAPITAL, "How big is it?", "How big is Paris?"),
    (CAPITAL, "What about Germany?", "What is the capital of Germany?"),
    (CAPITAL, "And Germany?", "What is the capital of Germany?"),
    (
        ("What was the population of Berlin in 1950?", "3.3 million"),
        "And in 1990?",
        "What was the population of Berlin in 1990?",
    ),
    (
        ("What was the population of Berlin?", "3.3 million"),
        "And in 1990?",
        "What was the population of Berlin in 1990?",
    ),
    (("Who won the 2010 World Cup?", "Spain."), "What about 2014?", "Who won the 2014 World Cup?"),
    (("How long do cats live?", "12 to 18 years."), "What about dogs?", "How long do dogs live?"),
    (("What year did World War II end?", "1945"), "And World War I?", "What year did World War I end?"),
    (("Who is the CEO of Apple?", "Tim Cook."), "And of Microsoft?", "Who is the CEO of Microsoft?"),
    (("what is the default port of postgresql", "5432"), "and mysql?", "what is the default port of mysql?"),
    (
        ("What is the default value of linger.ms?", "0"),
        "And of batch.size?",
        "What is the default value of batch.size?",
    ),
    (("how do i install docker", "use apt"), "does it need root?", "does docker need root?"),
    (("how do vaccines work", "They train the immune system."), "are they safe?", "are vaccines safe?"),
    (("Who founded Rome?", "Romulus."), "When?", "Who founded Rome, and when?"),
    (("What does PEP 8 say about tabs?", "Avoid them."), "Why?", "What does PEP 8 say about tabs, and why?"),
    (("Which river flows through Cairo?", "The Nile flows through Cairo."), "How long is it?", "How long is the Nile?"),
    (("What is Kafka?", "Apache Kafka is an event streaming platform."), "Who created it?", "Who created Kafka?"),
    (
        ("Where was Beethoven born?", "Ludwig van Beethoven was born in Bonn."),
        "How big is that city?",
        "How big is Bonn?",
    ),
    (("Where is the Louvre?", "In Paris."), "Who designed its pyramid?", "Who designed the Louvre's pyramid?"),
    (("Who are the Beatles?", "A band."), "When did they break up?", "When did the Beatles break up?"),
    (("Tell me about the Apollo program.", "It was NASA's."), "When did it end?", "When did the Apollo program end?"),
    (
        ("What is photosynthesis?", "A process."),
        "Where does this process take place?",
        "Where does this process (photosynthesis) take place?",
    ),
    (("What are the symptoms of measles?", "Fever."), "How is it treated?", "How is measles treated?"),
]

COMPLETE = [
    ((), "When was he born?"),
    (HAMLET, "Where is the Louvre?"),
    (HAMLET, "What did Newton do before he died?"),
    (HAMLET, "Is it true that Newton discovered gravity?"),
    (HAMLET, "How long does it take to boil an egg?"),
    (HAMLET, "Which is the city that never sleeps?"),
    (HAMLET, "How many moons are there around Jupiter?"),
    (HAMLET, "  What is Kafka?  "),
    (("Wer hat Faust geschrieben?", "Goethe"), "Wann wurde er geboren?"),
]


@pytest.mark.parametrize(("history", "question", "expected"), FOLLOW_UPS, ids=[q for _, q, _ in FOLLOW_UPS])
def test_a_follow_up_takes_what_it_leans_on_from_the_conversation(
    history: tuple[str, ...], question: str, expected: str
) -> None:
    condensed = stand_alone(question, conversation(*history))
    assert (condensed.question, condensed.changed) == (expected, True)


@pytest.mark.parametrize(("history", "question"), COMPLETE, ids=[q for _, q in COMPLETE])
def test_a_question_that_leans_on_nothing_stays_as_it_is_to_the_letter(history: tuple[str, ...], question: str) -> None:
    condensed = stand_alone(question, conversation(*history))
    assert (condensed.question, condensed.changed) == (question, False)


@given(st.text(max_size=60), st.lists(st.text(max_size=60), max_size=5))
def test_condensing_never_fails_and_says_truly_whether_it_changed(question: str, texts: list[str]) -> None:
    condensed = stand_alone(question, conversation(*texts))
    assert condensed.changed == (condensed.question != question)


def test_a_long_history_does_not_make_a_question_too_long() -> None:
    history = conversation("What is " + "X" * 4090, "a thing")
    assert len(stand_alone("and why?", history).question) <= 4096


@given(st.text())
def test_the_estimate_is_additive_within_a_token(text: str) -> None:
    assert abs(estimate_tokens(text + text) - 2 * estimate_tokens(text)) <= 1


PASSAGES = st.lists(
    st.lists(
        st.tuples(st.text("abc é", min_size=1, max_size=30), st.one_of(st.none(), st.floats(-1, 1))),
        min_size=1,
        max_size=5,
    ),
    min_size=1,
    max_size=4,
)


@given(PASSAGES, st.integers(1, 60))
def test_packing_keeps_the_budget_the_order_and_whole_sentences(
    parts: list[list[tuple[str, float | None]]], budget: int
) -> None:
    passages: list[Passage] = []
    for texts in parts:
        sentences, at = [], 0
        for text, similarity in texts:
            sentences.append(Sentence(at, at + len(text), similarity))
            at += len(text)
        passages.append(
            Passage(
                text="".join(t for t, _ in texts), start=10, chunk_id=str(len(passages)), sentences=tuple(sentences)
            )
        )
    packed = pack(passages, budget)
    assert packed
    assert sum(estimate_tokens(p.text) for p in packed) <= budget or len(packed) == 1
    rest = iter(passages)
    for kept in packed:
        whole = next(one for one in rest if kept.chunk_id == one.chunk_id)
        offset = kept.start - whole.start
        assert kept.text == whole.text[offset : offset + len(kept.text)]
        assert {(s.start + offset, s.end + offset) for s in kept.sentences} <= {
            (s.start, s.end) for s in whole.sentences
        }


def test_without_a_budget_everything_is_packed() -> None:
    passages = [passage("One. Two."), passage("Three.")]
    assert pack(passages, 0) == tuple(passages)


def test_of_a_passage_that_is_too_long_the_nearest_sentences_are_kept() -> None:
    long = passage("Aaaa aaaa aaaa. Bbbb bbbb bbbb. Cccc cccc cccc.", 0.1, 0.2, 0.9, start=100)
    (kept,) = pack([long], 8)
    assert kept.text == "Bbbb bbbb bbbb. Cccc cccc cccc."
    assert kept.start == 116


def test_a_near_sentence_of_a_later_passage_wins_over_far_ones_of_the_first() -> None:
    first = passage("Aaaa aaaa aaaa. Bbbb bbbb bbbb. Cccc cccc cccc.", 0.6, 0.1, 0.1, document_id="first")
    later = passage("Dddd dddd dddd. Eeee eeee eeee. Ffff ffff ffff.", 0.1, 0.9, 0.1, document_id="later")
    packed = pack([first, later], 8)
    assert [(p.text, p.start) for p in packed] == [("Aaaa aaaa aaaa.", 0), ("Eeee eeee eeee.", 16)]


def test_of_two_sentences_as_near_the_shorter_is_taken() -> None:
    first = passage("Short one.", 0.5)
    long = passage("This sentence goes on and on and says no more than that.", 0.5, document_id="long")
    short = passage("So brief.", 0.5, document_id="short")
    assert [p.document.document_id for p in pack([first, long, short], 8)] == ["doc", "short"]


def test_the_newest_turns_are_kept_and_never_take_more_than_their_share() -> None:
    turns = [Turn(Role.USER, "x" * 40) for _ in range(10)] + [Turn(Role.ASSISTANT, "newest")]
    long = passage(("One two three. " * 60).strip())
    passages, kept = shared([long], turns, 200)
    assert kept[-1].text == "newest"
    assert 1 <= len(kept) <= 2
    assert estimate_tokens(passages[0].text) <= 200
    assert recent(turns, 0) == ((), 0)


@pytest.mark.parametrize(
    ("easy", "hard"),
    [
        ("When was Ada born?", "Who was born first, the painter of Guernica or the director whose film won in 1994?"),
        ("What is the default port?", "Why does the default port differ between the two versions, and which is safer?"),
    ],
)
def test_a_question_with_hops_and_reasons_looks_harder(easy: str, hard: str) -> None:
    passages = [passage("Ada was born in 1815. So it was.", 0.8, 0.2)]
    assert 0 <= difficulty(easy, passages) < difficulty(hard, passages) <= 1


def test_what_one_passage_covers_looks_easier_than_what_several_or_none_do() -> None:
    question = "Which mayor of Springfield opened the harbour bridge?"
    one = passage("The mayor of Springfield opened the harbour bridge. It rained.")
    several = [passage("The mayor of Springfield spoke."), passage("The harbour bridge was opened.")]
    rest = [passage("Nothing."), passage("Nothing.")]
    found = [difficulty(question, passages) for passages in ([one, *rest], [*several, *rest], [*rest, *rest])]
    assert found == sorted(found)
    assert len(set(found)) == 3
    assert set(features(question, [])) == set(FEATURES)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 3.0),
        ("temperature", math.nan),
        ("abstain_below", 1.5),
        ("max_sentences", 11),
        ("max_tokens", 1_000_000),
        ("stop", ("",)),
        ("stop", ("x",) * 17),
    ],
)
def test_a_setting_out_of_range_names_its_field(field: str, value: object) -> None:
    with pytest.raises(Invalid) as caught:
        Settings(**{field: value})  # type: ignore[arg-type]  # wrong on purpose
    assert caught.value.field == f"settings.{field}"


@pytest.mark.parametrize("question", ["", "  \n"])
def test_an_empty_question_is_invalid(question: str) -> None:
    with pytest.raises(Invalid, match="question: is empty"):
        Request(question=question)


def test_a_question_over_the_limit_is_too_large_and_says_the_limit() -> None:
    with pytest.raises(TooLarge, match="4096"):
        Request(question="x" * 4097)


def test_sentences_outside_their_passage_are_invalid() -> None:
    with pytest.raises(Invalid, match="outside"):
        Passage(text="short", sentences=(Sentence(0, 6),))
