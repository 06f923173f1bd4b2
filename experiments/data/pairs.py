"""Texts that belong together, from a file: pairs or groups of similar texts, pairs with a label, or single texts.

TSV: a line is a group, its texts parted by tabs; three columns of which the last is a label are a
labelled pair. JSONL: a line is a list of the same; a ``.json`` file may instead be one list of such
lists. A label is a number that rises with similarity, or one of ``contradiction``, ``neutral``,
``entailment``. Either all lines are labelled or none. Of several files each keeps its own scale of
labels: labels are compared within a file.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from univae.errors import InputError
from univae.text.corpus import Removed, fingerprint_texts, numbered_lines

__all__ = ["Groups", "group_up", "pair_batches", "pair_up", "read_groups"]

NLI_SCORES = {"contradiction": 0.0, "neutral": 0.5, "entailment": 1.0}
NLI_CLASSES = {"contradiction": 2, "entailment": 3, "neutral": 4}  # as in univae.sentence.losses
SURROGATE = re.compile("[\ud800-\udfff]")  # json.loads joins whole pairs, so what is left is a half
RULE = "a line is a list of texts"
WINDOW = 50  # batches' worth of pairs sorted by length together


@dataclass(frozen=True)
class Groups:
    """Group g is texts ``members[offsets[g] : offsets[g + 1]]``, indices into the distinct ``texts``."""

    texts: list[str]
    offsets: np.ndarray  # (groups + 1,)
    members: np.ndarray
    # (texts,): texts of groups that are connected by a text in common have one number
    families: np.ndarray
    scores: np.ndarray | None = None  # (groups,): of labelled pairs
    classes: np.ndarray | None = None  # (groups,): the class of an NLI label, -1 for a number
    files: np.ndarray | None = None  # (groups,): the number of the file a labelled pair is from
    notes: tuple[str, ...] = ()  # what the reader left out, a line each

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def pairs(self) -> np.ndarray:
        """The first and the last text (groups, 2) of every group: the two of a pair."""
        return np.stack((self.members[self.offsets[:-1]], self.members[self.offsets[1:] - 1]), 1)

    def fingerprint(self) -> str:
        """Return a fingerprint of texts, grouping and labels, all in their order."""
        digest = blake2b(fingerprint_texts(self.texts)[1].encode(), digest_size=16)
        for array in (self.offsets, self.members, self.scores, self.classes, self.files):
            if array is None:
                digest.update(b"none")
                continue
            kind = "<f8" if array.dtype.kind == "f" else "<i8"
            digest.update(f"{kind} {len(array)} ".encode() + array.astype(kind).tobytes())
        return digest.hexdigest()

    def partners(self, pairs: np.ndarray) -> np.ndarray:
        """Which of the pairs (P, 2) are two texts of a kind, and not one text twice or two single ones."""
        a, b = pairs.T
        return (a != b) & (self.families[a] == self.families[b])

    def split(self, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Indices of groups to train on and held out, rising: whole families, so that no text is on both sides."""
        family = self.families[self.members[self.offsets[:-1]]]
        sizes = np.bincount(family, minlength=int(self.families.max()) + 1)
        wanted = max(round(len(self) * fraction), 1)
        order = np.random.default_rng(seed % 2**64).permutation(
            np.flatnonzero((sizes > 0) & (sizes <= wanted))
        )
        chosen = order[np.cumsum(sizes[order]) <= wanted]
        out = np.isin(family, chosen)
        if not 0 < fraction < 1 or out.all() or not out.any():
            raise InputError(
                f"split: needs 0 < fraction < 1 and groups that share no text with others, to hold out; got "
                f"fraction={fraction} of {len(self)} groups, the largest {sizes.max()} connected; give --validation"
            )
        return np.flatnonzero(~out), np.flatnonzero(out)


def read_groups(*paths: Path) -> Groups:
    """Read files as the module says; :class:`InputError` names the line that breaks a rule."""
    rows = list[tuple[Path, str, list[Any]]]()
    notes = list[str]()
    for path in paths:
        removed = Removed()
        rows += [(path, where, row) for where, row in _rows(path, removed)]
        notes += removed.notes(str(path))
    labelled = [_label(row[-1]) is not None and len(row) == 3 for *_, row in rows]
    if not any(labelled):
        groups = group_up(_texts(row, where) for _, where, row in rows)
    elif not all(labelled):
        where = rows[labelled.index(False)][1]
        rule = "no label where other lines have one; give text, text, label in all"
        raise InputError(f"{where}: {rule}")
    else:
        labels = [row[-1] for *_, row in rows]
        files = [paths.index(path) for path, *_ in rows]
        groups = group_up((_texts(row[:2], where) for _, where, row in rows), labels, files)
    return replace(groups, notes=tuple(notes))


def group_up(
    groups: Iterable[Sequence[str]],
    labels: Sequence[Any] | None = None,
    files: Sequence[int] | None = None,
) -> Groups:
    """Numbers the distinct texts of groups, in the order they come.

    Without ``files``, labels are of one file.
    """
    known: dict[str, int] = {}
    members = list[int]()
    offsets = [0]
    for group in groups:
        members += [known.setdefault(text, len(known)) for text in group]
        offsets.append(len(members))
    bounds = np.array(offsets)
    flat = np.array(members)
    families = _families(bounds, flat, len(known))
    if labels is None:
        return Groups(list(known), bounds, flat, families)
    scores = np.array(
        [NLI_SCORES[label] if label in NLI_SCORES else float(label) for label in labels]
    )
    classes = np.array([NLI_CLASSES.get(label, -1) for label in labels])
    return Groups(
        list(known), bounds, flat, families, scores, classes, np.array(files or [0] * len(labels))
    )


