"""The groups of similar texts of a training, split into a training and a held-out set."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.data.pairs import Groups, joined, read_groups
from experiments.sentences.data_options import PairData
from experiments.sentences.stages import Stage
from univae.errors import InputError

__all__ = ["PairSets"]

PAIR = 2  # texts of a contrast
FEWEST = 2  # held-out labelled pairs: a rank correlation needs an order


@dataclass(frozen=True)
class PairSets:
    """The groups of ``--pairs`` and ``--validation``.

    Args:
        data: the options that name the files.
        stage: the stage of training that reads them.
        seed: of the choice of held-out groups.
        groups: the groups of ``--pairs``.
        validation: the groups of ``--validation``, if there are any.
        contrasts: the pairs of ``--contrasts``, if there are any.
    """

    data: PairData
    stage: Stage
    seed: int
    groups: Groups
    validation: Groups | None
    contrasts: Groups | None = None

    @classmethod
    def read(cls, data: PairData, stage: Stage, seed: int) -> "PairSets":
        """Read the files.

        Raises:
            InputError: a line breaks a rule of its format.
        """
        groups = read_groups(*data.pairs, columns=data.columns)
        validation = None
        if data.validation:
            validation = read_groups(*data.validation, columns=data.columns)
        contrasts = None
        if data.contrasts:
            contrasts = read_groups(*data.contrasts, columns=data.columns)
        return cls(data, stage, seed, groups, validation, contrasts)

    def split(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the indices of groups to train on, and of held-out groups.

        No labelled pairs are held out where ``--validation`` has others.
        """
        if self.stage.reads_labels and self.data.validation:
            return np.arange(len(self.groups)), np.arange(0)
        return self.groups.split(self.data.held_out, self.seed)

    def corpora(self) -> dict[str, list[str]]:
        """Return the texts of each corpus, by its folder in the run folder."""
        corpora = {"corpus": self.texts}
        if self.validation is not None:
            corpora["validation"] = self.validation.texts
        return corpora

    @property
    def texts(self) -> list[str]:
        """The distinct texts of ``--pairs``, then those that only ``--contrasts`` has."""
        if self.contrasts is None:
            return self.groups.texts
        return joined(self.groups, self.contrasts)[0].texts

    def with_contrasts(self) -> tuple[Groups, np.ndarray | None]:
        """Return the groups with all texts, and the pairs (N, 2) of texts to contrast in training.

        Pairs of texts of one family, which are similar, are left out, and so are those with a
        held-out text.
        """
        if self.contrasts is None:
            return self.groups, None
        groups, pairs = joined(self.groups, self.contrasts)
        first, second = pairs.T
        is_similar = groups.families[first] == groups.families[second]
        is_held_out = np.zeros(len(groups.texts), dtype=bool)
        is_held_out[self._members(self.split()[1])] = True
        return groups, pairs[~(is_similar | is_held_out[pairs].any(1))]

    def texts_of(self, rows: np.ndarray) -> list[str]:
        """Return the distinct texts of some groups."""
        return [self.groups.texts[i] for i in self._members(rows).tolist()]

    def _members(self, rows: np.ndarray) -> np.ndarray:
        """Return the indices of the distinct texts of some groups."""
        groups = self.groups
        if not len(rows):
            return np.arange(0)
        spans = [groups.members[groups.offsets[row] : groups.offsets[row + 1]] for row in rows]
        return np.unique(np.concatenate(spans))

    def check(self) -> None:
        """Check that the stage of training can use the groups.

        Raises:
            InputError: labels are missing or not wanted, a group is too small, or too few labelled
                pairs are held out.
        """
        groups = self.groups
        files = self.data.pair_files
        if self.stage.reads_labels and groups.scores is None:
            raise InputError(
                f"--stage finetune needs labelled pairs; {files} has none; give text, text, label"
            )
        if not self.stage.reads_labels and groups.scores is not None:
            raise InputError(
                f"{files} has labels, which --stage {self.stage.name} does not read; give the "
                "similar pairs alone, without a label (--columns names the columns to read), or "
                "--stage finetune"
            )
        if (np.diff(groups.offsets) < self.stage.smallest_group).any():
            raise InputError(
                f"{files}: a line holds one text; --stage pretrain needs two of a kind, "
                "distil does not"
            )
        if self.validation is not None and self.validation.scores is None:
            files = " ".join(map(str, self.data.validation))
            raise InputError(f"--validation {files} has no labels; give text, text, label")
        if self.contrasts is not None:
            _require_pairs(self.contrasts, self.data.contrasts)
        self._require_enough()

    def _require_enough(self) -> None:
        """Raise InputError where too few labelled pairs are held out for a rank correlation."""
        held_out = self.split()[1]
        rule = f"{FEWEST} held-out labelled pairs are needed"
        if self.validation is not None:
            assert self.validation.files is not None
            counts = np.bincount(self.validation.files, minlength=len(self.data.validation))
            if counts.min() < FEWEST:
                path = self.data.validation[int(counts.argmin())]
                raise InputError(
                    f"{rule}; --validation {path} gives {counts.min()}; give more pairs"
                )
        elif self.groups.files is not None and len(held_out) < FEWEST:
            pairs = f"{len(self.groups)} pairs with --held-out {self.data.held_out:g}"
            way_out = "raise it, or give --validation"
            raise InputError(f"{rule}; {pairs} give {len(held_out)}; {way_out}")


def _require_pairs(contrasts: Groups, paths: Sequence[Path]) -> None:
    """Raise InputError where a line of ``--contrasts`` is not two texts without a label."""
    files = " ".join(map(str, paths))
    if contrasts.scores is not None:
        raise InputError(
            f"--contrasts {files} has labels, which are not read; give two texts a line"
        )
    sizes = np.diff(contrasts.offsets)
    if (sizes != PAIR).any():
        wrong = sizes[sizes != PAIR][0]
        raise InputError(f"--contrasts {files}: a line holds two texts; one has {wrong}")
