"""Variants as immutable bundles named by their content, and the routing of scopes to them."""

from anabranch_registry.domain.routing import Change, Routing, Share, checked_change, checked_scope, checked_weights
from anabranch_registry.domain.settings import Cascade, GenerationSettings, Prompt, RetrievalSettings
from anabranch_registry.domain.variants import Variant, is_variant_id

__all__ = [
    "Cascade",
    "Change",
    "GenerationSettings",
    "Prompt",
    "RetrievalSettings",
    "Routing",
    "Share",
    "Variant",
    "checked_change",
    "checked_scope",
    "checked_weights",
    "is_variant_id",
]
