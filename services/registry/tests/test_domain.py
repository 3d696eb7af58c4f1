from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch_faults import Invalid, TooLarge
from anabranch_registry.domain import (
    Cascade,
    GenerationSettings,
    Prompt,
    RetrievalSettings,
    Variant,
    checked_change,
    checked_scope,
    checked_weights,
    is_variant_id,
)
from anabranch_registry.domain.defaults import DEFAULT_VARIANT

NOW = datetime(2026, 11, 21, tzinfo=UTC)
FOUND = RetrievalSettings(alpha=0.5, top_k=5)

names = st.text("abc.-0", max_size=6).map(lambda name: f"n{name}" if name else "")
variants = st.builds(
    Variant,
    description=st.text(max_size=5),
    retrieval=st.builds(
        RetrievalSettings,
        alpha=st.floats(0, 1),
        top_k=st.integers(1, 100),
        embedding_version=names,
        reranker_version=names,
        keep_duplicates=st.booleans(),
    ),
    generation=st.builds(
        GenerationSettings,
        backend=st.sampled_from(["", "extractive", "openai", "tensorrt_llm"]),
        model=names,
        adapter=names,
        max_tokens=st.integers(0, 4096),
        temperature=st.floats(0, 2),
        stop=st.lists(st.text(min_size=1, max_size=3), max_size=3).map(tuple),
        seed=st.integers(0, 2**63 - 1),
        context_tokens=st.integers(0, 9000),
        max_sentences=st.integers(0, 20),
        abstain_below=st.floats(0, 1),
        prompt=st.builds(Prompt, system=st.text(max_size=5), template=st.text(max_size=5)),
        prompt_ref=st.sampled_from(["", "support@production", "support@p-0123456789ab"]),
        cascade=st.none()
        | st.builds(
            Cascade, model=names.filter(bool), skip_above=st.floats(0, 1), escalate_below=st.sampled_from([0.0, 0.5, 1])
        ),
    ),
    policy_version=names,
)


@given(variants)
def test_a_variant_comes_back_from_its_canonical_form(variant: Variant) -> None:
    completed = variant.completed()
    back = Variant.from_canonical(completed.canonical(), description=completed.description)
    assert back == completed
    assert back.variant_id == completed.variant_id
    assert is_variant_id(back.variant_id)
    assert back.completed(claimed_id=completed.variant_id) == completed


@given(variants, variants)
def test_variants_share_an_id_only_when_all_but_the_description_is_equal(one: Variant, other: Variant) -> None:
    one, other = one.completed(), other.completed()
    assert (one.variant_id == other.variant_id) == (replace(one, description="") == replace(other, description=""))


def test_the_canonical_form_is_sorted_and_leaves_out_defaults() -> None:
    variant = Variant(description="d", retrieval=FOUND, generation=GenerationSettings(stop=("b", "a")))
    assert variant.canonical() == '{"generation":{"stop":["b","a"]},"retrieval":{"alpha":0.5,"top_k":5}}'


def test_whole_numbers_and_zeros_of_either_sign_are_the_same_numbers() -> None:
    one = Variant(retrieval=RetrievalSettings(alpha=1.0, top_k=5), generation=GenerationSettings(temperature=-0.0))
    other = Variant(retrieval=RetrievalSettings(alpha=1, top_k=5))
    assert one.variant_id == other.variant_id


def test_the_id_of_the_default_variant_stays_what_it_is() -> None:
    # Ids are in answers and feedback for ever: a change here is a change of the canonical form.
    assert DEFAULT_VARIANT.variant_id == "v-3c471763dab6"


def test_the_default_variant_is_what_was_agreed() -> None:
    settings = DEFAULT_VARIANT
    assert (settings.retrieval.alpha, settings.retrieval.top_k) == (0.5, 5)
    assert (settings.generation.backend, settings.generation.max_sentences) == ("extractive", 2)
    assert "[1]" in settings.generation.prompt.system


def test_a_wrong_id_is_refused_and_the_right_one_named() -> None:
    with pytest.raises(Invalid, match=r"variant\.variant_id: is 'v-000000000000', but the content makes it v-"):
        Variant(retrieval=FOUND).completed(claimed_id="v-000000000000")


