"""The routing table, as the registry tells it."""

from __future__ import annotations

from anabranch import topics
from anabranch.registry.v1 import events_pb2 as registry
from anabranch_bus import Bus
from anabranch_faults import Invalid
from anabranch_gateway.domain.routing import GenerationSettings, RetrievalSettings, Route, Routing, Share, Variant
from anabranch_observability import gauge, get_logger
from anabranch_observability.names import gateway as names

log = get_logger()


def register(bus: Bus, routing: Routing) -> None:
    """Keeps `routing` as the registry last told it.

    A route that cannot be used is logged and passed over: the last good one goes on serving.
    """

    @bus.table(topics.REGISTRY_ROUTING_CHANGED)
    async def on_routing_changed(scope: str, message: registry.RoutingChanged | None) -> None:
        if message is None:
            routing.drop(scope)
            log.info(names.Log.ROUTING_DROPPED, scope=scope)
        else:
            try:
                route = route_from(scope, message)
            except Invalid as fault:
                problem = str(fault)
                log.error(names.Log.ROUTING_REFUSED, scope=scope, revision=message.revision, problem=problem)  # noqa: TRY400  the sentence says it; a traceback would not help
                return
            routing.put(route)
            log.info(
                names.Log.ROUTING_CHANGED,
                scope=scope,
                revision=route.revision,
                variants={share.variant.variant_id: share.weight for share in route.shares},
            )
        gauge(names.ROUTES).set(len(routing))


def route_from(scope: str, message: registry.RoutingChanged) -> Route:
    """The route a record tells. Raises Invalid."""
    if message.scope != scope:
        raise Invalid(f"is {message.scope!r}, but the record's key is {scope!r}", field="scope")
    return Route(
        scope=message.scope,
        revision=message.revision,
        shares=tuple(
            Share(
                variant=Variant(
                    variant_id=share.variant.variant_id,
                    retrieval=RetrievalSettings(share.variant.retrieval),
                    generation=GenerationSettings(share.variant.generation),
                    prompt_version=share.variant.generation.prompt.version,
                    adapter=share.variant.generation.adapter,
                    policy_version=share.variant.policy_version,
                ),
                weight=share.weight,
                experiment_id=share.experiment_id,
                arm=share.arm,
            )
            for share in message.shares
        ),
    )
