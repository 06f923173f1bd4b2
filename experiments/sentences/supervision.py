"""The registry of losses of labelled pairs, for ``--supervised``."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from experiments.data.pairs import Groups
from univae.contrastive.ranking import cosent
from univae.sentence.losses import SIMILARITY, classification_loss, pair_features
from univae.sentence.model import RoFormerSim

__all__ = ["SUPERVISIONS", "Supervision"]


@runtime_checkable
class Supervision(Protocol):
    """A loss of labelled pairs."""

    @property
    def summary(self) -> str:
        """A few words for the help of ``--supervised``."""
        ...

    @property
    def trains_classifier(self) -> bool:
        """Whether the loss depends on the model's classifier."""
        ...

    @property
    def compares_pairs(self) -> bool:
        """Whether a pair's loss depends on the other pairs of its batch."""
        ...

    def labels(self, groups: Groups, similar_above: float) -> np.ndarray:
        """Return the label (N,) of every pair."""
        ...

    def loss(
        self,
        model: RoFormerSim,
        vectors: Tensor,
        labels: Tensor,
        scale: float,
        files: Tensor | None = None,
    ) -> Tensor:
        """Return the mean loss of a batch; rows 2i and 2i + 1 of ``vectors`` are a pair.

        With ``files``, the file of every pair, a loss that compares pairs compares those of all
        processes, within a file.
        """
        ...


@dataclass(frozen=True)
class Cosent:
    """Orders cosines as their scores: :func:`univae.contrastive.ranking.cosent`."""

    summary: str = "cosines in the order of the scores"
    trains_classifier: bool = False
    compares_pairs: bool = True

    def labels(self, groups: Groups, similar_above: float) -> np.ndarray:
        """Return the scores of the pairs."""
        assert groups.scores is not None
        return groups.scores

    def loss(
        self,
        model: RoFormerSim,
        vectors: Tensor,
        labels: Tensor,
        scale: float,
        files: Tensor | None = None,
    ) -> Tensor:
        """Return the CoSENT loss, with cosines times ``scale``; with ``files`` of all processes."""
        cosines = F.cosine_similarity(vectors[::2], vectors[1::2], dim=-1)
        return cosent(cosines, labels, scale, groups=files, gather=files is not None)


@dataclass(frozen=True)
class Classify:
    """Classifies pairs by their labels; of a number by whether it is above a threshold."""

    summary: str = "the class of a pair"
    trains_classifier: bool = True
    compares_pairs: bool = False

    def labels(self, groups: Groups, similar_above: float) -> np.ndarray:
        """Return the numbers of the classes."""
        assert groups.scores is not None
        assert groups.classes is not None
        similar = np.where(groups.scores > similar_above, SIMILARITY[1], SIMILARITY[0])
        return np.where(groups.classes >= 0, groups.classes, similar)

    def loss(
        self,
        model: RoFormerSim,
        vectors: Tensor,
        labels: Tensor,
        scale: float,
        files: Tensor | None = None,
    ) -> Tensor:
        """Return the cross-entropy of the classifier, a mean over single pairs."""
        logits = model.classifier(pair_features(vectors[::2], vectors[1::2]))
        return classification_loss(logits, labels)


SUPERVISIONS: dict[str, Supervision] = {"cosent": Cosent(), "classify": Classify()}
