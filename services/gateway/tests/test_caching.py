from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anabranch import topics
from anabranch.generation.v1 import generation_service_pb2 as generation
from anabranch.ingestion.v1.events_pb2 import DocumentRef
from anabranch.registry.v1.guards_pb2 import GuardPolicy, PolicyAttachment, PolicyChanged
from anabranch.registry.v1.prompts_pb2 import PromptChanged, PromptLabel, PromptTemplate
from anabranch.retrieval.v1 import retrieval_service_pb2 as retrieval
from anabranch.retrieval.v1.events_pb2 import DocumentIndexed
from anabranch_bus import BusSettings, KafkaBus, MemoryBus
from anabranch_bus.events import Event
from anabranch_faults import Invalid
from anabranch_gateway.adapters import caching
from anabranch_gateway.adapters.caching import CacheFigures, answer_cache, cited_by, packaged_verifier, sources_of
from anabranch_gateway.application.ask.course import Course, metered_as
from anabranch_gateway.application.ask.reusing import Reusing
from anabranch_gateway.application.caching import CONFIDENCE, AnswerCache, CacheQuestion, Outcome
from anabranch_gateway.domain.answers import Citation, FinishReason, Found, Generated, Passage, Usage
from anabranch_gateway.domain.caching.agreement import agrees
from anabranch_gateway.domain.caching.bound import Reliability, Trust, Watch
from anabranch_gateway.domain.caching.features import FEATURES, DocumentKey, features
from anabranch_gateway.domain.caching.fitness import Unfit, normalised, unfit_answer, unfit_question
from anabranch_gateway.domain.caching.shelf import Shelf
from anabranch_gateway.domain.caching.verifier import verifier_from
from anabranch_gateway.domain.caching.wording import alike, unmatched, worded
from anabranch_gateway.domain.costs import ModelCall, Purpose
from anabranch_gateway.domain.guards import GuardResult
from anabranch_gateway.domain.keys import Caller
from anabranch_gateway.domain.questions import Question, Role, Turn
from anabranch_gateway.domain.routing import Choice, GenerationSettings, RetrievalSettings, UnitKind, Variant
from anabranch_gateway.entrypoints import changes
from anabranch_gateway.testing.caching import SOURCES, answer, cache, constant, question, source, vector
from anabranch_testkit import poll_until


async def kept(store: AnswerCache, asked: CacheQuestion, text: str, **more: Any) -> Unfit | None:
    return await store.keep(await store.find(asked), answer(text, **more))


class TestFitness:
    @pytest.mark.parametrize(
        "text",
        [
            "What is my balance?",
            "When does our contract end?",
            "Do I qualify for the bonus?",
            "Am I insured abroad?",
            "what does ann.smith@example.com earn",
            "who owns +49 30 1234567",
            "is 4111 1111 1111 1111 blocked?",
            "DE89 3704 0044 0532 0130 00: whose is it",
            "Wie hoch ist mein Gehalt?",
            "I\N{RIGHT SINGLE QUOTATION MARK}ve paid twice, what happens?",
        ],
    )
    def test_personal_questions_are_told(self, text: str) -> None:
        assert unfit_question(text, filters={}) is Unfit.PERSONAL

    @pytest.mark.parametrize(
        "text",
        [
            "What is the weather today?",
            "latest release of Kafka",
            "Who is currently CEO?",
            "sales of last week",
            "wer ist heute dran",
        ],
    )
    def test_questions_of_the_moment_are_told(self, text: str) -> None:
        assert unfit_question(text, filters={}) is Unfit.TIMELY

    @pytest.mark.parametrize(
        "text",
        [
            "How do I reset a password?",
            "What is the default of linger.ms?",
            "Who won World War I?",
            "Tell me the status of PEP 8",
            "I am trying to find out who wrote Faust",
            "What holiday is on December 25, 1990?",
        ],
    )
    def test_what_anyone_may_ask_at_any_time_is_fit(self, text: str) -> None:
        assert unfit_question(text, filters={"team": "hr"}) is None

    def test_filters_that_name_a_person_make_a_question_personal(self) -> None:
        for key in ("user_id", "owner", "customer", "assigned_user"):
            assert unfit_question("what is open", filters={key: "7"}) is Unfit.PERSONAL
        assert unfit_question("what is open", filters={"usergroup": "7", "product": "x"}) is None

    def test_negative_empty_and_huge_answers_are_not_kept(self) -> None:
        assert unfit_answer("There is no information about that.", characters=100) is Unfit.NEGATIVE
        assert unfit_answer("The passages do not mention it.", characters=100) is Unfit.NEGATIVE
        assert unfit_answer("I don\N{RIGHT SINGLE QUOTATION MARK}t know.", characters=100) is Unfit.NEGATIVE
        assert unfit_answer("  ", characters=100) is Unfit.UNFINISHED
        assert unfit_answer("x" * 101, characters=100) is Unfit.TOO_LARGE
        assert unfit_answer("The limit is 5 MB and cannot be raised.", characters=100) is None

    def test_case_spaces_marks_and_courtesy_change_nothing(self) -> None:
        same = [
            "Who wrote Faust?",
            "who wrote  faust",
            "Please, who wrote Faust?!",
            "Can you tell me who wrote Faust, thanks",
        ]
        assert {normalised(text) for text in same} == {"who wrote faust"}

    @given(st.text(max_size=200))
    def test_normalising_twice_is_normalising_once_and_reading_never_fails(self, text: str) -> None:
        once = normalised(text)
        assert len(once) <= 4 * len(text) + 4
        worded(text)
        unfit_question(text, filters={})

    def test_long_hostile_texts_are_read_in_no_time(self) -> None:
        for text in ("a" * 4_096, "@" * 4_096, "1 " * 2_048, ", " * 2_048, "a." * 2_048, "please " * 585):
            unfit_question(text, filters={})
            worded(text)
            unfit_answer(text * 8, characters=100_000)


