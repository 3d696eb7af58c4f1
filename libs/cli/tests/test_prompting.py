"""`anabranch prompt`: what it asks of the services, and what it makes of their answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from anabranch.evaluation.v1 import evaluation_service_pb2 as evaluation
from anabranch.feedback.v1 import events_pb2 as ratings
from anabranch.feedback.v1 import feedback_service_pb2 as feedback
from anabranch.gateway.v1 import events_pb2 as gateway
from anabranch.generation.v1 import generation_service_pb2 as generation
from anabranch.registry.v1 import events_pb2 as registry_events
from anabranch.registry.v1 import lineage_pb2 as lineage
from anabranch.registry.v1 import prompt_service_pb2 as pb
from anabranch.registry.v1 import prompts_pb2 as prompts
from anabranch.registry.v1 import registry_service_pb2 as registry
from anabranch.retrieval.v1 import retrieval_service_pb2 as retrieval
from anabranch.upstream.v1 import feedback_pb2 as upstream
from anabranch_cli import optimising, prompting, replaying
from anabranch_cli.__main__ import run
from anabranch_cli.output import DONE, FAILED
from anabranch_faults import NotFound
from anabranch_prompts import content_address
from anabranch_prompts.messages import template_of

WRITTEN = {
    "name": "support.answer",
    "system": "Answer in a {{ tone }} tone.",
    "template": "{% for c in contexts %}[{{ c.number }}] {{ c.text }}\n{% endfor %}{{ question }}",
    "variables": {"type": "object", "properties": {"tone": {"type": "string", "default": "kind"}}},
    "tests": [{"name": "kind", "contains": ["kind tone"]}],
}


class Registry:
    """Prompts, labels, variants and experiments in memory; every request is remembered."""

    def __init__(self) -> None:
        self.prompts: dict[str, prompts.PromptTemplate] = {}
        self.labels: dict[tuple[str, str], prompts.PromptLabel] = {}
        self.variants: dict[str, registry_events.Variant] = {
            "v-base": registry_events.Variant(
                variant_id="v-base", generation=generation.GenerationSettings(backend="openai", max_tokens=99)
            )
        }
        self.asked: list[Any] = []

    def CreatePrompt(self, request: pb.CreatePromptRequest) -> pb.CreatePromptResponse:  # noqa: N802  the contract's name
        self.asked.append(request)
        made = prompts.PromptTemplate()
        made.CopyFrom(request.prompt)
        made.prompt_version = content_address(template_of(made))
        self.prompts[f"{made.name}@{made.prompt_version}"] = made
        return pb.CreatePromptResponse(prompt=made)

    def GetPrompt(self, request: pb.GetPromptRequest) -> pb.GetPromptResponse:  # noqa: N802  the contract's name
        name, _, label = request.prompt.partition("@")
        known = self.labels.get((name, label))
        ref = f"{name}@{known.prompt_version}" if known is not None else request.prompt
        if ref not in self.prompts:
            raise NotFound(f"there is no prompt {ref}")
        return pb.GetPromptResponse(prompt=self.prompts[ref])

    def ListPrompts(self, _: pb.ListPromptsRequest) -> pb.ListPromptsResponse:  # noqa: N802  the contract's name
        return pb.ListPromptsResponse(prompts=list(self.prompts.values()))

    def ListPromptLabels(self, request: pb.ListPromptLabelsRequest) -> pb.ListPromptLabelsResponse:  # noqa: N802  the contract's name
        found = [label for (name, _), label in self.labels.items() if request.name in {"", name}]
        return pb.ListPromptLabelsResponse(labels=found)

    def SetPromptLabel(self, request: pb.SetPromptLabelRequest) -> pb.SetPromptLabelResponse:  # noqa: N802  the contract's name
        self.asked.append(request)
        label = prompts.PromptLabel(
            name=request.name,
            label=request.label,
            prompt_version=request.prompt_version,
            revision=request.expected_revision + 1,
            reason=request.reason,
            author=request.author,
        )
        self.labels[request.name, request.label] = label
        return pb.SetPromptLabelResponse(label=label)

    def RollbackPromptLabel(self, request: pb.RollbackPromptLabelRequest) -> pb.RollbackPromptLabelResponse:  # noqa: N802  the contract's name
        self.asked.append(request)
        return pb.RollbackPromptLabelResponse(label=self.labels[request.name, request.label])

    def TestPrompt(self, _: pb.TestPromptRequest) -> pb.TestPromptResponse:  # noqa: N802  the contract's name
        results = [
            pb.PromptTestResult(name="a", passed=True),
            pb.PromptTestResult(name="b", problem="does not contain 'x'"),
        ]
        return pb.TestPromptResponse(results=results)

    def GetVariant(self, request: registry.GetVariantRequest) -> registry.GetVariantResponse:  # noqa: N802  the contract's name
        if request.variant_id not in self.variants:
            raise NotFound("there is no such variant")
        return registry.GetVariantResponse(variant=self.variants[request.variant_id])

    def CreateVariant(self, request: registry.CreateVariantRequest) -> registry.CreateVariantResponse:  # noqa: N802  the contract's name
        made = registry_events.Variant()
        made.CopyFrom(request.variant)
        made.variant_id = f"v-{len(self.variants)}"
        self.variants[made.variant_id] = made
        return registry.CreateVariantResponse(variant=made)

    def GetRouting(self, request: registry.GetRoutingRequest) -> registry.GetRoutingResponse:  # noqa: N802  the contract's name
        if request.scope != "*":
            raise NotFound("no routing")
        share = registry_events.Share(variant=self.variants["v-base"], weight=1)
        return registry.GetRoutingResponse(routing=registry_events.RoutingChanged(scope="*", shares=[share]))

    def CreateExperiment(self, request: registry.CreateExperimentRequest) -> registry.CreateExperimentResponse:  # noqa: N802  the contract's name
        self.asked.append(request)
        return registry.CreateExperimentResponse(experiment=lineage.Experiment(experiment_id="ex-1", arms=request.arms))


class Feedback:
    """Two recorded answers, one of them rated well."""

    def __init__(self) -> None:
        now = Timestamp()
        now.FromDatetime(datetime.now(UTC))
        self.answers = [
            gateway.AnswerServed(
                answer_id=f"a-{n}",
                has_content=True,
                variant_id="v-base",
                question="Where does the river flow?",
                passages=[retrieval.Passage(text="The river flows back to the sea.", title="Rivers")],
                answer="It flows north.",
                served_at=now,
            )
            for n in (1, 2)
        ]
        self.answers[1].variables.CopyFrom(ParseDict({"tone": 5}, Struct()))

    def ListAnswers(self, _: feedback.ListAnswersRequest) -> feedback.ListAnswersResponse:  # noqa: N802  the contract's name
        rows = [feedback.AnswerSummary(answer_id=one.answer_id, served_at=one.served_at) for one in self.answers]
        return feedback.ListAnswersResponse(answers=rows)

    def GetAnswer(self, request: feedback.GetAnswerRequest) -> feedback.GetAnswerResponse:  # noqa: N802  the contract's name
        (found,) = (one for one in self.answers if one.answer_id == request.answer_id)
        return feedback.GetAnswerResponse(answer=found)

    def ExportRatings(self, _: feedback.ExportRatingsRequest) -> feedback.ExportRatingsResponse:  # noqa: N802  the contract's name
        def rated(question: str, *, stars: int) -> feedback.ExportedRating:
            given = upstream.FeedbackGiven(rating=upstream.Rating(stars=stars))
            answer = gateway.AnswerServed(has_content=True, question=question, answer=f"{{{{ {question} }}}} yes")
            return feedback.ExportedRating(rating=ratings.RatingGiven(given=given), answer=answer)

        return feedback.ExportRatingsResponse(
            ratings=[rated("one?", stars=5), rated("two?", stars=4), rated("bad?", stars=1), rated("one?", stars=5)]
        )


class Evaluation:
    """Runs that like instructions that ask for exact numbers, and a warmer temperature a little."""

    def __init__(self, registry_: Registry) -> None:
        self.registry = registry_
        self.runs: dict[str, evaluation.Run] = {}

    def StartRun(self, request: evaluation.StartRunRequest) -> evaluation.StartRunResponse:  # noqa: N802  the contract's name
        assert request.answers
        variant = self.registry.variants[request.variant_id]
        prompt = self.registry.prompts[variant.generation.prompt_ref]
        value = 0.5 + 0.2 * ("exactly" in prompt.system) + 0.1 * (prompt.temperature > 0.5)
        run_id = f"r-{len(self.runs)}"
        self.runs[run_id] = evaluation.Run(
            run_id=run_id, state=evaluation.RUN_STATE_DONE, metrics=[evaluation.Metric(name="f1", value=value)]
        )
        return evaluation.StartRunResponse(run_id=run_id)

    def GetRun(self, request: evaluation.GetRunRequest) -> evaluation.GetRunResponse:  # noqa: N802  the contract's name
        return evaluation.GetRunResponse(run=self.runs[request.run_id])

    def CompareRuns(self, _: evaluation.CompareRunsRequest) -> evaluation.CompareRunsResponse:  # noqa: N802  the contract's name
        difference = evaluation.Difference(name="f1", difference=0.3, low=0.1, high=0.5)
        return evaluation.CompareRunsResponse(differences=[difference])


class Platform(SimpleNamespace):
    registry: Registry
    feedback: Feedback


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Platform:
    known = Registry()
    found = Platform(registry=known, feedback=Feedback(), evaluation=Evaluation(known), tenant="t")

    @contextmanager
    def calls(_: object, service: str, __: object) -> Iterator[Any]:
        yield getattr(found, service)

    for module in (prompting, replaying, optimising):
        monkeypatch.setattr(module, "calls", calls)
        monkeypatch.setattr(module, "platform", lambda _: found)
    return found


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., str]:
    def write(**changed: Any) -> str:
        path = tmp_path / "prompt.yaml"
        path.write_text(yaml.safe_dump(WRITTEN | changed))
        return str(path)

    return write


def said(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def create(file: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert run(["prompt", "create", file, "--json"]) == DONE
    made = said(capsys)
    return f"{made['name']}@{made['prompt_version']}"


def test_a_prompt_is_kept_shown_and_listed(
    platform: Platform, written: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    ref = create(written(), capsys)
    assert run(["prompt", "show", ref]) == DONE
    shown = capsys.readouterr().out
    assert "template: |" in shown
    assert "{{ question }}" in shown
    assert run(["prompt", "ls", "--json"]) == DONE
    assert [each["name"] for each in said(capsys)["prompts"]] == ["support.answer"]
    assert platform.registry.asked[0].reason == "created from prompt.yaml"


@pytest.mark.parametrize(
    ("changed", "sentences"),
    [
        ({"template": "{{ who }}", "name": "No Name"}, ["'who'", "lower-case"]),
        ({"templat": "x"}, ["no prompt", "templat"]),
        ({"template": "{{ ''.__class__ }}"}, ["unsafe"]),
    ],
)
def test_a_file_that_is_no_prompt_says_everything_that_is_wrong_before_anything_is_asked(
    platform: Platform,
    written: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
    changed: dict[str, Any],
    sentences: list[str],
) -> None:
    assert run(["prompt", "create", written(**changed)]) == FAILED
    complaint = capsys.readouterr().err
    assert all(sentence in complaint for sentence in sentences)
    assert not platform.registry.asked


def test_two_versions_are_set_side_by_side(
    platform: Platform, written: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    one = create(written(), capsys)
    other = create(written(system="Answer in a {{ tone }} voice."), capsys)
    assert run(["prompt", "diff", one, other, "--json"]) == DONE
    report = said(capsys)
    assert report["fields"] == ["system"]
    assert "-system: Answer in a {{ tone }} tone." in report["diff"]
    assert "+system: Answer in a {{ tone }} voice." in report["diff"]
    assert run(["prompt", "diff", one, one]) == DONE
    assert "no difference" in capsys.readouterr().out
    assert len(platform.registry.prompts) == 2


def test_a_case_that_fails_ends_with_1(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    assert platform.tenant
    assert run(["prompt", "test", "support.answer@production"]) == FAILED
    out = capsys.readouterr().out
    assert "FAIL b" in out
    assert "1 of 2 pass" in out


def test_a_label_is_moved_from_the_revision_that_is_seen_and_moved_back(
    platform: Platform, written: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    version = create(written(), capsys).partition("@")[2]
    words = ["prompt", "promote", "support.answer", version, "--label", "production", "--reason", "better"]
    assert run(words) == DONE
    assert run(words) == DONE
    assert [each.expected_revision for each in platform.registry.asked[1:]] == [0, 1]
    assert run(["prompt", "rollback", "support.answer", "--label", "production", "--json"]) == DONE
    assert platform.registry.asked[-1].to_revision == 0


def test_old_questions_are_rendered_anew_and_answered_again(
    platform: Platform,
    written: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = create(written(), capsys)
    new = create(written(system="Answer in a {{ tone }} voice."), capsys)
    platform.registry.variants["v-base"].generation.prompt_ref = "support.answer@production"
    for answer in platform.feedback.answers:
        answer.prompt_version = old.partition("@")[2]
    asked: list[generation.GenerateRequest] = []

    def generate(_: replaying.Shop, request: generation.GenerateRequest) -> tuple[str, generation.Generated]:
        asked.append(request)
        return "The river flows back to the sea.", generation.Generated(usage=generation.Usage(prompt_tokens=7))

    monkeypatch.setattr(replaying.Shop, "generate", generate)
    assert run(["prompt", "replay", new, "--since", "1d", "--json"]) == FAILED
    report = said(capsys)
    assert (report["answers"], report["answered_again"], report["answers_changed"], report["failed"]) == (2, 1, 1, 1)
    first, second = report["rows"]
    assert "-Answer in a kind tone." in first["prompt_diff"]
    assert "+Answer in a kind voice." in first["prompt_diff"]
    assert first["new_scores"]["groundedness"] > first["old_scores"]["groundedness"]
    assert "variables.tone" in second["problem"]
    assert [request.settings.prompt_ref for request in asked] == [new]
    assert run(["prompt", "replay", new, "--render-only", "--limit", "1", "--json"]) == DONE
    assert said(capsys)["answered_again"] == 0


def test_a_prompt_is_improved_and_the_best_goes_into_an_experiment(
    platform: Platform, written: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    ref = create(written(), capsys)
    words = ["prompt", "optimise", ref, "--dataset", "g", "--experiment", "better prompt", "--percent", "20", "--json"]
    assert run(words) == DONE
    report = said(capsys)
    best = report["best"]
    assert (best["kind"], best["name"]) == ("combined", "warmer + exact")
    assert best["value"] == pytest.approx(0.8)
    assert report["difference"]["low"] == pytest.approx(0.1)
    kinds = {row["kind"] for row in report["ranking"]}
    assert kinds == {"base", "instruction", "examples", "parameters", "combined"}
    arms = platform.registry.asked[-1].arms
    assert [(arm.variant_id, arm.weight, arm.control) for arm in arms] == [
        ("v-base", 8000, True),
        (best["variant_id"], 2000, False),
    ]
    shown = next(each for each in platform.registry.prompts.values() if "2 examples" in each.description)
    assert "Question: one?" in shown.system
    assert "{{ one?" not in shown.system
    assert "bad?" not in shown.system


def test_a_prompt_that_nothing_beats_stays_and_no_experiment_begins(
    platform: Platform, written: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    ref = create(written(system="Give all exactly.", temperature=1.0, tests=[]), capsys)
    assert run(["prompt", "optimise", ref, "--dataset", "g", "--experiment", "none", "--json"]) == DONE
    report = said(capsys)
    assert (report["best"], report["experiment"]) == (None, None)
    assert not any(isinstance(each, registry.CreateExperimentRequest) for each in platform.registry.asked)
