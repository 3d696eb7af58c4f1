"""The operator's own model behind an OpenAI-compatible `/v1/moderations`, as the check `moderation`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from anabranch_faults import Invalid, Overloaded, Unreachable
from anabranch_guardrails.domain import Finding, Subject

__all__ = ["ModerationEndpoint"]

_WINDOW: Final = 16_384
"""Characters of one input; a longer text is asked about in several, in one request."""
_MOST_INPUTS: Final = 32
_ANSWER_BYTES: Final = 1024 * 1024
_LONGEST: Final = timedelta(seconds=30)
_CATEGORY: Final = re.compile(r"[A-Za-z][A-Za-z0-9_/ -]{0,63}\Z")
_MOST_CATEGORIES: Final = 5
_TOO_MANY: Final = 429
_BROKEN: Final = 500
_FINE: Final = 200


class ModerationEndpoint:
    """The RemoteCheck port. The score is the highest of all categories; the reason names those that were flagged.

    Raises Overloaded for 429, Unreachable when nobody answers or for 5xx, Invalid for what is no answer.
    """

    name = "moderation"

    def __init__(
        self, url: str, *, model: str, key: str = "", transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        """Takes the server's address, with or without `/v1`. Asks nothing yet."""
        self._url = f"{url}/moderations" if url.endswith("/v1") else f"{url}/v1/moderations"
        self._model = model
        self._client = httpx.AsyncClient(
            headers={"authorization": f"Bearer {key}"} if key else {},
            timeout=_LONGEST.total_seconds(),
            follow_redirects=False,
            trust_env=False,
            transport=transport,
        )

    @property
    def version(self) -> str:
        """Model and host."""
        return f"{self._model}@{urlsplit(self._url).hostname}"

    async def look(self, subject: Subject) -> Finding:
        """What the model finds. A text of more than 512 KiB is not asked about, and Invalid."""
        inputs = [subject.text[at : at + _WINDOW] for at in range(0, len(subject.text), _WINDOW)]
        if not inputs:
            return Finding(score=0.0)
        if len(inputs) > _MOST_INPUTS:
            raise Invalid(f"{len(subject.text)} characters are more than the model is asked about")
        found = _results(await self._ask(inputs), len(inputs))
        score = max(_score(one) for one in found)
        named = sorted({name for one in found for name in _flagged(one)})
        return Finding(score=score, reason=", ".join(named[:_MOST_CATEGORIES]))

    async def close(self) -> None:
        """Closes connections."""
        await self._client.aclose()

    async def _ask(self, inputs: list[str]) -> Any:
        body = b""
        # Half a surrogate pair has no form in UTF-8.
        texts = [text.encode(errors="replace").decode() for text in inputs]
        try:
            async with self._client.stream("POST", self._url, json={"model": self._model, "input": texts}) as response:
                if response.status_code == _TOO_MANY:
                    raise Overloaded("the model is asked too often")
                if response.status_code >= _BROKEN:
                    raise Unreachable(f"the model answers {response.status_code}")
                if response.status_code != _FINE:
                    raise Invalid(f"the model answers {response.status_code}")
                async for part in response.aiter_bytes():
                    body += part
                    if len(body) > _ANSWER_BYTES:
                        raise Invalid("the model's answer is too long")
        except httpx.HTTPError as error:
            raise Unreachable(f"the model does not answer ({type(error).__name__})") from error
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise Invalid("the model's answer is no JSON") from error


def _results(answer: Any, count: int) -> list[Mapping[str, Any]]:
    results = answer.get("results") if isinstance(answer, dict) else None
    if not isinstance(results, list) or len(results) != count or not all(isinstance(one, dict) for one in results):
        raise Invalid(f"the model's answer does not hold {count} results")
    return results


def _score(result: Mapping[str, Any]) -> float:
    scores = result.get("category_scores")
    known = [
        float(score)
        for score in (scores.values() if isinstance(scores, dict) else ())
        if isinstance(score, int | float) and not isinstance(score, bool) and 0 <= score <= 1
    ]
    if not known:
        if not isinstance(result.get("flagged"), bool):
            raise Invalid("the model's answer holds neither scores nor whether it is flagged")
        return 1.0 if result["flagged"] else 0.0
    return max(known)


def _flagged(result: Mapping[str, Any]) -> list[str]:
    categories = result.get("categories")
    if not isinstance(categories, dict):
        return []
    return [name for name, is_so in categories.items() if is_so is True and _CATEGORY.match(name)]
