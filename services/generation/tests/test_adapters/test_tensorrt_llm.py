"""The `tensorrt_llm` backend against a stand-in that takes exactly what upstream's recorded signatures take."""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from anabranch_artifacts import ArtifactStore, Signer, make_keys
from anabranch_faults import Invalid, TooLarge, Transient
from anabranch_generation.adapters.chat import ChatBackend, End
from anabranch_generation.adapters.lora import adapter_folders
from anabranch_generation.adapters.prompting import Message
from anabranch_generation.adapters.tensorrt_llm.model import TensorRTModel
from anabranch_generation.bootstrap import build
from anabranch_generation.domain import Citation, Finished, FinishReason, Request, Settings, Usage
from anabranch_generation.settings import Settings as GenerationSettings
from anabranch_generation.testing import passage
from anabranch_testkit import poll_until

RECORDED = json.loads((Path(__file__).parents[1] / "tensorrt_llm_1_2.json").read_text())


def taken(name: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """The arguments by name, defaults included. Raises TypeError where upstream would."""
    recorded = RECORDED["callables"][name]
    kinds = inspect.Parameter
    parameters = [
        kinds(p, kinds.POSITIONAL_OR_KEYWORD, default=recorded["defaults"].get(p, kinds.empty))
        for p in recorded["positional"]
    ]
    parameters += [kinds(p, kinds.KEYWORD_ONLY, default=None) for p in recorded.get("keywords", ())]
    bound = inspect.Signature(parameters).bind(*args, **kwargs)
    given = dict(bound.arguments)
    bound.apply_defaults()
    return {"given": given, **bound.arguments}


class Restricted:
    """Gives out only attributes that upstream's objects are recorded to have."""

    kind = ""

    def __getattribute__(self, name: str) -> Any:
        kind = object.__getattribute__(self, "kind")
        if not name.startswith("_") and name != "kind" and name not in RECORDED["attributes"][kind]:
            raise AttributeError(f"upstream's {kind} has no {name}")
        return object.__getattribute__(self, name)


class CompletionOutput(Restricted):
    kind = "CompletionOutput"

    def __init__(self) -> None:
        self.text = ""
        self.token_ids: list[int] = []
        self.finish_reason: str | None = None
        self._last = 0

    @property
    def text_diff(self) -> str:
        return self.text[self._last :]


class RequestOutput(Restricted):
    kind = "RequestOutput"

    def __init__(self, says: list[str | Exception], arguments: dict[str, Any]) -> None:
        self._says = list(says)
        self._arguments = arguments
        self._aborted = False
        self.prompt_token_ids = [1] * len(arguments["inputs"].split())
        self.outputs = [CompletionOutput()]

    def abort(self) -> None:
        self._aborted = True

    def __aiter__(self) -> RequestOutput:
        return self

    async def __anext__(self) -> RequestOutput:
        await asyncio.sleep(0)
        if not self._says:
            raise StopAsyncIteration
        piece = self._says.pop(0)
        if isinstance(piece, Exception):
            raise piece
        output = self.outputs[0]
        output._last = len(output.text)
        output.text += piece
        output.token_ids.append(7)
        if not self._says:
            output.finish_reason = "stop"
        return self


@dataclass
class Runtime:
    """What happened inside the stand-in, and what it is to say."""

    says: list[str | Exception] = field(default_factory=lambda: ["It flows", "", " back [1]."])
    loaded: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[RequestOutput] = field(default_factory=list)
    shut: int = 0


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Runtime:
    state = Runtime()

    class Tokenizer:
        def apply_chat_template(self, *args: Any, **kwargs: Any) -> str:
            arguments = taken("tokenizer.apply_chat_template", *args, **kwargs)
            assert arguments["tokenize"] is False
            assert arguments["add_generation_prompt"] is True
            return "\n".join(f"<{m['role']}> {m['content']}" for m in arguments["conversation"])

    class LLM:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            state.loaded.append(taken("tensorrt_llm.LLM", *args, **kwargs))
            self.tokenizer = Tokenizer()

        def generate_async(self, *args: Any, **kwargs: Any) -> RequestOutput:
            arguments = taken("tensorrt_llm.LLM.generate_async", *args, **kwargs)
            if "long" in arguments["inputs"]:
                raise ValueError("The sum of prompt length (9) and max_tokens (9) should not exceed max_seq_len")
            state.outputs.append(RequestOutput(state.says, arguments))
            return state.outputs[-1]

        def shutdown(self) -> None:
            state.shut += 1

    modules: dict[str, dict[str, Any]] = {
        "tensorrt_llm": {"LLM": LLM, "SamplingParams": lambda *a, **k: taken("tensorrt_llm.SamplingParams", *a, **k)},
        "tensorrt_llm.executor": {},
        "tensorrt_llm.executor.request": {
            "LoRARequest": lambda *a, **k: taken("tensorrt_llm.executor.request.LoRARequest", *a, **k)
        },
        "tensorrt_llm.llmapi": {},
        "tensorrt_llm.llmapi.llm_args": {
            "LoraConfig": lambda *a, **k: taken("tensorrt_llm.llmapi.llm_args.LoraConfig", *a, **k)
        },
    }
    for name, members in modules.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    return state


def loaded(**adapters: Path) -> TensorRTModel:
    return TensorRTModel.load("some/model", adapters=adapters, tensor_parallel=2, max_lora_rank=16)


async def chat(model: TensorRTModel, /, text: str = "Where?", **settings: Any) -> list[Any]:
    messages = [Message("system", "Be brief."), Message("user", text)]
    return [piece async for piece in model.chat(messages, Settings(**settings), max_tokens=9)]


def test_the_stand_in_refuses_what_upstream_would_refuse() -> None:
    with pytest.raises(TypeError):
        taken("tensorrt_llm.SamplingParams", max_new_tokens=3)
    with pytest.raises(TypeError):
        taken("tensorrt_llm.LLM.generate_async", "prompt", stream=True)
    with pytest.raises(TypeError):
        taken("tensorrt_llm.LLM")
    with pytest.raises(AttributeError):
        CompletionOutput().delta  # noqa: B018  wrong on purpose


async def test_text_streams_and_ends_with_usage(runtime: Runtime) -> None:
    assert await chat(loaded()) == ["It flows", " back [1].", End(FinishReason.STOP, Usage(5, 3), "some/model")]
    arguments = runtime.outputs[0]._arguments
    assert arguments["streaming"] is True
    assert arguments["lora_request"] is None
    assert arguments["inputs"] == "<system> Be brief.\n<user> Where?"
    assert arguments["sampling_params"]["given"] == {"max_tokens": 9, "add_special_tokens": False, "top_k": 1}
    assert runtime.outputs[0]._aborted is False
    assert runtime.loaded[0]["given"] == {"model": "some/model", "tensor_parallel_size": 2}


async def test_settings_become_sampling_parameters(runtime: Runtime) -> None:
    await chat(loaded(), temperature=0.5, stop=("a",), seed=7, model="some/model")
    assert runtime.outputs[0]._arguments["sampling_params"]["given"] == {
        "max_tokens": 9,
        "add_special_tokens": False,
        "temperature": 0.5,
        "stop": ["a"],
        "seed": 7,
    }


async def test_an_adapter_is_asked_for_by_name_with_a_number_of_its_own(runtime: Runtime, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    model = loaded(first=first, second=second)
    await chat(model, adapter="second")
    assert runtime.outputs[0]._arguments["lora_request"]["given"] == {
        "lora_name": "second",
        "lora_int_id": 2,
        "lora_path": str(second),
    }
    assert runtime.loaded[0]["lora_config"]["given"] == {
        "lora_dir": [str(first), str(second)],
        "max_lora_rank": 16,
        "max_loras": 2,
        "max_cpu_loras": 2,
    }
    with pytest.raises(Invalid, match="adapters loaded here: first, second"):
        await chat(model, adapter="third")


async def test_giving_up_aborts_the_request(runtime: Runtime) -> None:
    stream = loaded().chat([Message("user", "x")], Settings(), max_tokens=5)
    assert await anext(stream) == "It flows"
    await stream.aclose()
    assert runtime.outputs[0]._aborted is True


async def test_cancelling_while_the_model_is_silent_aborts_the_request(runtime: Runtime) -> None:
    runtime.says = [""] * 1_000_000
    task = asyncio.create_task(chat(loaded()))
    await poll_until(lambda: runtime.outputs or None)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert runtime.outputs[0]._aborted is True


async def test_the_length_is_told(runtime: Runtime) -> None:
    stream = loaded().chat([Message("user", "x")], Settings(), max_tokens=5)
    last: Any = None
    async for piece in stream:
        last = piece
        runtime.outputs[0].outputs[0].finish_reason = "length"
        runtime.outputs[0]._says.clear()
    assert isinstance(last, End)
    assert last.reason is FinishReason.LENGTH


async def test_a_prompt_over_the_window_is_too_large(runtime: Runtime) -> None:
    with pytest.raises(TooLarge, match="max_seq_len") as caught:
        await chat(loaded(), "a long question")
    assert caught.value.field == "settings.context_tokens"


async def test_a_failing_runtime_is_transient(runtime: Runtime) -> None:
    runtime.says = ["It", RuntimeError("CUDA out of memory")]
    with pytest.raises(Transient, match="CUDA out of memory"):
        await chat(loaded())


async def test_another_model_than_the_loaded_one_is_invalid(runtime: Runtime) -> None:
    with pytest.raises(Invalid, match="has some/model"):
        await chat(loaded(), model="other")


async def test_behind_the_chat_backend_it_answers_with_citations_and_shuts_down(runtime: Runtime) -> None:
    backend = ChatBackend(loaded())
    events = [e async for e in backend.answer(Request(question="Where?", passages=(passage("The river flows back."),)))]
    assert [e.text for e in events if isinstance(e, Citation)] == ["The river flows back."]
    assert isinstance(events[-1], Finished)
    await backend.close()
    assert runtime.shut == 1


def test_an_adapter_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="there is no adapter at"):
        loaded(mine=tmp_path / "absent")


def adapter(folder: Path, *, rank: int = 8, weights: str = "adapter_model.safetensors") -> Path:
    folder.mkdir()
    config = {"peft_type": "LORA", "r": rank, "base_model_name_or_path": "some/model"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / weights).write_bytes(save({"lora_A": np.zeros((rank, 4), dtype=np.float32)}))
    return folder


def files(folder: str) -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


async def test_an_adapter_of_the_artifact_store_is_verified_and_asked_for_by_its_version(
    runtime: Runtime, tmp_path: Path
) -> None:
    make_keys(tmp_path / "key", tmp_path / "key.pub")
    store = ArtifactStore(str(tmp_path / "store"), public_key=tmp_path / "key.pub")
    version = store.put(adapter(tmp_path / "a"), kind="adapter", signer=Signer(tmp_path / "key")).version
    settings = GenerationSettings(
        backends="tensorrt_llm",
        tensorrt_model="some/model",
        tensorrt_adapters=version,
        artifacts=str(tmp_path / "store"),
        public_key=tmp_path / "key.pub",
        data=tmp_path / "data",
    )
    await build(settings)
    (folder,) = runtime.loaded[-1]["lora_config"]["given"]["lora_dir"]
    assert files(folder) == {"adapter_config.json", "adapter_model.safetensors", "model.sig"}
    folders = adapter_folders([version, "own=/somewhere"], store=store, into=tmp_path / "data" / "adapters", max_rank=8)
    assert folders == {version: Path(folder), "own": Path("/somewhere")}
    model = loaded(**{version: Path(folder)})
    await chat(model, adapter=version)
    assert runtime.outputs[-1]._arguments["lora_request"]["given"] == {
        "lora_name": version,
        "lora_int_id": 1,
        "lora_path": folder,
    }


@pytest.mark.parametrize(
    ("made", "key", "reason"),
    [({}, "", "UNSIGNED"), ({"rank": 32}, "key", ""), ({"weights": "adapter_model.bin"}, "key", "BAD_ADAPTER")],
)
def test_an_adapter_that_does_not_verify_or_does_not_fit_is_refused(
    tmp_path: Path, made: dict[str, Any], key: str, reason: str
) -> None:
    make_keys(tmp_path / "key", tmp_path / "key.pub")
    store = ArtifactStore(str(tmp_path / "store"), public_key=tmp_path / "key.pub")
    signer = Signer(tmp_path / key) if key else None
    version = store.put(adapter(tmp_path / "a", **made), kind="adapter", signer=signer).version
    with pytest.raises(Invalid) as caught:
        adapter_folders([version], store=store, into=tmp_path / "into", max_rank=16)
    assert caught.value.reason == reason
    for path in (tmp_path / "store" / version).glob("adapter_*"):
        path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(Invalid) as caught:
        adapter_folders([version], store=store, into=tmp_path / "again", max_rank=16)
    assert caught.value.reason == "TAMPERED"
