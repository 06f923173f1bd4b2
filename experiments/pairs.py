"""Texts that belong together, from a file: pairs or groups of similar texts, pairs with a label, or single texts.

TSV: a line is a group, its texts parted by tabs; three columns of which the last is a label are a labelled pair.
JSONL: a line is a list of the same. A label is a number that rises with similarity, or one of ``contradiction``,
``neutral``, ``entailment``. Either all lines are labelled or none. Of several files each keeps its own scale of labels:
labels are compared within a file.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from univae.corpus import read_lines
from univae.errors import InputError

__all__ = ["Groups", "group_up", "pair_batches", "pair_up", "read_groups"]

NLI_SCORES = {"contradiction": 0.0, "neutral": 0.5, "entailment": 1.0}
NLI_CLASSES = {"contradiction": 2, "entailment": 3, "neutral": 4}  # as in univae.stages
WINDOW = 50  # batches' worth of pairs sorted by length together


@dataclass(frozen=True)
class Groups:
    """Group g is texts ``members[offsets[g] : offsets[g + 1]]``, indices into the distinct ``texts``."""

    texts: list[str]
    offsets: np.ndarray  # (groups + 1,)
    members: np.ndarray
    families: np.ndarray  # (texts,): texts of groups that are connected by a text in common have one number
    scores: np.ndarray | None = None  # (groups,): of labelled pairs
    classes: np.ndarray | None = None  # (groups,): the class of an NLI label, -1 for a number
    files: np.ndarray | None = None  # (groups,): the number of the file a labelled pair is from

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def pairs(self) -> np.ndarray:
        """The first and the last text (groups, 2) of every group: the two of a pair."""
        return np.stack((self.members[self.offsets[:-1]], self.members[self.offsets[1:] - 1]), 1)

    def partners(self, pairs: np.ndarray) -> np.ndarray:
        """Which of the pairs (P, 2) are two texts of a kind, and not one text twice or two single ones."""
        a, b = pairs.T
        return (a != b) & (self.families[a] == self.families[b])

    def split(self, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Indices of groups to train on and held out, rising: whole families, so that no text is on both sides."""
        family = self.families[self.members[self.offsets[:-1]]]
        sizes = np.bincount(family, minlength=int(self.families.max()) + 1)
        wanted = max(round(len(self) * fraction), 1)
        order = np.random.default_rng(seed % 2**64).permutation(np.flatnonzero((sizes > 0) & (sizes <= wanted)))
        chosen = order[np.cumsum(sizes[order]) <= wanted]
        out = np.isin(family, chosen)
        if not 0 < fraction < 1 or out.all() or not out.any():
            raise InputError(
                f"split: needs 0 < fraction < 1 and groups that share no text with others, to hold out; got "
                f"fraction={fraction} of {len(self)} groups, the largest {sizes.max()} connected; give --validation"
            )
        return np.flatnonzero(~out), np.flatnonzero(out)


def read_groups(*paths: Path) -> Groups:
    """Reads files as the module says; :class:`InputError` names the line that breaks a rule."""
    rows = [(path, number, row) for path in paths for number, row in _rows(path)]
    labelled = [_label(row[-1]) is not None and len(row) == 3 for *_, row in rows]
    if not any(labelled):
        return group_up(_texts(row, path, number) for path, number, row in rows)
    if not all(labelled):
        path, number, _ = rows[labelled.index(False)]
        raise InputError(f"{path}, line {number}: no label where other lines have one; give text, text, label in all")
    labels, files = [row[-1] for *_, row in rows], [paths.index(path) for path, *_ in rows]
    return group_up((_texts(row[:2], path, number) for path, number, row in rows), labels, files)


