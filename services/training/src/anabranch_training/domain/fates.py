"""What the service knows about, with no transport in sight."""

from __future__ import annotations

from dataclasses import dataclass

from anabranch_faults import Invalid


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What became of one document."""

    tenant: str
    corpus: str
    state: str

    def __post_init__(self) -> None:
        """Refuses a fate of nothing."""
        if not self.tenant or not self.corpus:
            raise Invalid("is empty", field="document.corpus" if self.tenant else "document.tenant")
