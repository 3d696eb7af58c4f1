"""`anabranch prompt optimise`: variants of a prompt, measured over a golden set; the best goes into an experiment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import click

from anabranch.evaluation.v1 import evaluation_service_pb2 as evaluation
from anabranch.evaluation.v1 import evaluation_service_pb2_grpc as evaluation_grpc
from anabranch.feedback.v1 import events_pb2 as ratings
from anabranch.feedback.v1 import feedback_service_pb2 as feedback
from anabranch.feedback.v1 import feedback_service_pb2_grpc as feedback_grpc
from anabranch.registry.v1 import events_pb2 as registry_events
from anabranch.registry.v1 import lineage_pb2 as lineage
from anabranch.registry.v1 import loop_pb2 as loop
from anabranch.registry.v1 import prompt_service_pb2 as pb
from anabranch.registry.v1 import prompt_service_pb2_grpc as pb_grpc
from anabranch.registry.v1 import prompts_pb2 as prompts
from anabranch.registry.v1 import registry_service_pb2 as registry
from anabranch.registry.v1 import registry_service_pb2_grpc as registry_grpc
from anabranch_cli.connection import Platform, data_option, platform
from anabranch_cli.golden import finished
from anabranch_cli.internal import author, calls, document, scope_of
from anabranch_cli.loop import routed
from anabranch_cli.output import DONE, console, emit, json_option
from anabranch_faults import Fault, Invalid
from anabranch_prompts import harmless

INSTRUCTIONS: Final = (
    ("brief", "Answer in at most two sentences, the answer itself first."),
    ("quoting", "Keep to the passages' own words where you can."),
    ("exact", "Give names, numbers, units and dates exactly as the passages have them."),
    ("reading", "First find the sentences that bear on the question; then answer from these alone."),
    ("partial", "Where the passages answer only a part, answer that part and say what is missing."),
    ("whole", "Where several passages bear on the question, bring together what each of them adds."),
)
PARAMETERS: Final[Sequence[tuple[str, Mapping[str, float]]]] = (
    ("cooler", {"temperature": 0.2}),
    ("warmer", {"temperature": 0.7}),
    ("shorter", {"max_tokens": 160}),
)
_EXAMPLES: Final = (2, 4)
_LONGEST: Final = 300
_GOOD_STARS: Final = 4
_PERCENT: Final = 100
_PAGE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A variant of a prompt; `kind` is base, instruction, examples, parameters or combined."""

    name: str
    kind: str
    prompt: prompts.PromptTemplate


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A proposal as it did over the golden set."""

    proposal: Proposal
    variant_id: str
    run_id: str
    value: float
    low: float = 0.0
    high: float = 0.0
    problem: str = ""


@click.command()
@click.argument("ref")
@click.option("--dataset", required=True, help="Golden set (`anabranch eval dataset put`).")
@click.option("--corpus", help="Whose traffic. Default: the tenant's.")
@click.option("--variant", default="", help="Variant to build on. Default: what serves most of the traffic.")
@click.option("--metric", default="f1", show_default=True, help="What is compared, such as f1 or groundedness.")
@click.option("--experiment", default="", metavar="NAME", help="Hand the best to an experiment of this name.")
@click.option(
    "--percent", type=click.FloatRange(0, 100), default=10.0, show_default=True, help="Of the traffic, for it."
)
@click.option("--reason", default="proposed by optimise", show_default=True, help="Kept in the audit.")
@data_option
@json_option
def optimise(
    *,
    ref: str,
    dataset: str,
    corpus: str | None,
    variant: str,
    metric: str,
    experiment: str,
    percent: float,
    reason: str,
    data: Path | None,
    as_json: bool,
) -> int:
    """Try instructions, examples and parameters on the prompt that REF means, and rank them over a golden set.

    Examples are well-rated answers: look at them before you promote what holds them. Each proposal that is measured is
    kept as a version and a variant; no label moves, and nothing is served but by --experiment.
    """
    where = platform(data)
    bench = Bench(where, scope=scope_of(where, corpus), dataset=dataset, metric=metric, reason=reason, quiet=as_json)
    with calls(where, "registry", pb_grpc.PromptServiceStub) as service:
        base = service.GetPrompt(pb.GetPromptRequest(prompt=ref)).prompt
    bench.base = bench.variant(variant)
    first = bench.measure(Proposal(name="as it is", kind="base", prompt=base))
    if first.problem:
        raise Invalid(f"the prompt itself cannot be measured: {first.problem}", field="dataset")
    tried = [bench.measure(each) for each in proposals(base, examples(where, corpus))]
    both = combined(base, first, tried)
    if both is not None:
        tried.append(bench.measure(both))
    ranking = sorted((first, *(each for each in tried if not each.problem)), key=lambda each: -each.value)
    best = ranking[0]
    report: dict[str, Any] = {
        "metric": metric,
        "ranking": [_row(each, first) for each in ranking],
        "failed": [_row(each, first) for each in tried if each.problem],
        "best": _row(best, first) if best is not first else None,
        "difference": bench.difference(first, best) if best is not first else None,
        "experiment": None,
    }
    if experiment and best is not first:
        report["experiment"] = bench.experiment(experiment, first, best, percent)
    emit(report, as_json=as_json, human=lambda: show(report))
    return DONE


class Bench:
    """Measures proposals on one golden set, each as a version and a variant of its own."""

    def __init__(self, where: Platform, *, scope: str, dataset: str, metric: str, reason: str, quiet: bool) -> None:
        """`base` is set before anything is measured."""
        self.where = where
        self.scope = scope
        self.dataset = dataset
        self.metric = metric
        self.reason = reason
        self.quiet = quiet
        self.base = registry_events.Variant()

    def variant(self, variant_id: str) -> registry_events.Variant:
        """The variant to build on. Raises Invalid when none serves."""
        with calls(self.where, "registry", registry_grpc.RegistryServiceStub) as service:
            if not variant_id:
                routing = routed(service, self.scope)
                shares = routing["shares"] if routing else []
                if not shares:
                    raise Invalid(f"nothing serves {self.scope}: name a variant with --variant", field="variant")
                variant_id = max(shares, key=lambda share: share["weight"])["variant"]["variant_id"]
            found: registry_events.Variant = service.GetVariant(
                registry.GetVariantRequest(variant_id=variant_id)
            ).variant
            return found

    def measure(self, proposal: Proposal) -> Measured:
        """The proposal's metric; a problem where it was refused or its run failed."""
        try:
            variant_id = self._kept(proposal)
            with calls(self.where, "evaluation", evaluation_grpc.EvaluationServiceStub) as service:
                started = service.StartRun(
                    evaluation.StartRunRequest(
                        tenant=self.where.tenant, dataset=self.dataset, variant_id=variant_id, answers=True
                    )
                )
                run = finished(service, started.run_id, quiet=self.quiet)
        except Fault as fault:
            return Measured(proposal=proposal, variant_id="", run_id="", value=0.0, problem=str(fault))
        found = next((each for each in run.metrics if each.name == self.metric and not each.slice), None)
        problem = run.problem if run.state != evaluation.RUN_STATE_DONE else ""
        if found is None and not problem:
            names = ", ".join(sorted({each.name for each in run.metrics})) or "none"
            problem = f"the run has no metric {self.metric!r}; it has: {names}"
        measured = Measured(proposal=proposal, variant_id=variant_id, run_id=run.run_id, value=0.0, problem=problem)
        return measured if found is None else replace(measured, value=found.value, low=found.low, high=found.high)

    def _kept(self, proposal: Proposal) -> str:
        """The proposal as a version and a variant; the variant's id."""
        with calls(self.where, "registry", pb_grpc.PromptServiceStub) as service:
            made = service.CreatePrompt(
                pb.CreatePromptRequest(prompt=proposal.prompt, author=author(), reason=self.reason)
            ).prompt
        variant = registry_events.Variant()
        variant.CopyFrom(self.base)
        variant.ClearField("variant_id")
        variant.description = f"{made.name}, {proposal.name}"
        variant.generation.ClearField("prompt")
        variant.generation.prompt_ref = f"{made.name}@{made.prompt_version}"
        if made.temperature:
            variant.generation.temperature = 0
        if made.max_tokens:
            variant.generation.max_tokens = 0
        with calls(self.where, "registry", registry_grpc.RegistryServiceStub) as service:
            kept: str = service.CreateVariant(
                registry.CreateVariantRequest(variant=variant, author=author(), reason=self.reason)
            ).variant.variant_id
        return kept

    def difference(self, first: Measured, best: Measured) -> dict[str, Any] | None:
        """The best beside the first, paired by question."""
        with calls(self.where, "evaluation", evaluation_grpc.EvaluationServiceStub) as service:
            found = service.CompareRuns(
                evaluation.CompareRunsRequest(baseline_run_id=first.run_id, candidate_run_id=best.run_id)
            )
        return next((document(each) for each in found.differences if each.name == self.metric), None)

    def experiment(self, name: str, first: Measured, best: Measured, percent: float) -> dict[str, Any]:
        """The experiment that sets the best beside what serves."""
        weight = round(percent * _PERCENT)
        control = self.base.variant_id or first.variant_id
        arms = [
            lineage.Arm(name="control", variant_id=control, weight=100 * _PERCENT - weight, control=True),
            lineage.Arm(name="proposed", variant_id=best.variant_id, weight=weight),
        ]
        with calls(self.where, "registry", registry_grpc.RegistryServiceStub) as service:
            begun = service.CreateExperiment(
                registry.CreateExperimentRequest(
                    name=name,
                    scope=self.scope,
                    arms=arms,
                    design=loop.ExperimentDesign(),
                    author=author(),
                    reason=self.reason,
                )
            ).experiment
        return document(begun)


