from __future__ import annotations

import pytest

from anabranch_evaluation.domain.fates import Fate
from anabranch_faults import Invalid


def test_a_fate_of_no_document_names_the_field_at_fault() -> None:
    with pytest.raises(Invalid, match=r"document\.corpus"):
        Fate(tenant="t", corpus="", state="queryable")