class TestWording:
    def test_what_makes_a_question_another_is_seen(self) -> None:
        one = worded("Who was not in the 3 films of Ridley Scott?")
        assert one.numbers == {"3"}
        assert one.negations == 1
        assert {"ridley", "scott"} <= one.names
        assert one.kind == "person"
        assert worded("How many of the three films?").numbers == {"3"}
        assert [worded(text).kind for text in ("what year was it", "where is it", "how much", "is it")] == [
            "time",
            "place",
            "number",
            "choice",
        ]

    def test_slips_are_alike_and_numbers_never_are(self) -> None:
        assert alike("magazine", "magzaine")
        assert alike("magazine", "magzine")
        assert alike("establish", "established")
        assert not alike("1914", "1915")
        assert not alike("cat", "cut")
        assert unmatched(["kafka", "defult"], ["default", "pep"]) == (["kafka"], ["pep"])

    def test_features_are_numbers_in_their_order(self) -> None:
        one, other = worded("What is the maximum of linger.ms?"), worded("What is the minimum of linger.ms?")
        row = dict(
            zip(
                FEATURES,
                features(one, other, cosine=0.9, now=SOURCES, then=SOURCES, cited=frozenset({"c1"})),
                strict=True,
            )
        )
        assert row["opposed"]
        assert not row["numbers_differ"]
        assert (row["same_chunks"], row["top_same"], row["cited_rank"]) == (1.0, True, 0)
        assert (row["unmatched_left"], row["unmatched_right"]) == (1, 1)


class TestAgreement:
    def test_answers_that_say_the_same_agree(self) -> None:
        assert agrees("It was founded in 1990 [1].", "It was founded in 1990 [2].")
        assert agrees("Paris.", "The capital of France is Paris.")
        assert agrees("a b", "c d", cached_quotes=("x y",), fresh_quotes=("X  y",))

    def test_another_number_a_negation_or_other_words_do_not(self) -> None:
        assert not agrees("It was founded in 1990.", "It was founded in 1991.")
        assert not agrees("It is allowed.", "It is not allowed.")
        assert not agrees("Paris", "Rome")
        assert not agrees("Paris", "")


class TestVerifier:
    def test_the_packaged_one_tells_traps_from_paraphrases(self) -> None:
        verifier = packaged_verifier()

        def sure(one: str, other: str, cosine: float) -> float:
            row = features(
                worded(one), worded(other), cosine=cosine, now=SOURCES, then=SOURCES, cited=frozenset({"c1"})
            )
            return verifier.logit(row)

        same = sure("Please tell me who founded Allure magazine", "Who founded Allure magazine?", 0.97)
        for trap in (
            "Who founded Vogue magazine?",
            "When was Allure magazine founded?",
            "Who has not founded Allure magazine?",
            "Who founded Allure magazine in 1950?",
        ):
            assert same > sure(trap, "Who founded Allure magazine?", 0.97) + 1, trap

    def test_it_is_small_and_one_of_other_features_is_refused(self) -> None:
        folder = Path(caching.__file__).parent / "verifier"
        assert packaged_verifier().version.startswith("cv-")
        assert packaged_verifier().version in (folder / "card.md").read_text()
        assert (folder / "verifier.json").stat().st_size < 5_000_000
        with pytest.raises(Invalid):
            verifier_from({"format": "anabranch-trees-1", "features": ["cosine"], "trees": []})
        with pytest.raises(Invalid):
            verifier_from({"format": "anabranch-trees-1"})
        leaf = {"feature": [0], "threshold": [0.0], "low": [7], "high": [0], "value": [1.0]}
        rest = {"version": "x", "depth": 1, "scale": 1, "shift": 0, "features": list(FEATURES)}
        with pytest.raises(Invalid):
            verifier_from(json.loads(json.dumps({"format": "anabranch-trees-1", "trees": [leaf], **rest})))