def proposals(base: prompts.PromptTemplate, shown: Sequence[tuple[str, str]]) -> Iterator[Proposal]:
    """Instructions, examples and parameters, each on its own. Raises Invalid for a prompt without a system text."""
    if not base.system:
        raise Invalid("has no system text that an instruction could be put to", field="prompt")
    for name, instruction in INSTRUCTIONS:
        yield Proposal(name=name, kind="instruction", prompt=changed(base, name, _told(instruction)))
    for count in _EXAMPLES:
        if len(shown) >= count:
            text = _shown(shown[:count])
            name = f"{count} examples"
            yield Proposal(name=name, kind="examples", prompt=changed(base, name, _told(text)))
    for name, values in PARAMETERS:
        yield Proposal(name=name, kind="parameters", prompt=changed(base, name, _set(values)))


def combined(base: prompts.PromptTemplate, first: Measured, tried: Sequence[Measured]) -> Proposal | None:
    """The best of each kind together, where at least two kinds beat the prompt as it is."""
    better = [each for each in tried if not each.problem and each.value > first.value]
    best = {}
    for each in sorted(better, key=lambda one: one.value):
        best[each.proposal.kind] = each.proposal
    if len(best) < 2:  # noqa: PLR2004  one alone was measured already
        return None
    made = prompts.PromptTemplate()
    made.CopyFrom(base)
    for proposal in best.values():
        added = proposal.prompt.system.removeprefix(base.system)
        made.system += added
        made.temperature = made.temperature or proposal.prompt.temperature
        made.max_tokens = made.max_tokens or proposal.prompt.max_tokens
    name = " + ".join(proposal.name for proposal in best.values())
    return Proposal(name=name, kind="combined", prompt=changed(made, name, lambda _: None))


