"""Study: what the calibration of a text model changes, of its posterior alone and of all of it.

Of every run it measures, before and after: the likelihood of held-out texts from the plain
posterior and by ``--proposal auto``, the bound, the use of the latent, reconstructions, edits, and
the size of the compressed texts. The runs themselves are left as they are: copies are calibrated.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from experiments import calibrate, compress, likelihood, train_text
from experiments.benchmarks.harness import report
from experiments.calibration.fits import FITS
from experiments.evaluation.open_run import open_run
from experiments.text.task import measure_texts
from experiments.training.configuration import stored_configuration
from experiments.training.run_folder import Run
from experiments.training.task import reseed
from univae.checkpoint import JsonObject, write_text_atomic
from univae.vae.trained import TrainedText, word_overlap

__all__ = ["main", "measured", "study"]

BEFORE = "before"
MEASURES = (
    "elbo_nats",
    "kl_nats",
    "mutual_information_nats",
    "active_units",
    "shuffled_gap_nats",
    "verdict",
)
SCORES = (
    "log_likelihood_nats",
    "standard_error_nats",
    "effective_samples_median",
    "khat_above_0.7",
    "unreliable",
    "annealed",
)
EDITED = 8  # texts that are edited, in each latent layer


def main() -> None:
    """Run the study and write its results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="run folders of train-text")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--texts", type=int, default=32, help="held-out texts that are scored")
    parser.add_argument("--samples", type=int, default=256, help="importance samples a text")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    results = {
        run.name: study(run, arguments.steps, arguments.texts, arguments.samples)
        for run in arguments.runs
    }
    report("calibration", results, arguments.out, kind="study")


def study(run: Path, steps: int, texts: int, samples: int) -> JsonObject:
    """Return the measures of a run before a calibration and after one of each fit."""
    measures: JsonObject = {}
    with tempfile.TemporaryDirectory() as scratch:
        for fit in (BEFORE, *FITS):
            copy = Path(scratch) / fit
            shutil.copytree(run, copy)
            seconds = 0.0
            if fit in FITS:
                calibrated = calibrate.main(
                    calibrate.Config(run=copy, steps=steps, fit=fit, again=True)
                )
                seconds = calibrated["calibration"]["seconds"]
            measures[fit] = {"seconds": seconds, **measured(copy, texts, samples)}
            shutil.rmtree(copy)
    return measures


def measured(run: Path, count: int, samples: int) -> JsonObject:
    """Return likelihoods, bound, use of the latent, reconstructions, edits and size of files."""
    config = stored_configuration(train_text.Config, Run.open(run))
    texts = train_text.held_out_texts(config)
    file = run / "held_out.txt"
    write_text_atomic(file, "".join(text + "\n" for text in texts))
    trained = open_run(TrainedText, run)
    reseed(0, "calibration")
    use = measure_texts(trained.model, trained.token_ids(texts), 1)
    return {
        **{name: use[name] for name in MEASURES},
        "posterior": _scores(run, file, count, samples, "posterior"),
        "auto": _scores(run, file, count, samples, "auto"),
        "reconstructed_words": _mean_share(texts, trained.reconstruct(texts)),
        "kept_words_by_edited_layer": _kept(trained, texts),
        "compressed": _compressed(run, file, trained),
    }


def _scores(run: Path, file: Path, count: int, samples: int, proposal: str) -> JsonObject:
    start = time.process_time()
    result = likelihood.main(
        likelihood.Config(run=run, data=str(file), limit=count, samples=samples, proposal=proposal)
    )
    seconds = time.process_time() - start
    scores = {name: result[name] for name in SCORES if name in result}
    return {**scores, "processor_seconds_per_text": seconds / count}


def _mean_share(texts: Sequence[str], others: Sequence[str]) -> float:
    """Return the mean Dice coefficient of the words of texts and of their counterparts."""
    pairs = zip(texts, others, strict=True)
    return sum(word_overlap(a, b) for a, b in pairs) / len(texts)


def _kept(trained: TrainedText, texts: Sequence[str]) -> list[float]:
    """Return the mean share of a reconstruction's words that an edit of each layer keeps."""
    shares = []
    for layer in range(trained.model.config.latent_layers):
        edits = [edit for text in texts[:EDITED] for edit in trained.edit(text, [layer])[1]]
        shares.append(sum(edit.share for edit in edits) / len(edits))
    return shares


def _compressed(run: Path, file: Path, trained: TrainedText) -> JsonObject | None:
    """Return the size of the compressed texts; None where the latents or words have no code."""
    if not trained.model.config.family.codable or not trained.tokenizer.lossless:
        return None
    packing = compress.Config(run=run, data=str(file), out=run / "held_out.bits", verify=False)
    result = compress.main(packing)
    return {name: result[name] for name in ("bytes_out", "bits_per_char")}


if __name__ == "__main__":
    main()
