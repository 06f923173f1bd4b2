"""The calibration in a run's report: the measures of the held-out data before and after it."""

from collections.abc import Mapping

from univae.checkpoint import JsonObject

__all__ = ["COMPARED", "report_item"]

# The metrics of a validation that are compared, by their words in the report.
COMPARED: Mapping[str, str] = {
    "data": "number of data",
    "nll_nats": "negative log-likelihood, estimate (nats)",
    "elbo_nats": "bound (nats)",
    "reconstruction_nats": "reconstruction term of the bound (nats)",
    "kl_nats": "KL, by latent layer (nats)",
    "effective_samples_median": "effective samples, median",
    "khat_unreliable": "share of data with unreliable weights",
    "mutual_information_nats": "information between data and latents (nats)",
    "active_units": "active units",
    "shuffled_gap_nats": "loss by the latent of another datum (nats)",
    "verdict": "use of the latent",
}


def report_item(result: JsonObject) -> JsonObject:
    """Return the item of ``samples/`` from the result of a calibration."""
    summary = result["calibration"]
    before = summary["before"]
    after = summary["after"]
    rows = [[words, _word(before[name]), _word(after[name])] for name, words in COMPARED.items()]
    outcome = "Its weights are kept." if summary["kept"] else "Its weights are not kept."
    notes = " ".join(f"{note}." for note in result.get("notes", []))
    return {
        "kind": "texts",
        "title": f"Calibration of the {summary['fitted']}",
        "note": f"{summary['steps']} steps, without dropout and floors of the KL. {outcome} "
        f"{notes}".rstrip(),
        "columns": ["held-out data", "before", "after"],
        "rows": rows,
    }


def _word(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return ", ".join(_word(entry) for entry in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
