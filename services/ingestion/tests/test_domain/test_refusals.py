from __future__ import annotations

from anabranch_faults import Invalid
from anabranch_ingestion.domain.refusals import Reason, Refused


def test_a_refusal_is_invalid_to_whoever_handles_faults() -> None:
    refused = Refused(Reason.NO_TEXT, "nothing", field="body")
    assert isinstance(refused, Invalid)
    assert (refused.reason, refused.field, str(refused)) == ("NO_TEXT", "body", "body: nothing")
