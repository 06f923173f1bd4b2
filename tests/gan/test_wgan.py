"""The training step: what it descends, when, for whom.

Resumed to the same bits; two processes as one.
"""

import copy
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gan
from gan.config import Recipe
from gan.networks.registry import build
from gan.normalization.derivatives import differentiate, norms
from gan.normalization.gradient import normalize_gradient
from gan.penalties import Penalties
from gan.penalty_terms import zero_centred
from gan.wgan import WGAN, NotFinite
from univae.errors import InputError


def players(
    classes: int = 0, shape: tuple[int, ...] = (2,), family: str = "MLP", seed: int = 0
) -> tuple[Any, Any]:
    torch.manual_seed(seed)
    own: dict[str, Any] = {
        "MLP": {"hidden": (16, 16)},
        "Conv": {"width": 4},
        "Attention": {"width": 8, "heads": 2},
    }
    options = {"shape": shape, "classes": classes, **own[family]}
    generator = build({"network": f"{family}Generator", "latent": 3, **options})
    return generator, build({"network": f"{family}Critic", **options})


def optimizers(generator: nn.Module, critic: nn.Module, lr: float = 1e-2) -> tuple[Any, Any]:
    return tuple(torch.optim.SGD(player.parameters(), lr=lr) for player in (critic, generator))


def flat(module: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


@pytest.mark.parametrize("penalty", [Penalties(), Penalties(r1=0.5, r2=0.25)])
def test_a_critic_step_descends_the_written_out_loss(penalty: Penalties) -> None:
    generator, critic = players()
    twins = copy.deepcopy((generator, critic))
    real = torch.randn(8, 2)
    trainer = WGAN(
        generator,
        critic,
        Recipe(loss="non-saturating", penalties=penalty, n_critic=2, rescale=False),
        optimizers=optimizers(generator, critic),
        seed=5,
    )
    trainer.step(real)
    z = torch.randn(8, 3, generator=torch.Generator().manual_seed(5))
    fake = twins[0](z).detach()
    scores = [normalize_gradient(twins[1], x) for x in (real, fake)]
    loss = -nn.functional.logsigmoid(scores[0]).mean() - nn.functional.logsigmoid(-scores[1]).mean()
    for weight, x in ((penalty.r1, real), (penalty.r2, fake)):
        loss = loss + weight * zero_centred(lambda x: normalize_gradient(twins[1], x), x)
    gradients = torch.autograd.grad(loss, list(twins[1].parameters()))
    expected = torch.cat(
        [(p - 1e-2 * g).flatten() for p, g in zip(twins[1].parameters(), gradients, strict=True)]
    )
    torch.testing.assert_close(flat(critic), expected, rtol=1e-10, atol=1e-13)
    assert torch.equal(flat(generator), flat(twins[0]))  # every second step only


@pytest.mark.parametrize("family", ["MLP", "Attention"])
def test_a_generator_step_descends_the_second_order_gradient(family: str) -> None:
    shape = (2,) if family == "MLP" else (1, 8, 8)
    generator, critic = players(shape=shape, family=family)
    twin = copy.deepcopy(generator)
    trainer = WGAN(generator, critic, Recipe(), optimizers=optimizers(generator, critic), seed=5)
    real = torch.randn(8, *shape)
    trainer.step(real)
    noise = torch.Generator().manual_seed(5)
    torch.randn(8, 3, generator=noise), torch.randint(2**62, (1,), generator=noise)
    loss = -normalize_gradient(critic, twin(torch.randn(8, 3, generator=noise))).mean()
    gradients = torch.autograd.grad(loss, list(twin.parameters()))
    expected = torch.cat(
        [(p - 1e-2 * g).flatten() for p, g in zip(twin.parameters(), gradients, strict=True)]
    )
    torch.testing.assert_close(flat(generator), expected, rtol=1e-10, atol=1e-13)


def test_one_shared_pass_for_both_zero_centred_penalties_is_two_passes() -> None:
    real = torch.randn(8, 2)
    losses = []
    for weights in ((0.5, 0.25), (0.5, 0.0), (0.0, 0.25)):
        generator, critic = players()
        recipe = Recipe(
            loss="hinge", normalization="none", penalties=Penalties(r1=weights[0], r2=weights[1])
        )
        trainer = WGAN(generator, critic, recipe, optimizers=optimizers(generator, critic))
        losses.append(trainer.step(real)["penalty"])
    torch.testing.assert_close(losses[0], losses[1] + losses[2])


def test_penalties_of_a_normalised_smooth_critic_are_of_its_normalised_score() -> None:
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(2, 8), nn.SiLU(), nn.Linear(8, 1))
    generator = players()[0]
    real = torch.randn(6, 2)
    recipe = Recipe(penalties=Penalties(r1=2.0), rescale=False)
    actual = WGAN(generator, critic, recipe, optimizers=optimizers(generator, critic, 0.0)).step(
        real
    )["penalty"]
    torch.testing.assert_close(
        actual, 2 * zero_centred(lambda x: normalize_gradient(critic, x), real)
    )


