"""The topics of Anabranch. Generated from protos/topics by `make gen`; do not edit."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Generic, TypeVar

from google.protobuf.message import Message

from anabranch.embedding.v1 import events_pb2 as embedding_v1
from anabranch.evaluation.v1 import events_pb2 as evaluation_v1
from anabranch.feedback.v1 import events_pb2 as feedback_v1
from anabranch.gateway.v1 import events_pb2 as gateway_v1
from anabranch.gateway.v1 import usage_pb2 as gateway_v1_usage
from anabranch.guardrails.v1 import events_pb2 as guardrails_v1
from anabranch.ingestion.v1 import events_pb2 as ingestion_v1
from anabranch.registry.v1 import events_pb2 as registry_v1
from anabranch.registry.v1 import guards_pb2 as registry_v1_guards
from anabranch.registry.v1 import lineage_pb2 as registry_v1_lineage
from anabranch.registry.v1 import loop_pb2 as registry_v1_loop
from anabranch.registry.v1 import prompts_pb2 as registry_v1_prompts
from anabranch.registry.v1 import quotas_pb2 as registry_v1_quotas
from anabranch.retrieval.v1 import events_pb2 as retrieval_v1
from anabranch.training.v1 import events_pb2 as training_v1
from anabranch.upstream.v1 import events_pb2 as upstream_v1
from anabranch.upstream.v1 import feedback_pb2 as upstream_v1_feedback

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic(Generic[M]):
    """A topic as its manifest declares it. `consumers` are consumer groups inside the project."""

    name: str
    description: str
    owner: str
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    message: type[M]
    key: str
    partitions: int
    compacted: bool
    retention: timedelta | None
    max_message_bytes: int
    dead_letter_retention: timedelta | None

    def dead_letters(self, group: str) -> str:
        """Name of the topic where a group of consumers puts what it could not handle."""
        return f"{self.name}.{group}.dlq"


EMBEDDING_CHUNKS_EMBEDDED: Final[Topic[embedding_v1.ChunksEmbedded]] = Topic(
    name='embedding.chunks.embedded.v1',
    description='Chunks with their vectors, part for part.',
    owner='embedding',
    producers=('embedding',),
    consumers=('retrieval',),
    message=embedding_v1.ChunksEmbedded,
    key='<tenant>/<corpus>/<document_id>',
    partitions=6,
    compacted=False,
    retention=timedelta(days=3),
    max_message_bytes=8388608,
    dead_letter_retention=timedelta(days=30),
)

EVALUATION_ANSWER_SCORED: Final[Topic[evaluation_v1.AnswerScored]] = Topic(
    name='evaluation.answer.scored.v1',
    description='The scores of one sampled answer.',
    owner='evaluation',
    producers=('evaluation',),
    consumers=('feedback',),
    message=evaluation_v1.AnswerScored,
    key='<tenant>/<answer_id>',
    partitions=6,
    compacted=False,
    retention=timedelta(days=30),
    max_message_bytes=1048576,
    dead_letter_retention=timedelta(days=30),
)

EVALUATION_EXPERIMENT_DECIDED: Final[Topic[evaluation_v1.ExperimentDecided]] = Topic(
    name='evaluation.experiment.decided.v1',
    description='What an experiment has shown.',
    owner='evaluation',
    producers=('evaluation',),
    consumers=('registry',),
    message=evaluation_v1.ExperimentDecided,
    key='<experiment_id>',
    partitions=1,
    compacted=False,
    retention=timedelta(days=30),
    max_message_bytes=1048576,
    dead_letter_retention=timedelta(days=30),
)

EVALUATION_GATE_DECIDED: Final[Topic[evaluation_v1.GateDecided]] = Topic(
    name='evaluation.gate.decided.v1',
    description='The verdict on a candidate.',
    owner='evaluation',
    producers=('evaluation',),
    consumers=('registry',),
    message=evaluation_v1.GateDecided,
    key='<candidate_id>',
    partitions=1,
    compacted=False,
    retention=timedelta(days=30),
    max_message_bytes=1048576,
    dead_letter_retention=timedelta(days=30),
)

FEEDBACK_RATING_GIVEN: Final[Topic[feedback_v1.RatingGiven]] = Topic(
    name='feedback.rating.given.v1',
    description='A feedback, joined to everything that caused the answer.',
    owner='feedback',
    producers=('feedback',),
    consumers=('evaluation', 'training'),
    message=feedback_v1.RatingGiven,
    key='<tenant>/<answer_id>',
    partitions=6,
    compacted=False,
    retention=timedelta(days=30),
    max_message_bytes=1048576,
    dead_letter_retention=timedelta(days=30),
)

FEEDBACK_RATING_REJECTED: Final[Topic[feedback_v1.RatingRejected]] = Topic(
    name='feedback.rating.rejected.v1',
    description='A feedback that will not be used, with the reason.',
    owner='feedback',
    producers=('feedback',),
    consumers=(),
    message=feedback_v1.RatingRejected,
    key='<tenant>/<answer_id>',
    partitions=6,
    compacted=False,
    retention=timedelta(days=30),
    max_message_bytes=262144,
    dead_letter_retention=timedelta(days=30),
)

GATEWAY_ANSWER_SERVED: Final[Topic[gateway_v1.AnswerServed]] = Topic(
    name='gateway.answer.served.v1',
    description='One answer, with everything that led to it.',
    owner='gateway',
    producers=('gateway',),
    consumers=('evaluation', 'feedback'),
    message=gateway_v1.AnswerServed,
    key='<tenant>/<answer_id>',
    partitions=6,
    compacted=False,
    retention=timedelta(days=30),
    max_message_bytes=4194304,
    dead_letter_retention=timedelta(days=30),
)

GATEWAY_BUDGET_CROSSED: Final[Topic[gateway_v1_usage.BudgetCrossed]] = Topic(
    name='gateway.budget.crossed.v1',
    description='A soft or hard bound of a budget was reached.',
    owner='gateway',
    producers=('gateway',),
    consumers=(),
    message=gateway_v1_usage.BudgetCrossed,
    key='<subject>',
    partitions=1,
    compacted=False,
    retention=timedelta(days=400),
    max_message_bytes=1048576,
    dead_letter_retention=timedelta(days=30),
)

GATEWAY_USAGE_METERED: Final[Topic[gateway_v1_usage.UsageMetered]] = Topic(
    name='gateway.usage.metered.v1',
    description='Calls of models, priced: the ledger of what answers cost.',
    owner='gateway',
    producers=('gateway',),
    consumers=('registry',),
    message=gateway_v1_usage.UsageMetered,
    key='<tenant>/<answer_id>',
    partitions=6,
    compacted=False,
    retention=timedelta(days=400),
    max_message_bytes=1048576,
    dead_letter_retention=timedelta(days=30),
)

GUARDRAILS_REQUEST_BLOCKED: Final[Topic[guardrails_v1.RequestBlocked]] = Topic(
    name='guardrails.request.blocked.v1',
    description='Texts that guardrails blocked or withheld. No content.',
    owner='guardrails',
    producers=('guardrails',),
    consumers=(),
    message=guardrails_v1.RequestBlocked,
    key='<tenant>/<request_id>',
    partitions=6,
    compacted=False,
    retention=timedelta(days=30),
    max_message_bytes=1048576,
    dead_letter_retention=timedelta(days=30),
)

INGESTION_DOCUMENT_CHUNKED: Final[Topic[ingestion_v1.DocumentChunked]] = Topic(
    name='ingestion.document.chunked.v1',
    description='The chunks of one document version, part by part, or its deletion.',
    owner='ingestion',
    producers=('ingestion',),
    consumers=('embedding',),
    message=ingestion_v1.DocumentChunked,
    key='<tenant>/<corpus>/<document_id>',
    partitions=6,
    compacted=False,
    retention=timedelta(days=7),
    max_message_bytes=4194304,
    dead_letter_retention=timedelta(days=30),
)

INGESTION_DOCUMENT_STATUS: Final[Topic[ingestion_v1.DocumentStatusChanged]] = Topic(
    name='ingestion.document.status.v1',
    description='What became of every change: accepted and then queryable, or rejected with a reason.',
    owner='ingestion',
    producers=('ingestion',),
    consumers=(),
    message=ingestion_v1.DocumentStatusChanged,
    key='<tenant>/<corpus>/<document_id>',
    partitions=6,
    compacted=False,
    retention=timedelta(days=30),
    max_message_bytes=1048576,
    dead_letter_retention=timedelta(days=30),
)

REGISTRY_CANDIDATE_CHANGED: Final[Topic[registry_v1_lineage.CandidateChanged]] = Topic(
    name='registry.candidate.changed.v1',
    description='Where a candidate stands. Compacted: the last record of a candidate holds.',
    owner='registry',
    producers=('registry',),
    consumers=('evaluation',),
    message=registry_v1_lineage.CandidateChanged,
    key='<candidate_id>',
    partitions=1,
    compacted=True,
    retention=None,
    max_message_bytes=1048576,
    dead_letter_retention=timedelta(days=30),
)

REGISTRY_EXPERIMENT_CHANGED: Final[Topic[registry_v1_lineage.ExperimentChanged]] = Topic(
    name='registry.experiment.changed.v1',
    description='Experiments as they are. Compacted: the last record of an experiment holds.',
    owner='registry',
    producers=('registry',),
    consumers=('evaluation',),
    message=registry_v1_lineage.ExperimentChanged,
    key='<experiment_id>',
    partitions=1,
    compacted=True,
    retention=None,
    max_message_bytes=1048576,
    dead_letter_retention=timedelta(days=30),
)

REGISTRY_LOOP_CHANGED: Final[Topic[registry_v1_loop.LoopChanged]] = Topic(
    name='registry.loop.changed.v1',
    description='How the loop of a scope goes. Compacted: the last record of a scope holds.',
    owner='registry',
    producers=('registry',),
    consumers=('training', 'evaluation'),
    message=registry_v1_loop.LoopChanged,
    key='<scope>',
    partitions=1,
    compacted=True,
    retention=None,
    max_message_bytes=1048576,
    dead_letter_retention=timedelta(days=30),
)

REGISTRY_POLICY_CHANGED: Final[Topic[registry_v1_guards.PolicyChanged]] = Topic(
    name='registry.policy.changed.v1',
    description='Guardrail policies, and where they hold. Compacted: the last record of a key holds.',
    owner='registry',
    producers=('registry',),
    consumers=('gateway', 'guardrails'),
    message=registry_v1_guards.PolicyChanged,
    key='version/<policy_version> or scope/<scope>',
    partitions=1,
    compacted=True,
    retention=None,
    max_message_bytes=1048576,
    dead_letter_retention=timedelta(days=30),
)

REGISTRY_PRICE_CHANGED: Final[Topic[registry_v1_quotas.PriceChanged]] = Topic(
    name='registry.price.changed.v1',
    description="An operator's own prices of models. Compacted: the last record of a model holds.",
    owner='registry',
    producers=('registry',),
    consumers=('gateway',),
    message=registry_v1_quotas.PriceChanged,
    key='<backend>/<model>',
    partitions=1,
    compacted=True,
    retention=None,
    max_message_bytes=1048576,
    dead_letter_retention=timedelta(days=30),
)

REGISTRY_PROMPT_CHANGED: Final[Topic[registry_v1_prompts.PromptChanged]] = Topic(
    name='registry.prompt.changed.v1',
    description='Prompts, and what their labels mean. Compacted: the last record of a key holds.',
    owner='registry',
    producers=('registry',),
    consumers=('gateway', 'generation'),
    message=registry_v1_prompts.PromptChanged,
    key='prompt/<name>/<prompt_version> or label/<name>/<label>',
    partitions=1,
    compacted=True,
    retention=None,
    max_message_bytes=1048576,
    dead_letter_retention=timedelta(days=30),
)

REGISTRY_QUOTA_CHANGED: Final[Topic[registry_v1_quotas.QuotaChanged]] = Topic(
    name='registry.quota.changed.v1',
    description='What may be spent and asked. Compacted: the last record of a subject holds.',
    owner='registry',
    producers=('registry',),
    consumers=('gateway',),
    message=registry_v1_quotas.QuotaChanged,
    key='<subject>',
    partitions=1,
    compacted=True,
    retention=None,
    max_message_bytes=1048576,
    dead_letter_retention=timedelta(days=30),
)

REGISTRY_ROUTING_CHANGED: Final[Topic[registry_v1.RoutingChanged]] = Topic(
    name='registry.routing.changed.v1',
    description='Which variants serve which scope. Compacted: the last record of a scope holds.',
    owner='registry',
    producers=('registry',),
    consumers=('gateway', 'retrieval'),
    message=registry_v1.RoutingChanged,
    key='<scope>',
    partitions=1,
    compacted=True,
    retention=None,
    max_message_bytes=1048576,
    dead_letter_retention=timedelta(days=30),
)

RETRIEVAL_DOCUMENT_INDEXED: Final[Topic[retrieval_v1.DocumentIndexed]] = Topic(
    name='retrieval.document.indexed.v1',
    description='Readers now see this version, or no longer see the document; said after reading it back.',
    owner='retrieval',
    producers=('retrieval',),
    consumers=('gateway', 'ingestion'),
    message=retrieval_v1.DocumentIndexed,
    key='<tenant>/<corpus>/<document_id>',
    partitions=6,
    compacted=False,
    retention=timedelta(days=7),
    max_message_bytes=1048576,
    dead_letter_retention=timedelta(days=30),
)

TRAINING_CANDIDATE_TRAINED: Final[Topic[training_v1.CandidateTrained]] = Topic(
    name='training.candidate.trained.v1',
    description='A model that may become a variant.',
    owner='training',
    producers=('training',),
    consumers=('registry',),
    message=training_v1.CandidateTrained,
    key='<scope>',
    partitions=1,
    compacted=False,
    retention=timedelta(days=30),
    max_message_bytes=1048576,
    dead_letter_retention=timedelta(days=30),
)

UPSTREAM_DOCUMENT_CHANGED: Final[Topic[upstream_v1.DocumentChanged]] = Topic(
    name='upstream.document.changed.v1',
    description='A document exists in a new form, or no longer exists. Written by systems outside.',
    owner='(outside)',
    producers=('gateway',),
    consumers=('ingestion',),
    message=upstream_v1.DocumentChanged,
    key='<tenant>/<corpus>/<document_id>',
    partitions=6,
    compacted=False,
    retention=timedelta(days=7),
    max_message_bytes=25165824,
    dead_letter_retention=timedelta(days=30),
)

UPSTREAM_FEEDBACK_GIVEN: Final[Topic[upstream_v1_feedback.FeedbackGiven]] = Topic(
    name='upstream.feedback.given.v1',
    description='What one person made of one answer. Written by systems outside.',
    owner='(outside)',
    producers=(),
    consumers=('feedback',),
    message=upstream_v1_feedback.FeedbackGiven,
    key='<tenant>/<answer_id>',
    partitions=6,
    compacted=False,
    retention=timedelta(days=7),
    max_message_bytes=262144,
    dead_letter_retention=timedelta(days=30),
)

ALL: Final[tuple[Topic[Message], ...]] = (
    EMBEDDING_CHUNKS_EMBEDDED,
    EVALUATION_ANSWER_SCORED,
    EVALUATION_EXPERIMENT_DECIDED,
    EVALUATION_GATE_DECIDED,
    FEEDBACK_RATING_GIVEN,
    FEEDBACK_RATING_REJECTED,
    GATEWAY_ANSWER_SERVED,
    GATEWAY_BUDGET_CROSSED,
    GATEWAY_USAGE_METERED,
    GUARDRAILS_REQUEST_BLOCKED,
    INGESTION_DOCUMENT_CHUNKED,
    INGESTION_DOCUMENT_STATUS,
    REGISTRY_CANDIDATE_CHANGED,
    REGISTRY_EXPERIMENT_CHANGED,
    REGISTRY_LOOP_CHANGED,
    REGISTRY_POLICY_CHANGED,
    REGISTRY_PRICE_CHANGED,
    REGISTRY_PROMPT_CHANGED,
    REGISTRY_QUOTA_CHANGED,
    REGISTRY_ROUTING_CHANGED,
    RETRIEVAL_DOCUMENT_INDEXED,
    TRAINING_CANDIDATE_TRAINED,
    UPSTREAM_DOCUMENT_CHANGED,
    UPSTREAM_FEEDBACK_GIVEN,
)
