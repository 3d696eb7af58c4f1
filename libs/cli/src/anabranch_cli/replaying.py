"""`anabranch prompt replay`: a new prompt on old questions, beside what was answered then."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
import grpc
from google.protobuf.json_format import MessageToDict

from anabranch.feedback.v1 import feedback_service_pb2 as feedback
from anabranch.feedback.v1 import feedback_service_pb2_grpc as feedback_grpc
from anabranch.gateway.v1 import events_pb2 as gateway
from anabranch.generation.v1 import generation_service_pb2 as generation
from anabranch.generation.v1 import generation_service_pb2_grpc as generation_grpc
from anabranch.registry.v1 import events_pb2 as registry_events
from anabranch.registry.v1 import prompt_service_pb2 as pb
from anabranch.registry.v1 import prompt_service_pb2_grpc as pb_grpc
from anabranch.registry.v1 import registry_service_pb2 as registry
from anabranch.registry.v1 import registry_service_pb2_grpc as registry_grpc
from anabranch_cli.connection import Platform, data_option, platform
from anabranch_cli.internal import LARGE, calls
from anabranch_cli.money import moment_before
from anabranch_cli.output import DONE, FAILED, console, emit, json_option, progress
from anabranch_client.errors import fault_from
from anabranch_faults import Fault, Invalid, NotFound
from anabranch_grounding import groundedness, relevance
from anabranch_prompts import PromptTemplate, Rendered, render
from anabranch_prompts.messages import template_of

PAGE: Final = 200
SECONDS: Final = 120.0
"""For one answer."""
_BOUNDARY: Final = "replay"
_WORDLESS: Final = frozenset(("extractive",))
"""Backends that are told no prompt."""
_ROLES: Final = {generation.ROLE_USER: "user", generation.ROLE_ASSISTANT: "assistant"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """One old question under two prompts. A problem says why there is no rendering or no answer."""

    answer_id: str
    question: str
    old_version: str
    prompt_diff: Sequence[str] = ()
    old_answer: str = ""
    new_answer: str | None = None
    old_scores: dict[str, float] = field(default_factory=dict)
    new_scores: dict[str, float] = field(default_factory=dict)
    tokens: tuple[int, int] | None = None
    problem: str = ""

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "answer_id": self.answer_id,
            "question": self.question,
            "old_prompt_version": self.old_version,
            "prompt_diff": list(self.prompt_diff),
            "old_answer": self.old_answer,
            "new_answer": self.new_answer,
            "answer_changed": self.new_answer is not None and self.new_answer != self.old_answer,
            "old_scores": self.old_scores,
            "new_scores": self.new_scores,
            "tokens": list(self.tokens) if self.tokens else None,
            "problem": self.problem,
        }


@click.command()
@click.argument("ref")
@click.option("--since", default="7d", show_default=True, help="How long ago (24h, 7d), or a day (2026-11-21).")
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="At most the newest N answers."
)
@click.option("--corpus", default="", help="Only answers from this corpus.")
@click.option("--render-only", is_flag=True, help="Compare prompts; ask no model.")
@data_option
@json_option
def replay(
    *, ref: str, since: str, limit: int, corpus: str, render_only: bool, data: Path | None, as_json: bool
) -> int:
    """Put the prompt that REF means on recorded questions, passages, history and variables, beside the old answers.

    A model answers again only where the variant's backend is one. Exit code 1: the prompt cannot be rendered for some.
    """
    where = platform(data)
    with calls(where, "registry", pb_grpc.PromptServiceStub) as service:
        prompt = template_of(service.GetPrompt(pb.GetPromptRequest(prompt=ref)).prompt)
    answers = list(recorded(where, since=moment_before(since, datetime.now(UTC)), limit=limit, corpus=corpus))
    shop = Shop(where)
    rows: list[Replayed] = []
    with progress("answers", len(answers), quiet=as_json) as advance:
        for answer in answers:
            rows.append(replayed(shop, prompt, answer, ask=not render_only))
            advance(1)
    report = summary(f"{prompt.name}@{prompt.prompt_version}", rows)
    emit(report, as_json=as_json, human=lambda: show(report))
    return FAILED if report["failed"] else DONE


def recorded(where: Platform, *, since: datetime, limit: int, corpus: str) -> Iterator[gateway.AnswerServed]:
    """Recorded answers with their content, newest first."""
    token = ""
    left = limit
    with calls(where, "feedback", feedback_grpc.FeedbackServiceStub) as service:
        while left:
            page = service.ListAnswers(
                feedback.ListAnswersRequest(tenant=where.tenant, corpus=corpus, page_size=PAGE, page_token=token)
            )
            for each in page.answers:
                if each.served_at.ToDatetime(tzinfo=UTC) < since:
                    return
                wanted = feedback.GetAnswerRequest(tenant=where.tenant, answer_id=each.answer_id)
                answer = service.GetAnswer(wanted).answer
                # An answer from the cache repeats one that is there itself.
                if answer.has_content and not answer.cached_from and left:
                    left -= 1
                    yield answer
            token = page.next_page_token
            if not token:
                return


class Shop:
    """What the registry and generation know, asked for once."""

    def __init__(self, where: Platform) -> None:
        """Asks nothing yet."""
        self.where = where
        self._variants: dict[str, registry_events.Variant | None] = {}
        self._prompts: dict[str, PromptTemplate | None] = {}
        self._default: str | None = None

    def variant(self, variant_id: str) -> registry_events.Variant | None:
        """The variant; None where the registry has none of that id."""
        if variant_id not in self._variants:
            with calls(self.where, "registry", registry_grpc.RegistryServiceStub) as service:
                try:
                    found = service.GetVariant(registry.GetVariantRequest(variant_id=variant_id)).variant
                except (NotFound, Invalid):
                    found = None
            self._variants[variant_id] = found
        return self._variants[variant_id]

    def prompt(self, ref: str) -> PromptTemplate | None:
        """The prompt of a reference; None where there is none."""
        if ref not in self._prompts:
            with calls(self.where, "registry", pb_grpc.PromptServiceStub) as service:
                try:
                    found = template_of(service.GetPrompt(pb.GetPromptRequest(prompt=ref)).prompt)
                except (NotFound, Invalid):
                    found = None
            self._prompts[ref] = found
        return self._prompts[ref]

    def backend(self, settings: generation.GenerationSettings) -> str:
        """The backend that settings mean."""
        if settings.backend:
            return settings.backend
        if self._default is None:
            with calls(self.where, "generation", generation_grpc.GenerationServiceStub) as service:
                known = service.ListBackends(generation.ListBackendsRequest()).backends
            self._default = known[0].name if known else ""
        return self._default

    def generate(self, request: generation.GenerateRequest) -> tuple[str, generation.Generated]:
        """A whole answer, without history's or anybody's cache. Raises Fault."""
        target = self.where.local_state().targets["generation"].split(",")[0]
        text, generated = "", generation.Generated()
        with grpc.insecure_channel(target, options=list(LARGE)) as channel:
            try:
                for event in generation_grpc.GenerationServiceStub(channel).Generate(request, timeout=SECONDS):
                    text += event.delta
                    if event.HasField("generated"):
                        generated = event.generated
            except grpc.RpcError as error:
                raise fault_from(error) from error
        return text, generated


def replayed(shop: Shop, prompt: PromptTemplate, answer: gateway.AnswerServed, *, ask: bool) -> Replayed:
    """One answer under the new prompt."""
    variant = shop.variant(answer.variant_id)
    settings = generation.GenerationSettings()
    if variant is not None:
        settings.CopyFrom(variant.generation)
    model = settings.model or answer.model
    old = _old(shop, prompt, settings, answer)
    contexts = [passage.text for passage in answer.passages]
    known = Replayed(
        answer_id=answer.answer_id,
        question=answer.question,
        old_version=answer.prompt_version,
        old_answer=answer.answer,
        old_scores=_scores(answer.question, answer.answer, contexts),
    )
    try:
        new = _rendered(prompt, answer, model)
    except Invalid as fault:
        return _with(known, problem=str(fault))
    before = _text(_rendered(old, answer, model)) if old is not None else []
    known = _with(
        known, prompt_diff=list(difflib.unified_diff(before, _text(new), "old prompt", "new prompt", lineterm="", n=1))
    )
    if not ask or shop.backend(settings) in _WORDLESS:
        return known
    settings.prompt_ref = f"{prompt.name}@{prompt.prompt_version}"
    settings.ClearField("cascade")
    request = generation.GenerateRequest(
        question=answer.search_query or answer.question,
        passages=answer.passages,
        settings=settings,
        history=answer.history,
        variables=answer.variables,
    )
    try:
        text, generated = shop.generate(request)
    except Fault as fault:
        return _with(known, problem=str(fault))
    tokens = answer.usage.prompt_tokens + answer.usage.completion_tokens
    spent = generated.usage.prompt_tokens + generated.usage.completion_tokens
    return _with(known, new_answer=text, new_scores=_scores(answer.question, text, contexts), tokens=(tokens, spent))


def _with(row: Replayed, **changed: Any) -> Replayed:
    values = {name: getattr(row, name) for name in Replayed.__dataclass_fields__}
    return Replayed(**{**values, **changed})


def _old(
    shop: Shop, prompt: PromptTemplate, settings: generation.GenerationSettings, answer: gateway.AnswerServed
) -> PromptTemplate | None:
    """The prompt that the answer was written by; None where it was the service's own, or is not known any more."""
    name = settings.prompt_ref.partition("@")[0] or prompt.name
    if answer.prompt_version.startswith("p-"):
        return shop.prompt(f"{name}@{answer.prompt_version}")
    inline = settings.prompt
    if inline.system or inline.template:
        return PromptTemplate(name="inline", system=inline.system, template=inline.template)
    return None


