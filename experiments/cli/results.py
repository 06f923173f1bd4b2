"""The result of a command as a short table for people; programs read the line of JSON.

Keys with a row in :data:`ROWS` are shown, in the order of the rows. Other keys, and values that are
null, stay in the JSON.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeGuard

from experiments.cli.comparison_table import COLUMNS, comparison_table
from experiments.training.metric_names import METRICS, duration_text, number_text
from univae.checkpoint import JsonObject

__all__ = ["ROWS", "Row", "result_table"]

LONGEST = 100  # characters of a text in a table
LISTED = 10  # lines of a list
KILOBYTE = 1000
NATS = "nats"
UNPRINTABLE = "\ufffd"  # for control characters, which could change the terminal

# Returns a value as text; nothing where its type is another than expected.
Form: TypeAlias = Callable[[object], str]


def number(value: object) -> str:
    """Return a number with four digits, a whole number with all of them."""
    return number_text(value) if _is_number(value) else ""


def positive(value: object) -> str:
    """Return a number above 0; nothing of 0."""
    return number(value) if value else ""


def total(value: object) -> str:
    """Return the sum of a list of numbers, or a number."""
    if isinstance(value, Sequence) and all(map(_is_number, value)):
        return number(float(sum(value)))
    return number(value)


def share(value: object) -> str:
    """Return a share in percent."""
    return f"{100 * value:.3g} %" if _is_number(value) else ""


def duration(value: object) -> str:
    """Return seconds as minutes and seconds."""
    return duration_text(value) if _is_number(value) else ""


def size(value: object) -> str:
    """Return a number of bytes."""
    if not _is_number(value):
        return ""
    count = float(value)
    for unit in ("bytes", "kB", "MB"):
        if count < KILOBYTE:
            return f"{count:.4g} {unit}"
        count /= KILOBYTE
    return f"{count:.4g} GB"


def text(value: object) -> str:
    """Return a text in one line, shortened; or a whole number."""
    if not isinstance(value, str):
        return number(value)
    line = "".join(c if c.isprintable() else UNPRINTABLE for c in " ".join(value.split()))
    return line if len(line) <= LONGEST else line[: LONGEST - 3] + "..."


def path(value: object) -> str:
    """Return the whole name of a file or folder."""
    return value if isinstance(value, str) else ""


def lines(value: object) -> str:
    """Return a list of texts, or of texts with scores, one a line; numbered from 1."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        return number(value)
    shown = [_line(entry) for entry in value[:LISTED]]
    if not all(shown):
        return ""
    rest = len(value) - LISTED
    return "\n".join([*shown, *([f"and {rest} more in the JSON"] if rest > 0 else [])])


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _line(entry: object) -> str:
    if isinstance(entry, str):
        return text(entry) or "(empty)"
    if isinstance(entry, Mapping) or not isinstance(entry, Sequence):
        return ""
    return " | ".join(number(part) or text(part) or "(empty)" for part in entry)


@dataclass(frozen=True)
class Row:
    """A row of the table."""

    label: str
    unit: str = ""
    form: Form = number
    error: str = ""  # key of the standard error, shown behind the value


def _metric(name: str, form: Form = number, error: str = "") -> Row:
    return Row(METRICS[name].label, METRICS[name].unit, form, error)