def test_a_prompt_gets_its_version_from_its_content() -> None:
    prompt = Prompt(system="s", template="t").completed("prompt")
    assert len(prompt.version) == 16
    assert prompt.completed("prompt") == prompt
    assert Prompt(system="st").completed("prompt").version != prompt.version
    assert Prompt().completed("prompt").version == ""
    with pytest.raises(Invalid, match=r"prompt\.version"):
        replace(prompt, system="other").completed("prompt")


@pytest.mark.parametrize(
    ("field", "retrieval", "generation"),
    [
        ("retrieval.alpha", {"alpha": 1.5}, {}),
        ("retrieval.alpha", {"alpha": float("nan")}, {}),
        ("retrieval.top_k", {"top_k": 0}, {}),
        ("retrieval.top_k", {"top_k": 101}, {}),
        ("retrieval.embedding_version", {"embedding_version": "a b"}, {}),
        ("retrieval.reranker_version", {"reranker_version": "x" * 129}, {}),
        ("generation.backend", {}, {"backend": "magic"}),
        ("generation.model", {}, {"model": "\n"}),
        ("generation.max_tokens", {}, {"max_tokens": 32_769}),
        ("generation.temperature", {}, {"temperature": 2.1}),
        ("generation.temperature", {}, {"temperature": float("inf")}),
        ("generation.max_sentences", {}, {"max_sentences": 21}),
        ("generation.abstain_below", {}, {"abstain_below": -0.1}),
        ("generation.stop", {}, {"stop": ("x",) * 17}),
        ("generation.stop[1]", {}, {"stop": ("x", "")}),
        ("generation.stop[0]", {}, {"stop": ("x" * 65,)}),
        ("generation.prompt.system", {}, {"prompt": Prompt(system="x" * 16_385)}),
        ("generation.prompt.template", {}, {"prompt": Prompt(template="x" * 32_769)}),
    ],
)
def test_what_is_out_of_range_is_named_by_its_path(
    field: str, retrieval: dict[str, Any], generation: dict[str, Any]
) -> None:
    variant = Variant(retrieval=replace(FOUND, **retrieval), generation=GenerationSettings(**generation))
    with pytest.raises(Invalid) as raised:
        variant.completed()
    assert raised.value.field == f"variant.{field}"


@pytest.mark.parametrize("scope", ["*", "tenant", "tenant/corpus", "a.b-c_D/1"])
def test_scopes(scope: str) -> None:
    assert checked_scope(scope) == scope


@pytest.mark.parametrize("scope", ["", "a/", "/b", "a/b/c", "a b", "**", "ä", "a" * 65, "a/" + "b" * 129, "a\n"])
def test_what_is_no_scope_is_refused(scope: str) -> None:
    with pytest.raises(Invalid) as raised:
        checked_scope(scope)
    assert raised.value.field == "scope"


def test_weights_are_sorted_and_at_least_one_counts() -> None:
    one, other = "v-aaaaaaaaaaaa", "v-bbbbbbbbbbbb"
    assert list(checked_weights({other: 1, one: 0})) == [one, other]
    for wrong in ({}, {one: 0}, {"default": 1}):
        with pytest.raises(Invalid) as raised:
            checked_weights(wrong)
        assert raised.value.field == "weights"
    with pytest.raises(Invalid) as raised:
        checked_weights({one: 1_000_001})
    assert raised.value.field == f"weights[{one}]"
    with pytest.raises(TooLarge):
        checked_weights({f"v-{n:012x}": 1 for n in range(51)})


def test_author_and_reason_must_be_said() -> None:
    assert checked_change(author=" ada ", reason="why", at=NOW).author == "ada"
    for author, reason, field in (("", "why", "author"), ("ada", " ", "reason"), ("ada", "x" * 2_001, "reason")):
        with pytest.raises(Invalid) as raised:
            checked_change(author=author, reason=reason, at=NOW)
        assert raised.value.field == field


def test_the_canonical_form_is_json_of_plain_values() -> None:
    assert json.loads(DEFAULT_VARIANT.canonical())["generation"]["prompt"]["version"]
