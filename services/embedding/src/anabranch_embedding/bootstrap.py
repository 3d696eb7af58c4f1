"""The composition root: the one place that names concrete classes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence

from anabranch_bus import Bus
from anabranch_embedding.adapters.minilm import MiniLmEncoder, PackagedModel
from anabranch_embedding.adapters.minilm.cache import GraphCache
from anabranch_embedding.adapters.minilm.lanes import Turns
from anabranch_embedding.adapters.openai import OpenAiEncoder
from anabranch_embedding.application import Catalogue, EmbedChunks, EmbedTexts, Encoder, ListModels
from anabranch_embedding.entrypoints import kafka, rpc
from anabranch_embedding.settings import Settings
from anabranch_runtime import Service

__all__ = ["build"]


def build(settings: Settings, *, bus: Bus, encoders: Mapping[str, Encoder] | None = None) -> Service:
    """Wire the service. `encoders`, the default first, stand in for models in tests."""
    if encoders is not None:
        return _service(bus, Catalogue(encoders))
    turns = Turns(threads=settings.threads or _cores(), limit=settings.waiting_texts, niceness=settings.niceness)
    local = _local(settings, turns)
    remote = _remote(settings)
    everything: dict[str, Encoder] = {**local, **remote}
    ordered = {settings.model: everything[settings.model], **everything}
    default = local.get(settings.model)
    return _service(
        bus,
        Catalogue(ordered),
        starting=[*([default.load] if default else []), *(encoder.check for encoder in remote.values())],
        closing=[
            lambda: asyncio.to_thread(turns.close),
            *(encoder.close for encoder in local.values()),
            *(encoder.close for encoder in remote.values()),
        ],
    )


def _service(
    bus: Bus,
    catalogue: Catalogue,
    *,
    starting: Sequence[Callable[[], Awaitable[object]]] = (),
    closing: Sequence[Callable[[], Awaitable[object]]] = (),
) -> Service:
    kafka.register(bus, EmbedChunks(catalogue))
    return Service(
        name="embedding",
        bus=bus,
        rpc=[rpc.servicer(EmbedTexts(catalogue), ListModels(catalogue))],
        starting=starting,
        closing=closing,
    )


def _local(settings: Settings, turns: Turns) -> dict[str, MiniLmEncoder]:
    model = PackagedModel.installed()
    cache = GraphCache(settings.data / "models")
    return {
        quantisation: MiniLmEncoder(
            model=model,
            quantisation=quantisation,
            cache=cache,
            turns=turns,
            waiting_queries=settings.waiting_queries,
        )
        for quantisation in ("int8", "fp32")
    }


def _remote(settings: Settings) -> dict[str, OpenAiEncoder]:
    if settings.openai_url is None:
        return {}
    key = settings.openai_key
    return {
        "openai": OpenAiEncoder(
            url=settings.openai_url,
            model=settings.openai_model,
            dimension=settings.openai_dimension,
            key=key.get_secret_value() if key else None,
            timeout=settings.openai_timeout,
            batch=settings.openai_batch,
            concurrency=settings.openai_concurrency,
        )
    }


def _cores() -> int:
    """Those this process may use, which in a container are often fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