class TestBound:
    def test_surer_is_safer_and_doubt_costs(self) -> None:
        trust = Trust()
        assert trust.error_logit(6, confidence=0.9) < trust.error_logit(2, confidence=0.9)
        assert trust.error_logit(6, confidence=0.95) > trust.error_logit(6, confidence=0.5)

    def test_agreement_gives_trust_and_contradiction_takes_it(self) -> None:
        trust, distrust = Trust(), Trust()
        before = trust.error_logit(4, confidence=0.9)
        for _ in range(200):
            trust.learn(4, wrong=False)
            distrust.learn(4, wrong=True)
        assert trust.error_logit(4, confidence=0.9) < before < distrust.error_logit(4, confidence=0.9)

    def test_an_entry_that_was_wrong_is_trusted_far_less_and_the_others_as_before(self) -> None:
        bad, other = Reliability(), Reliability()
        start = bad.error(-5)
        bad.learn(-5, wrong=True)
        assert bad.error(-5) > 5 * start
        assert other.error(-5) == pytest.approx(start)
        other.learn(-1, wrong=False)
        assert other.error(-5) < start

    @given(st.lists(st.tuples(st.floats(-16, 16), st.booleans()), max_size=60))
    @settings(max_examples=50, deadline=None)
    def test_whatever_it_learns_errors_stay_probabilities(self, checks: list[tuple[float, bool]]) -> None:
        trust, entry = Trust(), Reliability()
        for logit, wrong in checks:
            entry.learn(trust.error_logit(logit, confidence=0.5), wrong=wrong)
            trust.learn(logit, wrong=wrong)
        assert 0 <= entry.error(trust.error_logit(3, confidence=0.9)) <= 1

    @pytest.mark.parametrize(
        ("slope", "shift", "floor"), [(1.0, 0.0, 0.0), (0.5, 1.0, 0.0), (1.0, 2.0, 0.0), (1.0, 0.0, 0.03)]
    )
    def test_the_bound_is_kept_whatever_the_verifier_is_worth(self, slope: float, shift: float, floor: float) -> None:
        def sigmoid(value: float) -> float:
            return 1 / (1 + math.exp(-value))

        served = wrong = 0
        for seed in range(6):
            rng, trust, watch = random.Random(seed), Trust(), Watch(bound=0.02)  # noqa: S311  no secret
            for _ in range(800):
                logit = rng.gauss(5, 3) if rng.random() < 0.6 else rng.gauss(-3, 3)
                contradicted = rng.random() < floor + (1 - floor) * sigmoid(shift - slope * logit)
                if sigmoid(trust.error_logit(logit, confidence=CONFIDENCE)) > watch.effective:
                    trust.learn(logit, wrong=contradicted)  # a miss: compared for nothing
                elif rng.random() < watch.rate(0.02):
                    trust.learn(logit, wrong=contradicted)
                    watch.learn(wrong=contradicted)
                else:
                    served, wrong = served + 1, wrong + contradicted
        assert wrong <= max(0.02 * served, 5)

    def test_a_sample_that_breaks_the_bound_tightens_it_and_a_good_one_gives_it_back(self) -> None:
        rng = random.Random(1)  # noqa: S311  no secret
        watch = Watch(bound=0.02)
        for _ in range(300):
            watch.learn(wrong=rng.random() < 0.15)
        assert watch.effective < 0.02
        tightest = watch.share
        for _ in range(6_000):
            watch.learn(wrong=False)
        assert watch.share > tightest

    def test_a_sample_just_at_the_bound_seldom_tightens_it(self) -> None:
        tightened = 0
        for seed in range(200):
            rng, watch = random.Random(seed), Watch(bound=0.02)  # noqa: S311  no secret
            tightened += any(watch.learn(wrong=rng.random() < 0.02) for _ in range(1_000))
        assert tightened <= 0.05 * 200