# Key of a result -> its row.
ROWS: Mapping[str, Row] = {
    "steps": Row("training steps"),
    "seconds": Row("time", form=duration),
    "step": Row("step of the weights"),
    "texts_left_out": Row("texts left out, too long", form=positive),
    "cut": Row("texts cut to the model's length", form=positive),
    "pairs": Row("pairs"),
    "count": Row("number of data"),
    "data": Row("data measured", form=text),
    "method": Row("method", form=text),
    "validation_nll_nats": Row(
        "held-out negative log-likelihood", NATS, error="validation_nll_standard_error"
    ),
    "nll_nats": _metric("nll_nats", error="nll_standard_error"),
    "log_likelihood_nats": Row("log-likelihood, estimate", NATS, error="standard_error_nats"),
    "elbo_nats": Row("lower bound (ELBO)", NATS),
    "kl_nats": _metric("kl_nats", total),
    "mutual_information_nats": Row("information in the latents", NATS),
    "bits_per_token": Row("code length", "bits/token"),
    "bits_per_char": Row("code length", "bits/character"),
    "bits_per_dim": Row("code length", "bits/dimension"),
    "perplexity_per_token": Row("perplexity", "per token"),
    "perplexity_per_word": Row("perplexity", "per word"),
    "effective_samples_median": Row("effective samples, median"),
    "khat_unreliable": Row("estimates with a large k-hat", form=share),
    "unreliable": Row("estimates that are bounds only", form=share),
    "active_units": Row("active latent units"),
    "spearman": _metric("spearman", error="spearman_standard_error"),
    "recall_at_1": _metric("recall_at_1", share),
    "recall_at_10": _metric("recall_at_10", share),
    "generation_nats_per_token": Row("generation of the other text", "nats/token"),
    "held_out_loss": _metric("held_out_loss"),
    "feature_space": Row("feature space of the metrics", form=text),
    "fid": _metric("fid"),
    "kid": _metric("kid"),
    "frechet_distance": _metric("frechet_distance"),
    "frechet_note": Row("no Fréchet distance", form=path),
    "kernel_distance": _metric("kernel_distance"),
    "precision": _metric("precision", share),
    "recall": _metric("recall", share),
    "coverage": _metric("coverage", share),
    "auroc": Row("area under the ROC curve", error="auroc_standard_error"),
    "best_accuracy": Row("accuracy at the best threshold", form=share),
    "word_overlap": Row("words kept by reconstruction", form=share),
    "filled": Row("cells filled"),
    "exact_share": Row("data restored exactly", form=share),
    "kept_share": Row("words kept", form=share),
    "bytes_in": Row("size of the input", form=size),
    "bytes_out": Row("size of the output", form=size),
    "verdict": Row("verdict", form=path),
    "samples": Row("samples", form=lines),
    "texts": Row("texts", form=lines),
    "index_recall": Row("nearest texts that the index finds", form=share),
    "text": Row("text", form=text),
    "results": Row("results", form=lines),
    "file": Row("written to", form=path),
    "out": Row("written to", form=path),
    "url": Row("address", form=path),
    "picture": Row("picture", form=path),
    "path": Row("written to", form=path),
    "run": Row("run folder", form=path),
    "report": Row("report", form=path),
}


def result_table(result: JsonObject, shown: Collection[str] | None = None) -> str:
    """Return the table of a result; empty if it has no key to show.

    Args:
        result: keys and values of the line of JSON.
        shown: the keys to show; None: all that have a row.
    """
    datum = "text" if "bits_per_token" in result else "datum"
    compared = comparison_table(result) if shown is None else ""
    if compared:
        shown = ROWS.keys() - COLUMNS.keys()
    cells = []
    for key, row in ROWS.items():
        if key in result and (shown is None or key in shown):
            value = _value(result, key, row, datum)
            if value:
                cells.append((row.label, value))
    width = max((len(label) for label, _ in cells), default=0)
    lines = [_aligned(label, value, width) for label, value in cells]
    return "\n".join([*filter(None, [compared]), *lines])


def _value(result: JsonObject, key: str, row: Row, datum: str) -> str:
    """Return a value with its standard error and unit; nothing if it cannot be shown."""
    value = row.form(result[key])
    if not value:
        return ""
    error = result.get(row.error)
    if _is_number(error):
        value += f" ± {error:.2g}"
    unit = f"{NATS}/{datum}" if row.unit == NATS else row.unit
    return f"{value} {unit}".rstrip()


def _aligned(label: str, value: str, width: int) -> str:
    """Return a line of the table; further lines of the value stand below its first."""
    first, *others = value.split("\n")
    indent = " " * (width + 4)
    return "\n".join([f"  {label:<{width}}  {first}", *(indent + other for other in others)])
