from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.gateway.v1.events_pb2 import AssignmentUnit
from anabranch.generation.v1 import generation_service_pb2 as generation
from anabranch_faults import Denied, Invalid, TooLarge, Unreachable
from anabranch_gateway.domain import names
from anabranch_gateway.domain.answers import FinishReason
from anabranch_gateway.domain.documents import BODY_BYTES, Content, DeleteDocument, PutDocument, Text, Uri, event_id_of
from anabranch_gateway.domain.exploration import explored
from anabranch_gateway.domain.keys import Caller, digest_of, key_from, key_id_of, new_secret
from anabranch_gateway.domain.questions import Query, Question, Role, Turn
from anabranch_gateway.domain.routing import (
    GenerationSettings,
    RetrievalSettings,
    Route,
    Routing,
    Share,
    Unit,
    UnitKind,
    Variant,
    unit_of,
)


def share(name: str, weight: int) -> Share:
    variant = Variant(variant_id=name, retrieval=RetrievalSettings(object()), generation=GenerationSettings(object()))
    return Share(variant=variant, weight=weight)


def route(scope: str, *weights: tuple[str, int], revision: int = 1) -> Route:
    return Route(scope=scope, revision=revision, shares=[share(name, weight) for name, weight in weights])


def person(name: str) -> Unit:
    return Unit(UnitKind.USER, name)


def experiment(*weights: tuple[str, int], name: str = "ex-1", scope: str = "t/c") -> Routing:
    """A routing whose variants are also the names of the arms."""
    shares = [replace(share(arm, weight), experiment_id=name, arm=arm) for arm, weight in weights]
    routing = Routing()
    routing.put(Route(scope=scope, revision=4, shares=shares))
    return routing


def arm_of(routing: Routing, name: str) -> str:
    return routing.choose(tenant="t", corpus="c", unit=person(name)).arm


def caller(*labels: str) -> Caller:
    return Caller(tenant="t", key_id="k", labels=frozenset(labels))


class TestQuestions:
    @pytest.mark.parametrize(
        ("broken", "field"),
        [
            ({"corpus": ""}, "corpus"),
            ({"corpus": "a/b"}, "corpus"),
            ({"corpus": "c" * 129}, "corpus"),
            ({"question": ""}, "question"),
            ({"question": " \n\t "}, "question"),
            ({"question": "q" * 4_097}, "question"),
            ({"session_id": "s" * 129}, "session_id"),
            ({"session_id": "a\nb"}, "session_id"),
            ({"user_id": "u" * 129}, "user_id"),
            ({"filters": {"Team": "x"}}, "filters"),
            ({"filters": {"team": "x" * 1_025}}, "filters.team"),
            ({"filters": {f"k{n}": "v" for n in range(33)}}, "filters"),
            ({"history": [Turn(role=Role.USER, text="a")], "session_id": "s"}, "history"),
            ({"history": [Turn(role=Role.USER, text="a")] * 51}, "history"),
            ({"history": [Turn(role=Role.UNSPECIFIED, text="a")]}, "history[0].role"),
            ({"history": [Turn(role=Role.USER, text="a"), Turn(role=Role.ASSISTANT, text=" ")]}, "history[1].text"),
            ({"history": [Turn(role=Role.USER, text="a" * 16_385)]}, "history[0].text"),
        ],
    )
    def test_a_question_that_breaks_its_contract_names_the_field(self, broken: dict[str, Any], field: str) -> None:
        whole: dict[str, Any] = {"corpus": "handbook", "question": "Where?", **broken}
        with pytest.raises(Invalid) as fault:
            Question(**whole)
        assert fault.value.field == field

    def test_a_question_may_have_exactly_4096_characters_of_any_script(self) -> None:
        assert Question(corpus="c", question="水" * 4_096).question

    @pytest.mark.parametrize("limit", [0, 101, -1])
    def test_a_search_wants_1_to_100_hits(self, limit: int) -> None:
        with pytest.raises(Invalid, match="limit: must be 1 to 100"):
            Query(corpus="c", query="q", limit=limit)

    @given(st.text(max_size=200))
    def test_a_corpus_name_is_taken_or_refused_and_never_changed(self, name: str) -> None:
        allowed = 1 <= len(name) <= 128 and all(each.isascii() and (each.isalnum() or each in "._-") for each in name)
        if allowed:
            assert names.corpus(name) == name
        else:
            with pytest.raises(Invalid, match=r"^corpus: "):
                names.corpus(name)