def pair_up(
    groups: Groups, chosen: np.ndarray, lengths: np.ndarray, draw: np.random.Generator
) -> np.ndarray:
    """Pairs (P, 2) of texts: every chosen group is shuffled and cut into twos; a text left over waits for its turn.

    Groups of one text are cut into twos together, by like ``lengths`` of texts, and no partners:
    see :meth:`Groups.partners`. The last one of an odd number comes twice.
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
    return np.concatenate(
        (np.stack((members[first], members[first + 1]), 1), single.reshape(-1, 2))
    )


def pair_batches(
    pairs: np.ndarray, lengths: np.ndarray, size: int, draw: np.random.Generator
) -> list[np.ndarray]:
    """Cut pairs into shuffled batches of ``size`` pairs of like lengths.

    Row order in a batch is random.
    """
    pairs = pairs[draw.permutation(len(pairs))]
    longest = lengths[pairs].max(1, initial=0)
    window = np.arange(len(pairs)) // (WINDOW * size)
    pairs = pairs[np.lexsort((longest, window))]
    batches = [draw.permutation(pairs[i : i + size]) for i in range(0, len(pairs), size)]
    return [batches[i] for i in draw.permutation(len(batches))]


def _rows(path: Path, removed: Removed) -> Iterator[tuple[str, list[Any]]]:
    """Return the rows of a file, each with the words that name its place."""
    lines = numbered_lines(path, removed)
    suffix = path.suffix.lower()
    if suffix not in (".jsonl", ".json"):
        for number, line in lines:
            yield f"{path}, line {number}", [cell.strip() for cell in line.split("\t")]
        return
    numbered = list(lines) if suffix == ".json" else lines
    rows = _whole_list(numbered) if isinstance(numbered, list) else None
    if rows is not None:
        for number, row in enumerate(rows, start=1):
            where = f"{path}, list {number}"
            yield where, _checked_row(row, where)
        return
    for number, line in numbered:
        where = f"{path}, line {number}"
        yield where, _checked_row(_parsed(line, where), where)


def _whole_list(numbered: Sequence[tuple[int, str]]) -> list[Any] | None:
    """Return the rows of a file that is one JSON list of lists or objects; else None."""
    try:
        value = json.loads("\n".join(line for _, line in numbered))
    except (ValueError, RecursionError):
        return None  # reading line by line names the place
    if not isinstance(value, list) or not value:
        return None
    return value if all(isinstance(row, list | dict) for row in value) else None


def _parsed(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except RecursionError as error:
        raise InputError(f"{where}: nested too deep; give one list of texts a line") from error
    except ValueError as error:
        raise InputError(f"{where}: not JSON ({error}); give one list a line") from error


def _checked_row(row: Any, where: str) -> list[Any]:
    """Return a row of JSON if it is a list of texts, maybe with a label."""
    if isinstance(row, dict):
        keys = ", ".join(map(str, row))
        raise InputError(
            f"{where}: {RULE}, maybe with a label; got an object with the keys {_brief(keys)}; "
            'write ["a text", "another", 3.2]'
        )
    if not isinstance(row, list) or not row:
        raise InputError(f"{where}: {RULE}, maybe with a label; got {_brief(row)}")
    if any(isinstance(cell, list) for cell in row):
        raise InputError(
            f"{where}: {RULE}, and holds no other lists; got {_brief(row)}; give one list a line, "
            "or one list of lists in a file whose name ends in .json"
        )
    for cell in row:
        if isinstance(cell, str) and (half := SURROGATE.search(cell)):
            raise InputError(
                f"{where}: half of a surrogate pair ({ascii(half.group())[1:-1]}), which is no "
                "character; write the whole pair, or \\ufffd in its place"
            )
    return row


def _label(cell: Any) -> float | str | None:
    """Return a label as a finite number or an NLI class; None where the cell is neither."""
    if isinstance(cell, bool) or not isinstance(cell, int | float | str):
        return None
    if cell in NLI_SCORES:
        return str(cell)
    try:
        value = float(cell)
    except (ValueError, OverflowError):
        return None
    return value if np.isfinite(value) else None


def _texts(row: Sequence[Any], where: str) -> list[str]:
    if not all(isinstance(cell, str) and cell.strip() for cell in row):
        rule = "every column is a text"
        if len(row) == 3 and not isinstance(row[2], str):
            rule += ", or the third a label: a finite number, contradiction, neutral or entailment"
        raise InputError(f"{where}: {rule}; got {_brief(row)}; fill or drop the line")
    return [cell.strip() for cell in row]


def _brief(value: Any) -> str:
    """Return the beginning of a value, on one line."""
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError):  # integers of thousands of digits
        text = f"a {type(value).__name__}"
    text = text.encode("utf-8", errors="backslashreplace").decode()
    return text if len(text) <= 80 else text[:77] + "..."


def _families(offsets: np.ndarray, members: np.ndarray, count: int) -> np.ndarray:
    """Numbers the connected components of texts, a group connecting all its texts."""
    firsts = np.repeat(members[offsets[:-1]], np.diff(offsets))
    edges = coo_matrix((np.ones(len(members)), (firsts, members)), shape=(count, count))
    return connected_components(edges, directed=False)[1]
