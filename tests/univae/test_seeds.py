"""Seeds give the draws of ``torch.manual_seed``."""

import torch

from univae.seeds import reseed, seed_of


def test_reseeding_gives_the_draws_of_torch_manual_seed() -> None:
    torch.manual_seed(seed_of("step", 3))
    expected = torch.rand(3)
    reseed("step", 3)
    assert torch.equal(torch.rand(3), expected)


def test_different_keys_give_different_draws() -> None:
    draws = []
    for key in (("step", 3), ("step", 4), ("load", 3)):
        reseed(*key)
        draws.append(torch.rand(1).item())
    assert len(set(draws)) == len(draws)
