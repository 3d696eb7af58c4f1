"""Placeholders for personal data, as the Anonymiser port."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from anabranch_guardrails.adapters.personal import configured
from anabranch_guardrails.adapters.personal.vault import Anonymiser
from anabranch_guardrails.domain import Span

__all__ = ["VaultAnonymiser"]


class VaultAnonymiser:
    """Finds with the check `pii`, and replaces with one vault."""

    def __init__(self, kinds: frozenset[str]) -> None:
        """Raises Invalid for a kind that there is not."""
        self._check = configured({"kinds": sorted(kinds)})
        self._vault = Anonymiser(sorted(kinds))

    def spans(self, text: str) -> Sequence[Span]:
        """See the port."""
        return self._check.inspect(text).spans

    def replaced(self, text: str, spans: Sequence[Span]) -> str:
        """See the port."""
        return self._vault.replaced(text, spans)

    @property
    def vault(self) -> Mapping[str, str]:
        """See the port."""
        return self._vault.vault