class TestLabels:
    def test_a_key_reads_with_all_of_its_labels_when_none_are_asked_for(self) -> None:
        assert caller("hr", "ops").claim(()) == ("hr", "ops")

    def test_a_key_may_claim_some_of_its_labels(self) -> None:
        assert caller("hr", "ops").claim(["ops", "ops"]) == ("ops",)

    def test_a_label_that_the_key_does_not_have_is_denied(self) -> None:
        with pytest.raises(Denied) as fault:
            caller("hr").claim(["hr", "board"])
        assert fault.value.field == "acl"

    def test_a_key_with_a_star_may_claim_any_label_but_claims_none_by_itself(self) -> None:
        assert caller("*").claim(["board"]) == ("board",)
        assert caller("*").claim(()) == ()

    def test_nobody_claims_the_star_itself(self) -> None:
        with pytest.raises(Denied):
            caller("*").claim(["*"])

    @given(st.frozensets(st.sampled_from("abcd*")), st.lists(st.sampled_from("abcd*"), max_size=4))
    def test_what_is_claimed_is_never_more_than_the_key_has(self, own: frozenset[str], asked: list[str]) -> None:
        try:
            claimed = caller(*own).claim(asked)
        except Denied:
            return
        assert "*" not in claimed
        assert "*" in own or set(claimed) <= own


class TestKeys:
    def test_keys_are_long_random_and_recognisable(self) -> None:
        secrets = {new_secret() for _ in range(100)}
        assert len(secrets) == 100
        assert all(each.startswith("ab-") and len(each) >= 46 for each in secrets)

    def test_a_kept_key_neither_holds_nor_shows_the_secret(self) -> None:
        secret = new_secret()
        key = key_from(secret, tenant="t", labels=["*"], note="", created_at=datetime.now(tz=UTC))
        assert secret not in repr(key)
        assert key.digest.hex() not in repr(key)
        assert key.opens_for(digest_of(secret))
        assert not key.opens_for(digest_of(new_secret()))
        assert key.key_id == key_id_of(digest_of(secret))


class TestRouting:
    def test_the_most_specific_scope_wins(self) -> None:
        routing = Routing()
        for scope in ("*", "t", "t/c"):
            routing.put(route(scope, (f"v {scope}", 1), revision=len(scope)))
        chosen = {
            (tenant, corpus): routing.choose(tenant=tenant, corpus=corpus, unit=person("u")).variant.variant_id
            for tenant, corpus in (("t", "c"), ("t", "d"), ("x", "c"))
        }
        assert chosen == {("t", "c"): "v t/c", ("t", "d"): "v t", ("x", "c"): "v *"}

    def test_a_dropped_scope_falls_to_the_next_wider_one(self) -> None:
        routing = Routing()
        routing.put(route("*", ("wide", 1)))
        routing.put(route("t", ("own", 1)))
        routing.drop("t")
        assert routing.choose(tenant="t", corpus="c", unit=person("u")).variant.variant_id == "wide"

    def test_without_a_route_the_caller_is_told_to_wait(self) -> None:
        with pytest.raises(Unreachable):
            Routing().choose(tenant="t", corpus="c", unit=person("u"))

    @pytest.mark.parametrize("weights", [[], [("a", 0)], [("a", 1), ("a", 1)], [("", 1)], [("a", -1), ("b", 2)]])
    def test_a_route_that_could_answer_nobody_is_refused(self, weights: list[tuple[str, int]]) -> None:
        with pytest.raises(Invalid):
            route("*", *weights)

    def test_weights_are_kept_within_two_points(self) -> None:
        routing = Routing()
        routing.put(route("*", ("a", 70), ("b", 25), ("c", 5), ("off", 0)))
        dealt = Counter(
            routing.choose(tenant="t", corpus="c", unit=person(str(n))).variant.variant_id for n in range(20_000)
        )
        assert dealt.keys() == {"a", "b", "c"}
        assert dealt["a"] / 20_000 == pytest.approx(0.70, abs=0.02)
        assert dealt["b"] / 20_000 == pytest.approx(0.25, abs=0.02)

    @given(st.text(min_size=1, max_size=20), st.integers(1, 99))
    def test_a_person_keeps_the_variant_when_its_weight_grows(self, who: str, weight: int) -> None:
        before, after = Routing(), Routing()
        before.put(route("*", ("a", weight), ("b", 100)))
        after.put(route("*", ("a", weight + 50), ("b", 100)))

        def variant(routing: Routing) -> str:
            return routing.choose(tenant="t", corpus="c", unit=person(who)).variant.variant_id

        assert variant(before) == variant(before)
        if variant(before) == "a":
            assert variant(after) == "a"

    def test_people_are_dealt_anew_for_each_scope_and_salt(self) -> None:
        def dealt(salt: str, scope: str) -> list[str]:
            routing = Routing(salt=salt)
            routing.put(route(scope, ("a", 1), ("b", 1)))
            return [routing.choose(tenant="t", corpus="c", unit=person(str(n))).variant.variant_id for n in range(200)]

        assert dealt("s", "*") == dealt("s", "*")
        assert dealt("s", "*") != dealt("other", "*")
        assert dealt("s", "*") != dealt("s", "t")