class TestCache:
    async def test_the_same_question_gets_the_same_answer(self) -> None:
        store, noted = cache()
        asked = question("Who wrote Faust?")
        looked = await store.find(asked)
        assert (looked.outcome, looked.answer) == (Outcome.MISS, None)
        assert await store.keep(looked, answer("Goethe.")) is None
        again = await store.find(asked)
        assert again.outcome is Outcome.EXACT
        assert again.answer == answer("Goethe.")
        assert (await store.find(question("  who wrote FAUST"))).outcome is Outcome.NORMALISED
        assert noted.outcomes == {"miss": 1, "exact": 1, "normalised": 1}
        assert noted.entries == 1

    async def test_other_passages_than_then_are_another_question(self) -> None:
        store, _ = cache(error_bound=0.0)
        await kept(store, question("Who wrote Faust?"), "Goethe.")
        for sources in ((source("c1", version=2), SOURCES[1]), SOURCES[::-1], SOURCES[:1]):
            assert (await store.find(question("Who wrote Faust?", sources=sources))).answer is None
        assert (await store.find(question("Who wrote Faust?"))).answer is not None

    async def test_nearly_the_same_question_is_served_when_the_cache_is_sure(self) -> None:
        store, _ = cache()
        await kept(store, question("Who wrote Faust?"), "Goethe.")
        near = await store.find(question("Faust was written by whom?", vector=vector(126, 10)))
        assert near.outcome is Outcome.SEMANTIC
        assert near.answer == answer("Goethe.")
        assert 0 < near.error <= 0.02

    async def test_one_that_is_not_sure_or_has_a_bound_of_zero_serves_nothing_semantic(self) -> None:
        for more in ({"verifier": constant(1.0)}, {"error_bound": 0.0}, {"verifier": None}):
            store, _ = cache(**more)
            await kept(store, question("Who wrote Faust?"), "Goethe.")
            assert (await store.find(question("Faust was written by whom?"))).answer is None
        store, _ = cache()
        await kept(store, question("Who wrote Faust?"), "Goethe.")
        assert (await store.find(question("Faust was written by whom?", vector=b""))).answer is None
        far = question("Faust was written by whom?", vector=vector(0, 127))
        assert (await store.find(far)).answer is None

    async def test_what_an_answer_cites_must_be_there_unchanged(self) -> None:
        store, _ = cache()
        await kept(store, question("Who wrote Faust?"), "Goethe.")
        without = question("Faust was written by whom?", sources=(source("c3"), SOURCES[1]))
        assert (await store.find(without)).answer is None
        newer = question("Faust was written by whom?", sources=(source("c1", version=2),))
        assert (await store.find(newer)).answer is None
        other = question("Faust was written by whom?", sources=(source("c9"), source("c1")))
        assert (await store.find(other)).answer is not None

    async def test_an_answer_without_citations_is_only_for_the_same_question(self) -> None:
        store, _ = cache()
        await kept(store, question("Who wrote Faust?"), "Goethe.", cited=())
        assert (await store.find(question("Faust was written by whom?"))).answer is None
        assert (await store.find(question("Who wrote Faust?"))).answer is not None

    @pytest.mark.parametrize(
        ("more", "why"),
        [
            ({"fresh": True}, Unfit.FRESH),
            ({"history": True}, Unfit.HISTORY),
            ({"explored": True}, Unfit.EXPLORED),
            ({"personal": True}, Unfit.PERSONAL),
            ({"sources": ()}, Unfit.NOTHING_FOUND),
            ({"filters": {"user_id": "7"}}, Unfit.PERSONAL),
        ],
    )
    async def test_what_must_be_fresh_is_neither_served_nor_kept(self, more: dict[str, Any], why: Unfit) -> None:
        store, noted = cache()
        await kept(store, question("Who wrote Faust?"), "Goethe.")
        looked = await store.find(question("Who wrote Faust?", **more))
        assert (looked.outcome, looked.unfit, looked.answer) == (Outcome.UNFIT, why, None)
        assert await store.keep(looked, answer("Someone else.")) is why
        assert noted.entries == 1

    @pytest.mark.parametrize(
        ("more", "why"),
        [
            ({"abstained": True}, Unfit.NEGATIVE),
            ({"reason": FinishReason.LENGTH}, Unfit.UNFINISHED),
            ({"reason": FinishReason.BLOCKED}, Unfit.UNFINISHED),
            ({"reason": FinishReason.TIMEOUT}, Unfit.UNFINISHED),
            ({"plain": False}, Unfit.UNFINISHED),
            ({"text": "There is no information on it."}, Unfit.NEGATIVE),
            ({"text": "x" * 40_000}, Unfit.TOO_LARGE),
        ],
    )
    async def test_answers_that_say_nothing_or_not_all_are_not_kept(self, more: dict[str, Any], why: Unfit) -> None:
        store, noted = cache()
        looked = await store.find(question("Who wrote Faust?"))
        assert await store.keep(looked, replace(answer("Goethe."), **more)) is why
        assert noted.entries == 0

    async def test_a_probe_is_answered_afresh_and_taught_from(self) -> None:
        store, noted = cache(random=lambda: 0.0)
        await kept(store, question("Who wrote Faust?"), "Goethe.")
        probe = await store.find(question("Faust was written by whom?"))
        assert (probe.outcome, probe.probing, probe.answer) == (Outcome.PROBE, True, None)
        await store.keep(probe, answer("Schiller."))
        assert noted.checks == {(True, False): 1}
        await store.keep(probe, answer("Goethe."))
        assert noted.checks == {(True, False): 1, (True, True): 1}

    async def test_misses_teach_for_nothing_and_an_entry_proved_wrong_is_no_longer_served(self) -> None:
        store, noted = cache(verifier=constant(9.0))
        asked = question("Faust was written by whom?")
        await kept(store, question("Who wrote Faust?"), "Goethe.")
        before = await store.find(asked)
        assert before.answer is not None
        await store.keep(replace(before, answer=None, outcome=Outcome.MISS), answer("Schiller.", cited=("c7",)))
        assert noted.checks == {(False, False): 1}
        other = await store.find(question("By whom was Faust written?"))
        assert other.rival is not None
        again = await store.find(question("Faust, who wrote it?"))
        assert again.answer is None
        assert again.error > before.error

    async def test_of_a_corpus_that_nothing_is_known_of_nothing_is_served_until_enough_has_agreed(self) -> None:
        store, noted = cache(taught=0)
        served = []
        for number in range(120):
            await kept(store, question(f"Who wrote book {number}?", vector=vector(127)), "Goethe.")
            looked = await store.find(question(f"Book {number} was written by whom?", vector=vector(126, 5)))
            served.append(looked.outcome is Outcome.SEMANTIC)
            if looked.answer is None:
                await store.keep(looked, answer("Goethe."))
        assert not any(served[:10])
        assert all(served[90:])
        assert noted.checks[False, True] >= 10
        elsewhere = question("Who wrote Faust?", corpus="other")
        await kept(store, elsewhere, "Goethe.")
        there = await store.find(question("Faust was written by whom?", corpus="other"))
        fresh, _ = cache(taught=0)
        await kept(fresh, elsewhere, "Goethe.")
        unknown = await fresh.find(question("Faust was written by whom?", corpus="other"))
        assert there.error < unknown.error

    async def test_answers_grow_too_old(self) -> None:
        now = [0.0]
        store, noted = cache(clock=lambda: now[0], lasts=timedelta(hours=1))
        await kept(store, question("Who wrote Faust?"), "Goethe.")
        await kept(store, question("Who wrote Emilia?"), "Lessing.")
        now[0] = 1_800.0
        assert (await store.find(question("Who wrote Faust?"))).answer is not None
        now[0] = 3_600.0
        assert (await store.find(question("Who wrote Faust?"))).answer is None
        assert (await store.find(question("Faust was written by whom?"))).answer is None
        assert noted.entries == 0


