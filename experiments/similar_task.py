r"""RoFormer-Sim as the training loop sees it: batches of pairs, the loss of each stage, and what a validation measures.

Rows 2i and 2i + 1 of a batch are partners, each the target of the other. A source may be noised, a target never is, and
the teacher's vectors are those of clean sources. Rows are never mixed after batching, so partners stay partners.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.pairs import Groups, pair_batches, pair_up
from experiments.similar_measure import generation, retrieval, spearman
from experiments.task import Progress
from univae.cached import cached_backward
from univae.contrastive import cosent, paired_info_nce
from univae.corpus import Corpus
from univae.corruption import WordNoise
from univae.errors import InputError
from univae.sentence import RoFormerSim
from univae.stages import SIMILARITY, classification_loss, distillation_loss, generation_loss, pair_features
from univae.text import PAD

__all__ = ["Batch", "Examples", "LabelTask", "Objective", "PairTask", "pair_task"]

DENSE, TILE = 4096, 1024  # rows up to which all scores are held at once, and rows of a tile of larger matrices


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What is trained, on how much at once, and what a validation looks at."""

    stage: Literal["pretrain", "distil", "finetune"] = "pretrain"  # write and contrast; write and imitate; labels
    batch_size: int = 64  # pairs in a batch, so twice as many texts
    generation: float = 1.0  # weight of the loss of writing the partner, of pretrain and distil; 0: only vectors
    generation_share: float = 1.0  # share of a batch's pairs that are written
    contrast_scale: float = 20.0  # what cosines are multiplied by, of pretrain and of cosent
    distil_weight: float = 100.0  # weight of the mean squared difference of cosines, of distil
    noise_rows: float = 0.5  # share of sources that are noised
    noise_mask: float = 0.12  # share of their words that are masked,
    noise_keep: float = 0.015  # that are chosen and kept,
    noise_replace: float = 0.015  # and that become random tokens
    supervised: Literal["cosent", "classify"] = "cosent"  # the loss of finetune
    similar_above: float = 0.5  # of classify: a pair with a larger label counts as similar
    chunk_size: int = 0  # texts encoded at once, with the gradients of the whole batch; 0: all
    validation_pairs: int = 1000  # held-out pairs a validation looks at

    def __post_init__(self) -> None:
        checks = {
            "stage": (self.stage in ("pretrain", "distil", "finetune"), "pretrain, distil or finetune"),
            "batch_size": (self.batch_size >= 1, "at least 1"),
            "generation": (self.generation >= 0, "0 or more"),
            "generation_share": (0 < self.generation_share <= 1, "in (0, 1]"),
            "contrast_scale": (self.contrast_scale > 0, "above 0"),
            "distil_weight": (self.distil_weight > 0, "above 0"),
            "chunk_size": (self.chunk_size >= 0, "0 (the whole batch) or more"),
            "supervised": (self.supervised in ("cosent", "classify"), "cosent or classify"),
            "validation_pairs": (self.validation_pairs >= 2, "at least 2"),
        }
        for name, (holds, rule) in checks.items():
            if not holds:
                raise InputError(f"{name} must be {rule}; got {name}={getattr(self, name)}")


class Batch(NamedTuple):
    """Rows 2i and 2i + 1 are partners; those of ``target``, the first rows, are written too."""

    source: Tensor  # (rows, n), maybe noised
    target: Tensor  # (some rows, m), clean; all padding where a text has no partner but itself
    families: Tensor  # (rows,): texts of one number are no negatives of each other
    teacher: Tensor  # (rows, width of the teacher), of the clean sources; (rows, 0) without one
    labels: Tensor  # (pairs,), class numbers or scores; (0,) without labels


@dataclass(frozen=True)
class Examples:
    """The texts of a run and what is known of them."""

    groups: Groups
    corpus: Corpus  # text i as ids, END included
    train: np.ndarray  # groups to train on
    held_out: np.ndarray  # groups a validation looks at
    teacher: np.ndarray | None = None  # (texts, width), vectors of length 1
    validation: tuple[Groups, Corpus] | None = None  # labelled pairs from elsewhere that a validation looks at