def test_lazy_penalties_come_every_so_many_steps_and_weigh_as_much_in_all() -> None:
    generator, critic = players()
    real = torch.randn(6, 2)
    given = Penalties(r1=0.5)
    logged = []
    for lazy in (1, 3):
        recipe = Recipe(loss="hinge", normalization="none", penalties=given, lazy=lazy)
        trainer = WGAN(generator, critic, recipe, optimizers=optimizers(generator, critic, 0.0))
        logged.append([trainer.step(real)["penalty"].item() for _ in range(6)])
    assert logged[1] == [3 * logged[0][0], 0, 0, 3 * logged[0][0], 0, 0]


def test_the_generator_steps_after_every_n_critic_steps_on_its_own_batch_size() -> None:
    generator, critic = players()
    sizes: list[int] = []
    generator.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    trainer = WGAN(generator, critic, Recipe(n_critic=3, generator_ratio=2), seed=1)
    logged = [trainer.step(torch.randn(4, 2)) for _ in range(6)]
    assert sizes == [4, 4, 4, 8] * 2
    assert ["generator_loss" in row for row in logged] == [False, False, True] * 2


@pytest.mark.parametrize(
    ("options", "classes", "spectral"),
    [
        ({}, 0, False),
        ({"normalization": "gran", "loss": "wasserstein", "K": 2.0}, 3, False),
        (
            {
                "loss": "relativistic",
                "normalization": "none",
                "penalties": Penalties(r1=1.0, r2=1.0),
            },
            0,
            False,
        ),
        ({"loss": "relativistic", "augment": ("color", "translation", "cutout")}, 3, False),
        (
            {"loss": "wasserstein", "normalization": "none", "penalties": Penalties(gp=10.0)},
            3,
            False,
        ),
        (
            {"loss": "wasserstein", "normalization": "none", "penalties": Penalties(lp=10.0)},
            0,
            True,
        ),
        (
            {"loss": "wasserstein", "normalization": "none", "penalties": Penalties(div=2.0)},
            3,
            False,
        ),
        (
            {"loss": "wasserstein", "normalization": "none", "penalties": Penalties(clip=0.05)},
            0,
            False,
        ),
        (
            {"loss": "least-squares", "bf16": True, "half_life": 100.0, "generator_ratio": 2},
            3,
            True,
        ),
    ],
)
def test_every_recipe_steps_and_resumes_to_the_same_bits(
    options: dict, classes: int, spectral: bool
) -> None:
    torch.set_default_dtype(torch.float32)
    real = torch.rand(6, 8, 1, 8, 8) * 2 - 1
    labels = torch.randint(3, (6, 8)) if classes else [None] * 6

    def trainer() -> WGAN:
        generator, critic = players(classes, (1, 8, 8), "Conv")
        if spectral:
            gan.spectral_normalize(critic)
        return WGAN(generator, critic, Recipe(n_critic=2, **options), seed=3)

    whole = trainer()
    first = trainer()
    rows = [whole.step(x, y) for x, y in zip(real, labels, strict=True)]
    assert all(value.isfinite() for row in rows for value in row.values())
    for x, y in zip(real[:3], labels[:3], strict=True):
        first.step(x, y)
    torch.rand(7)  # the state of other generators does not matter
    second = trainer()
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for x, y in zip(real[3:], labels[3:], strict=True):
        second.step(x, y)
    a = whole.state_dict()
    b = second.state_dict()
    for name in ("generator", "critic"):
        for key, value in a[name].items():
            assert torch.equal(value, b[name][key]), (name, key)
    assert torch.equal(a["noise"], b["noise"])
    z = torch.randn(4, 3)
    given = (z, torch.tensor([0, 1, 2, 0]) if classes else None)
    assert torch.equal(whole.sample(*given), second.sample(*given))
    if whole.recipe.penalties.clip:
        assert flat(whole.critic).abs().max() <= 0.05


