from __future__ import annotations

import pytest

from anabranch_embedding.application import Catalogue, EmbedChunks, EmbedTexts, ListModels
from anabranch_embedding.domain import Text
from anabranch_embedding.testing import FakeEncoder
from anabranch_faults import Invalid, NotFound, Overloaded, TooLarge


def texts(*bodies: str) -> list[Text]:
    return [Text(body=body) for body in bodies]


async def test_texts_are_embedded_with_the_default_unless_a_version_is_named() -> None:
    first, second = FakeEncoder(name="first"), FakeEncoder(name="second")
    embed = EmbedTexts(Catalogue({"one": first, "two": second}))
    for version, name in (("", "first"), ("two", "second"), (second.identity.version, "second"), ("one", "first")):
        identity, _ = await embed(texts("a"), version=version)
        assert identity.name == name


async def test_an_unknown_version_is_not_found_and_the_known_ones_are_named() -> None:
    encoder = FakeEncoder()
    with pytest.raises(NotFound, match=f"fake, {encoder.identity.version}") as raised:
        await EmbedTexts(Catalogue({"fake": encoder}))(texts("a"), version="other")
    assert raised.value.field == "version"


async def test_no_texts_and_too_many_texts_are_refused() -> None:
    embed = EmbedTexts(Catalogue({"fake": FakeEncoder()}))
    with pytest.raises(Invalid, match="texts: is empty"):
        await embed([])
    with pytest.raises(TooLarge, match="257 texts; the limit is 256"):
        await embed(texts(*"a" * 257))
    assert len((await embed(texts(*"a" * 256)))[1]) == 256


async def test_a_few_texts_are_urgent_and_many_are_not() -> None:
    encoder = FakeEncoder()
    embed = EmbedTexts(Catalogue({"fake": encoder}))
    await embed(texts(*"a" * 8))
    await embed(texts(*"a" * 9))
    assert [urgent for _, urgent in encoder.calls] == [True, False]


async def test_chunks_of_all_parts_are_encoded_together_and_come_back_part_by_part() -> None:
    encoder = FakeEncoder()
    parts = [texts("a", "b"), [], texts("c")]
    identity, encoded = await EmbedChunks(Catalogue({"fake": encoder}))(parts)
    assert identity == encoder.identity
    assert [len(part) for part in encoded] == [2, 0, 1]
    assert encoder.calls == [(texts("a", "b", "c"), False)]
    (alone,) = await encoder.encode(texts("c"), urgent=True)
    assert encoded[2][0].vector.tolist() == alone.vector.tolist()


async def test_parts_without_chunks_ask_nothing_of_the_model() -> None:
    encoder = FakeEncoder()
    _, encoded = await EmbedChunks(Catalogue({"fake": encoder}))([[], []])
    assert encoded == [[], []]
    assert encoder.calls == []


async def test_overload_is_passed_on() -> None:
    with pytest.raises(Overloaded):
        await EmbedChunks(Catalogue({"fake": FakeEncoder(fault=Overloaded("full"))}))([texts("a")])


def test_models_are_listed_default_first() -> None:
    models = ListModels(Catalogue({"b": FakeEncoder(name="b"), "a": FakeEncoder(name="a")}))()
    assert [model.name for model in models] == ["b", "a"]


def test_two_encoders_of_one_version_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="same version"):
        Catalogue({"a": FakeEncoder(), "b": FakeEncoder()})
