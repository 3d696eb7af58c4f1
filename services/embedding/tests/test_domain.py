from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch_embedding.domain import ModelIdentity, Text, prefix_of, quantise, unit
from anabranch_faults import Invalid, TooLarge


def test_a_version_names_model_quantisation_and_digest_in_lower_case() -> None:
    identity = ModelIdentity(name="all-MiniLM-L6-v2", digest="AB" * 8, dimension=384, quantisation="int8")
    assert identity.version == "all-minilm-l6-v2-int8-ABABABAB"


def test_the_version_of_a_remote_model_can_name_a_collection() -> None:
    identity = ModelIdentity.of_remote(name="BAAI/bge_small EN", dimension=384)
    assert identity.version == f"baai-bge-small-en-none-{identity.digest[:8]}"
    assert identity.quantisation == "none"


def test_remote_models_of_another_name_or_dimension_are_others() -> None:
    versions = {ModelIdentity.of_remote(name=name, dimension=n).version for name in ("a", "b") for n in (1, 2)}
    assert len(versions) == 4


def test_a_prefix_is_title_then_headings_on_lines_of_their_own() -> None:
    assert prefix_of("Rivers", ["Europe", "Danube"]) == "Rivers\nEurope > Danube"


def test_a_prefix_leaves_out_what_is_blank() -> None:
    assert prefix_of(" ", ["", "Danube "]) == "Danube"
    assert prefix_of("", []) == ""


def test_a_whole_text_has_its_prefix_on_a_line_of_its_own() -> None:
    assert Text(body="b", prefix="p").whole == "p\nb"
    assert Text(body="b").whole == "b"


@pytest.mark.parametrize("body", ["", " ", "\n\t"])
def test_a_blank_text_is_refused_with_its_field(body: str) -> None:
    with pytest.raises(Invalid, match=r"texts\[3\]: is blank"):
        Text(body=body).checked(body="texts[3]", sentences="sentences[3]")


def test_a_text_is_measured_with_its_prefix() -> None:
    Text(body="b" * 32_767, prefix="p").checked(body="text", sentences="sentences")
    with pytest.raises(TooLarge, match="32,769 characters; the limit is 32,768"):
        Text(body="b" * 32_767, prefix="pp").checked(body="text", sentences="sentences")


@pytest.mark.parametrize("spans", [((0, 0),), ((2, 1),), ((0, 6),), ((0, 3), (2, 4)), ((3, 5), (0, 2))])
def test_sentences_that_are_empty_outside_or_out_of_order_are_refused(spans: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(Invalid, match=r"sentences\[[01]\]: \[") as raised:
        Text(body="five.", sentences=spans).checked(body="text", sentences="sentences")
    assert raised.value.reason == "SENTENCE_RANGE"


def test_sentences_may_touch_and_may_leave_gaps() -> None:
    text = Text(body="one. two. three.", sentences=((0, 4), (4, 9), (10, 16)))
    assert text.checked(body="text", sentences="sentences") is text


@given(st.lists(st.lists(st.floats(-1e3, 1e3, width=32), min_size=4, max_size=4), min_size=1, max_size=5))
def test_unit_rows_have_norm_one_or_stay_zero(rows: list[list[float]]) -> None:
    norms = np.linalg.norm(unit(np.array(rows, np.float32)), axis=1)
    for row, norm in zip(rows, norms, strict=True):
        assert norm == pytest.approx(1, abs=1e-5) or (norm == 0 and max(map(abs, row)) <= 1e-12)


@given(st.lists(st.floats(-1, 1, width=32), min_size=8, max_size=8).filter(lambda row: any(abs(x) > 0.01 for x in row)))
def test_quantised_vectors_keep_their_direction(row: list[float]) -> None:
    vector = unit(np.array([row], np.float32))
    back = unit(quantise(vector).astype(np.float32))
    assert float(vector[0] @ back[0]) > 0.999