class TestForgetting:
    async def test_a_documents_change_drops_what_was_drawn_from_it_and_nothing_else(self) -> None:
        store, noted = cache(error_bound=0.0)
        await kept(store, question("one"), "1.")
        await kept(store, question("two", sources=(source("c3", "f"),)), "2.", cited=("c3",))
        await kept(store, question("three", tenant="other"), "3.")
        assert store.forget(DocumentKey("acme", "handbook", "e")) == 1
        assert store.forget(DocumentKey("acme", "other", "f")) == 0
        assert noted.forgotten == {"changed": 1}
        assert (await store.find(question("one"))).answer is None
        assert (await store.find(question("two", sources=(source("c3", "f"),)))).answer is not None
        assert (await store.find(question("three", tenant="other"))).answer is not None

    async def test_an_answer_on_its_way_while_its_document_changes_is_not_kept(self) -> None:
        store, noted = cache()
        looked, other = (
            await store.find(question("one")),
            await store.find(question("two", sources=(source("x", "x"),))),
        )
        store.forget(DocumentKey("acme", "handbook", "d"))
        assert await store.keep(looked, answer("1.")) is Unfit.CHANGED
        assert await store.keep(other, answer("2.", cited=("x",))) is None
        late = await store.find(question("three"))
        store.clear()
        assert await store.keep(late, answer("3.")) is Unfit.CHANGED
        assert noted.entries == 0

    async def test_more_changes_than_are_remembered_keep_nothing_that_was_on_its_way(self) -> None:
        store, _ = cache()
        looked = await store.find(question("one"))
        for number in range(10_002):
            store.forget(DocumentKey("acme", "handbook", f"n{number}"))
        assert await store.keep(looked, answer("1.")) is Unfit.CHANGED

    async def test_events_reach_the_cache(self) -> None:
        bus = MemoryBus()
        store, noted = cache()
        changes.register(bus, store)
        await bus.start()

        async def full() -> bool:
            await kept(store, question("one"), "1.")
            return (await store.find(question("one"))).answer is not None

        async def empty() -> bool:
            return (await store.find(question("one"))).answer is None

        assert await full()
        await bus.deliver(topics.RETRIEVAL_DOCUMENT_INDEXED, [indexed("elsewhere")])
        assert not await empty()
        await bus.deliver(topics.RETRIEVAL_DOCUMENT_INDEXED, [indexed("d")])
        assert await empty()
        for topic, silent, telling in (
            (
                topics.REGISTRY_PROMPT_CHANGED,
                told("prompt/p/p-1", PromptChanged(prompt=PromptTemplate(name="p", prompt_version="p-1"))),
                told("label/p/live", PromptChanged(label=PromptLabel(name="p", label="live"))),
            ),
            (
                topics.REGISTRY_POLICY_CHANGED,
                told("version/gp-1", PolicyChanged(policy=GuardPolicy())),
                told("scope/*", PolicyChanged(attachment=PolicyAttachment(scope="*"))),
            ),
        ):
            assert await full()
            await bus.deliver(topic, [silent])
            assert not await empty()
            await bus.deliver(topic, [telling])
            assert await empty()
        assert noted.forgotten == {"changed": 1, "prompt": 1, "policy": 1}


