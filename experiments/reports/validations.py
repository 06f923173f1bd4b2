"""The metrics in reports and comparisons, ``NUMBERS``, and the best validation of a run."""

import math

from univae.checkpoint import JsonObject
from univae.run_folder import RunFolder

__all__ = ["NUMBERS", "best_validation"]

# Key in a validation's row -> label. Metrics without a label are stored only.
NUMBERS = {
    "nll_nats": "negative log-likelihood (nats)",
    "nll_standard_error": "its standard error over data (nats)",
    "effective_samples_median": "effective importance samples (median)",
    "khat_above_0.7": "share of data whose k-hat is above 0.7 or none",
    "khat_unreliable": "share of data whose k-hat is above the limit for the samples, or none",
    "bits_per_token": "bits per token",
    "bits_per_dim": "bits per dimension",
    "elbo_nats": "ELBO (nats)",
    "reconstruction_nats": "reconstruction (nats)",
    "kl_nats": "KL of all layers (nats)",
    "active_units": "active units",
    "mutual_information_nats": "mutual information (nats)",
    "mutual_information_ceiling_nats": "ceiling of its estimate (nats)",
    "shuffled_gap_nats": "loss with shuffled latents (nats)",
    "spearman": "Spearman's rank correlation with labels",
    "recall_at_1": "recall at 1 of held-out pairs",
    "recall_at_10": "recall at 10 of held-out pairs",
    "generation_nats_per_token": "generation of the other text (nats per token)",
    "held_out_loss": "loss of held-out pairs",
    "frechet_distance": "Fréchet distance",
    "kernel_distance": "kernel distance",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "sliced_wasserstein": "sliced Wasserstein distance",
    "classes_found": "classes found",
}


def best_validation(run: RunFolder, within: float = math.inf) -> JsonObject:
    """Return the validation with the smallest NLL (of a GAN: Fréchet distance), without nulls.

    The KL is the sum over layers. Validations after ``within`` seconds of training are ignored.
    """
    rows = []
    for row in _validations(run):
        if row.get("seconds", 0.0) <= within:
            rows.append({name: value for name, value in row.items() if value is not None})

    best = min(rows, key=_selection, default={})
    layers = best.pop("kl_nats", [None])
    if None not in layers:
        best = best | {"kl_nats": sum(layers)}
    return best


def _validations(run: RunFolder) -> list[JsonObject]:
    """Return the validations of a run, or those of its calibration where that is kept."""
    rows = run.calibration.rows("validation") if run.uncalibrated() else []
    return rows or run.rows("validation")


def _selection(row: JsonObject) -> float:
    for name in ("nll_nats", "selection"):
        if name in row:
            return row[name]
    return math.inf
