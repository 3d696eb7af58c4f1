"""Use cases over small checks."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anabranch_faults import Invalid, Overloaded, TooLarge, Unreachable
from anabranch_guardrails.adapters.anonymising import VaultAnonymiser
from anabranch_guardrails.adapters.markup import configured as markup
from anabranch_guardrails.adapters.personal import configured as personal
from anabranch_guardrails.adapters.personal.vault import Restorer
from anabranch_guardrails.adapters.secrets import configured as secrets
from anabranch_guardrails.application.catalogue import Catalogue, Plan
from anabranch_guardrails.application.checking import Asked, Checked, CheckTexts
from anabranch_guardrails.application.policies import Policies, Whose
from anabranch_guardrails.application.running import Runner
from anabranch_guardrails.application.streaming import CheckAnswers, Closed, Ended, Noted, Opened, Out, Part, Released
from anabranch_guardrails.application.workers import Workers
from anabranch_guardrails.domain import Context, Finding, Stage, Status, Subject, Verdict
from anabranch_guardrails.domain.policies import FailureMode, Rule
from anabranch_guardrails.testing import Counted, Faulty, Hanging, Kept, Words, kind, policy, remote_kind, rule

BAD = Words("patterns", {"bad": 1.0, "worse": 0.6})
WHOSE = Whose(tenant="t", corpus="c", request_id="r")


class Service:
    """The use cases, with what is told of them."""

    def __init__(self, kinds: Sequence[Any], *rules: Rule, threads: int = 2, waiting: int = 8, **more: Any) -> None:
        self.catalogue = Catalogue(kinds, anonymiser=VaultAnonymiser)
        self.plan: Plan = self.catalogue.plan(policy(*rules, **more))
        self.policies = Policies(self.plan)
        self.told, self.record = Counted(), Kept()
        self.workers = Workers(
            threads=threads, waiting=waiting, grace=timedelta(milliseconds=80), abandoned=self.told.abandoned
        )
        runner = Runner(workers=self.workers, telemetry=self.told)
        self.check = CheckTexts(
            policies=self.policies,
            catalogue=self.catalogue,
            runner=runner,
            record=self.record,
            telemetry=self.told,
            remembered=4,
        )
        self.answers = CheckAnswers(
            policies=self.policies, runner=runner, record=self.record, telemetry=self.told, restorer=Restorer, at_once=2
        )

    async def text(self, text: str, stage: Stage = Stage.INPUT, **more: Any) -> Checked:
        only = more.pop("only", ())
        return await self.check(Asked(whose=WHOSE, subject=Subject(stage=stage, text=text, **more), only=only))

    async def stream(
        self, *parts: Part | float, vault: Mapping[str, str] | None = None, **more: Any
    ) -> list[Released | Noted | Closed]:
        """What comes out; a number is a wait in seconds."""

        async def arriving() -> AsyncIterator[Part]:
            for part in parts:
                if isinstance(part, float):
                    await asyncio.sleep(part)
                else:
                    yield part

        subject = Subject(stage=Stage.OUTPUT, text="", **more)
        opened = Opened(whose=WHOSE, subject=subject, vault=vault or {})
        return [out async for out in self.answers(opened, arriving())]


def shown(outs: Sequence[Out]) -> str:
    return "".join(out.text for out in outs if isinstance(out, Released))


def closed(outs: Sequence[Out]) -> Closed:
    last = outs[-1]
    assert isinstance(last, Closed)
    assert sum(isinstance(out, Closed) for out in outs) == 1
    return last


@pytest.fixture
def hanging() -> Iterator[Callable[..., Hanging]]:
    made: list[Hanging] = []

    def make(name: str, **more: Any) -> Hanging:
        made.append(Hanging(name, **more))
        return made[-1]

    yield make
    for one in made:
        one.released.set()


class TestTexts:
    async def test_what_no_rule_stops_is_allowed_as_it_came(self) -> None:
        service = Service([kind(BAD)], rule("patterns"))
        checked = await service.text("all is well")
        assert (checked.verdict, checked.text, checked.policy_version) == (Verdict.ALLOW, "all is well", "gp-test")
        assert service.record.blocked == []

    async def test_a_block_gives_no_text_a_message_and_a_record_without_content(self) -> None:
        service = Service([kind(BAD)], rule("patterns"), message="No.")
        checked = await service.text("this is bad")
        assert (checked.verdict, checked.text, checked.message) == (Verdict.BLOCK, "", "No.")
        (record,) = service.record.blocked
        assert (record.request_id, record.stage, record.verdict) == ("r", Stage.INPUT, Verdict.BLOCK)
        assert [result.check for result in record.results] == ["patterns"]

    async def test_after_a_block_later_checks_are_skipped_but_those_in_shadow_run(self) -> None:
        late, shadow = Words("pii", {"bad": 1.0}), Words("toxicity", {"bad": 1.0})
        service = Service(
            [kind(BAD), kind(late), kind(shadow)], rule("patterns"), rule("pii"), rule("toxicity", shadow=True)
        )
        checked = await service.text("bad")
        statuses = {result.check: (result.status, result.verdict) for result in checked.results}
        assert statuses["pii"] == (Status.SKIPPED, Verdict.ALLOW)
        assert statuses["toxicity"] == (Status.OK, Verdict.BLOCK)
        assert (late.looks, shadow.looks) == (0, 1)

    async def test_a_rule_in_shadow_is_reported_and_changes_nothing(self) -> None:
        service = Service([kind(BAD)], rule("patterns", shadow=True))
        checked = await service.text("bad")
        assert (checked.verdict, checked.text) == (Verdict.ALLOW, "bad")
        assert checked.results[0].verdict is Verdict.BLOCK
        assert service.record.blocked == []

    async def test_redaction_takes_out_what_was_found_and_keeps_the_rest(self) -> None:
        service = Service([kind(BAD)], rule("patterns", Verdict.REDACT))
        checked = await service.text("a bad and a worse day")
        assert (checked.verdict, checked.text) == (Verdict.REDACT, "a [WORD] and a [WORD] day")

    async def test_a_check_that_raises_blocks_when_closed_and_flags_when_open_and_is_counted(self) -> None:
        for mode, verdict in ((FailureMode.CLOSED, Verdict.BLOCK), (FailureMode.OPEN, Verdict.FLAG)):
            service = Service([kind(Faulty("pii"))], rule("pii", on_failure=mode))
            checked = await service.text("my secret")
            assert (checked.verdict, checked.results[0].status) == (verdict, Status.ERROR)
            assert service.told.failures == [("pii", "RuntimeError")]
            assert "secret" not in checked.results[0].reason

    @pytest.mark.parametrize("busy", [False, True])
    async def test_a_check_that_hangs_is_a_timeout_and_the_next_one_runs(
        self, hanging: Callable[..., Hanging], *, busy: bool
    ) -> None:
        hangs = hanging("length", busy=busy)
        service = Service(
            [kind(hangs), kind(BAD)],
            rule("length", on_failure=FailureMode.OPEN, timeout=timedelta(milliseconds=20)),
            rule("patterns"),
            threads=1,
        )
        began = time.perf_counter()
        checked = await service.text("bad")
        assert time.perf_counter() - began < 5
        assert [result.status for result in checked.results] == [Status.TIMEOUT, Status.OK]
        assert checked.verdict is Verdict.BLOCK
        assert service.told.abandoned_ == ["length"]

    async def test_a_check_that_waits_for_the_processor_is_not_slow(self) -> None:
        class Waiting:
            name, version = "patterns", "1"

            def look(self, subject: Subject) -> Finding:
                time.sleep(0.05)
                return Finding(score=0.0)

        service = Service([kind(Waiting())], rule("patterns", timeout=timedelta(milliseconds=5)))
        assert (await service.text("x")).results[0].status is Status.OK

    async def test_a_hanging_check_that_is_closed_blocks_at_once(self, hanging: Callable[..., Hanging]) -> None:
        service = Service(
            [kind(hanging("length")), kind(BAD)],
            rule("length", timeout=timedelta(milliseconds=10)),
            rule("patterns"),
        )
        checked = await service.text("fine")
        assert [result.status for result in checked.results] == [Status.TIMEOUT, Status.SKIPPED]
        assert checked.verdict is Verdict.BLOCK

    async def test_when_too_many_checks_hang_texts_are_refused_and_the_service_says_so(
        self, hanging: Callable[..., Hanging]
    ) -> None:
        service = Service([kind(hanging("length"))], rule("length", timeout=timedelta(milliseconds=5)))
        for _ in range(8):
            await service.text("x")
        assert service.workers.ready == "8 checks hang"
        with pytest.raises(Overloaded):
            await service.text("x")

    async def test_more_texts_than_may_wait_are_refused(self) -> None:
        gate = threading.Event()

        class Slow:
            name, version = "patterns", "1"

            def look(self, subject: Subject) -> Finding:
                gate.wait(10)
                return Finding(score=0.0)

        service = Service([kind(Slow())], rule("patterns", timeout=timedelta(seconds=20)), threads=1, waiting=1)
        running = [asyncio.create_task(service.text("x")) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await service.text("x")
        gate.set()
        assert [(await task).verdict for task in running] == [Verdict.ALLOW, Verdict.ALLOW]

    async def test_five_megabytes_are_looked_at_in_windows_and_found_at_their_end(self) -> None:
        service = Service([kind(BAD)], rule("patterns", Verdict.REDACT))
        text = "good " * (1024 * 1024 - 1) + "bad "
        checked = await service.text(text)
        assert checked.text == "good " * (1024 * 1024 - 1) + "[WORD] "
        with pytest.raises(TooLarge):
            await service.text("x" * (5 * 1024 * 1024 + 1))

    async def test_only_the_checks_asked_for_run_and_unknown_ones_are_named(self) -> None:
        other = Words("pii", {"me": 0.9})
        service = Service([kind(BAD), kind(other)], rule("patterns"))
        checked = await service.text("bad me", only=("pii",))
        assert [(result.check, result.verdict) for result in checked.results] == [("pii", Verdict.FLAG)]
        with pytest.raises(Invalid, match="there is no nonsense"):
            await service.text("x", only=("nonsense",))

    async def test_a_model_elsewhere_is_asked_last_and_its_failure_is_handled(self) -> None:
        class Elsewhere:
            name, version = "moderation", "m"

            def __init__(self, answer: Finding | Exception | float) -> None:
                self.answer, self.asked = answer, 0

            async def look(self, subject: Subject) -> Finding:
                self.asked += 1
                if isinstance(self.answer, Exception):
                    raise self.answer
                if isinstance(self.answer, float):
                    await asyncio.sleep(self.answer)
                    return Finding(score=0.0)
                return self.answer

        for answer, status, verdict in (
            (Finding(score=0.9), Status.OK, Verdict.BLOCK),
            (Unreachable("away"), Status.ERROR, Verdict.BLOCK),
            (30.0, Status.TIMEOUT, Verdict.BLOCK),
        ):
            remote = Elsewhere(answer)
            service = Service(
                [remote_kind(remote), kind(BAD)],
                rule("moderation", timeout=timedelta(milliseconds=20)),
                rule("patterns"),
            )
            checked = await service.text("x")
            assert [result.check for result in checked.results] == ["patterns", "moderation"]
            assert (checked.results[1].status, checked.verdict) == (status, verdict)
            await service.text("bad")
            assert remote.asked == 1


class TestPassages:
    async def test_each_passage_has_its_verdict_and_one_that_is_blocked_leaves_the_others(self) -> None:
        service = Service([kind(BAD)], rule("patterns", stage=Stage.CONTEXT))
        contexts = (Context(text="bad"), Context(text="good"))
        checked = await service.text("", Stage.CONTEXT, contexts=contexts)
        assert checked.passages == (Verdict.BLOCK, Verdict.ALLOW)
        assert checked.verdict is Verdict.BLOCK
        assert [result.passage for result in checked.results] == [0, 1]
        assert checked.rewritten == ()

    async def test_what_was_found_in_a_passage_is_remembered_by_key_and_bounded(self) -> None:
        check = Words("patterns", {"bad": 1.0})
        service = Service([kind(check)], rule("patterns", stage=Stage.CONTEXT))
        contexts = tuple(Context(text=f"bad {n}", key=f"k{n}") for n in range(3))
        first = await service.text("", Stage.CONTEXT, contexts=contexts, question="q")
        again = await service.text("", Stage.CONTEXT, contexts=contexts, question="another")
        assert (check.looks, again.passages) == (3, first.passages)
        await service.text("", Stage.CONTEXT, contexts=tuple(Context(text="x", key=f"n{n}") for n in range(4)))
        await service.text("", Stage.CONTEXT, contexts=contexts[:1])
        assert check.looks == 8

    async def test_what_depends_on_the_question_is_remembered_with_it(self) -> None:
        check = Words("injection", {"bad": 1.0})
        service = Service([kind(check, asked=True)], rule("injection", stage=Stage.CONTEXT))
        contexts = (Context(text="x", key="k"),)
        for question in ("a", "b", "a"):
            await service.text("", Stage.CONTEXT, contexts=contexts, question=question)
        assert check.looks == 2

    async def test_a_failure_is_not_remembered(self) -> None:
        service = Service([kind(Faulty("pii"))], rule("pii", stage=Stage.CONTEXT))
        for _ in range(2):
            checked = await service.text("", Stage.CONTEXT, contexts=(Context(text="x", key="k"),))
            assert checked.passages == (Verdict.BLOCK,)
        assert len(service.told.failures) == 2

    async def test_a_documents_chunks_are_checked_together(self) -> None:
        service = Service([kind(BAD)], rule("patterns", Verdict.REVIEW, Stage.INGESTION))
        chunks = (Context(text="bad"), Context(text="good"))
        checked = await service.text("", Stage.INGESTION, contexts=chunks)
        assert checked.passages == (Verdict.REVIEW, Verdict.ALLOW)


class TestAnonymising:
    async def test_personal_data_leaves_as_placeholders_and_the_same_value_has_the_same_one(self) -> None:
        service = Service([kind(personal({}))], rule("pii", Verdict.FLAG), anonymise=frozenset({"EMAIL"}))
        text = "Write to ada@example.org or bob@example.org, not ada@example.org."
        checked = await service.text(text, contexts=(Context(text="I am bob@example.org"),))
        assert checked.verdict is Verdict.REDACT
        assert checked.text == "Write to <EMAIL_1> or <EMAIL_2>, not <EMAIL_1>."
        assert checked.rewritten == ("I am <EMAIL_2>",)
        assert checked.vault == {"<EMAIL_1>": "ada@example.org", "<EMAIL_2>": "bob@example.org"}

    async def test_kinds_that_are_anonymised_are_not_redacted_and_other_redactions_hold(self) -> None:
        service = Service(
            [kind(personal({})), kind(BAD)],
            rule("pii", Verdict.REDACT),
            rule("patterns", Verdict.REDACT),
            anonymise=frozenset({"EMAIL"}),
        )
        checked = await service.text("bad: ada@example.org, 4111 1111 1111 1111")
        assert checked.text == "[WORD]: <EMAIL_1>, [CARD]"

    async def test_a_redaction_inside_of_personal_data_takes_all_of_it(self) -> None:
        service = Service([kind(BAD)], rule("patterns", Verdict.REDACT), anonymise=frozenset({"EMAIL"}))
        checked = await service.text("to bad@example.org!")
        assert (checked.text, checked.vault) == ("to [WORD]!", {})

    async def test_an_anonymiser_that_fails_blocks(self) -> None:
        def broken(kinds: frozenset[str]) -> Any:
            made.append(kinds)
            if len(made) > 1:
                raise RuntimeError("no")
            return VaultAnonymiser(kinds)

        made: list[frozenset[str]] = []
        service = Service([kind(BAD)], rule("patterns"))
        catalogue = Catalogue([kind(BAD)], anonymiser=broken)
        service.policies.put(catalogue.plan(policy(anonymise=frozenset({"EMAIL"}))))
        service.policies.attach("t", "gp-test")
        service.check._catalogue = catalogue
        checked = await service.text("x")
        assert (checked.verdict, checked.text) == (Verdict.BLOCK, "")


class TestPolicies:
    def test_the_most_specific_scope_wins_and_a_variants_policy_over_all(self) -> None:
        catalogue = Catalogue([kind(BAD)])
        plans = {name: catalogue.plan(policy(version=name)) for name in ("b", "all", "t", "tc", "v")}
        policies = Policies(plans["b"])
        for plan in plans.values():
            policies.put(plan)

        def held(**whose: str) -> tuple[str, str]:
            resolved = policies.resolve(Whose(**({"tenant": "t", "corpus": "c"} | whose)))
            return resolved.plan.policy.version, resolved.source

        assert held() == ("b", "built-in")
        for scope, version in (("*", "all"), ("t", "t"), ("t/c", "tc")):
            assert policies.attach(scope, version)
            assert held() == (version, scope)
        assert held(corpus="d") == ("t", "t")
        assert held(tenant="u") == ("all", "*")
        assert held(policy_version="v") == ("v", "variant")
        policies.attach("t/c", "")
        assert held() == ("t", "t")
        with pytest.raises(Unreachable):
            held(policy_version="gp-none")

    def test_a_scope_whose_policy_is_not_here_keeps_the_last_good_one_or_is_refused(self) -> None:
        catalogue = Catalogue([kind(BAD)])
        policies = Policies(catalogue.plan(policy(version="b")))
        policies.put(catalogue.plan(policy(version="good")))
        policies.attach("t", "good")
        assert not policies.attach("t", "bad")
        assert policies.resolve(Whose(tenant="t")).plan.policy.version == "good"
        assert not policies.attach("u", "later")
        with pytest.raises(Unreachable):
            policies.resolve(Whose(tenant="u"))
        policies.put(catalogue.plan(policy(version="later")))
        assert policies.resolve(Whose(tenant="u")).plan.policy.version == "later"
        policies.drop("later")
        assert policies.resolve(Whose(tenant="u")).plan.policy.version == "later"


OUTPUT = Stage.OUTPUT


class TestStreams:
    async def test_text_comes_out_as_it_went_in(self) -> None:
        service = Service([kind(BAD)], rule("patterns", Verdict.REDACT, OUTPUT))
        outs = await service.stream("It is ", "a good ", "day [1]. ", "So be", " it.", Ended())
        assert shown(outs) == "It is a good day [1]. So be it."
        assert closed(outs).verdict is Verdict.ALLOW
        assert len(service.told.waits) == 5

    async def test_what_is_taken_out_never_shows_its_beginning_however_it_is_split(self) -> None:
        text = "mail ada.lovelace@example.org, card 4111 1111 1111 1111 or IBAN GB82 WEST 1234 5698 7654 32 now"
        for size in (1, 2, 3, 5, 8, 13):
            service = Service([kind(personal({}))], rule("pii", Verdict.REDACT, OUTPUT))
            parts = [text[at : at + size] for at in range(0, len(text), size)]
            outs = await service.stream(*[each for part in parts for each in (part, 0.0)], Ended())
            assert shown(outs) == "mail [EMAIL], card [CARD] or IBAN [IBAN] now", size

    @pytest.mark.parametrize("pause", [0.004, 0.03])
    async def test_a_slow_writer_shows_no_more_of_it_than_a_fast_one(self, pause: float) -> None:
        text = "Card 4111 1111 1111 1111, key AKIAIOSFODNN7QK2ZTRA, <script>x()</script>, ada@example.org. Bye."
        service = Service(
            [kind(personal({})), kind(secrets({})), kind(markup({}))],
            rule("pii", Verdict.REDACT, OUTPUT),
            rule("secrets", Verdict.REDACT, OUTPUT),
            rule("markup", Verdict.REDACT, OUTPUT),
            hold_back=timedelta(milliseconds=5),
        )
        parts = [text[at : at + 3] for at in range(0, len(text), 3)]
        outs = await service.stream(*[each for part in parts for each in (part, pause)], Ended())
        marks = r"Card \[CARD\], key \[(SECRET|KEY)\], \[\w+\](x\(\)\[\w+\])?, \[EMAIL\]\. Bye\."
        assert re.fullmatch(marks, shown(outs)), shown(outs)

    @settings(max_examples=25, deadline=None)
    @given(data=st.data())
    async def test_however_it_is_split_what_comes_out_is_what_the_whole_would_be(self, data: st.DataObject) -> None:
        pieces = [
            "word ",
            "ada@example.org ",
            "4111 1111 1111 1111 ",
            "in 1998 ",
            "a < b ",
            "[1] ",
            "end. ",
            "+49 30 901820 ",
        ]
        text = "".join(data.draw(st.lists(st.sampled_from(pieces), min_size=1, max_size=6)))
        cuts = sorted(data.draw(st.sets(st.integers(1, len(text)), max_size=10)) | {0, len(text)})
        service = Service([kind(personal({}))], rule("pii", Verdict.REDACT, OUTPUT))
        parts = [text[low:high] for low, high in pairwise(cuts)]
        outs = await service.stream(*[each for part in parts for each in (part, 0.002)], Ended())
        whole = await service.text(text, OUTPUT)
        assert shown(outs) == whole.text

    async def test_a_late_block_ends_the_stream_with_what_it_found(self) -> None:
        service = Service([kind(BAD)], rule("patterns", stage=OUTPUT), message="No more.")
        outs = await service.stream("All good so far. ", 0.15, "And now bad things. ", 0.05, "Never shown.", Ended())
        assert shown(outs) == "All good so far. "
        noted = [out for out in outs if isinstance(out, Noted)]
        assert [(out.result.check, out.result.verdict) for out in noted] == [("patterns", Verdict.BLOCK)]
        end = closed(outs)
        assert (end.verdict, end.message, end.policy_version) == (Verdict.BLOCK, "No more.", "gp-test")
        assert service.record.blocked[0].stage is OUTPUT

    async def test_what_is_found_twice_is_told_once(self) -> None:
        service = Service([kind(BAD)], rule("patterns", Verdict.FLAG, OUTPUT))
        outs = await service.stream("bad ", 0.15, "bad ", 0.15, "bad", Ended())
        assert shown(outs) == "bad bad bad"
        assert sum(isinstance(out, Noted) for out in outs) == 1

    async def test_what_needs_the_whole_answer_is_looked_at_when_it_ends(self) -> None:
        check = Words("groundedness", {"bad": 1.0})
        service = Service([kind(check, whole=True)], rule("groundedness", stage=OUTPUT))
        outs = await service.stream("bad ", 0.15, "thing", Ended())
        assert (shown(outs), closed(outs).verdict, check.looks) == ("bad thing", Verdict.BLOCK, 1)
        outs = await service.stream("bad ", Ended(abstained=True))
        assert (closed(outs).verdict, check.looks) == (Verdict.ALLOW, 1)

    async def test_what_can_no_longer_be_taken_out_blocks(self) -> None:
        service = Service([kind(Words("schema", {"bad": 1.0}), whole=True)], rule("schema", Verdict.REDACT, OUTPUT))
        assert closed(await service.stream("bad", Ended())).verdict is Verdict.BLOCK

    async def test_a_plain_word_goes_when_the_hold_back_is_over(self) -> None:
        service = Service([kind(BAD)], rule("patterns", Verdict.FLAG, OUTPUT), hold_back=timedelta(milliseconds=30))
        began = time.perf_counter()

        async def arriving() -> AsyncIterator[Part]:
            yield "Hello"
            await asyncio.sleep(0.4)
            yield " you"

        opened = Opened(whose=WHOSE, subject=Subject(stage=OUTPUT, text=""))
        seen = [
            (out.text, time.perf_counter() - began)
            async for out in service.answers(opened, arriving())
            if isinstance(out, Released)
        ]
        assert [text for text, _ in seen] == ["Hello", " you"]
        assert seen[0][1] < 0.3

    async def test_a_rule_over_sentences_waits_for_their_end(self) -> None:
        service = Service(
            [kind(Words("toxicity", {"bad": 1.0}))], rule("toxicity", stage=OUTPUT), hold_back=timedelta(seconds=5)
        )
        outs = await service.stream("You are ", 0.1, "not ", 0.1, "bad. ", 0.05, Ended())
        assert shown(outs) == ""
        outs = await service.stream("You are ", 0.05, "good. ", 0.05, "And so am I", Ended())
        assert [out.text for out in outs if isinstance(out, Released)] == ["You are good.", " And so am I"]

    async def test_placeholders_come_back_also_when_they_are_split(self) -> None:
        service = Service([kind(BAD)], rule("patterns", Verdict.REDACT, OUTPUT))
        vault = {"<EMAIL_1>": "ada@example.org"}
        for size in (1, 2, 4, 7):
            text = "Ask <EMAIL_1> about a < b. Or <EMAIL_2>."
            parts = [text[at : at + size] for at in range(0, len(text), size)]
            outs = await service.stream(*parts, Ended(), vault=vault)
            assert shown(outs) == "Ask ada@example.org about a < b. Or <EMAIL_2>."

    async def test_an_answer_that_breaks_off_is_checked_as_far_as_it_went(self) -> None:
        service = Service([kind(BAD)], rule("patterns", stage=OUTPUT))
        assert closed(await service.stream("good then bad")).verdict is Verdict.BLOCK

    async def test_a_fault_of_the_writer_is_raised_where_the_answer_is_read(self) -> None:
        service = Service([kind(BAD)], rule("patterns", stage=OUTPUT))

        async def broken() -> AsyncIterator[Part]:
            yield "good "
            raise Unreachable("the model is away")

        opened = Opened(whose=WHOSE, subject=Subject(stage=OUTPUT, text=""))
        with pytest.raises(Unreachable):
            [out async for out in service.answers(opened, broken())]

    async def test_more_streams_than_allowed_are_refused(self) -> None:
        service = Service([kind(BAD)], rule("patterns", stage=OUTPUT))

        async def endless() -> AsyncIterator[Part]:
            yield "x "
            await asyncio.sleep(60)

        opened = Opened(whose=WHOSE, subject=Subject(stage=OUTPUT, text=""))
        running = [service.answers(opened, endless()) for _ in range(2)]
        for each in running:
            await anext(each)
        with pytest.raises(Overloaded):
            await service.stream("x")
        for each in running:
            await each.aclose()
        assert shown(await service.stream("x", Ended())) == "x"

    async def test_a_check_that_fails_closed_ends_the_stream(self) -> None:
        service = Service([kind(Faulty("pii"))], rule("pii", Verdict.REDACT, OUTPUT))
        outs = await service.stream("hello ", "you ", Ended())
        assert (shown(outs), closed(outs).verdict) == ("", Verdict.BLOCK)

    async def test_what_only_flags_or_runs_in_shadow_holds_nothing_back(self) -> None:
        flag, shadow = Words("patterns", {"bad": 1.0}), Words("pii", {"bad": 1.0})
        service = Service(
            [kind(flag), kind(shadow)],
            rule("patterns", Verdict.FLAG, OUTPUT),
            rule("pii", Verdict.BLOCK, OUTPUT, shadow=True),
            hold_back=timedelta(seconds=5),
        )
        outs = await service.stream("a ba", 0.05, "d wo", 0.05, "rd", Ended())
        assert [out.text for out in outs if isinstance(out, Released)] == ["a ba", "d wo", "rd"]
        assert (closed(outs).verdict, flag.looks, shadow.looks) == (Verdict.FLAG, 1, 1)

    async def test_an_answer_that_comes_at_once_waits_for_nothing(self) -> None:
        service = Service([kind(BAD)], rule("patterns", Verdict.REDACT, OUTPUT))
        waits = []
        for _ in range(20):
            service.told.waits.clear()
            await service.stream("Green tea is steeped for two minutes [1]. Black tea for four [2].", Ended())
            waits += service.told.waits
        assert sorted(waits)[len(waits) // 2] < timedelta(milliseconds=100)