def test_the_average_halves_an_old_weight_in_a_half_life_and_buffers_follow() -> None:
    generator, critic = players(shape=(1, 8, 8), family="Conv")
    trainer = WGAN(
        generator, critic, Recipe(half_life=32.0), optimizers=optimizers(generator, critic, 0.0)
    )
    trainer.step(torch.randn(8, 1, 8, 8))
    trainer.ema.updates = 10**9  # past the start, where the average forgets faster
    with torch.no_grad():
        for p in generator.parameters():
            p.zero_()
        for average in trainer.ema.averages.values():
            average.fill_(1.0)
    for _ in range(4):  # 32 images
        trainer.step(torch.randn(8, 1, 8, 8))
    weight = trainer.ema.averages["first.weight"]
    torch.testing.assert_close(weight, torch.full_like(weight, 0.5))
    names = {name for name in trainer.ema.averages if "running" in name}
    assert names
    assert not any(torch.allclose(trainer.ema.averages[name], torch.ones(())) for name in names)
    own = trainer.sample(torch.ones(2, 3), average=False)
    assert not torch.allclose(own, trainer.sample(torch.ones(2, 3)))
    assert torch.equal(own, trainer.sample(torch.ones(2, 3), average=False))


def test_bfloat16_follows_float32_and_measures_norms_in_float32() -> None:
    torch.set_default_dtype(torch.float32)
    rows = []
    for bf16 in (False, True):
        generator, critic = players(shape=(1, 8, 8), family="Conv")
        trainer = WGAN(generator, critic, Recipe(bf16=bf16), seed=2)
        torch.manual_seed(4)
        row = trainer.step(torch.randn(16, 1, 8, 8))
        assert row["norm_median"].dtype == torch.float32
        rows.append(row)
    for name in ("critic_loss", "norm_median", "generator_loss"):
        assert rows[0][name].item() == pytest.approx(rows[1][name].item(), rel=0.05, abs=0.02)
        assert rows[0][name] != rows[1][name]


def test_the_scale_of_the_loss_changes_nothing_in_the_normalisation() -> None:
    generator, critic = players()
    fake = generator(torch.randn(8, 3))
    values = []
    gradients = []
    for scale in (1.0, 2.0**16):
        value = gan.normalize_for_generator(critic, fake)
        values.append(value.detach())
        (g,) = torch.autograd.grad(
            scale * value.mean(), generator.layers[0].weight, retain_graph=True
        )
        gradients.append(g / scale)
    assert torch.equal(values[0], values[1])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-12, atol=0)


def test_identical_real_and_generated_data_and_a_dead_critic_are_survived() -> None:
    generator, critic = players()
    nn.init.zeros_(generator.layers[-1].weight)
    trainer = WGAN(generator, critic)
    assert all(v.isfinite() for v in trainer.step(torch.zeros(8, 2)).values())
    for parameter in critic.parameters():
        nn.init.zeros_(parameter)
    for _ in range(3):
        assert all(v.isfinite() for v in trainer.step(torch.zeros(8, 2)).values())


def test_a_gradient_that_is_not_finite_updates_nothing() -> None:
    generator, critic = players()
    trainer = WGAN(generator, critic)
    before = flat(critic)
    with pytest.raises(NotFinite, match="the gradient of the critic is not finite") as caught:
        trainer.step(torch.full((4, 2), math.nan))
    assert caught.value.report["player"] == "critic"
    assert torch.equal(flat(critic), before)


def test_rescaling_holds_the_critics_weights_over_many_steps() -> None:
    sizes = {}
    for keep in (True, False):
        generator, critic = players()
        trainer = WGAN(
            generator, critic, Recipe(rescale=keep), optimizers=optimizers(generator, critic, 0.3)
        )
        for _ in range(40):
            trainer.step(torch.randn(16, 2))
        layer = critic.layers[3]
        sizes[keep] = layer.weight.square().mean().sqrt().item() / math.sqrt(2 / layer.in_features)
    assert sizes[True] == pytest.approx(1)
    assert abs(sizes[False] - 1) > 0.05


