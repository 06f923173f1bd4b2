"""The training options of a sentence model, its examples, and a batch of rows of pairs.

Rows 2i and 2i + 1 of a batch are partners: losses rely on this order.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple, TypeAlias

import numpy as np
from torch import Tensor
from typing_extensions import Doc

from experiments.data.pairs import Groups
from experiments.sentences.evaluation import selection, spearman
from experiments.sentences.stages import STAGES
from experiments.sentences.supervision import SUPERVISIONS
from experiments.sentences.targets import TARGETS
from experiments.training.task import Progress
from experiments.training.units import Units
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.registry import choices_help
from univae.rules import Rule, above, at_least, check, within
from univae.sentence.model import RoFormerSim
from univae.text.corpus import Corpus
from univae.text.noise import Noise

__all__ = ["Batch", "Examples", "PairRows", "SentenceObjective"]

FEWEST_PAIRS = 64  # of a validation that is cut: rank correlations of fewer say little

if TYPE_CHECKING:
    StageName: TypeAlias = str
    SupervisionName: TypeAlias = str
    TargetName: TypeAlias = str
else:
    StageName = Literal[tuple(STAGES)]
    SupervisionName = Literal[tuple(SUPERVISIONS)]
    TargetName = Literal[tuple(TARGETS)]


@dataclass(frozen=True, kw_only=True)
class SentenceObjective:
    """The loss, the batches, the noise of sources, and the size of validations."""

    stage: Annotated[StageName, Doc(choices_help("stage of training", STAGES))] = "pretrain"
    batch_size: int = 64  # pairs in a batch, twice as many texts; more give more negatives
    # with --stage pretrain or distil: weight of the loss of generating the partner; 0: train
    # vectors only
    generation: float = 1.0
    # with --generation: share of a batch's pairs that are generated; less takes less time
    generation_share: float = 1.0
    # with --stage pretrain or --supervised cosent: factor of the cosines (inverse temperature)
    contrast_scale: float = 20.0
    distil_target: Annotated[
        TargetName, Doc(choices_help("with --stage distil: what is fitted", TARGETS))
    ] = "cosines"
    # with --stage distil: weight of the mean squared error of cosines or distance of vectors
    distil_weight: float = 100.0
    noise_rows: float = 0.5  # share of source texts with noise
    noise_mask: float = 0.12  # share of the words of a text with noise that are masked
    noise_keep: float = 0.015  # share of those words that are targets without being changed
    noise_replace: float = 0.015  # share of those words that become random tokens
    supervised: Annotated[
        SupervisionName, Doc(choices_help("with --stage finetune: loss", SUPERVISIONS))
    ] = "cosent"
    # with --supervised classify: label above which a pair is similar
    similar_above: float = 0.5
    # texts encoded at once, more where they are short and fewer where they are long, for large
    # batches in little memory: the gradient stays that of the whole batch; 0: all
    chunk_size: int = 0
    # under torchrun: compare the pairs of all processes; not with --supervised classify
    gather: bool = False
    validation_pairs: int = 1000  # held-out pairs of a validation

    RULES: ClassVar[Mapping[str, Rule]] = {
        "batch_size": at_least(1, 10**7),
        "generation": at_least(0, 1e6, "0 or more"),
        "generation_share": within("(0, 1]"),
        "contrast_scale": above(0, 1e6),
        "distil_weight": above(0, 1e9),
        "noise_rows": within("[0, 1]", "a share of the sources"),
        **dict.fromkeys(
            ("noise_mask", "noise_keep", "noise_replace"), within("[0, 1]", "a share of the words")
        ),
        "similar_above": within("[-1e6, 1e6]"),
        "chunk_size": at_least(0, 10**7, "0 (the whole batch) or more"),
        "validation_pairs": at_least(2, 10**7),
    }

    def __post_init__(self) -> None:
        check(self)
        self.noise()
        reads_labels = STAGES[self.stage].reads_labels
        if self.gather and reads_labels and not SUPERVISIONS[self.supervised].compares_pairs:
            names = " or ".join(name for name, row in SUPERVISIONS.items() if row.compares_pairs)
            raise InputError(
                f"--gather with --stage {self.stage} is an option of --supervised {names}; got "
                f"supervised={self.supervised}, a mean over single pairs; leave it out"
            )

    def noise(self) -> Noise:
        """Return the noise of sources.

        Raises:
            InputError: the shares of words are above 1 together.
        """
        return Noise(self.noise_rows, self.noise_mask, self.noise_keep, self.noise_replace)


class Batch(NamedTuple):
    """Rows of pairs: rows 2i and 2i + 1 are partners; pairs of single texts come last.

    The first rows, those of ``target``, are generated. A step sums the losses of several batches,
    over micro-batches and processes; its numbers of rows and tokens are those of all of them.
    """

    source: Tensor  # (rows, n), maybe with noise
    target: Tensor  # (some rows, m), without noise; all padding where a text has no partner
    families: Tensor  # (rows,): texts of the same number are no negatives of each other
    teacher: Tensor  # (rows, width of the teacher), of sources without noise; else (rows, 0)
    labels: Tensor  # (pairs,), class numbers or scores; (0,) without labels
    files: Tensor  # (pairs,), the file of each label; (0,) without labels
    step_rows: int  # rows of the step
    step_tokens: int  # tokens of the targets of the step


@dataclass(frozen=True)
class Examples:
    """The texts of a run, their groups and labels."""

    groups: Groups
    corpus: Corpus  # text i as ids, END included
    train: np.ndarray  # groups to train on
    held_out: np.ndarray  # groups of validations
    teacher: np.ndarray | None = None  # (texts, width), vectors of length 1
    # labelled pairs of --validation
    validation: tuple[Groups, Corpus] | None = None
    # pairs of texts (N, 2) that share a batch, and of which none is generated from the other
    contrasts: np.ndarray | None = None


class PairRows:
    """The base of both tasks: rows of pairs, and the validation on labelled pairs."""

    def __init__(
        self, model: RoFormerSim, objective: SentenceObjective, seed: int, examples: Examples
    ) -> None:
        self.module = model
        self.objective = objective
        self.seed = seed
        self.examples = examples

    @property
    def units(self) -> Units:
        """The words for its data."""
        return Units("pair", "texts")

    @property
    def joins_processes(self) -> bool:
        """Whether the pairs of all processes are one batch."""
        return self.objective.gather

    def weight(self, batch: Batch) -> int:
        """Return the number of rows of a batch."""
        return len(batch.source)

    def rows(self, pairs: np.ndarray) -> Tensor:
        """Return the ids of the rows: a pair's two texts, one after the other."""
        return self.examples.corpus.gather(pairs.reshape(-1))

    @property
    def _labelled(self) -> tuple[Groups, Corpus, np.ndarray]:
        """The held-out pairs with labels: their groups, their corpus and their rows."""
        examples = self.examples
        if examples.validation is not None:
            groups, corpus = examples.validation
            return groups, corpus, np.arange(len(groups.pairs))
        has_labels = examples.groups.scores is not None
        rows = examples.held_out if has_labels else examples.held_out[:0]
        return examples.groups, examples.corpus, rows

    @property
    def labelled_pairs(self) -> int:
        """The number of held-out pairs with labels."""
        return len(self._labelled[2])

    def labelled(self, count: int) -> JsonObject:
        """Return the rank correlation of held-out labelled pairs; empty where there are none.

        It is that of ``count`` of them, drawn from all files, where there are more.
        """
        groups, corpus, rows = self._labelled
        if not len(rows):
            return {}
        if count < len(rows):
            order = np.random.default_rng(self.seed % 2**64).permutation(len(rows))
            rows = rows[np.sort(order[:count])]
        return spearman(self.module, corpus, groups, rows)

    def validate(self, progress: Progress) -> JsonObject:
        """Return the metrics of all held-out pairs."""
        return self.validate_rows(progress, self.validation_rows)

    def validate_rows(self, progress: Progress, rows: int) -> JsonObject:
        """Return the rank correlation of ``rows`` held-out pairs."""
        metrics = self.labelled(rows)
        return {"selection": selection(metrics), **metrics}

    @property
    def fewest_rows(self) -> int:
        """The fewest pairs of a validation."""
        return min(FEWEST_PAIRS, self.validation_rows)

    @property
    def validation_rows(self) -> int:
        """The number of pairs of a validation."""
        return self.labelled_pairs
