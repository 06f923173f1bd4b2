import math

import torch
from torch.nn.functional import normalize

from univae.latent.interpolation import lerp, slerp


def test_both_paths_start_and_end_where_they_should() -> None:
    a, b = normalize(torch.randn(2, 3, 4, 5), dim=-1)
    for path in (lerp, slerp):
        walk = path(a, b, torch.linspace(0, 1, 7))
        assert walk.shape == (7, 3, 4, 5)
        torch.testing.assert_close(walk[0], a)
        torch.testing.assert_close(walk[-1], b)


def test_a_great_circle_stays_on_the_sphere_at_constant_speed() -> None:
    a, b = normalize(torch.randn(2, 6, 16), dim=-1)
    walk = slerp(a, b, torch.linspace(0, 1, 9))
    torch.testing.assert_close(walk.norm(dim=-1), torch.ones(9, 6))
    steps = (walk[1:] * walk[:-1]).sum(-1).clamp(-1, 1).arccos()
    torch.testing.assert_close(
        steps, (a * b).sum(-1).arccos().div(8).expand(8, 6), atol=1e-7, rtol=1e-7
    )


def test_equal_and_opposite_ends_give_finite_unit_vectors() -> None:
    a = normalize(torch.randn(5, 4), dim=-1)
    torch.testing.assert_close(slerp(a, a, torch.tensor([0.3])), a[None])
    across = slerp(a, -a, torch.tensor([0.5, 1.0]))
    torch.testing.assert_close((across[0] * a).sum(-1), torch.zeros(5), atol=1e-12, rtol=0)
    torch.testing.assert_close(across[1], -a)


def test_the_middle_of_a_quarter_circle_is_the_diagonal() -> None:
    middle = slerp(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), torch.tensor([0.5]))
    torch.testing.assert_close(middle[0], torch.full((2,), math.sqrt(0.5)))
