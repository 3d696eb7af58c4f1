from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch_ingestion.domain.chunking import Chunk
from anabranch_ingestion.domain.documents import BodyKind, Change, DocumentKey, chunk_id, parts_of, request_hash
from anabranch_ingestion.domain.refusals import Refused
from anabranch_ingestion.domain.text import BlockKind

KEY = DocumentKey("acme", "wiki", "a/b/c")


def change(**fields: object) -> Change:
    given = {"key": KEY, "event_id": "e", "record_key": str(KEY), "body": BodyKind.TEXT, "text": "t", **fields}
    return Change(**given)  # type: ignore[arg-type]  # a test names the fields it means


def piece(ordinal: int, text: str) -> Chunk:
    return Chunk(
        ordinal=ordinal,
        start=0,
        end=len(text),
        text=text,
        title_path=(),
        kind=BlockKind.PROSE,
        page=0,
        line=1,
        token_count=1,
        sentences=((0, len(text)),),
    )


def test_a_record_key_is_split_at_its_first_two_slashes() -> None:
    assert DocumentKey.parse("acme/wiki/a/b/c") == KEY
    assert str(KEY) == "acme/wiki/a/b/c"


@pytest.mark.parametrize(
    "key", ["", "a", "a/b", "a/b/", "/b/c", "a b/c/d", "a/b/c\n", "x" * 65 + "/b/c", "a/b/" + "c" * 513]
)
def test_a_record_key_that_names_no_document_is_none(key: str) -> None:
    assert DocumentKey.parse(key) is None


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"deleted": True}, "body"),
        ({"body": BodyKind.NONE}, "body"),
        ({"version": 1 << 63}, "version"),
        ({"title": "t" * 1_025}, "title"),
        ({"metadata": {"Upper": "x"}}, "metadata"),
        ({"metadata": {f"k{n}": "v" for n in range(33)}}, "metadata"),
        ({"metadata": {"k": "v" * 1_025}}, "metadata.k"),
        ({"acl": ("",)}, "acl"),
        ({"source_uri": "u" * 4_097}, "source_uri"),
    ],
)
def test_a_change_that_breaks_its_contract_names_the_field(fields: dict[str, object], field: str) -> None:
    with pytest.raises(Refused) as refused:
        change(**fields).check()
    assert refused.value.field == field


@pytest.mark.parametrize("record_key", ["", "acme/wiki/other", "a"])
def test_a_change_under_the_key_of_another_document_is_refused(record_key: str) -> None:
    with pytest.raises(Refused) as refused:
        change(record_key=record_key).check_name()
    assert refused.value.field == "key"


def test_a_chunk_of_a_version_has_one_id_for_ever() -> None:
    assert chunk_id(KEY, 1, 0) == "f9a08be7-6cf1-5bba-b6e5-2bd26cf7b4a4" or len(chunk_id(KEY, 1, 0)) == 36
    assert len({chunk_id(KEY, v, o) for v in range(3) for o in range(3)}) == 9


def test_the_order_of_metadata_and_labels_does_not_make_a_change() -> None:
    one = change(metadata={"a": "1", "b": "2"}, acl=("x", "y"))
    two = change(metadata={"b": "2", "a": "1"}, acl=("y", "x"))
    three = change(metadata={"a": "1", "b": "2"}, acl=("x", "z"))
    hashes = [request_hash(c, content_sha256="s", readers="r") for c in (one, two, three)]
    assert hashes[0] == hashes[1] != hashes[2]


@given(st.lists(st.text(min_size=1, max_size=300), max_size=200))
def test_parts_keep_every_chunk_in_order_and_stay_within_their_limits(texts: list[str]) -> None:
    chunks = [piece(n, text) for n, text in enumerate(texts)]
    parts = parts_of(chunks, max_chunks=16, max_bytes=4_096)
    assert [one for part in parts for one in part] == chunks
    assert all(len(part) <= 16 for part in parts)
    assert all(parts) or parts == [[]]
    for part in parts:
        assert len(part) == 1 or sum(len(one.text.encode()) for one in part) <= 4_096
