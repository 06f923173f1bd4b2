"""The supervised stage of RoFormer-Sim as the training loop sees it: pairs with labels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.data.pairs import pair_batches
from experiments.sentences.batch import Batch, Examples, Objective, PairRows
from experiments.sentences.evaluation import selection
from experiments.training.task import Progress
from univae.contrastive.losses import cosent
from univae.sentence.losses import SIMILARITY, classification_loss, pair_features
from univae.sentence.model import RoFormerSim

__all__ = ["LabelTask"]


class LabelTask(PairRows):
    """Fine-tunes vectors on labelled pairs; nothing is written, so a distillation should follow."""

    def __init__(
        self, model: RoFormerSim, objective: Objective, seed: int, examples: Examples
    ) -> None:
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
        """Shuffled batches, each of pairs of one file, for labels of another may mean something else."""
        e = self.examples
        draw = np.random.default_rng([self.seed % 2**64, epoch])
        assert e.groups.files is not None
        lengths = e.corpus.lengths[e.groups.pairs].max(1)
        files = e.groups.files[e.train]
        batches = list[np.ndarray]()
        for file in np.unique(files):
            of_file = e.train[files == file]
            # a pair as its group's number, so that its label goes along
            numbered = np.stack((of_file, of_file), 1)
            batches += pair_batches(numbered, lengths, self.objective.batch_size, draw)
        return [batches[i][:, 0] for i in draw.permutation(len(batches))]

    def load(self, item: np.ndarray) -> Batch:
        source = self.rows(self.examples.groups.pairs[item])
        nothing = torch.empty(0, 0, dtype=torch.long)
        return Batch(
            source,
            nothing,
            nothing.flatten(),
            torch.empty(0, 0),
            torch.from_numpy(self.labels[item]),
        )

    def loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        vectors = self.module.read(batch.source)
        rows = len(batch.source)
        if self.objective.supervised == "classify":
            logits = self.module.classifier(pair_features(vectors[::2], vectors[1::2]))
            return classification_loss(logits, batch.labels) * rows, {}
        cosines = F.cosine_similarity(vectors[::2], vectors[1::2], dim=-1)
        return cosent(cosines, batch.labels, self.objective.contrast_scale) * rows, {}

    def validate(self, progress: Progress) -> dict[str, Any]:
        found = self.labelled()
        return {"selection": selection(found), **found}
