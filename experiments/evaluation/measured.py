"""The numbers of a validation, and their keys in metrics and results."""

from collections.abc import Sequence
from dataclasses import dataclass

from experiments.evaluation.khat_shares import KhatShares
from univae.checkpoint import JsonObject

__all__ = ["BoundMeans", "LatentUse", "LikelihoodMeans", "Measured"]

UNKNOWN_LENGTH = ("kl_nats", "units")  # keys of values whose length a finite row determines


@dataclass(frozen=True)
class LikelihoodMeans:
    """Means of importance-sampled estimates over rows, in nats, and their diagnostics."""

    nll: float
    standard_error: float | None  # over rows; None for a single row
    monte_carlo_error: float  # over samples
    effective_samples_median: float
    khat: KhatShares


@dataclass(frozen=True)
class BoundMeans:
    """Means over rows of the two sides of the ELBO, from one sample of the posterior, in nats."""

    elbo: float
    reconstruction: float
    kl: list[float] | None  # per latent layer

    def to_json(self) -> JsonObject:
        """Return the numbers by their keys in metrics and results."""
        return {
            "elbo_nats": self.elbo,
            "reconstruction_nats": self.reconstruction,
            "kl_nats": self.kl,
        }


@dataclass(frozen=True)
class LatentUse:
    """How much the latents depend on the row, in nats; None for fewer than two rows."""

    active_units: int | None
    units: int | None
    mutual_information: float | None
    mutual_information_ceiling: float | None
    shuffled_gap: float | None
    shuffled_gap_standard_error: float | None
    verdict: str

    def to_json(self) -> JsonObject:
        """Return the numbers by their keys in metrics and results."""
        return {
            "active_units": self.active_units,
            "units": self.units,
            "mutual_information_nats": self.mutual_information,
            "mutual_information_ceiling_nats": self.mutual_information_ceiling,
            "shuffled_gap_nats": self.shuffled_gap,
            "shuffled_gap_standard_error": self.shuffled_gap_standard_error,
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class Measured:
    """The numbers of a validation.

    Rows whose estimate or bound is not finite are left out of all means and listed in
    ``not_finite``. Without a finite row every mean is NaN.
    """

    likelihood: LikelihoodMeans
    bound: BoundMeans
    use: LatentUse
    samples: int  # importance samples per row
    count: int  # rows in the means
    not_finite: Sequence[int] = ()  # ascending
    notes: Sequence[str] = ()

    def to_json(self) -> JsonObject:
        """Return the numbers by their keys in metrics and results.

        Without a finite row ``kl_nats`` and ``units`` are absent: their lengths are unknown. Below
        21 samples the numbers of k-hat are None, and ``khat_note`` gives the reason.
        """
        numbers: JsonObject = {
            "nll_nats": self.likelihood.nll,
            "nll_standard_error": self.likelihood.standard_error,
            "nll_monte_carlo_error": self.likelihood.monte_carlo_error,
            "effective_samples_median": self.likelihood.effective_samples_median,
            **self.likelihood.khat.to_json(),
            **self.bound.to_json(),
            **self.use.to_json(),
            "samples": self.samples,
            "data": self.count,
        }
        if self.not_finite:
            numbers |= {"not_finite": list(self.not_finite), "notes": list(self.notes)}
        return {key: value for key, value in numbers.items() if _is_known(key, value)}


def _is_known(key: str, value: object) -> bool:
    return value is not None or key not in UNKNOWN_LENGTH
