"""`anabranch lineage`: from an answer down to what caused it, from a document or data set up to what became of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from anabranch.feedback.v1 import feedback_service_pb2 as feedback
from anabranch.feedback.v1 import feedback_service_pb2_grpc as feedback_grpc
from anabranch.registry.v1 import registry_service_pb2 as registry
from anabranch.registry.v1 import registry_service_pb2_grpc as registry_grpc
from anabranch.training.v1 import training_service_pb2 as training
from anabranch.training.v1 import training_service_pb2_grpc as training_grpc
from anabranch_cli.connection import Platform, data_option, platform
from anabranch_cli.internal import calls, document, moment
from anabranch_cli.output import DONE, console, emit, json_option
from anabranch_faults import Invalid, NotFound

REGISTERED = ("v-", "rr-", "ad-", "rw-", "ds-", "ca-", "ex-", "gp-")
"""What ids of the registry begin with."""


@click.command()
@click.argument("subject", metavar="ANSWER_ID|MODEL|DATASET|VARIANT|CANDIDATE|DOCUMENT")
@click.option("--corpus", help="For a document: where it is.")
@data_option
@json_option
def lineage(*, subject: str, corpus: str | None, data: Path | None, as_json: bool) -> int:
    """Walk the whole chain of SUBJECT, up and down."""
    where = platform(data)
    if corpus is not None:
        report = of_document(where, corpus, subject)
    elif subject.startswith(REGISTERED) or "@" in subject:  # a prompt's version or label: name@...
        report = {"subject": subject, "kind": "registry"} | registered(where, subject)
    else:
        report = of_answer(where, subject)
    emit(report, as_json=as_json, human=lambda: show(report))
    return DONE


def registered(where: Platform, subject: str) -> dict[str, Any]:
    """Nodes and edges around something the registry knows."""
    with calls(where, "registry", registry_grpc.RegistryServiceStub) as service:
        found = service.GetLineage(registry.GetLineageRequest(id=subject))
    return document(found)


def of_answer(where: Platform, answer_id: str) -> dict[str, Any]:
    """An answer: what was made of it, what it was drawn from, and how its variant came to be."""
    with calls(where, "feedback", feedback_grpc.FeedbackServiceStub) as service:
        try:
            found = service.GetAnswer(feedback.GetAnswerRequest(tenant=where.tenant, answer_id=answer_id))
        except NotFound as fault:
            raise Invalid(
                f"{answer_id} is no answer of {where.tenant}, nor an id of the registry; for a document give --corpus",
                field="subject",
            ) from fault
    with calls(where, "training", training_grpc.TrainingServiceStub) as service:
        used = service.TraceUse(training.TraceUseRequest(tenant=where.tenant, answer_id=answer_id)).datasets
    return {
        "subject": answer_id,
        "kind": "answer",
        "question": found.answer.question,
        "answer": found.answer.answer,
        "served_at": moment(found.answer.served_at),
        "cause": document(found.cause),
        "feedback": [document(each.given) | {"feedback_id": each.feedback_id} for each in found.feedback],
        "datasets": [document(each) for each in used],
    } | registered(where, found.cause.variant_id)


def of_document(where: Platform, corpus: str, document_id: str) -> dict[str, Any]:
    """A document: the answers drawn from it, and the data sets that hold feedback about those."""
    names: dict[str, Any] = {"tenant": where.tenant, "corpus": corpus, "document_id": document_id}
    with calls(where, "feedback", feedback_grpc.FeedbackServiceStub) as service:
        answers = service.ListAnswers(feedback.ListAnswersRequest(**names)).answers
    with calls(where, "training", training_grpc.TrainingServiceStub) as service:
        used = service.TraceUse(training.TraceUseRequest(**names)).datasets
    if not answers and not used:
        raise NotFound(f"no answer was drawn from {document_id} in {corpus}", field="subject")
    nodes: dict[str, Any] = {}
    edges: list[Any] = []
    for each in used:
        around = registered(where, each.dataset_version)
        nodes |= {node["id"]: node for node in around["nodes"]}
        edges += [edge for edge in around["edges"] if edge not in edges]
    return {
        "subject": document_id,
        "kind": "document",
        "answers": [document(each) for each in answers],
        "datasets": [document(each) for each in used],
        "nodes": list(nodes.values()),
        "edges": edges,
    }


def show(report: dict[str, Any]) -> None:
    """For people: what it is, what led to it, what came of it."""
    console.print(f"  {report['kind']} {report['subject']}", markup=False)
    if cause := report.get("cause"):
        console.print(f"    asked: {report['question']}", markup=False)
        console.print(
            f"    served {report['served_at']} by {cause['variant_id']}, routing {cause['routing_scope']} "
            f"revision {cause['routing_revision']}, index generation {cause['index_generation']}, "
            f"reranker {cause['reranker_version'] or '-'}, {cause['backend']} {cause['model']}",
            markup=False,
        )
        for chunk in cause["chunks"]:
            cited = ", cited" if chunk["cited"] else ""
            console.print(
                f"    {chunk['shown_rank']}. {chunk['document']['document_id']} version {chunk['document']['version']} "
                f"chunk {chunk['chunk_id']}, score {chunk['score']:.3f}{cited}",
                markup=False,
            )
    for answer in report.get("answers", ()):
        console.print(f"    answer {answer['answer_id']}: {answer['question']}", markup=False)
    for given in report.get("feedback", ()):
        console.print(f"    feedback {given['feedback_id']} by {given['user_id']}", markup=False)
    for each in report.get("datasets", ()):
        console.print(f"    in data set {each['dataset_version']}", markup=False)
    for node in report.get("nodes", ()):
        console.print(f"    {node['kind']:<10} {node['id']}  {node['summary']}", markup=False)
    for edge in report.get("edges", ()):
        console.print(f"      {edge['from']} -> {edge['to']}  {edge['how']}", markup=False)
