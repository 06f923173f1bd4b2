"""The tables of ``univae demo`` on stderr: scores, samples and file sizes."""

import sys
from collections.abc import Mapping

from experiments.reports.values import brief
from univae.checkpoint import JsonObject

__all__ = [
    "print_calibration",
    "print_image_scores",
    "print_samples",
    "print_sizes",
    "print_summary",
    "print_text_scores",
]


def print_summary(result: JsonObject) -> None:
    """Print what the demo did, one number with its unit for each job, and where the report is."""
    files = result["files"]
    images = result["images"]
    rival = min(files["archivers"], key=files["archivers"].get)
    ratio = files["bits_per_char"] / files["bytes_out"]
    lines = [
        f"\nThe demo trained three models in {result['seconds']:.0f} s and used them on data that "
        "they had not seen:",
        f"  a text VAE       {result['nll_nats']:8.1f} nats/text, the negative log-likelihood of "
        f"{result['data']} sentences",
        f"  its codec        {files['bits_per_char']:8.2f} bits/character; best other: "
        f"{files['archivers'][rival] * ratio:.2f}, {rival}",
        f"  an image VAE     {-images['log_likelihood_nats']:8.1f} nats/image, the negative "
        f"log-likelihood of {images['count']} digits",
        f"  a WGAN-GN        {_distance_words(result['gan'])}",
        f"The report with samples and plots: {result['report']}",
        f"Next: univae sample {result['run']} --count 5",
    ]
    print("\n".join(lines), file=sys.stderr)


def print_sizes(name: str, files: JsonObject, unit: str) -> None:
    """Print the size of a compressed file per ``unit``, and those of general formats."""
    per_byte = files[unit] / files["bytes_out"]
    first_bytes = files["initial_bits"] // 8
    lines = [
        f"\n{name} as a file, restored exactly ({files['seconds_out']:.0f} s to write, "
        f"bounds included, {files['seconds_in']:.0f} s to read); {unit.replace('_', ' ')}:",
        f"  {files[unit]:6.3f}  this model: {files['bytes_out']} bytes, of which {first_bytes} "
        f"for the first {files['plain']} data, coded without latents",
        f"  {files['ideal_bits'] / 8 * per_byte:6.3f}  its bound (negative ELBO)",
    ]
    for archiver, size in files["archivers"].items():
        lines.append(f"  {size * per_byte:6.3f}  {archiver}")
    print("\n".join(lines), file=sys.stderr)


def print_text_scores(scores: JsonObject) -> None:
    """Print likelihood, bound and use of the latents on held-out texts."""
    layers = " + ".join(f"{nats:.2f}" for nats in scores["kl_nats"])
    lines = [
        f"\nheld-out texts ({scores['data']}, {scores['samples']} importance samples each), "
        "nats per text:",
        f"  negative log-likelihood  {scores['nll_nats']:8.2f}"
        f" ± {scores['nll_standard_error']:.2f} over texts,"
        f" ± {scores['nll_monte_carlo_error']:.2f} by sampling"
        f" ({scores['bits_per_token']:.3f} bits per token)",
        f"  {scores['effective_samples_median']:.1f} effective samples at the median; "
        f"{_khat_words(scores, 'texts')}",
        f"  negative bound (ELBO)    {-scores['elbo_nats']:8.2f} ="
        f" {scores['reconstruction_nats']:.2f} reconstruction + KL {layers}",
        f"  {scores['verdict']}; {scores['active_units']} of {scores['units']} units active",
    ]
    print("\n".join(lines), file=sys.stderr)


def print_calibration(calibration: JsonObject) -> None:
    """Print bound, information and effective samples before and after the last phase."""
    before = calibration["before"]
    after = calibration["after"]
    outcome = "" if calibration["kept"] else " (not kept)"
    line = (
        f"  the last {calibration['steps']} steps, without blanked words{outcome}: "
        f"bound {brief(before['elbo_nats'])} -> {brief(after['elbo_nats'])}, "
        f"information {brief(before['mutual_information_nats'])} -> "
        f"{brief(after['mutual_information_nats'])}, effective samples "
        f"{brief(before['effective_samples_median'])} -> "
        f"{brief(after['effective_samples_median'])}"
    )
    print(line, file=sys.stderr)


def print_image_scores(scores: JsonObject) -> None:
    """Print the likelihood of held-out digits."""
    lines = [
        f"\nheld-out digits ({scores['count']}, {scores['samples']} importance samples each), "
        "nats per image:",
        f"  negative log-likelihood  {-scores['log_likelihood_nats']:8.2f}"
        f" ± {scores['standard_error_over_data_nats']:.2f} over images"
        f" ({scores['bits_per_dim']:.3f} bits per pixel)",
        f"  {scores['effective_samples_median']:.0f} effective samples at the median; "
        f"{_khat_words(scores, 'images')}",
    ]
    print("\n".join(lines), file=sys.stderr)


def print_samples(samples: Mapping[str, JsonObject]) -> None:
    """Print the tables among the items of a text report."""
    lines = []
    for item in samples.values():
        rows = item.get("rows")  # None for a map, which has points
        if rows is not None:
            lines += ["", item["title"], *("  " + " | ".join(row) for row in rows)]
    print("\n".join(lines), file=sys.stderr)


def _distance_words(generated: JsonObject) -> str:
    """Return the Fréchet distance and that of real digits in words, or why there is none."""
    distance = generated["frechet_distance"]
    if distance is None:
        return f"no Fréchet distance: {generated['frechet_note']}"
    floor = generated["floor"]["frechet_distance"]
    return f"{distance:8.2f} Fréchet distance to real digits; of other real digits: {floor:.2f}"


def _khat_words(scores: JsonObject, noun: str) -> str:
    """Return the share of unreliable estimates in words, or why there is none."""
    if scores["khat_threshold"] is None:
        return str(scores["khat_note"])
    share = f"{scores['khat_unreliable']:.0%}"
    limit = f"k-hat is above {scores['khat_threshold']:.2f} for {share} of the {noun}"
    return f"{limit}: for them the estimate is no more than a better bound"
