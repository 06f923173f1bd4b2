r"""The losses of the training stages of RoFormer-Sim.

1. pre-training: :math:`L_{gen} + L_{con}`, with :func:`univae.contrastive.paired_info_nce` as the
   second;
2. distillation: :math:`L_{gen} + 100 \, \mathrm{mean}_{ij} (u_i \cdot u_j - t_i \cdot t_j)^2`,
   or :math:`L_{gen} + w \, \mathrm{mean}_i |u_i - t_i|^2` of vectors;
3. fine-tuning: cross entropy of :math:`[u; v; |u - v|]` within the classes of an example's task, or
   CoSENT;
4. distillation again, from the fine-tuned model, which preserves generation.

References:
    SimBERTv2: RoFormer-Sim (Su, 2021), https://kexue.fm/archives/8454 and (supervised) /8541
    Making Monolingual Sentence Embeddings Multilingual (Reimers & Gurevych, 2020), of vectors,
    https://arxiv.org/abs/2004.09813
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from univae.contrastive.all_gather import Share
from univae.dtypes import at_least_float32, autocast
from univae.errors import InputError
from univae.text.special import PAD

__all__ = [
    "CLASSES",
    "NLI",
    "SIMILARITY",
    "classification_loss",
    "distillation_loss",
    "generation_loss",
    "pair_features",
    "vector_loss",
]

SIMILARITY = (0, 1)  # classes: not similar, similar
NLI = (2, 3, 4)  # classes: contradiction, entailment, neutral
CLASSES = len(SIMILARITY) + len(NLI)


def generation_loss(
    log_likelihood: Float[Tensor, "batch"],
    target: Int[Tensor, "batch length"],
    tokens: int | None = None,
) -> Float[Tensor, ""]:
    r"""Return :math:`-\sum_b \log p(t_b \mid s_b) / \sum_b |t_b|`, nats per target token.

    End tokens count as tokens. Without tokens the loss is 0.

    Args:
        log_likelihood: :math:`\log p(t_b \mid s_b)`, in nats.
        target: the ids of :math:`t_b`, padded.
        tokens: the denominator, by default the number of tokens of ``target``; for a part of a
            batch that of the batch, so that the losses of the parts add up to that of the batch.
    """
    if tokens is None:
        return -log_likelihood.sum() / (target != PAD).sum().clamp(min=1)
    return -log_likelihood.sum() / max(tokens, 1)


def distillation_loss(
    student: Float[Tensor, "batch width"],
    teacher: Float[Tensor, "batch other"],
    weight: float = 100.0,
    *,
    gather: bool = False,
) -> Float[Tensor, ""]:
    r"""Return :math:`w \, \mathrm{mean}_{ij} (u_i \cdot u_j - t_i \cdot t_j)^2`.

    Rotations of either space do not change it. The diagonal counts in the mean and adds nothing.
    It is computed in at least float32, also under autocast.

    Args:
        student: vectors :math:`u_i` of length 1.
        teacher: vectors :math:`t_i` of length 1.
        weight: the factor w.
        gather: use the rows of all processes; the result is this process's share, as that of
            :func:`univae.contrastive.info_nce`.
    """
    with autocast(student.device, enabled=False):
        student = at_least_float32(student)
        share = Share.of(student, gather=gather)
        teacher_cosines = (teacher @ share.gather(teacher).T).to(student)
        errors = student @ share.gather(student).T - teacher_cosines
        return weight * share.mean(errors.square().mean(1))


def vector_loss(
    student: Float[Tensor, "batch width"],
    teacher: Float[Tensor, "batch other"],
    weight: float = 100.0,
    *,
    gather: bool = False,
) -> Float[Tensor, ""]:
    r"""Return :math:`w \, \mathrm{mean}_i |u_i - t_i|^2`.

    Unlike :func:`distillation_loss`, it fixes the rotation of the student's space, and it does not
    depend on which texts share a batch. It is computed in at least float32, also under autocast.

    Args:
        student: vectors :math:`u_i` of length 1.
        teacher: vectors :math:`t_i` of length 1, at most as wide as the student's; features that
            they lack are 0.
        weight: the factor w.
        gather: use the rows of all processes; the result is this process's share, as that of
            :func:`univae.contrastive.info_nce`.

    Raises:
        InputError: the teacher's vectors are wider.
    """
    missing = student.shape[1] - teacher.shape[1]
    if missing < 0:
        raise InputError(
            f"vector_loss: the teacher's vectors have at most the student's {student.shape[1]} "
            f"features; got {teacher.shape[1]}; reduce them"
        )
    with autocast(student.device, enabled=False):
        student = at_least_float32(student)
        errors = student - F.pad(teacher.to(student), (0, missing))
        return weight * Share.of(student, gather=gather).mean(errors.square().sum(1))


def pair_features(
    u: Float[Tensor, "pairs width"], v: Float[Tensor, "pairs width"]
) -> Float[Tensor, "pairs three"]:
    r"""Return :math:`[u; v; |u - v|]`."""
    return torch.cat((u, v, (u - v).abs()), -1)


def classification_loss(
    logits: Float[Tensor, "pairs classes"], labels: Int[Tensor, "pairs"]
) -> Float[Tensor, ""]:
    """Return the mean cross entropy, each pair's softmax over the classes of its task.

    The gradient of the logits of the other task's classes is zero.
    """
    return F.cross_entropy(logits.masked_fill(~_same_task(labels), -torch.inf), labels)


def _same_task(labels: Int[Tensor, "pairs"]) -> Bool[Tensor, "pairs classes"]:
    """Return whether each class is one of the task of each pair's label."""
    is_nli = torch.tensor([False] * len(SIMILARITY) + [True] * len(NLI), device=labels.device)
    # torch.compile generates no code for == of booleans
    return (is_nli[labels][:, None] ^ is_nli).logical_not()
