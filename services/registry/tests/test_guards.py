"""Guardrail policies: declared, inherited, attached, told."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml
from grpc import StatusCode
from grpc.aio import AioRpcError
from hypothesis import given
from hypothesis import strategies as st

from anabranch import topics
from anabranch.registry.v1 import events_pb2 as events
from anabranch.registry.v1 import guards_pb2 as guards
from anabranch.registry.v1 import policy_service_pb2 as pb
from anabranch.registry.v1 import prompt_service_pb2 as prompt_rpc
from anabranch.registry.v1 import prompts_pb2 as prompts_pb
from anabranch.registry.v1 import registry_service_pb2 as registry_pb
from anabranch.registry.v1.policy_service_pb2_grpc import PolicyServiceStub
from anabranch.registry.v1.prompt_service_pb2_grpc import PromptServiceStub
from anabranch_bus import BusSettings, KafkaBus
from anabranch_faults import Conflict, Invalid, NotFound, TooLarge
from anabranch_registry.adapters.ledger import SqlLedger
from anabranch_registry.adapters.patterns import problem_of
from anabranch_registry.application import GuardPolicies, Ledger, OpenRegistry
from anabranch_registry.bootstrap import build
from anabranch_registry.domain.guards import Attachment, GuardPolicy, inherited
from anabranch_registry.entrypoints.kafka import encoded
from anabranch_registry.entrypoints.policies import guards_from_yaml
from anabranch_registry.settings import Settings
from anabranch_registry.testing import MemoryLedger
from anabranch_rpc import connect
from anabranch_runtime import Process
from anabranch_store import Database
from anabranch_testkit import poll_until

WHO: dict[str, Any] = {"author": "ada", "reason": "because"}
STRICT = """
name: strict
rules:
  - {check: injection, stage: input, threshold: 0.6, action: block, on_failure: closed}
  - {check: pii, stage: STAGE_OUTPUT, action: VERDICT_REDACT, options: {kinds: [EMAIL]}}
  - {check: patterns, stage: input, action: flag, options: {patterns: {ticket: 'T-\\d+'}}}
allow:
  - {check: pii, text: support@acme.example, reason: printed on every page}
