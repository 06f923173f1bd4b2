"""The shares of rows whose k-hat is unreliable; null where the samples are too few for a k-hat."""

from dataclasses import dataclass

from torch import Tensor

from density.estimation.diagnostics import (
    FEWEST_SAMPLES,
    khat_is_defined,
    khat_threshold,
    unreliable,
)
from univae.checkpoint import JsonObject

__all__ = ["KHAT_UNDEFINED", "KhatShares"]

KHAT_UNDEFINED = f"k-hat is undefined below {FEWEST_SAMPLES} samples"


@dataclass(frozen=True)
class KhatShares:
    """Shares of rows by their k-hat; all None below 21 samples, where no row has one."""

    above_07: float | None
    unreliable: float | None  # above ``threshold``, infinite or NaN
    threshold: float | None  # :func:`density.estimation.diagnostics.khat_threshold`

    @classmethod
    def of(cls, khat: Tensor, samples: int) -> "KhatShares":
        """Return the shares among the k-hats (B,) of rows with ``samples`` samples each."""
        if not khat_is_defined(samples):
            return cls(None, None, None)
        return cls(
            above_07=unreliable(khat).double().mean().item(),
            unreliable=unreliable(khat, samples).double().mean().item(),
            threshold=khat_threshold(samples),
        )

    def to_json(self) -> JsonObject:
        """Return the numbers by their keys in results; ``khat_note`` says why they are null."""
        numbers: JsonObject = {
            "khat_above_0.7": self.above_07,
            "khat_unreliable": self.unreliable,
            "khat_threshold": self.threshold,
        }
        if self.threshold is None:
            numbers["khat_note"] = KHAT_UNDEFINED
        return numbers
