"""The UniVAE of the benchmark of equal errors, and the estimators of its likelihood."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

import density
from density.estimation.importance import summarise
from density.estimation.proposals import Proposal
from experiments import train_text
from experiments.benchmarks.equal_error_curves import NEWTON, SOBOL, Contestant, Draw
from experiments.benchmarks.text_likelihood import plain
from univae.run_folder import RunFolder
from univae.vae.model import UniVAE
from univae.vae.scoring import text_batches
from univae.vae.trained import TrainedText

__all__ = ["Batch", "TextRun", "contestants", "shared", "text_run"]

REPEATED_SIZES = (16, 64, 256)
SIZES = (16, 32, 64, 128, 256)
BEFORE = "uncalibrated"


class Batch(NamedTuple):
    """Texts of one padded length."""

    rows: list[int]  # their numbers
    ids: Tensor
    chunk: int | None  # samples of each that are decoded at once


class TextRun(NamedTuple):
    """A UniVAE before and after its calibration, and held-out texts."""

    before: UniVAE
    calibrated: UniVAE
    batches: Sequence[Batch]


def text_run(data: str, out: Path, steps: int, count: int) -> TextRun:
    """Return a UniVAE, trained unless ``out`` has it, and ``count`` held-out texts."""
    config = train_text.Config.of(
        text=data,
        out=out,
        vocab_size=2048,
        width=128,
        heads=4,
        layers=6,
        latent_layers=2,
        latent_width=16,
        max_length=32,
        word_dropout=0.4,
        bn_gamma=1.0,
        batch_tokens=1024,
        steps=steps,
        lr=2e-3,
        calibration=0.15,
        threads=1,
        clock="processor",
        checkpoint_every=0,
        validate_every=0,
    )
    if not out.exists():
        train_text.train(config)
    trained = TrainedText.open(out, "cpu")
    before = BEFORE if RunFolder(out, {}).has_checkpoint(BEFORE) else "best"
    batches = []
    for batch in text_batches(trained, train_text.held_out_texts(config)[:count], 1):
        batches.append(Batch(batch.rows, batch.x[: len(batch.rows)], batch.chunk))
    return TextRun(TrainedText.open(out, "cpu", before).model, trained.model, batches)


def contestants(run: TextRun) -> dict[str, Contestant]:
    """Return plain sampling, from both posteriors, and the estimators that share layers."""
    table = {
        "repeated": Contestant(REPEATED_SIZES, partial(_repeated, run.before, run.batches)),
        "repeated, calibrated": Contestant(
            REPEATED_SIZES, partial(_repeated, run.calibrated, run.batches)
        ),
    }
    proposals = {"posterior": None, "sobol": SOBOL, "newton": NEWTON}
    for name, proposal in proposals.items():
        estimate = partial(_shared_draw, run.calibrated, run.batches, proposal)
        table[f"{name}, calibrated"] = Contestant(SIZES, estimate)
    return table


def shared(
    model: UniVAE, batches: Sequence[Batch], proposal: Proposal | None, samples: int
) -> density.Estimate:
    """Return the estimate of every text, whose samples share the layers below the latents."""
    parts = []
    for _, ids, chunk in batches:
        parts.append(density.estimate(model, ids, samples, proposal=proposal, chunk=chunk))
    return _ordered(batches, parts)


def _shared_draw(
    model: UniVAE, batches: Sequence[Batch], proposal: Proposal | None, samples: int
) -> Draw:
    result = shared(model, batches, proposal, samples)
    return Draw(result.log_likelihood, result.standard_error)


def _repeated(model: UniVAE, batches: Sequence[Batch], samples: int) -> Draw:
    parts = [summarise(plain(model, ids, samples)) for _, ids, _ in batches]
    result = _ordered(batches, parts)
    return Draw(result.log_likelihood, result.standard_error)


def _ordered(batches: Sequence[Batch], parts: Sequence[density.Estimate]) -> density.Estimate:
    """Return the estimates of batches in the order of the texts."""
    rows = [row for batch in batches for row in batch.rows]
    inverse = torch.tensor(rows).argsort()
    return density.Estimate(*(torch.cat(part)[inverse] for part in zip(*parts, strict=True)))
