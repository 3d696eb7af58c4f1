from __future__ import annotations

import pytest

from anabranch_faults import Conflict, Invalid, NotFound
from anabranch_registry.application import (
    CreateVariant,
    GetRouting,
    GetVariant,
    ListVariants,
    OpenRegistry,
    SetRouting,
)
from anabranch_registry.domain import RetrievalSettings, Variant
from anabranch_registry.domain.defaults import DEFAULT_VARIANT
from anabranch_registry.testing import MemoryLedger

WHO = {"author": "ada", "reason": "because"}


def variant(top_k: int) -> Variant:
    return Variant(description=str(top_k), retrieval=RetrievalSettings(alpha=0.5, top_k=top_k))


async def test_the_same_bundle_twice_is_one_variant() -> None:
    ledger = MemoryLedger()
    first = await CreateVariant(ledger)(variant(1), **WHO)
    again = await CreateVariant(ledger)(Variant(description="other words", retrieval=first.retrieval), **WHO)
    assert again == first
    assert (await ListVariants(ledger)())[0] == [first]


async def test_a_variant_is_found_by_its_id() -> None:
    ledger = MemoryLedger()
    created = await CreateVariant(ledger)(variant(1), **WHO)
    assert await GetVariant(ledger)(created.variant_id) == created
    with pytest.raises(NotFound, match="variant_id: there is no variant v-000000000000"):
        await GetVariant(ledger)("v-000000000000")
    with pytest.raises(Invalid, match="is not a variant's id"):
        await GetVariant(ledger)("default")


async def test_pages_hold_every_variant_once_newest_first() -> None:
    ledger = MemoryLedger()
    for top_k in range(1, 8):
        await CreateVariant(ledger)(variant(top_k), **WHO)
    found, token, pages = [], "", 0
    while pages == 0 or token:
        page, token = await ListVariants(ledger)(page_size=3, page_token=token)
        found += [one.retrieval.top_k for one in page]
        pages += 1
    assert found == [7, 6, 5, 4, 3, 2, 1]
    assert pages == 3


async def test_a_last_page_that_is_full_has_no_following() -> None:
    ledger = MemoryLedger()
    await CreateVariant(ledger)(variant(1), **WHO)
    assert (await ListVariants(ledger)(page_size=1))[1] == ""


@pytest.mark.parametrize("token", ["x", "!!!", "dmFyaWFudHM6LTE", "cm91dGluZ3M6Mw", "dmFyaWFudHM6", "ä"])
async def test_a_token_from_elsewhere_is_refused(token: str) -> None:
    with pytest.raises(Invalid) as raised:
        await ListVariants(MemoryLedger())(page_token=token)
    assert raised.value.field == "page_token"


async def test_a_page_size_out_of_range_is_refused() -> None:
    with pytest.raises(Invalid, match="page_size: is 101; allowed is 1 to 100"):
        await ListVariants(MemoryLedger())(page_size=101)


async def test_routing_moves_only_from_the_revision_its_caller_has_seen() -> None:
    ledger = MemoryLedger()
    one = (await CreateVariant(ledger)(variant(1), **WHO)).variant_id
    other = (await CreateVariant(ledger)(variant(2), **WHO)).variant_id
    move = SetRouting(ledger)
    assert (await move("t/c", {one: 1}, expected_revision=0, **WHO)).revision == 1
    assert (await move("t/c", {one: 9, other: 1}, expected_revision=1, **WHO)).revision == 2
    for stale in (0, 1, 3):
        with pytest.raises(Conflict):
            await move("t/c", {one: 1}, expected_revision=stale, **WHO)
    routing = await GetRouting(ledger)("t/c")
    assert {share.variant.variant_id: share.weight for share in routing.shares} == {one: 9, other: 1}
    assert (routing.change.author, routing.change.reason) == ("ada", "because")
    assert [told.revision for told in ledger.told] == [1, 2]


async def test_a_scope_without_routing_of_its_own_is_not_found() -> None:
    with pytest.raises(NotFound, match="scope: t has no routing of its own"):
        await GetRouting(MemoryLedger())("t")


async def test_a_new_registry_routes_everyone_to_the_default_variant() -> None:
    ledger = MemoryLedger()
    await OpenRegistry(ledger)()
    assert await GetVariant(ledger)(DEFAULT_VARIANT.variant_id) == DEFAULT_VARIANT
    (told,) = ledger.told
    assert (told.scope, told.revision, told.shares[0].variant) == ("*", 1, DEFAULT_VARIANT)


async def test_a_registry_that_is_opened_again_changes_nothing_and_tells_it_once_more() -> None:
    ledger = MemoryLedger()
    await OpenRegistry(ledger)()
    created = await CreateVariant(ledger)(variant(9), **WHO)
    await SetRouting(ledger)("*", {created.variant_id: 1}, expected_revision=1, **WHO)
    await OpenRegistry(ledger)()
    assert [told.revision for told in ledger.told] == [1, 2, 2]
    assert (await GetRouting(ledger)("*")).shares[0].variant == created
