"""The import hook checks every package: wrong types and shapes raise, an int is a float."""

from collections.abc import Callable

import jaxtyping
import pytest
import torch

from density.estimation.importance import log_likelihood
from experiments.evaluation.scores import finite
from experiments.reports.scales import linear_ticks
from gan.losses import critic_loss
from univae.attention.rotary import rotate


@pytest.mark.parametrize(
    "call",
    [
        lambda: rotate(torch.zeros(2, 3, 4).long(), torch.zeros(3, 2, dtype=torch.complex64)),
        lambda: log_likelihood(torch.zeros(3, dtype=torch.int64)),
        lambda: critic_loss("hinge", torch.zeros(3), 0.0),
        lambda: linear_ticks("0", 1.0),
        lambda: finite("3"),
    ],
    ids=["univae", "density", "gan", "experiments", "experiments-float"],
)
def test_an_argument_of_another_type_or_shape_raises(call: Callable[[], object]) -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        call()


def test_an_int_is_a_float_in_experiments() -> None:
    assert finite(3) == 3