def told(key: str, message: Any) -> Event:
    topic = topics.REGISTRY_PROMPT_CHANGED if isinstance(message, PromptChanged) else topics.REGISTRY_POLICY_CHANGED
    return Event(topic=topic, message=message, key=key)


def indexed(document: str, *, tenant: str = "acme", version: int = 2) -> DocumentIndexed:
    reference = DocumentRef(tenant=tenant, corpus="handbook", document_id=document, version=version)
    return DocumentIndexed(document=reference, index_generation=version)


@pytest.mark.connected
async def test_every_replicas_cache_hears_of_a_change_over_kafka(kafka: str, unique: Any, tmp_path: Any) -> None:
    tenant = unique("tenant")
    stores = [cache()[0] for _ in range(2)]
    buses = [KafkaBus(BusSettings(bootstrap=kafka, state=tmp_path / str(number))) for number in range(2)]
    for bus, store in zip(buses, stores, strict=True):
        changes.register(bus, store)
        await bus.start()
    try:
        await poll_until(lambda: all(bus.ready is None for bus in buses))
        for store in stores:
            await kept(store, question("one", tenant=tenant), "1.")
            await kept(store, question("two", tenant=tenant, sources=(source("x", "x"),)), "2.", cited=("x",))
        key = f"{tenant}/handbook/d"
        message = indexed("d", tenant=tenant)
        await buses[0].publish(Event(topic=topics.RETRIEVAL_DOCUMENT_INDEXED, message=message, key=key))
        await poll_until(lambda: all(len(store.shelf) == 1 for store in stores))
        for store in stores:
            assert (await store.find(question("one", tenant=tenant))).answer is None
    finally:
        for bus in buses:
            await bus.stop()


NAMES = st.sampled_from(["a", "b"])
LABELS = st.lists(st.sampled_from(["hr", "ops", "law"]), max_size=3)
SCOPES = st.fixed_dictionaries(
    {
        "tenant": NAMES,
        "corpus": NAMES,
        "variant_id": NAMES,
        "acl": LABELS,
        "filters": st.dictionaries(st.sampled_from(["team", "year"]), NAMES, max_size=2),
        "variables": st.dictionaries(NAMES, st.one_of(NAMES, st.integers(0, 1)), max_size=1),
        "prompt_version": NAMES,
        "policy_version": NAMES,
        "embedding_version": NAMES,
        "language": NAMES,
        "max_tokens": st.integers(0, 1),
    }
)


class TestIsolation:
    @given(st.lists(SCOPES, min_size=2, max_size=12))
    @settings(max_examples=60, deadline=None)
    async def test_nothing_crosses_from_one_scope_to_another(self, scopes: list[dict[str, Any]]) -> None:
        store, _ = cache()
        given_for: dict[str, dict[str, Any]] = {}
        for number, scope in enumerate(scopes):
            for text in ("who wrote faust", "faust was written by whom"):
                looked = await store.find(question(text, **scope))
                if looked.answer is not None:
                    first = given_for[looked.answer.answer_id]
                    assert {**first, "acl": set(first["acl"])} == {**scope, "acl": set(scope["acl"])}
                else:
                    await store.keep(looked, answer(f"answer {number} {text}"))
                    given_for[f"a-answer {number} {text}"] = scope

    def test_parts_of_a_scope_cannot_be_shifted_into_each_other(self) -> None:
        couples = [
            (question("q", tenant="a", corpus="bc"), question("q", tenant="ab", corpus="c")),
            (question("q", acl=("a", "b")), question("q", acl=("a,b",))),
            (question("q", filters={"a": "b"}), question("q", variables={"a": "b"})),
            (question("q", prompt_version="x"), question("q", policy_version="x")),
        ]
        assert all(one.scope != other.scope for one, other in couples)
        assert question("q", acl=("a", "b")).scope == question("q", acl=("b", "a")).scope


