"""One process of a service: settings, start, readiness, drain. See README.md."""

from __future__ import annotations

from anabranch_runtime.process import Process
from anabranch_runtime.serve import serve
from anabranch_runtime.service import Http, Service
from anabranch_runtime.settings import ServiceSettings, WrongSettings, load

__all__ = ["Http", "Process", "Service", "ServiceSettings", "WrongSettings", "load", "serve"]