class TestExperiments:
    def test_a_choice_tells_what_chose_it_and_what_it_exposes_to(self) -> None:
        choice = experiment(("control", 0), ("treatment", 1)).choose(tenant="t", corpus="c", unit=person("u"))
        assert (choice.scope, choice.revision, choice.unit) == ("t/c", 4, UnitKind.USER)
        assert (choice.experiment_id, choice.arm, choice.variant.variant_id) == ("ex-1", "treatment", "treatment")

    def test_a_variant_is_dealt_by_the_person_else_the_session_else_the_answer(self) -> None:
        assert unit_of(user_id="u", session_id="s", answer_id="a") == Unit(UnitKind.USER, "u")
        assert unit_of(user_id="", session_id="s", answer_id="a") == Unit(UnitKind.SESSION, "s")
        assert unit_of(user_id="", session_id="", answer_id="a") == Unit(UnitKind.ANSWER, "a")

    @given(st.text(min_size=1, max_size=20), st.integers(0, 10_000), st.integers(0, 10_000))
    def test_raising_a_treatments_weight_never_moves_a_person_back_to_control(
        self, who: str, one: int, other: int
    ) -> None:
        low, high = sorted((one, other))
        before = experiment(("control", 10_000 - low), ("treatment", low))
        after = experiment(("control", 10_000 - high), ("treatment", high))
        if arm_of(before, who) == "treatment":
            assert arm_of(after, who) == "treatment"

    @given(st.text(min_size=1, max_size=20), st.lists(st.integers(1, 100), min_size=3, max_size=3))
    def test_an_arm_that_is_stopped_moves_only_its_own_people(self, who: str, weights: list[int]) -> None:
        arms = list(zip(("control", "one", "two"), weights, strict=True))
        before = arm_of(experiment(*arms), who)
        after = arm_of(experiment(*arms[:2], ("two", 0)), who)
        assert before in {after, "two"}

    def test_no_more_people_move_than_the_weights_do(self) -> None:
        people = [str(n) for n in range(4_000)]
        before, after = experiment(("control", 95), ("treatment", 5)), experiment(("control", 50), ("treatment", 50))
        moved = sum(arm_of(before, who) != arm_of(after, who) for who in people)
        assert moved / len(people) == pytest.approx(0.45, abs=0.03)

    def test_the_people_of_one_experiment_are_dealt_anew_for_the_next(self) -> None:
        people = [str(n) for n in range(4_000)]
        first, second = (experiment(("control", 1), (f"t-{n}", 1), name=f"ex-{n}") for n in (1, 2))
        both = sum(arm_of(first, who) == arm_of(second, who) == "control" for who in people)
        assert both / len(people) == pytest.approx(0.25, abs=0.03)

    @pytest.mark.parametrize(
        "arms", [[("ex-1", ""), ("", "")], [("", "control"), ("", "")], [("ex-1", "control"), ("ex-1", "control")]]
    )
    def test_a_route_whose_arms_cannot_be_told_apart_is_refused(self, arms: list[tuple[str, str]]) -> None:
        shares = [
            replace(share(f"v-{n}", 1), experiment_id=experiment_id, arm=arm)
            for n, (experiment_id, arm) in enumerate(arms)
        ]
        with pytest.raises(Invalid):
            Route(scope="*", revision=1, shares=shares)