def changed(
    base: prompts.PromptTemplate, name: str, change: Callable[[prompts.PromptTemplate], None]
) -> prompts.PromptTemplate:
    """A copy of a prompt with one thing changed, without what its content says of it."""
    made = prompts.PromptTemplate()
    made.CopyFrom(base)
    made.ClearField("prompt_version")
    made.ClearField("included")
    made.description = f"proposed: {name}"
    change(made)
    return made


def _told(text: str) -> Callable[[prompts.PromptTemplate], None]:
    def change(made: prompts.PromptTemplate) -> None:
        made.system += f"\n{text}"
        for one in made.models:
            if one.system:
                one.system += f"\n{text}"

    return change


def _set(values: Mapping[str, float]) -> Callable[[prompts.PromptTemplate], None]:
    def change(made: prompts.PromptTemplate) -> None:
        for name, value in values.items():
            setattr(made, name, value)

    return change


def examples(where: Platform, corpus: str | None) -> list[tuple[str, str]]:
    """Questions and answers that people rated well, shortest first, no question twice."""
    found: dict[str, str] = {}
    token = ""
    with calls(where, "feedback", feedback_grpc.FeedbackServiceStub) as service:
        while True:
            page = service.ExportRatings(
                feedback.ExportRatingsRequest(
                    tenant=where.tenant, corpus=corpus or "", page_size=_PAGE, page_token=token, with_content=True
                )
            )
            for each in page.ratings:
                answer = each.answer
                good = well_rated(each.rating) and answer.has_content and not answer.abstained
                if good and 0 < len(answer.answer) <= _LONGEST and len(answer.question) <= _LONGEST:
                    found.setdefault(answer.question, answer.answer)
            token = page.next_page_token
            if not token:
                break
    return sorted(found.items(), key=lambda pair: (len(pair[0]) + len(pair[1]), pair))


