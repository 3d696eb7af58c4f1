from __future__ import annotations

from typing import Any


async def test_a_question_is_answered_with_citations(gateway: Any) -> None:
    async with gateway.client() as client:
        answer = await client.ask("Where is the meeting?", corpus="handbook")
    assert answer.text == "In the blue room."
    assert [each.document.document_id for each in answer.citations] == ["a"]
    assert answer.variant_id == "v-one"
