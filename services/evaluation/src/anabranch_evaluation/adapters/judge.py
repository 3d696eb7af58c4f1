"""A judge behind an OpenAI-compatible HTTP server: vLLM, NIM, trtllm-serve, llama.cpp, or OpenAI itself."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final

import httpx

from anabranch_evaluation.domain.judging import TEMPERATURE, Ballot
from anabranch_observability import counter, get_logger, histogram
from anabranch_observability.names import evaluation as names

log = get_logger()

_MAX_TOKENS: Final = 400
_MAX_BODY: Final = 262_144


class _NoReplyError(Exception):
    """`outcome` is the metric's label."""

    def __init__(self, outcome: str, problem: str) -> None:
        super().__init__(problem)
        self.outcome = outcome


class HttpJudge:
    """As the port says: POST `<url>/chat/completions`, the reply held to the rubric's JSON schema by the server.

    Calls are not repeated: an answer has several votes, and what waits for the judge is tried again as a whole. `time`
    is for one call, its wait for one of the `at_once` places not counted.
    """

    def __init__(
        self,
        *,
        url: str,
        model: str,
        key: str = "",
        time: timedelta = timedelta(seconds=20),
        at_once: int = 4,
    ) -> None:
        """Connects on first use."""
        self._url = f"{url.rstrip('/')}/chat/completions"
        self._model = model
        self._seconds = time.total_seconds()
        self._places = asyncio.Semaphore(at_once)
        self._client = httpx.AsyncClient(
            headers={"authorization": f"Bearer {key}"} if key else {},
            timeout=self._seconds,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=at_once),
            trust_env=False,
        )

    @property
    def name(self) -> str:
        """The model's."""
        return self._model

    async def reply(self, ballot: Ballot) -> str | None:
        """As in the port."""
        outcome = "replied"
        async with self._places:
            began = asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(self._seconds):
                    text = await self._ask(ballot)
                if ballot.rubric.verdict(text) is None:
                    outcome = "unreadable"
            except (httpx.TimeoutException, TimeoutError):
                text, outcome = None, "timeout"
            except httpx.HTTPError as error:
                text, outcome = None, "unreachable"
                log.warning(names.Log.JUDGE_FAILED, outcome=outcome, problem=type(error).__name__)
            except _NoReplyError as error:
                text, outcome = None, error.outcome
                log.warning(names.Log.JUDGE_FAILED, outcome=outcome, problem=str(error))
            histogram(names.JUDGE_SECONDS).observe(asyncio.get_running_loop().time() - began)
        counter(names.JUDGE_CALLS).labels(rubric=ballot.rubric.name, outcome=outcome).inc()
        return text

    async def _ask(self, ballot: Ballot) -> str:
        rubric = ballot.rubric
        body = {
            "model": self._model,
            "messages": [{"role": "system", "content": rubric.text}, {"role": "user", "content": ballot.content}],
            "temperature": TEMPERATURE,
            "seed": ballot.seed,
            "max_tokens": _MAX_TOKENS,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": rubric.name, "strict": True, "schema": rubric.schema},
            },
        }
        async with self._client.stream("POST", self._url, json=body) as response:
            content = b""
            async for part in response.aiter_bytes():
                content += part
                if len(content) > _MAX_BODY:
                    raise _NoReplyError("oversized", f"the judge's server sent more than {_MAX_BODY} bytes")
        if response.status_code != HTTPStatus.OK:
            # What it says may quote the key or the material: neither belongs into a log.
            raise _NoReplyError("refused", f"the judge's server answered {response.status_code}")
        return _text_of(content)

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()


def _text_of(content: bytes) -> str:
    """What the model wrote. A reply without text is one that cannot be read: an empty text."""
    try:
        said: Any = json.loads(content)
        text = said["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise _NoReplyError("malformed", "the judge's server sent no chat completion") from error
    return text if isinstance(text, str) else ""
