"""Groups of similar texts, labelled pairs, and the pairs and batches of an epoch.

A row of a file (:mod:`experiments.data.pair_files`) is a group of similar texts; three cells of
which the last is a label are a labelled pair. Which columns are read is decided in
:mod:`experiments.data.pair_layouts`. A label is a number that rises with similarity, or one of
``contradiction``, ``neutral``, ``entailment``. Either all rows are labelled or none. Labels are
compared within a file only, since every file may have another scale.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import TypeAlias

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from experiments.data.column_kinds import class_of, score_of
from experiments.data.columns import open_sheet
from experiments.data.pair_files import Row, brief
from experiments.data.pair_layouts import layout_of, picked_rows
from univae.checkpoint import JsonValue
from univae.dtypes import is_float_array
from univae.errors import InputError
from univae.text.corpus import Removed, fingerprint_texts
from univae.text.lines import require_length

__all__ = ["Groups", "group_up", "joined", "pair_batches", "pair_up", "read_groups"]

LABELLED_CELLS = 3  # text, text, label
WINDOW = 50  # batches' worth of pairs sorted by length together
SEEDS = 2**64  # NumPy takes no negative seed
DIGEST_BYTES = 16

Label: TypeAlias = int | float | str  # a similarity, or an NLI label


@dataclass(frozen=True)
class Groups:
    """Groups of texts: ``members[offsets[g] : offsets[g + 1]]`` are group g.

    ``members`` are indices into the distinct ``texts``.
    """

    texts: list[str]
    offsets: np.ndarray  # (groups + 1,)
    members: np.ndarray
    # (texts,): the same number for all texts of groups that are connected by common texts
    families: np.ndarray
    scores: np.ndarray | None = None  # (groups,): of labelled pairs
    classes: np.ndarray | None = None  # (groups,): the class of an NLI label, -1 for a number
    files: np.ndarray | None = None  # (groups,): the index of the file of a labelled pair
    notes: tuple[str, ...] = ()  # on lines that were left out

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def pairs(self) -> np.ndarray:
        """The first and the last text (groups, 2) of every group: the two texts of a pair."""
        return np.stack((self.members[self.offsets[:-1]], self.members[self.offsets[1:] - 1]), 1)

    def fingerprint(self) -> str:
        """Return 128 bits of BLAKE2b, in hexadecimal, of texts, grouping and labels in order."""
        texts = fingerprint_texts(self.texts)[1]
        digest = blake2b(texts.encode(), digest_size=DIGEST_BYTES)
        for array in (self.offsets, self.members, self.scores, self.classes, self.files):
            if array is None:
                digest.update(b"none")
                continue
            dtype = "<f8" if is_float_array(array) else "<i8"
            digest.update(f"{dtype} {len(array)} ".encode() + array.astype(dtype).tobytes())
        return digest.hexdigest()

    def partners(self, pairs: np.ndarray) -> np.ndarray:
        """Return which of the pairs (P, 2) are two distinct texts of one family, (P,)."""
        first, second = pairs.T
        return (first != second) & (self.families[first] == self.families[second])

    def split(self, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the indices of groups to train on and of held-out groups, ascending.

        Families are held out whole, so that the two sets have no text in common.

        Raises:
            InputError: no set of families holds ``fraction`` of the groups.
        """
        family = self.families[self.members[self.offsets[:-1]]]
        sizes = np.bincount(family, minlength=int(self.families.max()) + 1)
        target = max(round(len(self) * fraction), 1)

        small_enough = np.flatnonzero((sizes > 0) & (sizes <= target))
        order = np.random.default_rng(seed % SEEDS).permutation(small_enough)
        held_out_families = order[np.cumsum(sizes[order]) <= target]
        held_out = np.isin(family, held_out_families)

        if not 0 < fraction < 1 or held_out.all() or not held_out.any():
            raise InputError(
                "--held-out must lie in (0, 1), and only groups that share no text with others are "
                f"held out; got {fraction} of {len(self)} groups, the largest {sizes.max()} "
                "connected; give --validation"
            )
        return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def read_groups(*paths: Path, columns: Sequence[str] = ()) -> Groups:
    """Return the groups of files, in the order of their rows.

    Args:
        paths: the files.
        columns: names or numbers, from 1, of the columns of texts and, last, of the label; none:
            recognised.

    Raises:
        InputError: a line breaks a rule of its format or of this module; the message names it.
    """
    rows: list[Row] = []
    files: list[int] = []
    notes: list[str] = []
    for number, path in enumerate(paths):
        removed = Removed()
        file_rows = _read(path, columns, removed)
        rows += file_rows
        files += [number] * len(file_rows)
        notes += removed.notes(str(path))

    return replace(_grouped(rows, files), notes=tuple(notes))


def _read(path: Path, columns: Sequence[str], removed: Removed) -> list[Row]:
    """Return the rows of texts and labels of a file."""
    sheet = open_sheet(path, removed, columns)
    rows = list(picked_rows(sheet, layout_of(sheet, columns, removed), removed))
    if not rows:
        raise InputError(f"{path}: every row lacks a text or its label; fill the empty cells")
    return rows


