"""A generated table like that of the Palmer penguins: 344 rows, 4 numbers, 3 categories, holes.

Means, deviations and correlations of the numbers depend on species and sex, the island on the
species, as in the measurements of Gorman et al. (2014), whose values it does not hold.

References:
    Ecological sexual dimorphism and environmental variability within a community of Antarctic
    penguins (Gorman et al., 2014), https://doi.org/10.1371/journal.pone.0090081
"""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

__all__ = ["CATEGORIES", "NAMES", "NUMBERS", "ROWS", "penguins", "write_table"]

ROWS = 344
CATEGORIES = ("species", "island", "sex")
NUMBERS = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g")
NAMES = (*CATEGORIES, *NUMBERS)

SPECIES = ("Adelie", "Chinstrap", "Gentoo")
SHARES = (0.44, 0.20, 0.36)
ISLANDS = ("Biscoe", "Dream", "Torgersen")
ISLAND_SHARES = ((0.29, 0.37, 0.34), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))  # by species
SEXES = ("female", "male")
MEANS = ((37.3, 17.6, 188.0, 3370.0), (46.6, 17.6, 192.0, 3530.0), (45.6, 14.2, 212.7, 4680.0))
MALE = ((3.1, 1.45, 4.6, 675.0), (4.5, 1.7, 8.2, 410.0), (3.9, 1.5, 8.8, 805.0))
DEVIATIONS = ((2.1, 1.0, 6.2, 310.0), (2.6, 0.8, 6.3, 330.0), (2.5, 0.65, 4.8, 300.0))
CORRELATIONS = (0.2, 0.5, 0.6)  # between any two numbers of a bird, by species
DECIMALS = (1, 1, 0, -1)  # as they are measured: 0.1 mm, 0.1 mm, 1 mm, 10 g


def penguins(seed: int = 0, missing: float = 0.05) -> np.ndarray:
    """Return the cells (344, 7) as texts, each empty with probability ``missing``."""
    generator = np.random.default_rng(seed)
    rows = [_bird(generator) for _ in range(ROWS)]
    cells = np.array(rows, dtype=object)
    cells[generator.random(cells.shape) < missing] = ""
    return cells


def write_table(path: Path, cells: Sequence[Sequence[str]] | np.ndarray) -> None:
    """Write cells (N, 7) as a .csv with a header."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(NAMES)
        writer.writerows(cells)


def _bird(generator: np.random.Generator) -> list[str]:
    species = int(generator.choice(3, p=SHARES))
    island = int(generator.choice(3, p=ISLAND_SHARES[species]))
    sex = int(generator.integers(2))

    mean = np.array(MEANS[species]) + sex * np.array(MALE[species])
    deviation = np.array(DEVIATIONS[species])
    correlation = np.full((4, 4), CORRELATIONS[species]) + (1 - CORRELATIONS[species]) * np.eye(4)
    covariance = np.outer(deviation, deviation) * correlation
    numbers = generator.multivariate_normal(mean, covariance)
    texts = [
        f"{round(number, decimals):g}" for number, decimals in zip(numbers, DECIMALS, strict=True)
    ]
    return [SPECIES[species], ISLANDS[island], SEXES[sex], *texts]