def group_up(
    groups: Iterable[Sequence[str]], labels: Sequence[Any] | None = None, files: Sequence[int] | None = None
) -> Groups:
    """Numbers the distinct texts of groups, in the order they come; without ``files``, labels are of one file."""
    known: dict[str, int] = {}
    members, offsets = list[int](), [0]
    for group in groups:
        members += [known.setdefault(text, len(known)) for text in group]
        offsets.append(len(members))
    bounds, flat = np.array(offsets), np.array(members)
    families = _families(bounds, flat, len(known))
    if labels is None:
        return Groups(list(known), bounds, flat, families)
    scores = np.array([NLI_SCORES[label] if label in NLI_SCORES else float(label) for label in labels])
    classes = np.array([NLI_CLASSES.get(label, -1) for label in labels])
    return Groups(list(known), bounds, flat, families, scores, classes, np.array(files or [0] * len(labels)))


def pair_up(groups: Groups, chosen: np.ndarray, lengths: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Pairs (P, 2) of texts: every chosen group is shuffled and cut into twos; a text left over waits for its turn.

    Groups of one text are cut into twos together, by like ``lengths`` of texts, and no partners: see
    :meth:`Groups.partners`. The last one of an odd number comes twice.
    """
    sizes = np.diff(groups.offsets)[chosen]
    group = np.repeat(np.arange(len(chosen)), sizes)
    within = np.arange(len(group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    members = groups.members[groups.offsets[:-1][chosen][group] + within]
    members = members[np.lexsort((draw.random(len(group)), group))]
    first = np.flatnonzero((within % 2 == 0) & (within + 1 < sizes[group]))
    single = draw.permutation(members[sizes[group] == 1])
    single = single[np.argsort(lengths[single], kind="stable")]
    single = np.concatenate((single, single[-1:])) if len(single) % 2 else single
    return np.concatenate((np.stack((members[first], members[first + 1]), 1), single.reshape(-1, 2)))


def pair_batches(pairs: np.ndarray, lengths: np.ndarray, size: int, draw: np.random.Generator) -> list[np.ndarray]:
    """Cuts pairs into shuffled batches of ``size`` pairs of like lengths; row order in a batch is random."""
    pairs = pairs[draw.permutation(len(pairs))]
    longest = lengths[pairs].max(1, initial=0)
    window = np.arange(len(pairs)) // (WINDOW * size)
    pairs = pairs[np.lexsort((longest, window))]
    batches = [draw.permutation(pairs[i : i + size]) for i in range(0, len(pairs), size)]
    return [batches[i] for i in draw.permutation(len(batches))]


def _rows(path: Path) -> Iterator[tuple[int, list[Any]]]:
    reader = _json_row if path.suffix.lower() in (".jsonl", ".json") else _tsv_row
    for number, line in enumerate(read_lines(path), start=1):
        yield number, reader(line, path, number)


def _tsv_row(line: str, path: Path, number: int) -> list[Any]:
    return [cell.strip() for cell in line.split("\t")]


def _json_row(line: str, path: Path, number: int) -> list[Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{path}, line {number}: not JSON ({error}); give one list a line") from error
    if not isinstance(row, list) or not row:
        raise InputError(f"{path}, line {number}: a line is a list of texts, maybe with a label; got {line[:60]}")
    return row


def _label(cell: Any) -> float | str | None:
    if isinstance(cell, bool):
        return None
    if cell in NLI_SCORES:
        return str(cell)
    try:
        value = float(cell)
    except (TypeError, ValueError):
        return None
    return value if np.isfinite(value) else None


def _texts(row: Sequence[Any], path: Path, number: int) -> list[str]:
    if not all(isinstance(cell, str) and cell.strip() for cell in row):
        raise InputError(f"{path}, line {number}: every column is a text; got {str(row)[:80]}; fill or drop the line")
    return [cell.strip() for cell in row]


def _families(offsets: np.ndarray, members: np.ndarray, count: int) -> np.ndarray:
    """Numbers the connected components of texts, a group connecting all its texts."""
    firsts = np.repeat(members[offsets[:-1]], np.diff(offsets))
    edges = coo_matrix((np.ones(len(members)), (firsts, members)), shape=(count, count))
    return connected_components(edges, directed=False)[1]
