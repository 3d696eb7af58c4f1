"""The OpenAI-compatible surface: `POST /v1/chat/completions` and `GET /v1/models`, where a model is a corpus."""

from __future__ import annotations

from anabranch_gateway.entrypoints.http.app import Limits, application

__all__ = ["Limits", "application"]
