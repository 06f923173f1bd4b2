"""The metrics of validations in words: labels and units for reports, tables and progress lines."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from numbers import Real
from typing import Literal

from univae.checkpoint import JsonObject

__all__ = ["METRICS", "Metric", "duration_text", "headline", "metric_of", "number_text"]

LARGEST_FRACTION = 1e4  # larger numbers are written without decimals
SMALLEST = 1e-3  # smaller ones with an exponent
MINUTE = 60


@dataclass(frozen=True)
class Metric:
    """A number of a validation or a result."""

    label: str
    unit: str = ""
    short: str = ""  # in a progress line and in the head of a column; empty: as the label
    # chooses the best of several runs: max or min; None: neither more nor less of it is better
    best: Callable[[list[float]], float] | None = None
    # what runs must share so that it can be compared between them; empty: their data alone
    within: Literal["", "feature space", "tokenizer"] = ""

    @property
    def titled(self) -> str:
        """The label with the unit in brackets."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def head(self) -> str:
        """The short label with the unit in brackets, for the head of a column."""
        label = self.short or self.label
        return f"{label} ({self.unit})" if self.unit else label


# Key in a row of metrics -> its name. Metrics without a row are stored only.
METRICS: dict[str, Metric] = {
    "nll_nats": Metric("negative log-likelihood", "nats", "held-out NLL", best=min),
    "nll_standard_error": Metric("its standard error over data", "nats", "standard error"),
    "effective_samples_median": Metric(
        "effective importance samples (median)", short="effective samples", best=max
    ),
    "khat_above_0.7": Metric(
        "share of data whose k-hat is above 0.7 or none", short="k-hat above 0.7", best=min
    ),
    "khat_unreliable": Metric(
        "share of data whose k-hat is above the limit for the samples, or none",
        short="k-hat above the limit",
        best=min,
    ),
    "bits_per_token": Metric("bits per token", best=min, within="tokenizer"),
    "bits_per_char": Metric("bits per character", best=min),
    "bits_per_dim": Metric("bits per dimension", best=min),
    "log_likelihood_nats": Metric("log-likelihood", "nats", best=max),
    "elbo_nats": Metric("ELBO", "nats", best=max),
    "reconstruction_nats": Metric("reconstruction", "nats"),
    "kl_nats": Metric("KL of all layers", "nats"),
    "active_units": Metric("active units"),
    "mutual_information_nats": Metric("mutual information", "nats"),
    "mutual_information_ceiling_nats": Metric("ceiling of its estimate", "nats"),
    "shuffled_gap_nats": Metric("loss with shuffled latents", "nats"),
    "spearman": Metric(
        "Spearman's rank correlation with labels", short="Spearman correlation", best=max
    ),
    "recall_at_1": Metric("recall at 1 of held-out pairs", short="recall at 1", best=max),
    "recall_at_10": Metric("recall at 10 of held-out pairs", short="recall at 10", best=max),
    "generation_nats_per_token": Metric(
        "generation of the other text", "nats per token", "generation", min, "tokenizer"
    ),
    "held_out_loss": Metric("loss of held-out pairs", short="held-out loss", best=min),
    "fid": Metric("FID", best=min),
    "kid": Metric("KID", best=min),
    "frechet_distance": Metric("Fréchet distance", best=min, within="feature space"),
    "kernel_distance": Metric("kernel distance", best=min, within="feature space"),
    "precision": Metric("precision", best=max, within="feature space"),
    "recall": Metric("recall", best=max, within="feature space"),
    "density": Metric("density", best=max, within="feature space"),
    "coverage": Metric("coverage", best=max, within="feature space"),
    "sliced_wasserstein": Metric("sliced Wasserstein distance", best=min),
    "classes_found": Metric("classes found", best=max),
    "accuracy": Metric("accuracy", best=max),
}

UNITS = {"_nats": "nats", "_per_token": "per token", "_per_word": "per word"}  # by ends of keys


def metric_of(key: str) -> Metric:
    """Return the metric of a key; without a row in :data:`METRICS`, the words of the key.

    >>> metric_of("standard_error_over_data_nats").titled
    'standard error over data (nats)'
    """
    if key in METRICS:
        return METRICS[key]
    for end, unit in UNITS.items():
        if key.endswith(end):
            return Metric(key.removesuffix(end).replace("_", " "), unit)
    return Metric(key.replace("_", " "))


# Metrics of a progress line, the first that a validation has; then those that accompany it.
HEADLINES = ("nll_nats", "spearman", "recall_at_1", "frechet_distance", "held_out_loss", "accuracy")
COMPANIONS = {
    "spearman": ("recall_at_1",),
    "recall_at_1": ("recall_at_10", "generation_nats_per_token"),
    "frechet_distance": ("precision", "recall"),
}


def headline(metrics: JsonObject, datum: str) -> str:
    """Return the main numbers of a validation in words, with units; otherwise its selection.

    >>> headline({"nll_nats": 103.04, "elbo_nats": -104.21}, "text")
    'held-out NLL 103.0 nats/text (bound 104.2)'
    """
    names = [name for name in HEADLINES if isinstance(metrics.get(name), Real)]
    selection = metrics.get("selection")
    if not names and isinstance(selection, Real):
        return f"selection {number_text(float(selection))} (lower is better)"
    if not names:
        return ""
    return ", ".join(_headline_parts(metrics, names[0], datum))


def _headline_parts(metrics: JsonObject, name: str, datum: str) -> Iterator[str]:
    text = _words(name, metrics[name], datum)
    bound = metrics.get("elbo_nats")
    if name == "nll_nats" and isinstance(bound, Real):
        text += f" (bound {number_text(-float(bound))})"
    yield text
    for companion in COMPANIONS.get(name, ()):
        if isinstance(metrics.get(companion), Real):
            yield _words(companion, metrics[companion], datum)


def _words(name: str, value: float, datum: str) -> str:
    metric = METRICS[name]
    unit = f" {metric.unit}" if metric.unit else ""
    if metric.unit == "nats":
        unit = f" nats/{datum}"
    return f"{metric.short or metric.label} {number_text(value)}{unit}"


def number_text(value: float) -> str:
    """Return a number with four digits.

    >>> number_text(103.04), number_text(0.5), number_text(0.0), number_text(12345.6)
    ('103.0', '0.5000', '0', '12,346')
    """
    if value == 0 or isinstance(value, int):
        return f"{value:,.0f}"
    if abs(value) >= LARGEST_FRACTION:
        return f"{value:,.0f}"
    if abs(value) < SMALLEST:
        return f"{value:.4g}"
    return f"{value:#.4g}".rstrip(".")


def duration_text(seconds: float) -> str:
    """Return seconds as minutes and seconds.

    >>> duration_text(5.82), duration_text(64.3)
    ('5.8 s', '1 min 4 s')
    """
    minutes, rest = divmod(seconds, MINUTE)
    return f"{minutes:.0f} min {rest:.0f} s" if minutes else f"{rest:.1f} s"
