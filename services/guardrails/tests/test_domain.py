"""Laws of findings, policies, redaction, and of where a stream may be cut."""

from __future__ import annotations

import operator
import re
import time
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch_faults import Invalid
from anabranch_guardrails.domain import Finding, Span, Stage, Status, Verdict
from anabranch_guardrails.domain.known import CHECKS
from anabranch_guardrails.domain.policies import (
    Allow,
    Edit,
    FailureMode,
    Result,
    Rule,
    decide,
    edits_of,
    failed,
    judge,
    merged,
    rewritten,
    skipped,
)
from anabranch_guardrails.domain.tails import LONGEST_OPEN, Tail, sentence_end, tail_of

ACTIONS = [Verdict.ALLOW, Verdict.REDACT, Verdict.FLAG, Verdict.BLOCK, Verdict.REVIEW]
TEXTS = st.text(alphabet="ab1 .", max_size=30)
SCORES = st.floats(0, 1)


@st.composite
def findings(draw: st.DrawFn, text: str) -> Finding:
    starts = st.integers(0, max(0, len(text) - 1))
    spans = []
    for _ in range(draw(st.integers(0, 4)) if text else 0):
        start = draw(starts)
        end = draw(st.integers(start + 1, len(text)))
        spans.append(Span(start=start, end=end, kind=draw(st.sampled_from(["A", "B"])), score=draw(SCORES)))
    return Finding(score=draw(SCORES), spans=tuple(spans))


@st.composite
def judged(draw: st.DrawFn) -> tuple[str, Rule, Finding]:
    text = draw(TEXTS)
    rule = Rule(
        check=draw(st.sampled_from(["pii", "toxicity"])),
        stage=Stage.INPUT,
        action=draw(st.sampled_from(ACTIONS)),
        threshold=draw(SCORES),
        shadow=draw(st.booleans()),
    )
    return text, rule, draw(findings(text))


RESULTS = st.builds(
    Result,
    check=st.just("pii"),
    version=st.just("1"),
    verdict=st.sampled_from(ACTIONS),
    status=st.just(Status.OK),
    shadow=st.booleans(),
)


def weight(verdict: Verdict) -> int:
    return [Verdict.ALLOW, Verdict.FLAG, Verdict.REDACT, Verdict.REVIEW, Verdict.BLOCK].index(verdict)


def test_a_block_outweighs_a_review_and_a_review_all_that_lets_text_through() -> None:
    order = [Verdict.ALLOW, Verdict.FLAG, Verdict.REDACT, Verdict.REVIEW, Verdict.BLOCK]
    assert all(later.outweighs(earlier) for earlier, later in pairwise(order))


@pytest.mark.parametrize("score", [float("nan"), -0.1, 1.1])
def test_a_score_that_no_threshold_can_be_held_against_is_refused(score: float) -> None:
    with pytest.raises(Invalid, match="score"):
        Finding(score=score)


