import pytest
import torch

from univae.errors import InputError
from univae.vae.kl_weight import Elbo, annealed_weight, free_bits


def bound(kl: list[list[float]]) -> Elbo:
    dimensions = torch.tensor(kl)[..., None] * torch.tensor([0.25, 0.75])
    return Elbo(torch.zeros(len(kl)), torch.tensor(kl), dimensions)


def test_linear_annealing_rises_once_and_cyclical_in_every_part() -> None:
    grid = [0.0, 0.1, 0.2, 0.4, 0.5, 0.6, 0.7, 1.0]
    linear = [annealed_weight(f, "linear", warmup=0.4) for f in grid]
    assert linear == pytest.approx([0, 0.25, 0.5, 1, 1, 1, 1, 1])
    cyclical = [annealed_weight(f, "cyclical", warmup=0.4, cycles=2) for f in grid]
    assert cyclical == pytest.approx([0, 0.5, 1, 1, 0, 0.5, 1, 1])
    assert annealed_weight(0.0, "none") == 1


def test_a_constant_weight_multiplies_every_annealing() -> None:
    assert annealed_weight(0.3, "none", final=0.2) == 0.2
    assert annealed_weight(0.2, "linear", warmup=0.4, final=4.0) == 2.0
    assert annealed_weight(0.9, "cyclical", final=4.0) == 4.0
    with pytest.raises(InputError, match=r"final must be 0 or more; got final=-1"):
        annealed_weight(0.5, "none", final=-1.0)


def test_free_bits_per_layer_put_a_floor_under_the_mean_of_each_layer() -> None:
    elbo = bound([[1.0, 4.0], [2.0, 6.0]])  # means 1.5 and 5
    assert free_bits(elbo, 0.0).item() == 13
    assert free_bits(elbo, 2.0, "layer").item() == 2 * (2 + 5)


def test_free_bits_per_dimension_put_a_floor_under_each_coordinate() -> None:
    elbo = bound([[1.0, 4.0], [2.0, 6.0]])  # coordinate means .375, 1.125, 1.25, 3.75
    assert free_bits(elbo, 1.2, "dimension").item() == pytest.approx(2 * (1.2 + 1.2 + 1.25 + 3.75))


def test_below_the_floor_the_kl_has_no_gradient() -> None:
    kl = torch.tensor([[1.0, 4.0], [2.0, 6.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(free_bits(Elbo(torch.zeros(2), kl), 2.0), kl)
    assert gradient.tolist() == [[0, 1], [0, 1]]


@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="no KL per dimension"):
        free_bits(Elbo(torch.zeros(1), torch.ones(1, 1)), 1.0, "dimension")
    with pytest.raises(InputError, match="per must be one of layer, dimension; got 'token'"):
        free_bits(Elbo(torch.zeros(1), torch.ones(1, 1)), 1.0, "token")
    with pytest.raises(
        InputError, match="annealing must be one of none, linear, cyclical; got 'cosine'"
    ):
        annealed_weight(0.5, "cosine")