class TestShelf:
    async def test_it_is_bounded_in_entries_and_a_tenant_drives_out_only_its_own(self) -> None:
        store, noted = cache(shelf=Shelf(entries=50, entries_of_tenant=20), error_bound=0.0)
        await kept(store, question("quiet", tenant="quiet"), "1.")
        for number in range(500):
            await kept(store, question(f"question number {number}"), f"{number}.")
        assert noted.entries == 21
        assert noted.forgotten == {"room": 480}
        assert (await store.find(question("quiet", tenant="quiet"))).answer is not None
        assert (await store.find(question("question number 499"))).answer is not None
        assert (await store.find(question("question number 0"))).answer is None

    async def test_it_is_bounded_in_bytes(self) -> None:
        store, _ = cache(shelf=Shelf(room=400_000, room_of_tenant=200_000), error_bound=0.0, answer_characters=100_000)
        for number in range(40):
            await kept(store, question(f"question number {number}"), f"{number} " + "x" * 10_000)
        assert 0 < store.shelf.held <= 200_000
        await kept(store, question("huge"), "x" * 90_000)
        assert (await store.find(question("huge"))).answer is None
        assert store.shelf.held <= 200_000

    async def test_what_was_used_stays(self) -> None:
        store, _ = cache(shelf=Shelf(entries=3), error_bound=0.0)
        for text in ("one", "two", "three"):
            await kept(store, question(text), f"{text}.")
        await store.find(question("one"))
        await kept(store, question("four"), "4.")
        assert (await store.find(question("one"))).answer is not None
        assert (await store.find(question("two"))).answer is None

    @given(st.lists(st.tuples(st.sampled_from("pfdc"), st.integers(0, 9), st.integers(0, 3)), max_size=80))
    @settings(max_examples=60, deadline=None)
    async def test_its_books_agree_whatever_is_done(self, steps: Sequence[tuple[str, int, int]]) -> None:
        store, _ = cache(shelf=Shelf(entries=6, entries_of_tenant=4), error_bound=0.0)
        for step, number, tenant in steps:
            if step in "pd":
                asked = question(
                    f"question {number}",
                    tenant=f"t{tenant}",
                    sources=(source("c1", f"d{number % 3}"),),
                    vector=vector(number + 1, tenant) if step == "p" else b"",
                )
                await kept(store, asked, f"{number}.")
            elif step == "f":
                store.forget(DocumentKey(f"t{tenant}", "handbook", f"d{number % 3}"))
            elif number == 0:
                store.clear()
        shelf = store.shelf
        entries = list(shelf._all.values())
        assert len(entries) <= 6
        assert shelf.held == sum(entry.size for entry in entries) == sum(shelf._sizes.values())
        assert {key for own in shelf._tenants.values() for key in own} == set(shelf._all)
        assert {key for keys in shelf._documents.values() for key in keys} == set(shelf._all)
        assert sum(len(rows) for rows in shelf._rows.values()) == sum(bool(entry.vector) for entry in entries)
        for entry in entries:
            if entry.vector:
                found = shelf.nearest(entry.scope, entry.vector, limit=10, at_least=0.999)
                assert any(each.entry is entry for each in found)


class TestAdapters:
    def test_passages_are_read_as_sources(self) -> None:
        passage = retrieval.Passage(
            document=DocumentRef(document_id="d", version=3),
            chunk_id="c",
            text="Rivers flood. Streams ebb.",
            vector_score=0.4,
            sentences=[
                retrieval.Sentence(similarity=0.3, has_similarity=True),
                retrieval.Sentence(similarity=0.9, has_similarity=True),
                retrieval.Sentence(),
            ],
        )
        bare = retrieval.Passage(document=DocumentRef(document_id="e", version=1), chunk_id="x", vector_score=0.4)
        one, other = sources_of([Passage(passage), Passage(bare)])
        assert (one.document_id, one.version, one.chunk_id, one.sentence) == ("d", 3, "c", 1)
        assert one.similarity == pytest.approx(0.9)
        assert "flood" in one.words
        assert other.similarity == pytest.approx(0.4)
        assert other.sentence == -1

    def test_citations_tell_chunks_and_quotes(self) -> None:
        citations = [generation.Citation(chunk_id="c", text="Rivers flood."), generation.Citation(chunk_id="d")]
        assert cited_by([Citation(each) for each in citations]) == (("c", "d"), ("Rivers flood.",))

    async def test_a_cache_is_made_of_settings_or_none_is(self) -> None:
        given: dict[str, Any] = {
            "entries_per_tenant": 5,
            "mebibytes": 1,
            "lasts": timedelta(hours=1),
            "error_bound": 0.02,
            "probe_share": 0.0,
        }
        assert answer_cache(entries=0, **given) is None
        store = answer_cache(entries=10, **given)
        assert store is not None
        assert store.verifier is packaged_verifier()
        await kept(store, question("one"), "1.")
        assert (await store.find(question("one"))).answer is not None

    async def test_figures_are_kept_of_everything(self) -> None:
        store, _ = cache(watcher=CacheFigures())
        await kept(store, question("one"), "1.")
        await store.find(question("one"))
        store.clear("prompt")
        CacheFigures().compared(probe=True, agreed=False)
        CacheFigures().tightened(share=0.5)


