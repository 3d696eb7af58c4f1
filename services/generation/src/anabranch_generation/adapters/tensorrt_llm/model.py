"""A chat model run by TensorRT-LLM in this process.

Written against TensorRT-LLM 1.2 (tensorrt_llm.LLM, SamplingParams, executor.request.LoRARequest, RequestOutput). The
package is imported only when this backend is asked for.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from anabranch_faults import Invalid, TooLarge, Transient
from anabranch_generation.adapters.chat import End, Piece
from anabranch_generation.adapters.prompting import Message
from anabranch_generation.domain import FinishReason, Settings, Usage

NAME: Final = "tensorrt_llm"
_REASONS: Final = {"length": FinishReason.LENGTH, "timeout": FinishReason.TIMEOUT}


class TensorRTModel:
    """One model with its LoRA adapters, batched in flight by the runtime itself."""

    def __init__(self, llm: Any, *, model: str, sampling: Any, lora: Any, adapters: Mapping[str, Path]) -> None:
        """Takes a loaded `LLM` and the classes SamplingParams and LoRARequest. `load` is the way in."""
        self._llm = llm
        self._model = model
        self._sampling = sampling
        # Adapter ids are the runtime's cache keys: one number for one folder, for the life of the process.
        self._adapters = {
            name: lora(lora_name=name, lora_int_id=number, lora_path=str(folder))
            for number, (name, folder) in enumerate(adapters.items(), 1)
        }

    @classmethod
    def load(
        cls, model: str, *, adapters: Mapping[str, Path], tensor_parallel: int = 1, max_lora_rank: int = 64
    ) -> TensorRTModel:
        """Load the model: takes minutes and blocks. Raises Invalid, in a sentence, when it cannot be."""
        missing = [str(folder) for folder in adapters.values() if not folder.exists()]
        if missing:
            raise Invalid(f"there is no adapter at {missing[0]}", field="ANABRANCH_GENERATION_TENSORRT_ADAPTERS")
        try:
            package = importlib.import_module("tensorrt_llm")
            request = importlib.import_module("tensorrt_llm.executor.request")
            arguments = importlib.import_module("tensorrt_llm.llmapi.llm_args")
        except ImportError as error:
            raise Invalid(
                "the backend tensorrt_llm needs the package tensorrt-llm, which is not installed here: use the GPU"
                f" image, or install anabranch-generation[tensorrt] ({error})",
                field="ANABRANCH_GENERATION_BACKENDS",
                reason="MISSING_PACKAGE",
            ) from error
        options: dict[str, Any] = {"tensor_parallel_size": tensor_parallel}
        if adapters:
            options["lora_config"] = arguments.LoraConfig(
                lora_dir=[str(folder) for folder in adapters.values()],
                max_lora_rank=max_lora_rank,
                max_loras=len(adapters),
                max_cpu_loras=len(adapters),
            )
        llm = package.LLM(model=model, **options)
        return cls(llm, model=model, sampling=package.SamplingParams, lora=request.LoRARequest, adapters=adapters)

    @property
    def name(self) -> str:
        """`tensorrt_llm`."""
        return NAME

    @property
    def models(self) -> tuple[str, ...]:
        """The one loaded."""
        return (self._model,)

    async def chat(
        self, messages: Sequence[Message], settings: Settings, *, max_tokens: int
    ) -> AsyncGenerator[Piece, None]:
        """See the port."""
        if settings.model not in ("", self._model):
            raise Invalid(f"is {settings.model!r}; {NAME} has {self._model}", field="settings.model")
        adapter = self._adapter(settings.adapter)
        prompt = self._llm.tokenizer.apply_chat_template(
            [{"role": m.role, "content": m.text} for m in messages], tokenize=False, add_generation_prompt=True
        )
        try:
            output = self._llm.generate_async(
                prompt, sampling_params=self._sampled(settings, max_tokens), lora_request=adapter, streaming=True
            )
        except ValueError as error:
            # The runtime checks prompt and answer against the model's window before it takes a request.
            raise TooLarge(f"the prompt does not fit the model: {error}", field="settings.context_tokens") from error
        finished = False
        try:
            async for step in output:
                text = step.outputs[0].text_diff
                if text:
                    yield text
            finished = True
        except RuntimeError as error:
            finished = True
            raise Transient(f"the model broke off: {error}") from error
        finally:
            if not finished:
                output.abort()
        last = output.outputs[0]
        yield End(
            _REASONS.get(last.finish_reason or "stop", FinishReason.STOP),
            Usage(len(output.prompt_token_ids), len(last.token_ids or ())),
            self._model,
        )

    def _adapter(self, name: str) -> Any:
        if not name:
            return None
        if name not in self._adapters:
            choices = ", ".join(self._adapters) or "none"
            raise Invalid(
                f"is {name!r}; adapters loaded here: {choices}", field="settings.adapter", reason="UNKNOWN_ADAPTER"
            )
        return self._adapters[name]

    def _sampled(self, settings: Settings, max_tokens: int) -> Any:
        options: dict[str, Any] = {
            "max_tokens": max_tokens,
            # The chat template has written the special tokens already.
            "add_special_tokens": False,
        }
        if settings.temperature > 0:
            options["temperature"] = settings.temperature
        else:
            # Greedy: the runtime takes no temperature of 0.
            options["top_k"] = 1
        if settings.stop:
            options["stop"] = list(settings.stop)
        if settings.seed:
            options["seed"] = settings.seed
        return self._sampling(**options)

    async def close(self) -> None:
        """Shut the runtime down; it may take seconds."""
        await asyncio.to_thread(self._llm.shutdown)
