"""What the explorer shows of a GAN."""

from collections.abc import Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor

from experiments.data.arrays import Data
from experiments.explorer.answers import columns_table
from experiments.explorer.directions import sensitive_directions
from experiments.explorer.latents import slider
from experiments.explorer.panels import ChoiceField, NumberField, Panel, SliderField
from experiments.gans.samples import LEVELS, contents_of, fixed_latents
from experiments.gans.scaling import to_grey_levels
from experiments.gans.units import units_of
from experiments.reports.blocks import Picture
from experiments.reports.fragments import fragment
from experiments.reports.image_grid import png
from experiments.training.settings import SEED
from gan.trained import TrainedGan
from univae.rules import at_least
from univae.seeds import seeded

__all__ = ["gan_panels", "moved_rows", "walk"]

DIRECTIONS = 6
POINTS = 8  # latents whose Jacobians give the directions
MOST_STEPS = 50
MOST_DRAWS = 256
LARGE = 160  # pixels, the width of an image beside few others
SMALL = 64  # the same in a grid
COLUMNS = 8  # images side by side in a grid
WIDEST = 3.0  # truncation that keeps 99.7% of a latent's numbers; at the end of the slider: all
EVERY_CLASS = "every class in turn"


class Gan:
    """A GAN with the units of its data, the names of its classes, and its directions."""

    def __init__(self, run: TrainedGan) -> None:
        self.run = run
        self.data: Data = units_of(run)
        numbers = [str(number) for number in range(run.classes)]
        names = run.class_names[: run.classes]
        is_clear = len({*names, EVERY_CLASS}) == len(numbers) + 1  # no name stands for two
        self.classes = tuple(names if is_clear else numbers)
        self.directions = sensitive_directions(
            self.first_class, fixed_latents(run.latent_width, POINTS), DIRECTIONS
        )

    def first_class(self, z: Tensor) -> Tensor:
        """Generate rows of latents (N, d), of the first class."""
        return self.run.generate(z, self.labels(self.classes[:1], len(z)))

    def labels(self, choice: Sequence[str], count: int) -> Tensor | None:
        """Return the class of ``count`` rows by its name; None for every class, or none."""
        if not choice or choice[0] == EVERY_CLASS:
            return None
        return torch.full((count,), self.classes.index(choice[0]))


def gan_panels(run: TrainedGan) -> list[Panel]:
    """Return the panels of a GAN; with classes, each has a choice of them."""
    gan = Gan(run)
    things = "Images" if gan.data.is_images else "Rows"
    of_class: list[ChoiceField] = []
    of_classes: list[ChoiceField] = []
    if gan.classes:
        every = (EVERY_CLASS, *gan.classes)
        of_class = [ChoiceField("Class", gan.classes, gan.classes[0])]
        of_classes = [ChoiceField("Class", every, EVERY_CLASS)]
    sliders = [slider("Latent", number) for number in range(1, len(gan.directions) + 1)]
    return [
        Panel(
            "Directions",
            "Each slider moves the latent of a seed along one of the directions in which what is "
            "generated changes most, the first the most; 1 is the standard deviation of the "
            "latents. Shown are the seed's and the moved one.",
            (_seed("Seed", 0), *sliders, *of_class),
            partial(_move, gan, len(sliders)),
        ),
        Panel(
            "Walk",
            f"{things} between the latents of two seeds, along the sphere.",
            (
                _seed("From seed", 0),
                _seed("To seed", 1),
                NumberField("Steps", 8, at_least(2, MOST_STEPS), "both ends included"),
                *of_class,
            ),
            partial(_walk, gan),
        ),
        Panel(
            "Samples",
            f"{things} from the generator.",
            (
                NumberField("Count", 32, at_least(1, MOST_DRAWS)),
                SliderField(
                    "Truncation",
                    0.1,
                    WIDEST,
                    0.1,
                    WIDEST,
                    hint=f"largest number of a latent: less, and samples are more alike; "
                    f"{WIDEST:g}: all",
                ),
                _seed("Seed", 0),
                *of_classes,
            ),
            partial(_sample, gan),
            button="Draw",
        ),
    ]


def moved_rows(gan: Gan, seed: int, offsets: Sequence[float], label: Sequence[str] = ()) -> Tensor:
    r"""Return (2, \*shape), in the units of the networks: of a seed's latent, and of it moved."""
    z = gan.run.latent(seed)
    step = torch.tensor(offsets, dtype=z.dtype) @ gan.directions.to(z.dtype)
    return gan.run.generate(torch.stack((z, z + step)), gan.labels(label, 2))


def walk(gan: Gan, start: int, end: int, steps: int, label: Sequence[str] = ()) -> Tensor:
    r"""Return (steps, \*shape), in the units of the networks, between two seeds."""
    return gan.run.generate(gan.run.between(start, end, steps), gan.labels(label, steps))


def _move(gan: Gan, count: int, seed: int, *values: float | str) -> str:
    offsets = cast("Sequence[float]", values[:count])
    label = cast("Sequence[str]", values[count:])
    return _shown(gan, ["seed", "moved"], moved_rows(gan, seed, offsets, label), LARGE)


def _walk(gan: Gan, start: int, end: int, steps: int, *label: str) -> str:
    names = [f"step {step}" for step in range(steps)]
    return _shown(gan, names, walk(gan, start, end, steps, label))


def _sample(gan: Gan, count: int, truncation: float, seed: int, *label: str) -> str:
    largest = None if truncation >= WIDEST else truncation
    with seeded(seed, gan.run.device):
        rows = gan.run.draw(count, gan.labels(label, count), largest)
    return _shown(gan, [f"draw {i}" for i in range(1, count + 1)], rows)


def _shown(gan: Gan, names: Sequence[str], x: Tensor, side: int = SMALL) -> str:
    """Return generated images side by side, or rows as a table, with their names."""
    if gan.data.is_images:
        picture = png(to_grey_levels(x), LEVELS, min(COLUMNS, len(x)), side)
        return fragment(Picture(picture, ", ".join(names)))
    return columns_table({"": names, **contents_of(gan.data, x).columns})


def _seed(label: str, value: int) -> NumberField:
    return NumberField(label, value, SEED, "the same seed gives the same latent")
