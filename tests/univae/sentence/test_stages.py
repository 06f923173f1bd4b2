"""The losses of RoFormer-Sim's stages: closed forms, invariances, gradients within a task."""

import math

import pytest
import torch
import torch.nn.functional as F

from univae.contrastive.losses import paired_info_nce, partners
from univae.contrastive.ranking import cosent
from univae.errors import InputError
from univae.sentence.losses import (
    CLASSES,
    NLI,
    SIMILARITY,
    classification_loss,
    distillation_loss,
    generation_loss,
    pair_features,
    vector_loss,
)
from univae.text.tokenizers import pad


def unit(*shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape), dim=-1)


def rotation(width: int) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(width, width))[0]


def test_the_contrastive_loss_of_rows_and_their_neighbours() -> None:
    assert partners(6).tolist() == [1, 0, 3, 2, 5, 4]  # R3
    equal = unit(1, 4).expand(96, 4)
    assert paired_info_nce(equal).item() == pytest.approx(math.log(95), abs=1e-12)  # R5: 4.5539
    clusters = torch.eye(4).repeat_interleave(2, 0)
    assert paired_info_nce(clusters).item() == pytest.approx(
        math.log1p(6 * math.exp(-20)), rel=1e-6
    )
    u = unit(8, 5)
    loss = paired_info_nce(u)
    for same in (
        u @ rotation(5),
        u[partners(8)],
        u.view(4, 2, 5)[torch.randperm(4)].view(8, 5),
    ):  # R4
        torch.testing.assert_close(paired_info_nce(same), loss, atol=1e-12, rtol=0)
    scores = 20 * u @ u.T
    masked = scores.masked_fill(torch.eye(8, dtype=torch.bool), -torch.inf)  # R6
    torch.testing.assert_close(loss, F.cross_entropy(masked, partners(8)), atol=1e-12, rtol=0)
    assert torch.isfinite(paired_info_nce(u.bfloat16()))


def test_distillation_is_zero_for_equal_geometry_and_counts_every_entry() -> None:
    u = unit(6, 4)
    t = unit(6, 7)
    assert distillation_loss(u, u).item() == 0  # R7: the teacher as its own student
    torch.testing.assert_close(
        distillation_loss(u, u @ rotation(4)), torch.tensor(0.0), atol=1e-28, rtol=0
    )
    naive = sum(float(u[i] @ u[j] - t[i] @ t[j]) ** 2 for i in range(6) for j in range(6) if i != j)
    # the diagonal adds nothing
    assert distillation_loss(u, t).item() == pytest.approx(100 * naive / 36, rel=1e-12)
    assert distillation_loss(u, t, weight=3.0).item() == pytest.approx(3 * naive / 36, rel=1e-12)
    turned = distillation_loss(u @ rotation(4), t @ rotation(7))
    torch.testing.assert_close(turned, distillation_loss(u, t), atol=1e-12, rtol=0)


def test_the_loss_of_vectors_is_the_mean_squared_distance() -> None:
    u = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.6, 0.8]])
    t = torch.tensor([[0.6, 0.8], [0.0, 1.0]])  # the third feature is 0
    distances = [0.4**2 + 0.8**2, 0.4**2 + 0.8**2]
    assert vector_loss(u, t, 10.0).item() == pytest.approx(10 * sum(distances) / 2)
    assert vector_loss(u, u).item() == 0
    turned = u @ rotation(3)
    cosines = (turned * u).sum(1)
    torch.testing.assert_close(vector_loss(turned, u, 1.0), 2 - 2 * cosines.mean())
    with pytest.raises(InputError, match="at most the student's 3 features; got 4; reduce them"):
        vector_loss(u, torch.zeros(2, 4))


def test_the_generation_loss_is_the_mean_over_target_tokens_and_their_ends() -> None:
    target = pad([[5, 6, 7], [8]])  # 4 + 2 tokens
    assert generation_loss(torch.tensor([-3.0, -9.0]), target).item() == pytest.approx(12 / 6)
    assert generation_loss(torch.zeros(2), torch.zeros(2, 3, dtype=torch.long)).item() == 0


def test_pairs_have_both_vectors_and_their_distance() -> None:
    u = torch.tensor([[1.0, -2.0]])
    v = torch.tensor([[3.0, -5.0]])
    assert pair_features(u, v).tolist() == [[1, -2, 3, -5, 2, 3]]


def test_classes_of_another_task_have_no_gradient_and_the_own_sum_to_one() -> None:
    logits = torch.randn(2, CLASSES, requires_grad=True)
    labels = torch.tensor([SIMILARITY[1], NLI[0]])
    classification_loss(logits, labels).backward()
    gradient = 2 * logits.grad
    assert gradient[0, list(NLI)].abs().max() == 0  # R15
    assert gradient[1, list(SIMILARITY)].abs().max() == 0
    p = gradient + F.one_hot(labels, CLASSES)  # softmax minus the label
    torch.testing.assert_close(p.sum(1), torch.ones(2))
    torch.testing.assert_close(p[0, :2], logits[0, :2].softmax(-1))
    torch.testing.assert_close(p[1, 2:], logits[1, 2:].softmax(-1))


def test_cosent_sees_the_order_of_labels_and_the_differences_of_scores() -> None:
    c = torch.randn(9)
    y = torch.randint(0, 4, (9,))
    loss = cosent(c, y)
    torch.testing.assert_close(cosent(c + 0.3, y), loss, atol=1e-12, rtol=0)  # R13
    torch.testing.assert_close(cosent(c, y.double().exp()), loss, atol=1e-12, rtol=0)
    ordered = (y[:, None] > y[None, :]).sum().item()
    gap = cosent(0.5 * torch.tensor([0.0, 0, 1, 1]), torch.tensor([0, 0, 1, 1]))
    assert gap.item() == pytest.approx(math.log1p(4 * math.exp(-10)), rel=1e-9)
    assert cosent(torch.zeros(9), y).item() == pytest.approx(math.log1p(ordered), rel=1e-12)
    c.requires_grad_()
    cosent(c, y).backward()
    assert (c.grad[y == y.max()] <= 0).all()  # R14
    assert (c.grad[y == y.min()] >= 0).all()
