"""Every row of the registries of stages, of losses of labelled pairs and of distillation."""

import numpy as np
import pytest
import torch

from experiments.data.pairs import Groups
from experiments.sentences.batch import SentenceObjective
from experiments.sentences.stages import STAGES
from experiments.sentences.supervision import SUPERVISIONS
from experiments.sentences.targets import TARGETS
from univae.errors import InputError
from univae.sentence.config import RoFormerSimConfig
from univae.sentence.model import RoFormerSim

PAIRS = 4


def labelled_pairs() -> Groups:
    """Return four pairs of eight texts: two with numbers as labels, two with NLI classes."""
    return Groups(
        texts=[f"text {i}" for i in range(2 * PAIRS)],
        offsets=np.arange(0, 2 * PAIRS + 1, 2),
        members=np.arange(2 * PAIRS),
        families=np.repeat(np.arange(PAIRS), 2),
        scores=np.array([0.9, 0.2, 0.0, 1.0]),
        classes=np.array([-1, -1, 2, 3]),
        files=np.zeros(PAIRS, dtype=np.int64),
    )


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_accepts_what_it_needs_and_refuses_the_rest(name: str) -> None:
    stage = STAGES[name]
    assert stage.name == name
    assert stage.summary
    assert stage.smallest_group >= 1
    teacher = "a teacher" if stage.has_teacher else None
    stage.check(0, teacher)
    with pytest.raises(InputError, match=f"got stage={name}, teacher="):
        stage.check(0, None if stage.has_teacher else "a teacher")
    if stage.reads_labels:
        with pytest.raises(InputError, match="--chunk-size is an option of pretrain and distil"):
            stage.check(8, teacher)
    else:
        stage.check(8, teacher)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("supervised", SUPERVISIONS)
def test_processes_gather_where_a_loss_compares_rows(stage: str, supervised: str) -> None:
    if STAGES[stage].reads_labels and not SUPERVISIONS[supervised].compares_pairs:
        with pytest.raises(InputError, match="is an option of --supervised cosent; got superv"):
            SentenceObjective(stage=stage, supervised=supervised, gather=True)
    else:
        assert SentenceObjective(stage=stage, supervised=supervised, gather=True).gather


@pytest.mark.parametrize("name", SUPERVISIONS)
def test_a_mean_over_single_pairs_is_that_of_its_parts(name: str) -> None:
    row = SUPERVISIONS[name]
    labels = torch.from_numpy(row.labels(labelled_pairs(), similar_above=0.5))
    model = RoFormerSim(RoFormerSimConfig(vocab_size=9, width=8, heads=2, layers=1))
    vectors = torch.randn(2 * PAIRS, 8)
    whole = row.loss(model, vectors, labels, 20.0)
    parts = [row.loss(model, vectors[i : i + 4], labels[i // 2 : i // 2 + 2], 20.0) for i in (0, 4)]
    is_mean = torch.allclose(whole, torch.stack(parts).mean())
    assert is_mean != row.compares_pairs


@pytest.mark.parametrize("name", SUPERVISIONS)
def test_a_loss_of_labelled_pairs_falls_along_its_gradient(name: str) -> None:
    row = SUPERVISIONS[name]
    assert row.summary
    labels = torch.from_numpy(row.labels(labelled_pairs(), similar_above=0.5))
    assert labels.shape == (PAIRS,)
    model = RoFormerSim(RoFormerSimConfig(vocab_size=9, width=8, heads=2, layers=1))
    vectors = torch.nn.functional.normalize(torch.randn(2 * PAIRS, 8), dim=-1).requires_grad_()
    loss = row.loss(model, vectors, labels, 20.0)
    assert loss.shape == ()
    loss.backward()
    assert vectors.grad is not None
    smaller = row.loss(model, vectors - 1e-4 * vectors.grad, labels, 20.0)
    assert smaller < loss
    gradients = [weight.grad for weight in model.classifier.parameters()]
    assert all((gradient is not None) == row.trains_classifier for gradient in gradients)


@pytest.mark.parametrize("name", SUPERVISIONS)
def test_a_loss_of_labelled_pairs_does_not_depend_on_their_order(name: str) -> None:
    row = SUPERVISIONS[name]
    labels = torch.from_numpy(row.labels(labelled_pairs(), similar_above=0.5))
    model = RoFormerSim(RoFormerSimConfig(vocab_size=9, width=8, heads=2, layers=1))
    pairs = torch.nn.functional.normalize(torch.randn(PAIRS, 2, 8), dim=-1)
    order = torch.randperm(PAIRS)
    loss = row.loss(model, pairs.flatten(0, 1), labels, 20.0)
    shuffled = row.loss(model, pairs[order].flatten(0, 1), labels[order], 20.0)
    torch.testing.assert_close(shuffled, loss)


@pytest.mark.parametrize("name", TARGETS)
def test_a_loss_of_distillation_is_zero_for_the_teacher_itself(name: str) -> None:
    row = TARGETS[name]
    assert row.summary
    teacher = torch.nn.functional.normalize(torch.randn(PAIRS, 5), dim=-1)
    assert row.loss(teacher, teacher, 3.0).item() == pytest.approx(0, abs=1e-12)
    student = torch.nn.functional.normalize(torch.randn(PAIRS, 8), dim=-1).requires_grad_()
    loss = row.loss(student, teacher, 3.0)
    torch.testing.assert_close(loss, 3 * row.loss(student, teacher, 1.0))
    loss.backward()
    assert student.grad is not None
    assert row.loss(student - 1e-4 * student.grad, teacher, 3.0) < loss
