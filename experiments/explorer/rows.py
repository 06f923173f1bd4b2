"""What the explorer shows of an image or table VAE."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

import density
from density.score_results import Scores
from density.trained import TrainedDensity
from experiments.explorer.answers import (
    PROPOSAL_FIELD,
    columns_table,
    notes_list,
    scores_table,
)
from experiments.explorer.latents import LatentSliders
from experiments.explorer.panels import ChoicesField, NumberField, Panel
from experiments.images.row_outputs import pairs_picture, picture
from experiments.images.rows import Rows
from experiments.reports.html import embed
from experiments.training.settings import SEED
from univae.rules import at_least
from univae.seeds import seeded

__all__ = ["moved_row", "redrawn", "row_panels", "worst"]

CODES = 1000  # rows whose codes give the directions of the sliders
MOST_STEPS = 50
MOST_DRAWS = 100
MOST_SCORED = 10_000  # rows
LARGE = 160  # pixels, the width of an image beside few others
SMALL = 64  # the same in a grid
COLUMNS = 8  # images side by side in a grid

SEED_FIELD = NumberField("Seed", 0, SEED, "the same seed gives the same draws")


def row_panels(run: TrainedDensity, rows: Rows | str) -> list[Panel]:
    """Return the panels of an image or table VAE.

    Args:
        run: the run.
        rows: the data; a text where there are none: the reason.
    """
    samples = Panel(
        "Samples",
        f"{_things(run)} from the prior.",
        (NumberField("Count", 16, at_least(1, MOST_DRAWS)), SEED_FIELD),
        partial(_sample, run),
        button="Draw",
    )
    if isinstance(rows, str):
        missing = f"{rows}. Reconstructions, latents, paths and scores need data."
        return [samples, Panel("Data", missing)]
    return [*_panels_of(run, rows), samples]


def _panels_of(run: TrainedDensity, rows: Rows) -> list[Panel]:
    """Return the panels that need data."""
    thing = _things(run).lower()
    last = len(rows) - 1
    row = NumberField("Row", 0, at_least(0, last), f"0 to {last}")
    few = slice(0, CODES)
    codes = run.modes(rows.inputs(few))
    sliders = LatentSliders.of(run.model.prior(), codes, run.model.decoded_layers)
    return [
        Panel(
            "Reconstruct",
            f"{_things(run)} of {rows.source} and, below each, its reconstruction.",
            (
                NumberField("First row", 0, at_least(0, last), f"0 to {last}"),
                NumberField("Count", min(8, len(rows)), at_least(1, MOST_DRAWS)),
            ),
            partial(_reconstruct, run, rows),
        ),
        Panel(
            "Latents",
            "Each slider moves the latent of a row along a principal component of the codes of "
            f"{len(codes)} {thing} of {rows.source}; 1 is their standard deviation. Shown are the "
            f"original, its reconstruction, and the moved one.{sliders.missing}",
            (row, *sliders.fields),
            partial(_move, run, rows, sliders),
        ),
        Panel(
            "Path",
            f"{_things(run)} at equal distances between the latents of two rows.",
            (
                NumberField("From row", 0, at_least(0, last), f"0 to {last}"),
                NumberField("To row", min(1, last), at_least(0, last), f"0 to {last}"),
                NumberField("Steps", 8, at_least(2, MOST_STEPS), "both ends included"),
            ),
            partial(_path, run, rows),
        ),
        _resample_panel(run, rows, row),
        Panel(
            "Least likely",
            f"The {thing} with the lowest estimated log-likelihood, in nats, among the first rows "
            f"of {rows.source}. Where k-hat is large an estimate is no more than a lower bound.",
            (
                NumberField("Rows to score", min(200, len(rows)), at_least(1, MOST_SCORED)),
                NumberField("Importance samples", 64, at_least(1, 10_000), "of each row"),
                PROPOSAL_FIELD,
                NumberField("Show", min(8, len(rows)), at_least(1, MOST_DRAWS)),
            ),
            partial(_least_likely, run, rows),
            button="Score",
        ),
    ]


def _resample_panel(run: TrainedDensity, rows: Rows, row: NumberField) -> Panel:
    """Return the panel of layers that are drawn anew; a reason with a single layer."""
    if run.model.layer_count == 1:
        return Panel(
            "Resample",
            "The model has one latent layer; to draw all of it anew keeps nothing of a row. With "
            "--latents of several widths a model has several layers.",
        )
    layers = tuple(map(str, range(run.model.layer_count)))
    decoded = tuple(str(layer) for layer in run.model.decoded_layers)
    return Panel(
        "Resample",
        "Some latent layers are drawn anew, and the others stay: what a row keeps is in the layers "
        "that stay. Shown are the original, its reconstruction, and the draws.",
        (
            row,
            ChoicesField("Layers to draw", layers, decoded[:1]),
            NumberField("Draws", 6, at_least(1, MOST_DRAWS)),
            SEED_FIELD,
        ),
        partial(_resample, run, rows),
    )


def moved_row(
    run: TrainedDensity, rows: Rows, sliders: LatentSliders, row: int, offsets: Sequence[float]
) -> np.ndarray:
    r"""Return (2, \*shape): the reconstruction of a row, and that of its latents moved."""
    z = run.modes(rows.inputs([row]))
    return run.from_model(run.decode(torch.cat((z, sliders.moved(z, offsets)))))


def redrawn(
    run: TrainedDensity, rows: Rows, row: int, layers: Sequence[int], count: int, seed: int
) -> np.ndarray:
    r"""Return (1 + count, \*shape): the reconstruction of a row, and draws of some layers."""
    z = run.modes(rows.inputs([row]))
    with seeded(seed, run.device):
        drawn = run.redraw(z[0], layers, count)
        return run.from_model(run.decode(torch.cat((z, drawn))))


def worst(
    run: TrainedDensity, rows: Rows, count: int, samples: int, proposal: str
) -> tuple[Scores, list[int]]:
    """Return the scores of the first ``count`` rows, and their numbers, the least likely first."""
    x = rows.inputs(slice(0, min(count, len(rows)))).to(run.device)
    scores = density.score(run.model, x, samples, proposal)
    return scores, np.argsort(scores.log_likelihood, kind="stable").tolist()


def _reconstruct(run: TrainedDensity, rows: Rows, first: int, count: int) -> str:
    chosen = slice(first, min(first + count, len(rows)))
    originals = rows.originals(chosen)
    again = run.from_model(run.decode(run.modes(rows.inputs(chosen))))
    notes = notes_list(rows.notes)
    if run.units.is_images:
        alt = f"Rows {first} to {chosen.stop - 1}, and below each its reconstruction"
        return embed(pairs_picture(run, originals, again, COLUMNS, SMALL), alt) + notes
    both = np.stack((originals, again), 1).reshape(-1, *originals.shape[1:])
    numbers = range(first, chosen.stop)
    names = [name for row in numbers for name in (f"row {row}", "reconstruction")]
    return _rows_table(run, names, both) + notes


def _move(
    run: TrainedDensity, rows: Rows, sliders: LatentSliders, row: int, *offsets: float
) -> str:
    versions = moved_row(run, rows, sliders, row, offsets)
    together = np.concatenate((rows.originals([row]), versions))
    return _shown(run, ["original", "reconstruction", "moved"], together, LARGE)


def _path(run: TrainedDensity, rows: Rows, first: int, last: int, steps: int) -> str:
    start, end = run.modes(rows.inputs([first, last])).unbind(0)
    path = run.from_model(run.decode(run.between(start, end, steps)))
    return _shown(run, [f"step {step}" for step in range(steps)], path)


def _resample(
    run: TrainedDensity, rows: Rows, row: int, layers: Sequence[str], draws: int, seed: int
) -> str:
    versions = redrawn(run, rows, row, [int(layer) for layer in layers], draws, seed)
    names = ["original", "reconstruction", *(f"draw {i}" for i in range(1, draws + 1))]
    return _shown(run, names, np.concatenate((rows.originals([row]), versions)))


def _sample(run: TrainedDensity, count: int, seed: int) -> str:
    with seeded(seed, run.device):
        rows = run.from_model(run.draw(count))
    return _shown(run, [f"draw {i}" for i in range(1, count + 1)], rows)


def _least_likely(
    run: TrainedDensity, rows: Rows, count: int, samples: int, proposal: str, shown: int
) -> str:
    scores, order = worst(run, rows, count, samples, proposal)
    chosen = order[:shown]
    names = [f"row {row}" for row in chosen]
    numbers = {"row": range(len(scores))}
    together = _shown(run, names, rows.originals(chosen))
    mean = f"Mean of {len(scores)}: {scores.mean:.2f} ± {scores.standard_error:.2g} nats"
    return together + scores_table(scores, numbers, chosen) + notes_list([mean, *scores.notes])


def _shown(run: TrainedDensity, names: Sequence[str], rows: np.ndarray, side: int = SMALL) -> str:
    """Return images side by side, or rows as a table, with their names."""
    if not run.units.is_images:
        return _rows_table(run, names, rows)
    return embed(picture(run, rows, min(COLUMNS, len(rows)), side), ", ".join(names))


def _rows_table(run: TrainedDensity, names: Sequence[str], rows: np.ndarray) -> str:
    return columns_table({"": names, **run.by_column(rows)})


def _things(run: TrainedDensity) -> str:
    return "Images" if run.units.is_images else "Rows"
