"""Student-t pixels: the closed form, the calibrated deviation, and what outliers do to a fit."""

import math

import pytest
import torch
from torch.distributions import Distribution

from density.likelihoods.head import Output, Pixels
from density.likelihoods.student import StudentPixels


def fit(likelihood: str, x: torch.Tensor) -> Distribution:
    """Return the law of one column with the bias of the greatest likelihood of rows x (N, 1)."""
    output = Output(Pixels((1,), likelihood))
    output.match_marginals(x)
    optimizer = torch.optim.LBFGS([output.bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        nll = -output(torch.zeros(2, 1)).log_prob(x).mean()
        nll.backward()
        return nll

    optimizer.step(loss)
    return output(torch.zeros(2, 1))


def test_four_degrees_have_their_closed_form() -> None:
    law = StudentPixels(torch.zeros(1), torch.full((1,), 2.0), event_dims=1)
    x = torch.tensor([[1.0], [2e6], [4e6]])
    log_p = law.log_prob(x)
    # t_4(u) = 3/8 (1 + u^2 / 4)^(-5/2), and u = x / 2
    assert log_p[0].item() == pytest.approx(math.log(3 / 16) - 2.5 * math.log1p(1 / 16))
    assert (log_p[1] - log_p[2]).item() == pytest.approx(5 * math.log(2))
    assert law.nats == "density"


def test_a_calibrated_law_has_the_deviation_of_the_rows() -> None:
    output = Output(Pixels((2, 3), "student"))
    x = 7 + 40 * torch.randn(500, 2, 3)
    output.match_marginals(x)
    law = output(torch.zeros(2, 2, 3))
    torch.testing.assert_close(law.mean, x.mean(0))
    torch.testing.assert_close(law.stddev, x.std(0, correction=0), rtol=2e-3, atol=0)


def test_outliers_move_a_gaussian_and_not_a_student_law() -> None:
    clean = torch.randn(950, 1)
    x = torch.cat((clean, 100 + torch.randn(50, 1)))
    gaussian = fit("gaussian", x)
    student = fit("student", x)
    assert gaussian.mean.item() == pytest.approx(5, abs=0.3)  # 5% of the rows at 100
    assert student.mean.item() == pytest.approx(0, abs=0.2)
    held_out = torch.randn(1000, 1)
    assert student.log_prob(held_out).mean() > gaussian.log_prob(held_out).mean() + 1
