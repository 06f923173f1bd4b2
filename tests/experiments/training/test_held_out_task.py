"""Validations on held-out rows: all of them, or the first ones."""

import pytest
import torch
from torch import Tensor

from experiments.training.held_out_task import HeldOutTask
from experiments.training.task import Progress
from univae.checkpoint import JsonObject

START = Progress(0, 0.0)


class Means(HeldOutTask):
    """The NLL of rows is their mean."""

    def measure(self, held_out: Tensor) -> JsonObject:
        return {"nll_nats": held_out.mean().item(), "data": len(held_out)}


def test_the_selection_is_the_likelihood_of_all_rows_or_of_the_first() -> None:
    task = Means(torch.arange(9.0))
    assert task.validate(START) == {"selection": 4.0, "nll_nats": 4.0, "data": 9}
    assert task.validate_rows(START, 3) == {"selection": 1.0, "nll_nats": 1.0, "data": 3}


@pytest.mark.parametrize(("rows", "fewest"), [(3, 3), (9, 4)])
def test_no_validation_has_fewer_than_four_rows_where_there_are_more(
    rows: int, fewest: int
) -> None:
    task = Means(torch.zeros(rows))
    assert (task.validation_rows, task.fewest_rows) == (rows, fewest)