class _PairRows:
    """What the two tasks share: the rows of pairs, and the numbers of a validation."""

    def __init__(self, model: RoFormerSim, objective: Objective, seed: int, examples: Examples) -> None:
        self.module, self.objective, self.seed, self.examples = model, objective, seed, examples

    def weight(self, batch: Batch) -> int:
        return len(batch.source)

    def rows(self, pairs: np.ndarray) -> Tensor:
        """Ids of the rows: a pair's two texts, one after the other."""
        return self.examples.corpus.gather(pairs.reshape(-1))

    def labelled(self) -> dict[str, Any]:
        """Spearman of held-out labelled pairs, or nothing where there are none."""
        if self.examples.validation is not None:
            groups, corpus = self.examples.validation
            return spearman(self.module, corpus, groups.pairs, groups.scores)
        groups, held_out = self.examples.groups, self.examples.held_out
        if groups.scores is None:
            return {}
        return spearman(self.module, self.examples.corpus, groups.pairs[held_out], groups.scores[held_out])


class PairTask(_PairRows):
    """Writes each pair's other text, and contrasts the pairs of a batch or imitates a teacher's cosines."""

    def __init__(
        self, model: RoFormerSim, objective: Objective, seed: int, examples: Examples, noise: WordNoise
    ) -> None:
        super().__init__(model, objective, seed, examples)
        self.noise = noise
        model.classifier.requires_grad_(False)
        if not objective.generation:
            model.head.requires_grad_(False)

    def batches(self, epoch: int) -> Sequence[np.ndarray]:
        draw = np.random.default_rng([self.seed % 2**64, epoch])
        pairs = pair_up(self.examples.groups, self.examples.train, draw)
        return pair_batches(pairs, self.examples.corpus.lengths, self.objective.batch_size, draw)

    def load(self, item: np.ndarray) -> Batch:
        clean = self._clean(item)
        return clean._replace(source=self.noise(clean.source))

    def loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        return self.judge(*self.understand(batch.source, batch.target), batch)

    def understand(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors of all rows, and log-likelihoods of the targets, which belong to the first rows."""
        written = len(target)
        if not written:
            return self.module.read(source), source.new_zeros(0, dtype=torch.float32)
        vectors, log_likelihood = self.module.read_and_write(source[:written], target)
        if written < len(source):
            vectors = torch.cat((vectors, self.module.read(source[written:])))
        return vectors, log_likelihood

    def judge(self, vectors: Tensor, log_likelihood: Tensor, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The stage's loss, and its parts, summed over rows."""
        o, rows = self.objective, len(batch.source)
        unit = F.normalize(vectors, dim=-1)
        if o.stage == "distil":
            name, loss = "distillation", distillation_loss(unit, batch.teacher, o.distil_weight)
        else:
            tiles = TILE if rows > DENSE else None
            name, loss = "contrastive", paired_info_nce(unit, o.contrast_scale, groups=batch.families, rows=tiles)
        logged = {name: loss * rows}
        if len(batch.target):
            writing = generation_loss(log_likelihood, batch.target)
            logged["generation_nats_per_token"] = writing * rows
            loss = loss + o.generation * writing
        return loss * rows, logged

    def validate(self, progress: Progress) -> dict[str, Any]:
        e, o = self.examples, self.objective
        draw = np.random.default_rng([self.seed % 2**64, 0])
        pairs = pair_up(e.groups, e.held_out, draw)
        _, first = np.unique(e.groups.families[pairs[:, 0]], return_index=True)
        pairs = pairs[np.sort(first)][: o.validation_pairs]  # one a family: the others' texts are true negatives
        found = self.labelled()
        found |= retrieval(self.module, e.corpus, pairs[pairs[:, 0] != pairs[:, 1]])
        if o.generation:
            found |= generation(self.module, e.corpus, pairs[pairs[:, 0] != pairs[:, 1]])
        found["held_out_loss"] = self._held_out(pairs, progress)
        return {"selection": -found["spearman"] if "spearman" in found else found["held_out_loss"], **found}

    def _held_out(self, pairs: np.ndarray, progress: Progress) -> float:
        """The stage's loss a row on clean held-out pairs, in batches of the training's size."""
        total, rows, device = 0.0, 0, next(self.module.parameters()).device
        for start in range(0, len(pairs), self.objective.batch_size):
            batch = Batch(*(part.to(device) for part in self._clean(pairs[start : start + self.objective.batch_size])))
            total, rows = total + float(self.loss(batch, progress)[0]), rows + len(batch.source)
        return total / max(rows, 1)

    def _clean(self, pairs: np.ndarray) -> Batch:
        e = self.examples
        texts, source = pairs.reshape(-1), self.rows(pairs)
        share = self.objective.generation_share if self.objective.generation else 0.0
        first = pairs[: math.ceil(share * len(pairs) - 1e-9)]  # those that are written
        target = e.corpus.gather(first[:, ::-1].reshape(-1))
        target[torch.from_numpy(np.repeat(first[:, 0] == first[:, 1], 2))] = PAD
        teacher = np.zeros((len(texts), 0), np.float32) if e.teacher is None else np.array(e.teacher[texts], np.float32)
        families = torch.from_numpy(e.groups.families[texts]).long()
        return Batch(source, target, families, torch.from_numpy(teacher), torch.empty(0))


class ChunkedPairTask(PairTask):
    """The same gradients with the activations of ``chunk_size`` rows in memory: see :mod:`univae.cached`."""

    def backward(self, batch: Batch, progress: Progress, factor: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Encodes chunk by chunk; a row's representation is its vector and the log-likelihood of its target."""
        written, found = len(batch.target), dict[str, Tensor]()
        unwritten = batch.target.new_full((len(batch.source) - written, batch.target.shape[1]), PAD)
        target = torch.cat((batch.target, unwritten))
        place = torch.arange(len(target), device=target.device)

        def encode(chunk: tuple[Tensor, Tensor, Tensor]) -> Tensor:
            source, target, place = chunk
            own = target[place < written]
            vectors, log_likelihood = self.understand(source, own)
            nothing = log_likelihood.new_zeros(len(source) - len(own))
            return torch.cat((vectors, torch.cat((log_likelihood, nothing))[:, None].to(vectors)), 1)

        def judge(rows: Tensor) -> Tensor:
            loss, logged = self.judge(rows[:, :-1], rows[:written, -1], batch)
            found.update(loss=loss.detach(), **{name: part.detach() for name, part in logged.items()})
            return loss * factor

        cached_backward(encode, (batch.source, target, place), judge, self.objective.chunk_size)
        return found.pop("loss"), found


def pair_task(model: RoFormerSim, objective: Objective, seed: int, examples: Examples, noise: WordNoise) -> PairTask:
    """The task that the options ask for."""
    return (ChunkedPairTask if objective.chunk_size else PairTask)(model, objective, seed, examples, noise)


class LabelTask(_PairRows):
    """Fine-tunes vectors on labelled pairs; nothing is written, so a distillation should follow."""

    def __init__(self, model: RoFormerSim, objective: Objective, seed: int, examples: Examples) -> None:
        super().__init__(model, objective, seed, examples)
        model.head.requires_grad_(False)
        model.classifier.requires_grad_(objective.supervised == "classify")
        groups = examples.groups
        assert groups.scores is not None
        assert groups.classes is not None
        labels = groups.scores
        if objective.supervised == "classify":
            labels = np.where(groups.scores > objective.similar_above, SIMILARITY[1], SIMILARITY[0])
            labels = np.where(groups.classes >= 0, groups.classes, labels)
        self.labels = labels

    def batches(self, epoch: int) -> Sequence[np.ndarray]:
        e, draw = self.examples, np.random.default_rng([self.seed % 2**64, epoch])
        lengths = e.corpus.lengths[e.groups.pairs].max(1)
        numbered = np.stack((e.train, e.train), 1)  # a pair is the number of its group, so that its label goes along
        return [batch[:, 0] for batch in pair_batches(numbered, lengths, self.objective.batch_size, draw)]

    def load(self, item: np.ndarray) -> Batch:
        source = self.rows(self.examples.groups.pairs[item])
        nothing = torch.empty(0, 0, dtype=torch.long)
        return Batch(source, nothing, nothing.flatten(), torch.empty(0, 0), torch.from_numpy(self.labels[item]))

    def loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        vectors, rows = self.module.read(batch.source), len(batch.source)
        if self.objective.supervised == "classify":
            logits = self.module.classifier(pair_features(vectors[::2], vectors[1::2]))
            return classification_loss(logits, batch.labels) * rows, {}
        cosines = F.cosine_similarity(vectors[::2], vectors[1::2], dim=-1)
        return cosent(cosines, batch.labels, self.objective.contrast_scale) * rows, {}

    def validate(self, progress: Progress) -> dict[str, Any]:
        found = self.labelled()
        return {"selection": -found["spearman"], **found}