class TestVerdicts:
    @given(st.lists(RESULTS, max_size=6))
    def test_what_runs_in_shadow_never_changes_the_verdict(self, results: list[Result]) -> None:
        assert decide(results) is decide([result for result in results if not result.shadow])

    @given(st.lists(RESULTS, max_size=6), RESULTS)
    def test_a_further_check_never_weakens_the_verdict(self, results: list[Result], more: Result) -> None:
        assert weight(decide([*results, more])) >= weight(decide(results))

    @given(st.lists(RESULTS, max_size=6).flatmap(lambda each: st.tuples(st.just(each), st.permutations(each))))
    def test_the_order_of_checks_makes_no_difference(self, both: tuple[list[Result], list[Result]]) -> None:
        assert decide(both[0]) is decide(both[1])

    @given(judged(), SCORES)
    def test_a_higher_threshold_never_makes_a_rule_stricter(
        self, given_: tuple[str, Rule, Finding], higher: float
    ) -> None:
        text, rule, finding = given_
        low, high = sorted([rule.threshold or 0.0, higher])
        strict = judge(_at(rule, low), finding, text, version="1", threshold=0.5)
        lax = judge(_at(rule, high), finding, text, version="1", threshold=0.5)
        assert weight(lax.verdict) <= weight(strict.verdict)

    @given(judged(), st.lists(st.text(alphabet="ab1 .", max_size=4), max_size=4), st.booleans())
    def test_allow_entries_only_ever_relax(
        self,
        given_: tuple[str, Rule, Finding],
        known: list[str],
        any_check: bool,  # noqa: FBT001  hypothesis gives it by place
    ) -> None:
        text, rule, finding = given_
        allow = [Allow(matches=partial(operator.eq, one), check="" if any_check else "pii") for one in known]
        before = judge(rule, finding, text, version="1", threshold=0.5)
        after = judge(rule, finding, text, version="1", threshold=0.5, allow=allow)
        assert weight(after.verdict) <= weight(before.verdict)
        assert after.score <= before.score
        assert set(after.spans) <= set(before.spans)
        fewer = judge(rule, finding, text, version="1", threshold=0.5, allow=allow[1:])
        assert weight(after.verdict) <= weight(fewer.verdict)

    def test_an_entry_for_another_check_changes_nothing(self) -> None:
        rule = Rule(check="pii", stage=Stage.INPUT, action=Verdict.BLOCK)
        finding = Finding(score=1.0, spans=(Span(start=0, end=1, kind="A"),))
        allow = [Allow(matches=lambda _: True, check="secrets")]
        assert judge(rule, finding, "a", version="1", threshold=0.5, allow=allow).verdict is Verdict.BLOCK

    def test_a_failure_blocks_when_closed_or_unsaid_and_flags_when_open(self) -> None:
        for mode, verdict in (
            (FailureMode.UNSPECIFIED, Verdict.BLOCK),
            (FailureMode.CLOSED, Verdict.BLOCK),
            (FailureMode.OPEN, Verdict.FLAG),
        ):
            rule = Rule(check="pii", stage=Stage.INPUT, action=Verdict.FLAG, on_failure=mode)
            result = failed(rule, Status.TIMEOUT, version="1", threshold=0.5, reason="slow")
            assert (result.verdict, result.status) == (verdict, Status.TIMEOUT)
        assert skipped(rule, version="1", threshold=0.5).verdict is Verdict.ALLOW

    def test_what_is_to_be_taken_out_and_stands_nowhere_is_blocked(self) -> None:
        rule = Rule(check="pii", stage=Stage.INPUT, action=Verdict.REDACT)
        assert judge(rule, Finding(score=0.9), "a", version="1", threshold=0.5).verdict is Verdict.BLOCK
        assert judge(rule, Finding(score=0.4), "a", version="1", threshold=0.5).verdict is Verdict.ALLOW

    @pytest.mark.parametrize(
        ("field", "more"),
        [
            ("stage", {"stage": Stage.UNSPECIFIED}),
            ("action", {"action": Verdict.UNSPECIFIED}),
            ("threshold", {"threshold": float("nan")}),
            ("threshold", {"threshold": 1.5}),
        ],
    )
    def test_a_rule_that_cannot_be_run_is_refused_by_field(self, field: str, more: dict[str, Any]) -> None:
        whole: dict[str, Any] = {"check": "pii", "stage": Stage.INPUT, "action": Verdict.BLOCK} | more
        with pytest.raises(Invalid, match=field):
            Rule(**whole)


def _at(rule: Rule, threshold: float) -> Rule:
    return Rule(check=rule.check, stage=rule.stage, action=rule.action, threshold=threshold, shadow=rule.shadow)


class TestRedaction:
    @given(
        st.text(alphabet="abcdef", min_size=1, max_size=20).flatmap(
            lambda text: st.tuples(
                st.just(text),
                st.lists(
                    st.tuples(st.integers(0, len(text) - 1), st.integers(1, 8)).map(
                        lambda place: Edit(place[0], min(place[0] + place[1], len(text)), "#")
                    ),
                    max_size=5,
                ),
            )
        )
    )
    def test_every_place_is_taken_out_and_the_rest_is_kept(self, both: tuple[str, list[Edit]]) -> None:
        text, edits = both
        covered = {at for edit in edits for at in range(edit.start, edit.end)}
        kept = "".join(character for at, character in enumerate(text) if at not in covered)
        assert rewritten(text, edits).replace("#", "") == kept
        assert all(one.end <= other.start for one, other in pairwise(merged(edits)))

    def test_spans_under_the_threshold_stay_and_those_in_shadow_too(self) -> None:
        spans = (Span(start=0, end=1, kind="A", score=0.9), Span(start=2, end=3, kind="A", score=0.2))
        result = Result(
            check="pii", version="1", verdict=Verdict.REDACT, status=Status.OK, score=0.9, threshold=0.5, spans=spans
        )
        assert edits_of([result], length=3) == [Edit(0, 1, "[A]")]
        assert edits_of([result], length=3, keep=frozenset({"A"})) == []


