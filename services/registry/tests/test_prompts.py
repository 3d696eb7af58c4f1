"""Prompts: kept under their content's name, composed, and moved by labels through a gate."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct
from grpc import StatusCode
from grpc.aio import AioRpcError

from anabranch import topics
from anabranch.registry.v1 import events_pb2 as events
from anabranch.registry.v1 import prompt_service_pb2 as pb
from anabranch.registry.v1 import prompts_pb2 as prompts_pb
from anabranch.registry.v1 import registry_service_pb2 as registry_pb
from anabranch_faults import Conflict, Invalid, NotFound
from anabranch_prompts import ModelPrompt, PromptTemplate, PromptTest
from anabranch_registry.adapters.ledger import SqlLedger
from anabranch_registry.application import Ledger, OpenRegistry, Prompts
from anabranch_registry.domain.faults import GateClosed
from anabranch_registry.domain.prompts import PromptLabel, StoredPrompt
from anabranch_registry.entrypoints.kafka import encoded
from anabranch_registry.entrypoints.prompts import prompt_from, prompt_message
from anabranch_registry.testing import MemoryLedger
from anabranch_store import Database
from anabranch_testkit import poll_until

WHO: dict[str, Any] = {"author": "ada", "reason": "because"}
SUPPORT = PromptTemplate(
    name="support",
    system="You answer for {{ product }}.",
    template="{% for context in contexts %}{{ context.text }}\n{% endfor %}{{ question }}",
    variables={
        "type": "object",
        "properties": {"product": {"type": "string", "maxLength": 20}},
        "required": ["product"],
    },
    temperature=0.5,
    max_tokens=200,
    stop=("END",),
    models=(ModelPrompt(models="small-*", system="Be brief about {{ product }}.", template="{{ question }}"),),
    tests=(PromptTest(name="names it", variables={"product": "Kettle"}, contains=("for Kettle",), lacks=("None",)),),
)


class PromptsContract:
    async def test_the_same_content_is_one_version_and_comes_back_as_it_was(self, ledger: Ledger) -> None:
        prompts = Prompts(ledger)
        first = await prompts.create(SUPPORT, **WHO)
        assert first == replace(SUPPORT, prompt_version=first.prompt_version)
        assert await prompts.create(replace(SUPPORT, description="other words"), **WHO) == first
        other = await prompts.create(replace(SUPPORT, temperature=0.7), **WHO)
        assert other.prompt_version != first.prompt_version
        assert await prompts.get(f"support@{first.prompt_version}") == first
        assert (await prompts.list(name="support"))[0] == [other, first]
        assert (await prompts.list(name="others"))[0] == []
        page, token = await prompts.list(page_size=1)
        assert (page, (await prompts.list(page_size=1, page_token=token))[0]) == ([other], [first])
        assert await prompts.create(first, **WHO) == first
        with pytest.raises(Invalid, match=f"the content makes it {first.prompt_version}"):
            await prompts.create(replace(SUPPORT, prompt_version="p-000000000000"), **WHO)

    async def test_pieces_are_put_in_for_ever_with_the_pieces_that_they_include(self, ledger: Ledger) -> None:
        prompts = Prompts(ledger)
        rules = await prompts.create(PromptTemplate(name="rules", template="Cite what you use."), **WHO)
        tone = await prompts.create(
            PromptTemplate(
                name="tone",
                template='Be kind. {% include "rules" %}',
                includes={"rules": f"rules@{rules.prompt_version}"},
            ),
            **WHO,
        )
        given = PromptTemplate(
            name="whole",
            template='{% include "tone" %} {{ question }}',
            includes={"tone": f"tone@{tone.prompt_version}"},
            tests=(PromptTest(name="all there", contains=("Be kind. Cite what you use.",)),),
        )
        whole = await prompts.create(given, **WHO)
        assert dict(whole.included) == {"tone": tone.template, "rules": rules.template}
        assert await prompts.get(f"whole@{whole.prompt_version}") == whole

    async def test_pieces_that_cannot_be_put_in_are_named(self, ledger: Ledger) -> None:
        prompts = Prompts(ledger)
        one = await prompts.create(PromptTemplate(name="one", template="1"), **WHO)
        two = await prompts.create(PromptTemplate(name="two", template="2"), **WHO)
        nested = await prompts.create(
            PromptTemplate(
                name="nested", template='{% include "piece" %}', includes={"piece": f"one@{one.prompt_version}"}
            ),
            **WHO,
        )
        with pytest.raises(Invalid) as raised:
            await prompts.create(
                PromptTemplate(
                    name="broken",
                    template="{{ question }}",
                    includes={
                        "gone": "one@p-000000000000",
                        "moving": "one@production",
                        "odd": "nothing",
                        "nested": f"nested@{nested.prompt_version}",
                        "piece": f"two@{two.prompt_version}",
                    },
                ),
                **WHO,
            )
        for said in (
            "includes.gone: there is no prompt one@p-000000000000",
            "includes.moving: one@production is a label",
            "includes.odd: is 'nothing'",
            "mean different pieces by 'piece'",
        ):
            assert said in raised.value.problem, said
        with pytest.raises(Invalid, match="itself includes another piece as 'piece': a cycle"):
            await prompts.create(
                PromptTemplate(
                    name="cycle",
                    template='{% include "piece" %}',
                    includes={"piece": f"nested@{nested.prompt_version}"},
                ),
                **WHO,
            )

    async def test_everything_wrong_with_a_prompt_is_named_at_once(self, ledger: Ledger) -> None:
        wrong = replace(
            SUPPORT,
            name="Support!",
            system="{{ nobody }}",
            template="{% for %}",
            variables={"type": "object", "properties": {"product": {"type": "sting"}}},
            temperature=3.0,
        )
        with pytest.raises(Invalid) as raised:
            await Prompts(ledger).create(wrong, **WHO)
        for field in ("name: ", "system: ", "template: ", "variables: ", "temperature: "):
            assert field in raised.value.problem, field
        with pytest.raises(Invalid, match="test 'names it': does not contain 'for Kettle'"):
            await Prompts(ledger).create(replace(SUPPORT, system="Hello."), **WHO)
        with pytest.raises(Invalid, match=r"test 'names it': .*product"):
            await Prompts(ledger).create(replace(SUPPORT, tests=(PromptTest(name="names it"),)), **WHO)
        with pytest.raises(Invalid, match="characters"):
            await Prompts(ledger).create(replace(SUPPORT, template="x" * 5_000_000), **WHO)

    async def test_a_label_moves_by_compare_and_swap_and_back(self, ledger: Ledger) -> None:
        prompts = Prompts(ledger)
        one = (await prompts.create(SUPPORT, **WHO)).prompt_version
        two = (await prompts.create(replace(SUPPORT, temperature=0.7), **WHO)).prompt_version

        async def move(version: str, expected: int) -> PromptLabel:
            return await prompts.move("support", "production", version, expected_revision=expected, **WHO)

        async def back(to: int = 0) -> tuple[str, int]:
            label = await prompts.rollback("support", "production", to_revision=to, **WHO)
            return label.prompt_version, label.revision

        with pytest.raises(NotFound, match="there is no label support@production"):
            await back()
        assert (await move(one, 0)).revision == 1
        with pytest.raises(NotFound, match="never meant another version"):
            await back()
        assert (await move(two, 1)).revision == 2
        with pytest.raises(Conflict, match="is at revision 2, not at 1"):
            await move(one, 1)
        assert (await prompts.get("support@production")).prompt_version == two
        assert await back() == (one, 3)
        assert await back() == (two, 4)
        assert await back(to=1) == (one, 5)
        with pytest.raises(NotFound, match="has no revision 9"):
            await back(to=9)
        with pytest.raises(NotFound, match="there is no prompt"):
            await move("p-000000000000", 5)
        await prompts.move("support", "canary", two, expected_revision=0, **WHO)
        assert [(label.label, label.prompt_version) for label in await prompts.labels("support")] == [
            ("canary", two),
            ("production", one),
        ]
        assert len(await prompts.labels()) == 2
        for name, label in (("Support", "production"), ("support", "Production"), ("support", "p-0123456789ab")):
            with pytest.raises(Invalid):
                await prompts.move(name, label, one, expected_revision=0, **WHO)

    async def test_the_gate_holds_a_version_to_the_tests_and_variables_of_the_present_one(self, ledger: Ledger) -> None:
        prompts = Prompts(ledger)
        one = await prompts.create(SUPPORT, **WHO)
        await prompts.move("support", "production", one.prompt_version, expected_revision=0, **WHO)
        asking = await prompts.create(
            replace(
                SUPPORT,
                system="{{ tone }}",
                models=(),
                variables={
                    "type": "object",
                    "properties": {"tone": {"type": "string"}, "extra": {"type": "string", "default": "x"}},
                    "required": ["tone", "extra"],
                },
                tests=(),
            ),
            **WHO,
        )
        with pytest.raises(GateClosed) as raised:
            await prompts.move("support", "production", asking.prompt_version, expected_revision=1, **WHO)
        assert f"variables.tone: is asked for, but {one.prompt_version} does not have it" in raised.value.problem
        assert f"test 'names it' of {one.prompt_version}:" in raised.value.problem
        assert "extra" not in raised.value.problem.partition(";")[0]
        # Under another label, nobody relies on anything yet; and what served before may serve again.
        await prompts.move("support", "next", asking.prompt_version, expected_revision=0, **WHO)

    async def test_of_two_who_move_a_label_at_once_one_wins(self, ledger: Ledger) -> None:
        prompts = Prompts(ledger)
        one = (await prompts.create(SUPPORT, **WHO)).prompt_version

        async def attempt() -> int:
            try:
                return (await prompts.move("support", "production", one, expected_revision=0, **WHO)).revision
            except Conflict:
                return 0

        assert sorted(await asyncio.gather(*(attempt() for _ in range(5)))) == [0, 0, 0, 0, 1]


class TestPromptsInMemory(PromptsContract):
    @pytest.fixture
    def ledger(self) -> Ledger:
        return MemoryLedger()


class TestPromptsInSql(PromptsContract):
    @pytest.fixture
    def ledger(self, database: Database) -> Ledger:
        return SqlLedger(database, encode=encoded)


def test_a_message_and_its_prompt_say_the_same() -> None:
    whole = replace(SUPPORT, prompt_version="p-1", description="d", includes={"a": "b"}, included={"a": "text"})
    message = prompt_message(whole)
    assert {field.name for field in message.DESCRIPTOR.fields} == {field.name for field, _ in message.ListFields()}
    assert prompt_from(message) == replace(whole, included={})
    assert prompt_message(whole, included=False).included == {}


async def test_a_prompt_is_created_labelled_tested_and_told_before_its_label(served: Any) -> None:
    request = pb.CreatePromptRequest(prompt=prompt_message(SUPPORT), **WHO)
    made = (await served.prompts.CreatePrompt(request, timeout=5)).prompt
    move = pb.SetPromptLabelRequest(name="support", label="production", prompt_version=made.prompt_version, **WHO)
    label = (await served.prompts.SetPromptLabel(move, timeout=5)).label
    events_ = served.bus.published
    await poll_until(lambda: len(events_(topics.REGISTRY_PROMPT_CHANGED)) == 2)
    assert [(event.key, event.message) for event in events_(topics.REGISTRY_PROMPT_CHANGED)] == [
        (f"prompt/support/{made.prompt_version}", prompts_pb.PromptChanged(prompt=made)),
        ("label/support/production", prompts_pb.PromptChanged(label=label)),
    ]
    get = pb.GetPromptRequest(prompt="support@production")
    assert (await served.prompts.GetPrompt(get, timeout=5)).prompt == made
    tested = await served.prompts.TestPrompt(pb.TestPromptRequest(prompt="support@production"), timeout=5)
    assert [(one.name, one.passed) for one in tested.results] == [("names it", True)]
    assert "You answer for Kettle." in tested.results[0].rendered
    listed = await served.prompts.ListPrompts(pb.ListPromptsRequest(name="support"), timeout=5)
    assert list(listed.prompts) == [made]
    labels = await served.prompts.ListPromptLabels(pb.ListPromptLabelsRequest(), timeout=5)
    assert list(labels.labels) == [label]
    changes = await served.registry.ListChanges(registry_pb.ListChangesRequest(subject="support@production"), timeout=5)
    assert [change.what for change in changes.changes] == [f"moved to {made.prompt_version}"]


async def test_a_gate_that_is_closed_says_which_tests_fail(served: Any) -> None:
    versions = []
    for prompt in (SUPPORT, replace(SUPPORT, system="{{ product }}", tests=())):
        request = pb.CreatePromptRequest(prompt=prompt_message(prompt), **WHO)
        versions.append((await served.prompts.CreatePrompt(request, timeout=5)).prompt.prompt_version)
    words: dict[str, Any] = {"name": "support", "label": "production", **WHO}
    await served.prompts.SetPromptLabel(pb.SetPromptLabelRequest(prompt_version=versions[0], **words), timeout=5)
    second = pb.SetPromptLabelRequest(prompt_version=versions[1], expected_revision=1, **words)
    with pytest.raises(AioRpcError, match="test 'names it'") as raised:
        await served.prompts.SetPromptLabel(second, timeout=5)
    assert raised.value.code() == StatusCode.FAILED_PRECONDITION


@pytest.mark.parametrize(
    ("method", "request_", "code"),
    [
        ("GetPrompt", pb.GetPromptRequest(prompt="support"), "INVALID_ARGUMENT"),
        ("GetPrompt", pb.GetPromptRequest(prompt="support@production"), "NOT_FOUND"),
        ("TestPrompt", pb.TestPromptRequest(prompt="support@p-0123456789ab"), "NOT_FOUND"),
        ("CreatePrompt", pb.CreatePromptRequest(prompt=prompt_message(SUPPORT)), "INVALID_ARGUMENT"),
        ("RollbackPromptLabel", pb.RollbackPromptLabelRequest(name="a", label="b", **WHO), "NOT_FOUND"),
    ],
)
async def test_what_cannot_be_is_refused_with_its_code(served: Any, method: str, request_: Any, code: str) -> None:
    with pytest.raises(AioRpcError) as raised:
        await getattr(served.prompts, method)(request_, timeout=5)
    assert raised.value.code() == StatusCode[code]
    assert served.bus.published(topics.REGISTRY_PROMPT_CHANGED) == []


async def test_a_number_that_json_does_not_have_is_refused(served: Any) -> None:
    prompt = prompt_message(SUPPORT)
    prompt.variables.CopyFrom(Struct())
    prompt.variables.fields["x"].number_value = float("nan")
    with pytest.raises(AioRpcError, match=r"prompt\.variables"):
        await served.prompts.CreatePrompt(pb.CreatePromptRequest(prompt=prompt, **WHO), timeout=5)


async def test_a_template_that_would_run_for_ever_holds_up_nobody(served: Any) -> None:
    loops = "".join(f"{{% for {name} in range(9999) %}}" for name in "abc")
    endless = f"{loops}x{'{% endfor %}' * 3}"
    prompt = prompt_message(replace(SUPPORT, template=endless, models=(), tests=SUPPORT.tests))
    began = time.monotonic()
    with pytest.raises(AioRpcError) as raised:
        await served.prompts.CreatePrompt(pb.CreatePromptRequest(prompt=prompt, **WHO), timeout=10)
    assert raised.value.code() == StatusCode.INVALID_ARGUMENT
    assert time.monotonic() - began < 5


async def test_a_variant_names_a_prompt_that_exists_and_lineage_walks_to_it(served: Any) -> None:
    variant = events.Variant()
    variant.retrieval.alpha, variant.retrieval.top_k = 0.5, 5
    variant.generation.prompt_ref = "support@production"
    create = registry_pb.CreateVariantRequest(variant=variant, **WHO)
    with pytest.raises(AioRpcError, match=r"variant\.generation\.prompt_ref") as raised:
        await served.registry.CreateVariant(create, timeout=5)
    assert raised.value.code() == StatusCode.NOT_FOUND
    request = pb.CreatePromptRequest(prompt=prompt_message(SUPPORT), **WHO)
    version = (await served.prompts.CreatePrompt(request, timeout=5)).prompt.prompt_version
    move = pb.SetPromptLabelRequest(name="support", label="production", prompt_version=version, **WHO)
    await served.prompts.SetPromptLabel(move, timeout=5)
    created = (await served.registry.CreateVariant(create, timeout=5)).variant
    assert created.generation.prompt_ref == "support@production"
    chain = await served.registry.GetLineage(registry_pb.GetLineageRequest(id=created.variant_id), timeout=5)
    assert {(node.kind, node.id) for node in chain.nodes} == {
        ("variant", created.variant_id),
        ("label", "support@production"),
        ("prompt", f"support@{version}"),
    }


async def test_a_registry_that_is_opened_again_tells_prompts_before_their_labels() -> None:
    ledger = MemoryLedger()
    await OpenRegistry(ledger)()
    prompts = Prompts(ledger)
    one = await prompts.create(SUPPORT, **WHO)
    label = await prompts.move("support", "production", one.prompt_version, expected_revision=0, **WHO)
    ledger.books.told.clear()
    await OpenRegistry(ledger)()
    told = [told for told in ledger.told if isinstance(told, (StoredPrompt, PromptLabel))]
    assert [type(one) for one in told] == [StoredPrompt, PromptLabel]
    assert told[1] == label