class TestExploration:
    @given(st.integers(0, 10), st.uuids(), st.floats(0, 1))
    def test_at_most_two_ranks_change_places_and_the_answers_id_decides(
        self, number: int, answer_id: UUID, share: float
    ) -> None:
        passages = list(range(number))
        shown, randomised = explored(passages, answer_id=str(answer_id), share=share)
        assert sorted(shown) == passages
        assert sum(here != there for here, there in zip(shown, passages, strict=True)) == (2 if randomised else 0)
        assert explored(passages, answer_id=str(answer_id), share=share) == (shown, randomised)

    def test_a_share_of_answers_is_explored_and_neighbours_more_often_than_others(self) -> None:
        swaps: Counter[tuple[int, ...]] = Counter()
        for number in range(20_000):
            shown, randomised = explored(range(5), answer_id=f"a-{number}", share=0.1)
            if randomised:
                swaps[tuple(place for place in range(5) if shown[place] != place)] += 1
        assert swaps.total() / 20_000 == pytest.approx(0.1, abs=0.01)
        assert len(swaps) == 10, "any two may change places"
        near = sum(count for (one, other), count in swaps.items() if other - one == 1)
        assert near / swaps.total() == pytest.approx(0.5 + 0.5 * 4 / 10, abs=0.05)

    def test_nothing_is_explored_where_that_is_switched_off(self) -> None:
        assert not any(explored("ab", answer_id=str(n), share=0.0)[1] for n in range(1_000))
        assert all(explored("ab", answer_id=str(n), share=1.0)[1] for n in range(1_000))


class TestDocuments:
    @pytest.mark.parametrize(
        ("broken", "field"),
        [
            ({"corpus": "../etc"}, "corpus"),
            ({"document_id": ""}, "document_id"),
            ({"document_id": "a\nb"}, "document_id"),
            ({"document_id": "d" * 513}, "document_id"),
            ({"body": None}, "body"),
            ({"body": Uri("")}, "uri"),
            ({"body": Content(bytes(BODY_BYTES + 1))}, "content"),
            ({"body": Text("x" * (BODY_BYTES + 1))}, "text"),
            ({"body": Text("é" * (BODY_BYTES // 2 + 1))}, "text"),
            ({"title": "t" * 2_049}, "title"),
            ({"metadata": {"a b": "x"}}, "metadata"),
            ({"acl": [""]}, "acl[0]"),
            ({"acl": ["*"]}, "acl"),
            ({"acl": [str(n) for n in range(65)]}, "acl"),
            ({"idempotency_key": "k" * 129}, "idempotency_key"),
        ],
    )
    def test_a_document_that_breaks_its_contract_names_the_field(self, broken: dict[str, Any], field: str) -> None:
        whole: dict[str, Any] = {"corpus": "handbook", "document_id": "a/b", "body": Text("text"), **broken}
        with pytest.raises(Invalid) as fault:
            PutDocument(**whole)
        assert fault.value.field == field

    def test_a_body_of_exactly_the_limit_is_taken(self) -> None:
        PutDocument(corpus="c", document_id="d", body=Content(bytes(BODY_BYTES)))

    def test_a_body_over_the_limit_is_told_where_to_go(self) -> None:
        with pytest.raises(TooLarge, match="give its uri"):
            PutDocument(corpus="c", document_id="d", body=Content(bytes(BODY_BYTES + 1)))

    def test_a_repeated_key_is_the_same_event_and_another_document_is_another(self) -> None:
        def put(document_id: str, key: str) -> PutDocument:
            return PutDocument(corpus="c", document_id=document_id, body=Text("t"), idempotency_key=key)

        first = event_id_of(put("d", "k"), tenant="t")
        assert event_id_of(put("d", "k"), tenant="t") == first
        others = {
            event_id_of(put("d", "k2"), tenant="t"),
            event_id_of(put("e", "k"), tenant="t"),
            event_id_of(put("d", "k"), tenant="u"),
            event_id_of(DeleteDocument(corpus="c", document_id="d", idempotency_key="k"), tenant="t"),
        }
        assert len(others) == 4
        assert first not in others
        assert event_id_of(put("d", ""), tenant="t") == ""


def test_numbers_of_reasons_and_roles_are_those_of_the_contract() -> None:
    assert {f"FINISH_REASON_{each.name}": each.value for each in FinishReason} == dict(generation.FinishReason.items())
    assert {f"ASSIGNMENT_UNIT_{each.name}": each.value for each in UnitKind} == dict(AssignmentUnit.items())
    assert {f"ROLE_{each.name}": each.value for each in Role} == dict(generation.Role.items())
    assert FinishReason(99) is FinishReason.UNSPECIFIED