def _grouped(rows: Sequence[Row], files: Sequence[int]) -> Groups:
    """Return the groups of rows; ``files`` are the indices of their files."""
    labelled = [
        len(row.cells) == LABELLED_CELLS and score_of(row.cells[-1]) is not None for row in rows
    ]
    if not any(labelled):
        return group_up(_texts(row.cells, row.where) for row in rows)
    if not all(labelled):
        where = rows[labelled.index(False)].where
        raise InputError(
            f"{where}: no label where other lines have one; give text, text, label in all"
        )
    labels = [row.cells[-1] for row in rows]
    return group_up((_texts(row.cells[:-1], row.where) for row in rows), labels, files)


def group_up(
    groups: Iterable[Sequence[str]],
    labels: Sequence[Label] | None = None,
    files: Sequence[int] | None = None,
) -> Groups:
    """Return groups whose distinct texts are numbered in the order of their first occurrence.

    Args:
        groups: the texts of every group.
        labels: a number or an NLI label per group, or None.
        files: the index of the file of every label; None for one file.
    """
    numbers: dict[str, int] = {}
    members: list[int] = []
    ends = [0]
    for group in groups:
        members += [numbers.setdefault(text, len(numbers)) for text in group]
        ends.append(len(members))

    texts = list(numbers)
    offsets = np.array(ends)
    member_array = np.array(members)
    families = _families(offsets, member_array, len(texts))
    if labels is None:
        return Groups(texts, offsets, member_array, families)

    scores = np.array([score_of(label) for label in labels], dtype=np.float64)
    classes = np.array([class_of(label) for label in labels])
    file_array = np.array(files or [0] * len(labels))
    return Groups(texts, offsets, member_array, families, scores, classes, file_array)


def joined(groups: Groups, pairs: Groups) -> tuple[Groups, np.ndarray]:
    """Return ``groups`` with the texts of ``pairs`` added, and the indices (P, 2) of the pairs.

    Texts that are added are in no group, and each is a family of its own.
    """
    numbers = {text: row for row, text in enumerate(groups.texts)}
    rows = [numbers.setdefault(text, len(numbers)) for text in pairs.texts]
    added = len(numbers) - len(groups.texts)
    families = groups.families.max() + 1 + np.arange(added, dtype=groups.families.dtype)
    longer = replace(
        groups, texts=list(numbers), families=np.concatenate((groups.families, families))
    )
    return longer, np.array(rows)[pairs.pairs]


def pair_up(
    groups: Groups, chosen: np.ndarray, lengths: np.ndarray, draw: np.random.Generator
) -> np.ndarray:
    """Return the pairs of texts (P, 2) of an epoch: the shuffled texts of each group, two by two.

    The last text of an odd group is in no pair of this epoch. Groups of one text are paired with
    each other by similar length; such pairs are no partners: see :meth:`Groups.partners`. If their
    number is odd, the last one is paired with itself.

    Args:
        groups: all groups.
        chosen: the indices of the groups to pair.
        lengths: tokens of every text.
        draw: the source of the permutations.
    """
    sizes = np.diff(groups.offsets)[chosen]
    group = np.repeat(np.arange(len(chosen)), sizes)
    rank = np.arange(len(group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # within the group
    members = groups.members[groups.offsets[:-1][chosen][group] + rank]
    members = members[np.lexsort((draw.random(len(group)), group))]
    first = np.flatnonzero((rank % 2 == 0) & (rank + 1 < sizes[group]))
    pairs = np.stack((members[first], members[first + 1]), 1)

    single = draw.permutation(members[sizes[group] == 1])
    single = single[np.argsort(lengths[single], kind="stable")]
    if len(single) % 2:
        single = np.concatenate((single, single[-1:]))
    return np.concatenate((pairs, single.reshape(-1, 2)))


def pair_batches(
    pairs: np.ndarray, lengths: np.ndarray, size: int, draw: np.random.Generator
) -> list[np.ndarray]:
    """Return shuffled batches of ``size`` pairs of similar lengths, their rows in random order."""
    pairs = pairs[draw.permutation(len(pairs))]
    longest = lengths[pairs].max(1, initial=0)
    window = np.arange(len(pairs)) // (WINDOW * size)
    pairs = pairs[np.lexsort((longest, window))]

    batches = [draw.permutation(pairs[i : i + size]) for i in range(0, len(pairs), size)]
    return [batches[i] for i in draw.permutation(len(batches))]


def _texts(cells: Sequence[JsonValue], where: str) -> list[str]:
    if not all(isinstance(cell, str) and cell.strip() for cell in cells):
        rule = "every column is a text"
        if len(cells) == LABELLED_CELLS and not isinstance(cells[-1], str):
            rule += ", or the third a label: a finite number, contradiction, neutral or entailment"
        raise InputError(f"{where}: {rule}; got {brief(cells)}; fill or drop the line")
    for cell in cells:
        require_length(cell, where)
    return [cell.strip() for cell in cells]


def _families(offsets: np.ndarray, members: np.ndarray, count: int) -> np.ndarray:
    """Return the connected components (texts,) of the graph in which a group connects its texts."""
    firsts = np.repeat(members[offsets[:-1]], np.diff(offsets))
    edges = coo_matrix((np.ones(len(members)), (firsts, members)), shape=(count, count))
    return connected_components(edges, directed=False)[1]
