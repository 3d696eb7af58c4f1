"""Between messages and the domain."""

from __future__ import annotations

from anabranch.generation.v1 import generation_service_pb2 as generation
from anabranch.registry.v1 import events_pb2 as events
from anabranch.retrieval.v1 import retrieval_service_pb2 as retrieval
from anabranch_registry.domain import Cascade, GenerationSettings, Prompt, RetrievalSettings, Routing, Variant

__all__ = ["routing_message", "variant_from", "variant_message"]


def variant_from(message: events.Variant) -> Variant:
    """Return the bundle as it came, unchecked and without its id."""
    given = message.generation
    return Variant(
        description=message.description,
        retrieval=RetrievalSettings(
            alpha=message.retrieval.alpha,
            top_k=message.retrieval.top_k,
            embedding_version=message.retrieval.embedding_version,
            reranker_version=message.retrieval.reranker_version,
            keep_duplicates=message.retrieval.keep_duplicates,
        ),
        generation=GenerationSettings(
            backend=given.backend,
            model=given.model,
            adapter=given.adapter,
            max_tokens=given.max_tokens,
            temperature=given.temperature,
            stop=tuple(given.stop),
            seed=given.seed,
            context_tokens=given.context_tokens,
            max_sentences=given.max_sentences,
            abstain_below=given.abstain_below,
            prompt=Prompt(system=given.prompt.system, template=given.prompt.template, version=given.prompt.version),
            prompt_ref=given.prompt_ref,
            cascade=(
                Cascade(
                    backend=given.cascade.backend,
                    model=given.cascade.model,
                    skip_above=given.cascade.skip_above,
                    escalate_below=given.cascade.escalate_below,
                    explore=given.cascade.explore,
                )
                if given.HasField("cascade")
                else None
            ),
        ),
        policy_version=message.policy_version,
    )


def variant_message(variant: Variant) -> events.Variant:
    """Return the bundle with its id."""
    found, answered = variant.retrieval, variant.generation
    return events.Variant(
        variant_id=variant.variant_id,
        description=variant.description,
        retrieval=retrieval.RetrievalSettings(
            alpha=found.alpha,
            top_k=found.top_k,
            embedding_version=found.embedding_version,
            reranker_version=found.reranker_version,
            keep_duplicates=found.keep_duplicates,
        ),
        generation=generation.GenerationSettings(
            backend=answered.backend,
            model=answered.model,
            adapter=answered.adapter,
            max_tokens=answered.max_tokens,
            temperature=answered.temperature,
            stop=answered.stop,
            seed=answered.seed,
            context_tokens=answered.context_tokens,
            max_sentences=answered.max_sentences,
            abstain_below=answered.abstain_below,
            prompt=generation.Prompt(
                version=answered.prompt.version, system=answered.prompt.system, template=answered.prompt.template
            ),
            prompt_ref=answered.prompt_ref,
            cascade=(
                generation.Cascade(
                    backend=answered.cascade.backend,
                    model=answered.cascade.model,
                    skip_above=answered.cascade.skip_above,
                    escalate_below=answered.cascade.escalate_below,
                    explore=answered.cascade.explore,
                )
                if answered.cascade is not None
                else None
            ),
        ),
        policy_version=variant.policy_version,
    )


def routing_message(routing: Routing) -> events.RoutingChanged:
    """Return the routing with all its bundles, so that a reader needs nothing else."""
    message = events.RoutingChanged(
        scope=routing.scope,
        revision=routing.revision,
        shares=[
            events.Share(
                variant=variant_message(share.variant),
                weight=share.weight,
                experiment_id=share.experiment_id,
                arm=share.arm,
            )
            for share in routing.shares
        ],
        author=routing.change.author,
        reason=routing.change.reason,
    )
    message.changed_at.FromDatetime(routing.change.at)
    return message