def well_rated(rating: ratings.RatingGiven) -> bool:
    """Whether people said that the answer was good."""
    given = rating.given
    if given.HasField("thumb"):
        return given.thumb.up
    return given.HasField("rating") and given.rating.stars >= _GOOD_STARS


def _shown(pairs: Sequence[tuple[str, str]]) -> str:
    """Examples as text of a template: whatever people wrote, nothing of it is a template's."""
    lines = ["These are good answers to other questions:"]
    for question, answer in pairs:
        lines += [f"Question: {_inert(question)}", f"Answer: {_inert(answer)}"]
    return "\n".join(lines)


def _inert(text: str) -> str:
    return " ".join(harmless(text).replace("{", "(").replace("}", ")").split())


def _row(each: Measured, first: Measured) -> dict[str, Any]:
    return {
        "name": each.proposal.name,
        "kind": each.proposal.kind,
        "variant_id": each.variant_id,
        "run_id": each.run_id,
        "value": round(each.value, 4),
        "low": round(each.low, 4),
        "high": round(each.high, 4),
        "difference": round(each.value - first.value, 4),
        "problem": each.problem,
    }


def show(report: dict[str, Any]) -> None:
    """For people, best first."""
    for row in report["ranking"]:
        console.print(
            f"  {report['metric']} {row['value']:.4f} ({row['low']:.4f} to {row['high']:.4f})  "
            f"{row['difference']:+.4f}  {row['kind']:<12} {row['name']}  {row['variant_id']}",
            markup=False,
        )
    for row in report["failed"]:
        console.print(f"  {row['name']}: {row['problem']}", style="yellow", markup=False)
    if (each := report["difference"]) is not None:
        console.print(f"  paired: {each['difference']:+.4f} ({each['low']:+.4f} to {each['high']:+.4f})", markup=False)
    if report["best"] is None:
        console.print("  nothing beats the prompt as it is")
    if (begun := report["experiment"]) is not None:
        console.print(f"  experiment {begun['experiment_id']} has begun", markup=False)
