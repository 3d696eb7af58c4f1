"""The composition root: the one file that names concrete classes."""

from __future__ import annotations

from collections.abc import Mapping

from anabranch_artifacts import ArtifactStore
from anabranch_bus import Bus
from anabranch_generation.adapters.chat import ChatBackend, ChatModel
from anabranch_generation.adapters.extractive.backend import ExtractiveBackend
from anabranch_generation.adapters.lora import adapter_folders
from anabranch_generation.adapters.openai.model import OpenAIModel
from anabranch_generation.adapters.tensorrt_llm.model import TensorRTModel
from anabranch_generation.application import Backend, Backends, Condense, Generate, Limits, PromptTable, Rewriter
from anabranch_generation.entrypoints import kafka, rpc
from anabranch_generation.settings import Settings, split
from anabranch_observability import counter, get_logger
from anabranch_observability.names import generation as names
from anabranch_runtime import Service

log = get_logger()


async def build(
    settings: Settings,
    *,
    bus: Bus | None = None,
    loaded: Mapping[str, Backend] | None = None,
) -> Service:
    """Loads the backends and wires the service. `loaded` stands in for the backends of the settings.

    Without a bus there are no prompts of the registry. Raises Invalid, in a sentence, when a backend cannot be loaded.
    """
    prompts = PromptTable()
    if bus is not None:
        kafka.register(bus, prompts)
    backends = Backends(loaded or {name: _load(name, settings) for name in settings.names})
    for info in backends():
        log.info(names.Log.BACKEND_LOADED, backend=info.name, models=list(info.models))
    generate = Generate(
        backends=backends,
        limits=Limits(concurrent=settings.max_concurrent, time=settings.answer_time, max_tokens=settings.max_tokens),
        prompts=prompts,
        watch=lambda step: counter(names.CASCADES).labels(outcome=step.value).inc(),
    )
    rewriters: dict[str, Rewriter] = {
        name: backend for name, backend in backends.loaded.items() if isinstance(backend, ChatBackend)
    }
    condense = Condense(backends=backends, rewriters=rewriters, time=settings.condense_time)
    return Service(
        name="generation",
        bus=bus,
        rpc=[rpc.servicer(generate=generate, condense=condense, backends=backends)],
        closing=[backend.close for backend in backends.loaded.values()],
    )


def _load(name: str, settings: Settings) -> Backend:
    if name == "extractive":
        return ExtractiveBackend()
    model: ChatModel
    if name == "openai":
        model = OpenAIModel(
            url=settings.openai_url,
            key=settings.openai_key.get_secret_value(),
            models=split(settings.openai_models),
            connect_time=settings.openai_connect_time,
            read_time=settings.openai_read_time,
            retries=settings.openai_retries,
        )
    else:
        model = TensorRTModel.load(
            settings.tensorrt_model,
            adapters=adapter_folders(
                split(settings.tensorrt_adapters),
                store=ArtifactStore(settings.artifact_store, public_key=settings.public_key),
                into=settings.data / "adapters",
                max_rank=settings.tensorrt_max_lora_rank,
            ),
            tensor_parallel=settings.tensorrt_parallel,
            max_lora_rank=settings.tensorrt_max_lora_rank,
        )
    return ChatBackend(model, default_tokens=settings.default_tokens, context_tokens=settings.context_tokens)
