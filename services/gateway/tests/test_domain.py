from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.generation.v1 import generation_service_pb2 as generation
from anabranch_faults import Denied, Invalid, TooLarge, Unreachable
from anabranch_gateway.domain import names
from anabranch_gateway.domain.answers import FinishReason
from anabranch_gateway.domain.documents import BODY_BYTES, Content, DeleteDocument, PutDocument, Text, Uri, event_id_of
from anabranch_gateway.domain.keys import Caller, digest_of, key_from, key_id_of, new_secret
from anabranch_gateway.domain.questions import Query, Question, Role, Turn
from anabranch_gateway.domain.routing import GenerationSettings, RetrievalSettings, Route, Routing, Share, Variant


def share(name: str, weight: int) -> Share:
    variant = Variant(variant_id=name, retrieval=RetrievalSettings(object()), generation=GenerationSettings(object()))
    return Share(variant=variant, weight=weight)


def route(scope: str, *weights: tuple[str, int], revision: int = 1) -> Route:
    return Route(scope=scope, revision=revision, shares=[share(name, weight) for name, weight in weights])


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
            (tenant, corpus): routing.choose(tenant=tenant, corpus=corpus, unit="u").variant.variant_id
            for tenant, corpus in (("t", "c"), ("t", "d"), ("x", "c"))
        }
        assert chosen == {("t", "c"): "v t/c", ("t", "d"): "v t", ("x", "c"): "v *"}

    def test_a_dropped_scope_falls_to_the_next_wider_one(self) -> None:
        routing = Routing()
        routing.put(route("*", ("wide", 1)))
        routing.put(route("t", ("own", 1)))
        routing.drop("t")
        assert routing.choose(tenant="t", corpus="c", unit="u").variant.variant_id == "wide"

    def test_without_a_route_the_caller_is_told_to_wait(self) -> None:
        with pytest.raises(Unreachable):
            Routing().choose(tenant="t", corpus="c", unit="u")

    @pytest.mark.parametrize("weights", [[], [("a", 0)], [("a", 1), ("a", 1)], [("", 1)], [("a", -1), ("b", 2)]])
    def test_a_route_that_could_answer_nobody_is_refused(self, weights: list[tuple[str, int]]) -> None:
        with pytest.raises(Invalid):
            route("*", *weights)

    def test_weights_are_kept_within_two_points(self) -> None:
        routing = Routing()
        routing.put(route("*", ("a", 70), ("b", 25), ("c", 5), ("off", 0)))
        dealt = Counter(routing.choose(tenant="t", corpus="c", unit=str(n)).variant.variant_id for n in range(20_000))
        assert dealt.keys() == {"a", "b", "c"}
        assert dealt["a"] / 20_000 == pytest.approx(0.70, abs=0.02)
        assert dealt["b"] / 20_000 == pytest.approx(0.25, abs=0.02)

    @given(st.text(min_size=1, max_size=20), st.integers(1, 99))
    def test_a_person_keeps_the_variant_when_its_weight_grows(self, person: str, weight: int) -> None:
        before, after = Routing(), Routing()
        before.put(route("*", ("a", weight), ("b", 100)))
        after.put(route("*", ("a", weight + 50), ("b", 100)))

        def variant(routing: Routing) -> str:
            return routing.choose(tenant="t", corpus="c", unit=person).variant.variant_id

        assert variant(before) == variant(before)
        if variant(before) == "a":
            assert variant(after) == "a"

    def test_people_are_dealt_anew_for_each_scope_and_salt(self) -> None:
        def dealt(salt: str, scope: str) -> list[str]:
            routing = Routing(salt=salt)
            routing.put(route(scope, ("a", 1), ("b", 1)))
            return [routing.choose(tenant="t", corpus="c", unit=str(n)).variant.variant_id for n in range(200)]

        assert dealt("s", "*") == dealt("s", "*")
        assert dealt("s", "*") != dealt("other", "*")
        assert dealt("s", "*") != dealt("s", "t")


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
    assert {f"ROLE_{each.name}": each.value for each in Role} == dict(generation.Role.items())
    assert FinishReason(99) is FinishReason.UNSPECIFIED
