"""Arrays without a model: as they are in memory, or as level numbers where that is shorter."""

import math

import numpy as np

from density.coding.archive import Archive
from density.coding.container import Header
from density.coding.levels import compact, from_compact
from density.coding.stored import squeeze
from density.likelihoods.distributions import BINARY
from experiments.images.binarisation import WHITE
from univae.checkpoint import JsonObject
from univae.dtypes import is_number_dtype

__all__ = ["DTYPE", "array_of", "from_levels", "store_array"]

# Facts of an archive.
DTYPE = "dtype"
SHAPE = "shape"
LEVELS = "levels"  # of the level numbers that the archive holds instead of the array's own bytes
NOTES = "notes"  # needed to restore the array from level numbers

BYTE_LEVELS = 256


def store_array(exact: np.ndarray, values: np.ndarray, header: Header, levels: int) -> Archive:
    """Return the shortest archive of an array whose level numbers are ``values``."""
    facts: JsonObject = {DTYPE: header.dtype, SHAPE: list(header.shape)}
    archives = [Archive(facts, np.ascontiguousarray(exact).tobytes())]
    notes = {NOTES: header.notes} if header.notes else {}
    for count in (BINARY, BYTE_LEVELS) if levels == BINARY else (levels,):
        content = compact(values, count)
        if content != archives[0].stored:
            archives.append(Archive({**facts, LEVELS: count, **notes}, content))
    return min(archives, key=lambda archive: len(squeeze(archive.stored)))


def array_of(archive: Archive, row_shape: tuple[int, ...]) -> np.ndarray:
    """Return the array of :func:`store_array`, whose rows have ``row_shape`` as level numbers."""
    facts = archive.facts
    shape = tuple(facts[SHAPE])
    if LEVELS not in facts:
        return np.frombuffer(archive.stored, _number_type(facts[DTYPE])).reshape(shape)
    count = math.prod(shape) // math.prod(row_shape)
    values = from_compact(archive.stored, facts[LEVELS], (count, *row_shape))
    return from_levels(values, facts.get(NOTES, {}), facts[DTYPE], shape)


def from_levels(
    values: np.ndarray, notes: JsonObject, dtype: str, shape: tuple[int, ...]
) -> np.ndarray:
    """Return an array from its level numbers: ``notes`` hold its white and place of channels.

    Raises:
        ValueError: ``dtype`` is none of numbers, or the shape is that of another array.
    """
    number_type = _number_type(dtype)
    if notes.get("white") == WHITE:
        values = WHITE * values
    if notes.get("last"):
        values = np.moveaxis(values, 1, 3)
    return values.astype(number_type).reshape(shape)


def _number_type(name: str) -> np.dtype:
    """Return the dtype of a name; raise ValueError for one of other values than numbers."""
    number_type = np.dtype(name)
    if not is_number_dtype(number_type):  # texts of a declared length would fill the memory
        raise ValueError("the dtype of the array is none of numbers")
    return number_type
