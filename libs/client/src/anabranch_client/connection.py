"""Where the gateway is and what opens it: arguments first, then a file, then the environment."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import grpc

from anabranch_faults import Invalid, Unauthenticated

ENDPOINT: Final = "ANABRANCH_ENDPOINT"
KEY: Final = "ANABRANCH_KEY"
KEY_FILE: Final = "ANABRANCH_KEY_FILE"

MESSAGE_BYTES: Final = 24 * 1024 * 1024

# Calls that may be repeated unseen: reads, and changes, which carry an idempotency key. Asking is left out, because it
# costs a generation. Throttled, so that a gateway in trouble is not asked three times as often.
_RETRIED: Final = (
    ("anabranch.gateway.v1.SearchService", "Search"),
    ("anabranch.gateway.v1.SearchService", "ListCorpora"),
    ("anabranch.gateway.v1.DocumentService", "GetDocument"),
    ("anabranch.gateway.v1.DocumentService", "PutDocument"),
    ("anabranch.gateway.v1.DocumentService", "DeleteDocument"),
    ("anabranch.gateway.v1.FeedbackService", "GiveFeedback"),
)
_SERVICE_CONFIG: Final = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{"service": service, "method": method} for service, method in _RETRIED],
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "2s",
                    "backoffMultiplier": 3,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ],
        "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.5},
    }
)
OPTIONS: Final[Sequence[tuple[str, str | int]]] = (
    ("grpc.service_config", _SERVICE_CONFIG),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.primary_user_agent", "anabranch-client/0.1.0"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A gRPC target, and the credentials for it. The key never shows in `repr`."""

    target: str
    key: str = field(repr=False)
    credentials: grpc.ChannelCredentials | None

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What every call carries."""
        return (("authorization", f"Bearer {self.key}"),)


def resolve(
    *,
    endpoint: str | None,
    key: str | None,
    key_file: str | Path | None,
    credentials: grpc.ChannelCredentials | None,
    environ: Mapping[str, str] = os.environ,
) -> Connection:
    """The connection that arguments and environment describe.

    `endpoint` is `host:port` (plain text), `https://host[:port]` (TLS, the system's roots unless `credentials` are
    given) or any other gRPC target such as `unix:/path`. Raises Invalid without an endpoint, Unauthenticated without a
    key.
    """
    endpoint = endpoint or environ.get(ENDPOINT, "")
    if not endpoint:
        raise Invalid(f"no endpoint: give endpoint= or set {ENDPOINT} to host:port", field="endpoint")
    if endpoint.startswith(("https://", "http://")):
        url = urlsplit(endpoint)
        if not url.hostname or url.path.strip("/"):
            raise Invalid("an endpoint is a scheme, a host and a port; nothing else", field="endpoint")
        secure = url.scheme == "https"
        host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
        endpoint = f"{host}:{url.port or (443 if secure else 80)}"
        if secure and credentials is None:
            credentials = grpc.ssl_channel_credentials()
    return Connection(target=endpoint, key=_key(key, key_file, environ), credentials=credentials)


def _key(key: str | None, key_file: str | Path | None, environ: Mapping[str, str]) -> str:
    if key is None and key_file is None:
        key, key_file = environ.get(KEY), environ.get(KEY_FILE)
    if not key and key_file:
        try:
            key = Path(key_file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise Unauthenticated(f"the key file cannot be read: {error}", field="key_file") from error
    key = (key or "").strip()
    if not key:
        raise Unauthenticated(f"no key: give key= or key_file=, or set {KEY} or {KEY_FILE}", field="key")
    if not key.isascii() or not key.isprintable():
        raise Unauthenticated("the key holds characters that no key has", field="key")
    return key