anonymise: [EMAIL]
mark_passages: true
canary: true
hold_back: 0.060s
"""


async def create(policies: GuardPolicies, text: str) -> GuardPolicy:
    document, faults = guards_from_yaml(text)
    return await policies.create(document, faults=faults, **WHO)


def policies_on(ledger: Ledger) -> GuardPolicies:
    return GuardPolicies(ledger, problem_of)


def rules_of(policy: GuardPolicy) -> list[tuple[str, str]]:
    return [(rule["check"], rule["stage"]) for rule in policy.document["rules"]]


rules = st.lists(
    st.fixed_dictionaries(
        {
            "check": st.sampled_from(["injection", "pii", "secrets"]),
            "stage": st.sampled_from(["STAGE_INPUT", "STAGE_CONTEXT"]),
            "action": st.sampled_from(["VERDICT_BLOCK", "VERDICT_FLAG"]),
            "disabled": st.booleans(),
        }
    ),
    unique_by=lambda rule: (rule["check"], rule["stage"]),
)


@given(rules.map(lambda all_: [rule | {"disabled": False} for rule in all_]), rules)
def test_of_each_check_and_stage_one_rule_holds_and_it_is_the_childs(
    parents: list[dict[str, Any]], own: list[dict[str, Any]]
) -> None:
    document, faults = inherited({"rules": own}, {"rules": parents})
    found = {(rule["check"], rule["stage"]): rule for rule in document.get("rules", ())}
    before = {(rule["check"], rule["stage"]): rule for rule in parents}
    said = {(rule["check"], rule["stage"]): rule for rule in own}
    assert len(found) == len(document.get("rules", ()))
    assert found == {place: rule for place, rule in {**before, **said}.items() if not rule["disabled"]}
    assert [place for place in before if place in found] == [place for place in found if place in before]
    assert len(faults) == sum(rule["disabled"] and place not in before for place, rule in said.items())


class GuardsContract:
    async def test_the_same_content_is_one_policy_and_other_words_about_it_change_nothing(self, ledger: Ledger) -> None:
        policies = policies_on(ledger)
        first = await create(policies, STRICT)
        assert first.policy_version.startswith("gp-")
        assert (await create(policies, STRICT + "description: other words\n")).document == first.document
        assert await policies.get(first.policy_version) == first
        assert (await policies.list())[0] == [first]
        assert (await create(policies, STRICT.replace("0.6,", "0.7,"))).policy_version != first.policy_version

    async def test_a_policy_inherits_and_what_it_says_itself_holds(self, ledger: Ledger) -> None:
        policies = policies_on(ledger)
        parent = await create(policies, STRICT)
        child = await create(
            policies,
            f"""
            name: lenient
            inherits: {parent.policy_version}
            canary: false
            anonymise: []
            rules:
              - {{check: toxicity, stage: input, action: review, shadow: true}}
              - {{check: pii, stage: output, disabled: true}}
              - {{check: injection, stage: input, threshold: 0, action: flag}}
            allow:
              - {{check: secrets, pattern: 'test_[a-z]+'}}
              - {{check: pii, text: support@acme.example, reason: printed on every page}}
            """,
        )
        document = child.document
        assert rules_of(child) == [
            ("injection", "STAGE_INPUT"),
            ("patterns", "STAGE_INPUT"),
            ("toxicity", "STAGE_INPUT"),
        ]
        assert document["rules"][0] == {
            "check": "injection",
            "stage": "STAGE_INPUT",
            "threshold": 0,
            "action": "VERDICT_FLAG",
        }
        assert [entry.get("check") for entry in document["allow"]] == ["pii", "secrets"]
        assert (document["mark_passages"], document["hold_back"]) == (True, "0.060s")
        assert not {"canary", "anonymise"} & document.keys()
        assert document["inherits"] == parent.policy_version
        again = await policies.create(
            {**document, "policy_version": ""} | {"rules": document["rules"], "inherits": ""}, **WHO
        )
        assert again.policy_version != child.policy_version, "where it came from is part of it"

    async def test_a_version_that_is_claimed_must_be_right(self, ledger: Ledger) -> None:
        policies = policies_on(ledger)
        first = await create(policies, STRICT)
        assert await create(policies, f"{STRICT}policy_version: {first.policy_version}\n") == first
        with pytest.raises(Invalid, match=f"the content makes it {first.policy_version}"):
            await create(policies, f"{STRICT}policy_version: gp-000000000000\n")

    async def test_a_scope_moves_by_compare_and_swap_and_knows_its_way_back(self, ledger: Ledger) -> None:
        policies = policies_on(ledger)
        one = (await create(policies, STRICT)).policy_version
        other = (await create(policies, STRICT.replace("0.6,", "0.7,"))).policy_version

        async def attach(version: str, expected: int) -> Attachment:
            return await policies.attach("acme/docs", version, expected_revision=expected, **WHO)

        with pytest.raises(NotFound):
            await policies.attachment("acme/docs")
        assert (await attach(one, 0)).previous_version == ""
        assert (await attach(other, 1)).previous_version == one
        with pytest.raises(Conflict, match="is at revision 2, not at 1"):
            await attach(one, 1)
        # Telling the same again is no step that one could want to go back from.
        assert (await attach(other, 2)).previous_version == one
        back = await attach(one, 3)
        assert (back.policy_version, back.previous_version, back.revision) == (one, other, 4)
        detached = await attach("", 4)
        assert (detached.policy_version, detached.previous_version) == ("", one)
        assert await policies.attachment("acme/docs") == detached
        with pytest.raises(NotFound, match="there is no policy"):
            await attach("gp-000000000000", 5)
        with pytest.raises(Invalid, match="scope"):
            await policies.attach("a/b/c", one, expected_revision=0, **WHO)

    async def test_of_two_who_attach_at_once_one_wins(self, ledger: Ledger) -> None:
        policies = policies_on(ledger)
        one = (await create(policies, STRICT)).policy_version

        async def attempt() -> int:
            try:
                return (await policies.attach("acme", one, expected_revision=0, **WHO)).revision
            except Conflict:
                return 0

        assert sorted(await asyncio.gather(*(attempt() for _ in range(5)))) == [0, 0, 0, 0, 1]


class TestInMemory(GuardsContract):
    @pytest.fixture
    def ledger(self) -> Ledger:
        return MemoryLedger()


class TestInSql(GuardsContract):
    @pytest.fixture
    def ledger(self, database: Database) -> Ledger:
        return SqlLedger(database, encode=encoded)


async def test_every_fault_of_a_policy_is_named_at_once() -> None:
    text = """
        name: "no name"
        nmae: typo
        hold_back: 60s
        anonymise: [email]
        rules:
          - {check: injektion, stage: input, action: block}
          - {check: injection, stage: output, action: block}
          - {check: pii, stage: nowhere, action: block, thresold: 1}
          - {check: pii, stage: output, action: explode}
          - {check: pii, stage: output, threshold: 1.5, action: redact, timeout: 0s, on_failure: ajar}
          - {check: patterns, stage: input, action: block, options: {patterns: ['(', '(?=x)', 'fine']}}
          - {check: patterns, stage: output, action: block}
          - {check: length, stage: input, action: block, options: {characters: many, words: 7}}
          - {check: markup, stage: output, disabled: true}
        allow:
          - {reason: nothing}
          - {check: nothing, pattern: '['}
          - {text: a, pattern: b}
        """
    with pytest.raises(Invalid) as raised:
        await create(policies_on(MemoryLedger()), text)
    for said in (
        "name: 'no name' is not",
        "nmae: there is no such setting",
        "hold_back: is 60s; allowed is more than 0 s, up to 5 s",
        "anonymise[0]: 'email' is no kind",
        "rules[0].check: there is no check 'injektion'",
        "rules[1].stage: injection cannot look at output, but at input, context, ingestion",
        "rules[2].stage: 'nowhere'",
        "rules[2].thresold: there is no such setting",
        "rules[3].action: 'explode'",
        "rules[4].threshold: is 1.5; allowed is 0 to 1",
        "rules[4].timeout: is 0s",
        "rules[4].on_failure: 'ajar'",
        "rules[4]: pii at output is there twice",
        "rules[5].options.patterns[0]: '('",
        "rules[5].options.patterns[1]: '(?=x)'",
        "rules[6].options.patterns: is missing",
        "rules[7].options.characters: 'many' is no integer",
        "rules[7].options.words: there is no such option; there are characters",
        "rules[8].disabled: takes off nothing",
        "allow[0]: allows nothing",
        "allow[1].check: there is no check 'nothing'",
        "allow[1].pattern: '['",
        "allow[2]: has text and pattern",
    ):
        assert said in raised.value.problem, said
    assert "patterns[2]" not in raised.value.problem
    assert "rules[3].action: is missing" not in raised.value.problem, "one fault is told once"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("- a list", "is no mapping"),
        ("name: [", "is not YAML"),
        ("a: &a [x]\nb: [*a, *a]", "aliases are not allowed"),
        ("name: a\nrules: []\nrules: []", "the key 'rules' is there twice"),
        ("name: a\nrules: [{check: pii, check: pii}]", "the key 'check' is there twice"),
        ("name: !!python/object/apply:os.system [id]", "is not YAML"),
        ("[" * 100_000, "is nested deeper"),
        ("name: a\nrules: [{check: pii, stage: input, action: flag, threshold: .nan}]", "threshold"),
        ("name: a\nrules: [{check: schema, stage: output, action: flag, options: {schema: {x: .inf}}}]", "options"),
        ("name: a\nallow: [{text: 2026-11-21}]", "allow[0].text"),
        ("name: a\ninherits: gp-000000000000", "inherits: there is no policy"),
        ("", "name"),
    ],
)
async def test_what_is_no_policy_is_refused(text: str, problem: str) -> None:
    with pytest.raises(Invalid) as raised:
        await create(policies_on(MemoryLedger()), text)
    assert problem in str(raised.value)


async def test_a_policy_that_is_too_large_is_refused() -> None:
    with pytest.raises(TooLarge):
        guards_from_yaml("name: a\ndescription: " + "x" * (256 << 10))
    many = {"name": "a", "allow": [{"text": f"t{number}"} for number in range(2_001)]}
    with pytest.raises(Invalid, match="allow: has 2,001 entries; the limit is 2,000"):
        await create(policies_on(MemoryLedger()), yaml.safe_dump(many))


async def test_a_pattern_that_would_explode_elsewhere_is_fine_for_re2() -> None:
    assert problem_of("(a+)+$") == ""
    assert problem_of("(a*)*b{1,1000}") == ""
    assert problem_of(r"(\w+)\1") != ""
    assert "repetition" in problem_of("a{100000}")


async def test_a_policy_is_created_attached_and_told_before_the_scope_that_has_it(served: Any) -> None:
    made = (await served.policies.CreatePolicy(pb.CreatePolicyRequest(yaml=STRICT, **WHO), timeout=5)).policy
    assert made.rules[0].threshold == 0.6
    assert made.hold_back.nanos == 60_000_000
    request = pb.AttachPolicyRequest(scope="acme", policy_version=made.policy_version, **WHO)
    attached = (await served.policies.AttachPolicy(request, timeout=5)).attachment
    read = await served.policies.GetAttachment(pb.GetAttachmentRequest(scope="acme"), timeout=5)
    assert read.attachment == attached

    def told() -> list[str]:
        return [event.key for event in served.bus.published(topics.REGISTRY_POLICY_CHANGED)]

    await poll_until(lambda: told() == [f"version/{made.policy_version}", "scope/acme"])
    first, second = (event.message for event in served.bus.published(topics.REGISTRY_POLICY_CHANGED))
    assert (first, second) == (guards.PolicyChanged(policy=made), guards.PolicyChanged(attachment=attached))
    page = await served.policies.ListPolicies(pb.ListPoliciesRequest(), timeout=5)
    assert list(page.policies) == [made]
    changes = await served.registry.ListChanges(registry_pb.ListChangesRequest(scope="acme"), timeout=5)
    assert changes.changes[0].what == f"attached {made.policy_version}"


@pytest.mark.parametrize(
    ("method", "request_", "code"),
    [
        ("CreatePolicy", pb.CreatePolicyRequest(yaml="name: a\nrules: 7", **WHO), "INVALID_ARGUMENT"),
        ("CreatePolicy", pb.CreatePolicyRequest(yaml="name: a"), "INVALID_ARGUMENT"),
        ("GetPolicy", pb.GetPolicyRequest(policy_version="gp-000000000000"), "NOT_FOUND"),
        ("GetAttachment", pb.GetAttachmentRequest(scope="acme"), "NOT_FOUND"),
        ("AttachPolicy", pb.AttachPolicyRequest(scope="acme", expected_revision=3, **WHO), "ABORTED"),
    ],
)
async def test_what_cannot_be_is_refused_and_told_to_nobody(served: Any, method: str, request_: Any, code: str) -> None:
    with pytest.raises(AioRpcError) as raised:
        await getattr(served.policies, method)(request_, timeout=5)
    assert raised.value.code() == StatusCode[code]
    assert served.bus.published(topics.REGISTRY_POLICY_CHANGED) == []


async def test_a_variant_names_a_policy_that_exists_and_lineage_walks_to_it(served: Any) -> None:
    variant = events.Variant(policy_version="gp-000000000000")
    variant.retrieval.alpha, variant.retrieval.top_k = 0.5, 5
    with pytest.raises(AioRpcError, match=r"variant\.policy_version") as raised:
        await served.registry.CreateVariant(registry_pb.CreateVariantRequest(variant=variant, **WHO), timeout=5)
    assert raised.value.code() == StatusCode.NOT_FOUND
    made = (await served.policies.CreatePolicy(pb.CreatePolicyRequest(yaml=STRICT, **WHO), timeout=5)).policy
    variant.policy_version = made.policy_version
    request = registry_pb.CreateVariantRequest(variant=variant, **WHO)
    created = (await served.registry.CreateVariant(request, timeout=5)).variant
    chain = await served.registry.GetLineage(registry_pb.GetLineageRequest(id=created.variant_id), timeout=5)
    assert {(node.kind, node.id) for node in chain.nodes} == {
        ("variant", created.variant_id),
        ("policy", made.policy_version),
    }


async def test_a_registry_that_is_opened_again_tells_policies_before_the_scopes_that_have_them() -> None:
    ledger = MemoryLedger()
    await OpenRegistry(ledger)()
    policies = policies_on(ledger)
    policy = await create(policies, STRICT)
    attached = await policies.attach("*", policy.policy_version, expected_revision=0, **WHO)
    ledger.books.told.clear()
    await OpenRegistry(ledger)()
    assert [told for told in ledger.told if isinstance(told, (GuardPolicy, Attachment))] == [policy, attached]


@pytest.mark.connected
async def test_on_a_real_broker_what_is_meant_is_told_before_what_means_it(
    kafka: str, tmp_path: Path, unique: Any
) -> None:
    settings, tenant = Settings(data=tmp_path, kafka=kafka), unique("t")
    outside = KafkaBus(BusSettings(bootstrap=kafka))
    keys: list[str] = []

    async def on_change(key: str, _: Any) -> None:
        keys.append(key)

    for topic in (topics.REGISTRY_POLICY_CHANGED, topics.REGISTRY_PROMPT_CHANGED):
        register: Any = outside.table(topic)
        register(on_change)
    process = Process(settings, name="registry")
    await process.start(build(settings, bus=KafkaBus(BusSettings(bootstrap=kafka))))
    await outside.start()
    channel = connect(process.addresses["rpc"])
    try:
        policies: Any = PolicyServiceStub(channel)
        text = STRICT + f"description: {tenant}\nblocked_message: {tenant}\n"
        made = (await policies.CreatePolicy(pb.CreatePolicyRequest(yaml=text, **WHO), timeout=5)).policy
        attach = pb.AttachPolicyRequest(scope=tenant[:64], policy_version=made.policy_version, **WHO)
        await policies.AttachPolicy(attach, timeout=5)
        prompts: Any = PromptServiceStub(channel)
        prompt = prompts_pb.PromptTemplate(name=tenant, template="{{ question }}")
        kept = (await prompts.CreatePrompt(prompt_rpc.CreatePromptRequest(prompt=prompt, **WHO), timeout=5)).prompt
        move = prompt_rpc.SetPromptLabelRequest(
            name=tenant, label="production", prompt_version=kept.prompt_version, **WHO
        )
        await prompts.SetPromptLabel(move, timeout=5)
        wanted = [f"version/{made.policy_version}", f"scope/{tenant[:64]}"]
        labelled = [f"prompt/{tenant}/{kept.prompt_version}", f"label/{tenant}/production"]
        await poll_until(lambda: {*wanted, *labelled} <= set(keys), deadline=20)
        assert [key for key in keys if key in wanted] == wanted
        assert [key for key in keys if key in labelled] == labelled
    finally:
        await channel.close()
        await outside.stop()
        await process.stop()
