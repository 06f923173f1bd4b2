"""Decode many image files into one array, by as many threads as this process has processors.

Pillow decodes without Python's lock. The headers of all files are read first: they decide the size
and the channels of the array, so that it can be mapped from a file that need not fit into memory.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
from tqdm import tqdm

from experiments.data.arrays import CHUNK
from experiments.data.image_archives import FileSet, left_out
from experiments.data.image_decoding import Layout, decode
from experiments.data.image_headers import DamagedImage, Facts, facts_of, large_allowed
from experiments.data.image_options import ImageReading
from univae.errors import InputError
from univae.mapped_files import release_pages

__all__ = ["Plan", "Stack", "layout_of", "plan", "stack"]

BATCH = 32  # files that a thread reads at a time: small images take less time than a switch
FEWEST_SHOWN = 2000  # images whose decoding shows a progress bar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Plan(NamedTuple):
    """The images of a set that can be read, and what they are decoded to."""

    source: FileSet
    names: list[str]
    layout: Layout
    reading: ImageReading
    damaged: list[str]  # names of images whose headers cannot be read

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, channels, height, width)."""
        return len(self.names), *self.layout.shape


class Stack(NamedTuple):
    """Images of one layout."""

    values: np.ndarray  # (N, channels, height, width), uint8
    names: list[str]  # without those of images left out
    remarks: Counter[str]  # on how many images each remark was made
    notes: list[str]  # on images left out


@large_allowed()
def plan(source: FileSet, names: Sequence[str], reading: ImageReading) -> Plan:
    """Read the headers of images, and return what all of them are decoded to.

    Raises:
        InputError: an image is damaged, or has another size than the others.
    """
    damaged: list[str] = []
    facts: dict[str, Facts] = {}
    for name, header in zip(names, _surveyed(source, names, reading), strict=True):
        if header is None:
            damaged.append(name)
        else:
            facts[name] = header
    _require_any(facts, source, damaged)
    return Plan(source, list(facts), layout_of(facts, source, reading), reading, damaged)


@large_allowed()
def stack(images: Plan, values: np.ndarray) -> Stack:
    """Decode images into ``values``, an array of the plan's shape, in the order of their names.

    Raises:
        InputError: an image is damaged, or loses information that its reading does not give up.
    """
    kept: list[str] = []
    damaged = list(images.damaged)
    remarks: Counter[str] = Counter()
    for row, remarks_of_row in enumerate(_decoded(images, values)):
        if remarks_of_row is None:
            damaged.append(images.names[row])
            continue
        if len(kept) < row:  # a damaged image came before
            values[len(kept)] = values[row]
        if row % CHUNK == 0:
            release_pages(values)
        kept.append(images.names[row])
        remarks.update(remarks_of_row)
    _require_any(kept, images.source, damaged)
    notes = [left_out("damaged or too large images", sorted(damaged))] if damaged else []
    return Stack(values[: len(kept)], kept, remarks, notes)


def layout_of(facts: dict[str, Facts], source: FileSet, reading: ImageReading) -> Layout:
    """Return the size and channels that all images of a set are decoded to.

    Raises:
        InputError: the sizes differ, and ``reading`` resizes to none.
    """
    names = list(facts)
    first = facts[names[0]]
    height, width = (reading.size, reading.size) if reading.size else first[:2]
    for name in names:
        other = facts[name]
        if not reading.size and other[:2] != first[:2]:
            way_out = "resize them" if reading.is_exact else "--size 64 resizes all to 64 x 64"
            raise InputError(
                f"images in {source.path} must be of one size; got (height, width) = {first[:2]} "
                f"in {names[0]}, {other[:2]} in {name}; {way_out}"
            )

    has_alpha = any(fact.has_alpha for fact in facts.values())
    is_colour = any(fact.is_colour for fact in facts.values())
    if reading.alpha == "flatten":
        is_colour = is_colour or (has_alpha and not reading.has_grey_background)
        has_alpha = False
    if reading.channels != "auto":
        is_colour = reading.channels == "3"
    return Layout(height, width, is_colour, has_alpha)


def _surveyed(
    source: FileSet, names: Sequence[str], reading: ImageReading
) -> Iterator[Facts | None]:
    """Yield the facts of each file; None for a damaged one that is left out."""

    def survey(name: str) -> Facts:
        with source.files[name].open() as file:
            return facts_of(file, source.source(name))

    return _in_threads(_without_damaged(survey, reading), names, "reading headers")


def _decoded(images: Plan, values: np.ndarray) -> Iterator[list[str] | None]:
    """Decode each file into its row, and yield the remarks on it; None for a damaged one.

    The threads write the rows, so that no decoded image waits in memory.
    """
    source = images.source

    def row(number: int) -> list[str]:
        name = images.names[number]
        image = decode(source.read(name), source.source(name), images.layout, images.reading)
        values[number] = image.values
        return image.remarks

    rows = range(len(images.names))
    return _in_threads(_without_damaged(row, images.reading), rows, "decoding images")


def _without_damaged(
    function: Callable[[Item], Result], reading: ImageReading
) -> Callable[[Item], Result | None]:
    """Return a function that returns None for damaged images, with ``--skip-damaged``."""

    def call(item: Item) -> Result | None:
        try:
            return function(item)
        except DamagedImage:
            if not reading.skip_damaged:
                raise
            return None

    return call


def _in_threads(
    function: Callable[[Item], Result], items: Sequence[Item], title: str
) -> Iterator[Result]:
    """Yield the results of ``function`` in order, of at most :data:`CHUNK` items ahead."""
    hidden = None if len(items) >= FEWEST_SHOWN else True
    with (
        ThreadPoolExecutor(_processors()) as pool,
        tqdm(total=len(items), desc=title, disable=hidden, leave=False) as bar,
    ):
        for start in range(0, len(items), CHUNK):
            chunk = items[start : start + CHUNK]
            batches = [chunk[i : i + BATCH] for i in range(0, len(chunk), BATCH)]
            for results in pool.map(partial(_each, function), batches):
                bar.update(len(results))
                yield from results


def _each(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    return [function(item) for item in items]


def _processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _require_any(kept: object, source: FileSet, damaged: Sequence[str]) -> None:
    if not kept:
        raise InputError(
            f"{source.path}: all {len(damaged)} images are damaged or too large, {damaged[0]} for "
            "one; give others"
        )
