"""The training task of the supervised stage of RoFormer-Sim: pairs with labels."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from experiments.data.pairs import pair_batches
from experiments.sentences.batch import Batch, Examples, PairRows, SentenceObjective
from experiments.sentences.supervision import SUPERVISIONS
from experiments.training.task import Progress
from univae.sentence.model import RoFormerSim

__all__ = ["LabelTask"]


class LabelTask(PairRows):
    """Fit vectors to labelled pairs; generation is not trained and gets worse."""

    def __init__(
        self, model: RoFormerSim, objective: SentenceObjective, seed: int, examples: Examples
    ) -> None:
        super().__init__(model, objective, seed, examples)
        self.supervision = SUPERVISIONS[objective.supervised]
        model.head.requires_grad_(False)
        model.classifier.requires_grad_(self.supervision.trains_classifier)
        self.labels = self.supervision.labels(examples.groups, objective.similar_above)

    def batches(self, epoch: int) -> Sequence[np.ndarray]:
        """Return shuffled batches, each of pairs of one file, whose labels are comparable."""
        groups = self.examples.groups
        train = self.examples.train
        draw = np.random.default_rng([self.seed % 2**64, epoch])
        assert groups.files is not None
        lengths = self.examples.corpus.lengths[groups.pairs].max(1)
        files = groups.files[train]
        batches = list[np.ndarray]()
        for file in np.unique(files):
            rows = train[files == file]
            # pair_batches takes two numbers per pair; both are the group, whose label is needed
            numbered = np.stack((rows, rows), 1)
            batches += pair_batches(numbered, lengths, self.objective.batch_size, draw)
        return [batches[i][:, 0] for i in draw.permutation(len(batches))]

    def load(self, item: np.ndarray) -> Batch:
        """Return the pairs of a batch with their labels."""
        groups = self.examples.groups
        assert groups.files is not None
        return Batch(
            source=self.rows(groups.pairs[item]),
            target=torch.empty(0, 0, dtype=torch.long),
            families=torch.empty(0, dtype=torch.long),
            teacher=torch.empty(0, 0),
            labels=torch.from_numpy(self.labels[item]),
            files=torch.from_numpy(groups.files[item]),
            step_rows=2 * len(item),
            step_tokens=0,
        )

    def loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss, summed over the rows of a batch.

        With ``--gather`` the pairs of all processes are one batch; those of one file are compared.
        """
        vectors = self.module.read(batch.source)
        o = self.objective
        files = batch.files if o.gather else None
        loss = self.supervision.loss(self.module, vectors, batch.labels, o.contrast_scale, files)
        return loss * len(batch.source), {}
