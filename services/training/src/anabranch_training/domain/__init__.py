"""What the service knows about, with no transport in sight."""

from anabranch_training.domain.fates import Fate

__all__ = ["Fate"]