def _rendered(prompt: PromptTemplate, answer: gateway.AnswerServed, model: str) -> Rendered:
    return render(
        prompt,
        model=model,
        variables=MessageToDict(answer.variables),
        question=answer.search_query or answer.question,
        contexts=[
            {"title": " > ".join((each.title, *each.title_path)).strip(" >"), "text": each.text}
            for each in answer.passages
        ],
        history=[{"role": _ROLES.get(turn.role, "user"), "text": turn.text} for turn in answer.history],
        boundary=_BOUNDARY,
    )


def _text(rendered: Rendered) -> list[str]:
    return [*rendered.system.splitlines(), "", *rendered.user.splitlines()]


def _scores(question: str, answer: str, contexts: Sequence[str]) -> dict[str, float]:
    return {
        "groundedness": round(groundedness(answer, contexts).score, 4),
        "relevance": round(relevance(question, answer), 4),
    }


def summary(ref: str, rows: Sequence[Replayed]) -> dict[str, Any]:
    """All of it, and the means over what was answered again."""
    again = [row for row in rows if row.new_answer is not None]
    means: dict[str, dict[str, float]] = {}
    for name in ("groundedness", "relevance") if again else ():
        means[name] = {
            "old": round(sum(row.old_scores[name] for row in again) / len(again), 4),
            "new": round(sum(row.new_scores[name] for row in again) / len(again), 4),
        }
    return {
        "prompt": ref,
        "answers": len(rows),
        "prompts_changed": sum(bool(row.prompt_diff) for row in rows),
        "answered_again": len(again),
        "answers_changed": sum(row.new_answer != row.old_answer for row in again),
        "failed": sum(bool(row.problem) for row in rows),
        "means": means,
        "rows": [row.document() for row in rows],
    }


def show(report: dict[str, Any]) -> None:
    """For people."""
    for row in report["rows"]:
        console.print(f"  {row['answer_id']}  {row['question']}", markup=False)
        if row["problem"]:
            console.print(f"    {row['problem']}", style="yellow", markup=False)
        for line in row["prompt_diff"][2:]:
            style = {"+": "green", "-": "red"}.get(line[:1])
            console.print(f"    {line}", style=style, markup=False, highlight=False)
        if row["answer_changed"]:
            console.print(f"    was: {row['old_answer']}", style="red", markup=False)
            console.print(f"    is:  {row['new_answer']}", style="green", markup=False)
    counts = (
        " answers, {prompts_changed} prompts differ, {answered_again} answered again, {answers_changed} answers differ"
    )
    console.print(f"  {report['answers']}{counts.format(**report)}, {report['failed']} failed", markup=False)
    for name, each in report["means"].items():
        console.print(f"  {name:<14} {each['old']:.4f} -> {each['new']:.4f}", markup=False)