WRITTEN = st.lists(
    st.sampled_from(
        ["word ", "1998 ", "<EMAIL_1>", "[1]", "![x](http://a.b/c)", "a@b.org ", "4111 1111 ", ". ", "\n", "文字"]
    ),
    max_size=12,
).map("".join)


class TestTails:
    @pytest.mark.parametrize(
        ("text", "tail"),
        [
            ("hello wor", "wor"),
            ("hello world ", ""),
            ("hello world.\n", ""),
            ("call 650 253 ", "650 253 "),
            ("call +1 (650) 253", "+1 (650) 253"),
            ("account GB82 WEST ", "GB82 WEST "),
            ("mail john.d", "john.d"),
            ("see [1", "[1"),
            ("see [1]", "[1]"),
            ("see [1] ", ""),
            ("look ![x](http://a", "![x](http://a"),
            ("an <img src='a b", "<img src='a b"),
            ("a < b ", ""),
            ("ask <EMAIL_", "<EMAIL_"),
            ("-----BEGIN PRIVATE KEY-----\nabc ", "-----BEGIN PRIVATE KEY-----\nabc "),
            ("中文字", ""),
        ],
    )
    def test_what_could_become_something_else_is_open(self, text: str, tail: str) -> None:
        assert text[tail_of(text, 0).start :] == tail

    def test_groups_of_digits_are_open_where_somebody_looks_for_them(self) -> None:
        assert tail_of("in 1998 ", 0).start == 3
        assert tail_of("in 1998 ", 0, groups=False).start == 8
        assert tail_of("in 199", 0, groups=False) == Tail(3, plain=False)

    def test_a_word_and_a_citation_are_plain(self) -> None:
        assert not tail_of("end.", 0).plain
        assert tail_of("end.", 0, groups=False).plain
        for text in ("hello", "hello,", "see [1", "see [1]"):
            assert tail_of(text, 0).plain, text
        for text in ("see [1](", "a1", "ada@", "<b", "[text"):
            assert not tail_of(text, 0).plain, text

    @given(WRITTEN, st.integers(0, 5))
    def test_the_open_end_lies_within_what_is_new(self, text: str, begin: int) -> None:
        start = tail_of(text, min(begin, len(text))).start
        assert min(begin, len(text)) <= start <= len(text)

    @given(WRITTEN)
    def test_no_placeholder_tag_or_link_is_cut(self, text: str) -> None:
        whole = [match.span() for match in re.finditer(r"<EMAIL_1>|!\[x\]\(http://a\.b/c\)|a@b\.org", text)]
        for end in range(len(text) + 1):
            start = tail_of(text[:end], 0).start
            assert not any(low < start < high for low, high in whole), text[:end]

    @pytest.mark.parametrize(
        "text", ["<" * 50_000, "[" * 50_000, "a1_" * 20_000, "1 " * 30_000, "-----BEGIN " * 5_000, "x" * 99_999]
    )
    def test_no_text_takes_long(self, text: str) -> None:
        began = time.process_time()
        start = tail_of(text, 0).start
        assert time.process_time() - began < 0.5
        assert len(text) - start <= LONGEST_OPEN

    def test_a_sentence_ends_where_something_follows(self) -> None:
        text = "One. Two! Three"
        assert sentence_end(text, 0, len(text)) == len("One. Two!")
        assert sentence_end("Version 1.2", 0, 11) == 0


def test_the_table_of_checks_is_in_order_and_whole() -> None:
    stages = {stage.name.lower() for stage in Stage} - {"unspecified"}
    assert list(CHECKS)[-1] == "moderation"
    for check in CHECKS.values():
        named = check["stages"]
        assert isinstance(named, tuple)
        assert set(named) <= stages