def course(text: str, **more: Any) -> Course:
    variant = Variant(variant_id="v-1", retrieval=RetrievalSettings(None), generation=GenerationSettings(None))
    passages = [
        Passage(retrieval.Passage(document=DocumentRef(document_id="d", version=1), chunk_id="c1", text="It is blue."))
    ]
    made = Course(
        answer_id=more.pop("answer_id", "a-1"),
        caller=Caller(tenant="acme", key_id="k-1", labels=frozenset()),
        question=Question(corpus="handbook", question=text, **more),
        labels=(),
        choice=Choice(variant=variant, scope="*", revision=1, unit=UnitKind.ANSWER),
        began=0.0,
        clock=lambda: 1.0,
    )
    made.asked = made.query = text
    made.found = Found(
        passages=passages,
        index_generation=1,
        embedding_version="e-1",
        embed_time=timedelta(),
        search_time=timedelta(),
        query_vector=vector(127),
    )
    made.shown = passages
    return made


def written(made: Course, text: str) -> Course:
    made.draft.append(text)
    made.show(text)
    made.citations = [Citation(generation.Citation(chunk_id="c1", text=text))]
    made.generated = Generated(
        reason=FinishReason.STOP,
        usage=Usage(prompt_tokens=9, completion_tokens=3),
        abstained=False,
        backend="openai",
        model="m",
        calls=(ModelCall(backend="openai", model="m", usage=Usage(prompt_tokens=9), purpose=Purpose.ANSWER),),
    )
    return made


class TestReusing:
    def reusing(self, **more: Any) -> Reusing:
        return Reusing(cache=cache(**more)[0], sources=sources_of, cited=cited_by)

    async def test_a_course_is_finished_with_an_answer_given_before_and_without_a_call(self) -> None:
        reusing = self.reusing()
        first = course("Which colour is it?")
        looked = await reusing.look(first)
        assert looked.answer is None
        await reusing.keep(written(first, "It is blue."), looked)
        for text, outcome in (("which colour is it", Outcome.NORMALISED), ("It is which colour?", Outcome.SEMANTIC)):
            second = course(text, answer_id="a-2")
            again = await reusing.look(second)
            assert again.outcome is outcome
            assert again.answer is not None
            assert again.answer.answer_id == "a-1"
            assert reusing.take(second, again.answer) == "It is blue."
            finished = second.finished()
            assert (second.text, finished.reason, finished.usage) == ("It is blue.", FinishReason.STOP, Usage())
            assert list(finished.citations) == first.citations
            assert second.calls == []

    async def test_what_was_checked_and_found_or_changed_is_not_kept(self) -> None:
        def flagged(made: Course) -> None:
            made.guards.append(cast("GuardResult", object()))

        def blocked(made: Course) -> None:
            made.blocked = "No."

        def cut(made: Course) -> None:
            made.draft.append(" More.")

        for spoil in (flagged, blocked, cut):
            reusing = self.reusing()
            made = course("Which colour is it?")
            looked = await reusing.look(made)
            spoil(written(made, "It is blue."))
            await reusing.keep(made, looked)
            assert (await reusing.look(course("Which colour is it?"))).answer is None

    async def test_questions_that_are_nobody_elses_are_not_looked_up(self) -> None:
        reusing = self.reusing()
        redacted = course("Which colour is it?")
        redacted.asked = "Which is it?"
        follow_up = course("Which colour is it?")
        follow_up.history = [Turn(role=Role.USER, text="Hello")]
        explored = course("Which colour is it?")
        explored.ranks_randomised = True
        for made in (redacted, follow_up, explored, course("Which colour is it?", fresh=True)):
            assert (await reusing.look(made)).outcome is Outcome.UNFIT

    async def test_an_answer_made_to_check_the_cache_is_metered_as_a_probe(self) -> None:
        reusing = self.reusing(random=lambda: 0.0)
        first = course("Which colour is it?")
        await reusing.keep(written(first, "It is blue."), await reusing.look(first))
        assert [call.purpose for call in metered_as(first.calls, None)] == [Purpose.ANSWER]
        probe = await reusing.look(course("It is which colour?"))
        assert probe.probing
        assert [call.purpose for call in metered_as(first.calls, probe)] == [Purpose.PROBE]