@pytest.mark.slow
def test_gn_moves_its_generator_onto_the_data() -> None:
    torch.manual_seed(0)
    generator = build(
        {
            "network": "MLPGenerator",
            "shape": (2,),
            "latent": 3,
            "hidden": (32, 32),
            "bounded": False,
        }
    )
    critic = build({"network": "MLPCritic", "shape": (2,), "hidden": (32, 32)})
    rates = ((critic, 1e-3), (generator, 2.5e-4))
    pair = tuple(torch.optim.Adam(player.parameters(), lr, (0.0, 0.9)) for player, lr in rates)
    trainer = WGAN(generator, critic, Recipe(half_life=2000.0), optimizers=pair)
    mean = torch.tensor([1.0, -0.5])
    z = torch.randn(1000, 3)
    assert (trainer.sample(z).mean(0) - mean).norm() > 1
    for _ in range(300):
        trainer.step(mean + 0.3 * torch.randn(64, 2))
    assert (trainer.sample(z).mean(0) - mean).norm() < 0.6


def test_what_does_not_go_together_is_refused() -> None:
    generator, critic = players()
    with pytest.raises(InputError, match="gp with gn"):
        WGAN(generator, critic, Recipe(penalties=Penalties(gp=10.0)))
    mixed = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    with pytest.raises(InputError, match="must depend on one sample alone"):
        WGAN(generator, mixed)
    plain = Recipe(loss="hinge", normalization="none")
    # no gradient of a sample is asked
    assert "critic_loss" in WGAN(generator, mixed, plain).step(torch.randn(4, 2))
    with pytest.raises(InputError, match="must have an attribute `latent`"):
        WGAN(nn.Linear(3, 2), critic)
    for options, message in (
        ({"lazy": 2}, "lazy must be 1 without r1 or r2"),
        ({"n_critic": 0}, "n_critic must be at least 1"),
        ({"half_life": -1.0}, "half_life must be 0"),
    ):
        with pytest.raises(InputError, match=message):
            Recipe(**options)


SCRIPT = """
import gc, sys
sys.path[:0] = sys.argv[3:]
import torch
import torch.distributed as dist
from test_wgan import four_steps

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
torch.save(four_steps(rank, 2), f"{folder}/{rank}.pt")
dist.barrier()
gc.collect()  # what holds threads of the group must not outlive it
dist.destroy_process_group()
"""


def four_steps(rank: int, size: int) -> list[Tensor]:
    """Train on a share of the data; return both players' weights, and the average."""
    generator, critic = players()
    parallel = nn.parallel.DistributedDataParallel if size > 1 else None
    recipe = Recipe(n_critic=2, half_life=100.0)
    pair = optimizers(generator, critic, 0.1)
    trainer = WGAN(generator, critic, recipe, optimizers=pair, parallel=parallel)
    for step in range(4):
        real = torch.randn(8, 2, generator=torch.Generator().manual_seed(step))
        trainer.step(real.chunk(size)[rank])
    return [
        flat(generator),
        flat(critic),
        torch.cat([x.flatten() for x in trainer.ema.averages.values()]),
    ]


@pytest.mark.slow
def test_two_processes_step_as_one_on_all_of_the_data(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    root = Path(__file__).parents[2]
    script.write_text(SCRIPT)
    command = [sys.executable, script, "RANK", tmp_path, root, Path(__file__).parent]
    both = [
        subprocess.Popen(
            [str(rank if word == "RANK" else word) for word in command],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    for process in both:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    one, first, second = four_steps(0, 1), *(torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    for a, b, c in zip(one, first, second, strict=True):
        assert torch.equal(b, c)
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-13)


def test_norms_logged_are_those_of_the_plain_critic() -> None:
    generator, critic = players()
    twin = copy.deepcopy(critic)
    real = torch.randn(9, 2)
    row = WGAN(generator, critic, Recipe(n_critic=5)).step(real)
    z = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    n = norms(differentiate(twin, torch.cat((real, generator(z).detach())), create_graph=False)[1])
    assert row["norm_max"].item() == pytest.approx(n.max().item())
    assert row["norm_median"].item() == pytest.approx(n.median().item())
