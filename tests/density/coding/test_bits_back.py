"""Bits-back coding of arrays: exact, at the cost of the bound, in any process."""

import functools
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, MultivariateNormal, Normal

import density
from density.coding.ans import PRECISION
from density.coding.bits_back import BitsBack
from density.coding.container import unpack
from density.coding.data_code import Coding, noise
from density.coding.exact import exactly, prepared, same_bits
from density.coding.pixel_codes import pixel_code
from density.images.conv import ConvVAE
from density.images.ladder import LadderVAE
from density.images.mlp import MLPVAE
from density.likelihoods.head import Pixels
from univae.errors import InputError

SHAPE = (1, 4, 4)
LARGER = (1, 8, 8)
COLOURED = Pixels((3, 4, 4), "logistic", levels=256, reach=1, context=3)
SEEDS = st.integers(0, 2**32 - 1)


def perceptron(
    levels: int = 2, latents: tuple[int, ...] = (3,), shape: tuple[int, ...] = SHAPE
) -> MLPVAE:
    """Return a model of random weights, large enough that latents depend on the data."""
    law = "bernoulli" if levels == 2 else "logistic"
    torch.manual_seed(0)
    model = MLPVAE(Pixels(shape, law, levels), latents, ((12,), *[(8,)] * (len(latents) - 1)))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return model


_perceptron = functools.cache(perceptron)


def binary_rows(count: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Zeros and ones with three factors."""
    generator = np.random.default_rng(2)
    score = generator.normal(size=(count, 3)) @ generator.normal(size=(3, math.prod(shape))) * 1.5
    return (
        (generator.random(score.shape) < 1 / (1 + np.exp(-score)))
        .astype(np.int64)
        .reshape(count, *shape)
    )


@functools.cache
def trained(latents: tuple[int, ...]) -> MLPVAE:
    """Return a trained model: the log-weights of an untrained one have heavy tails."""
    x = torch.from_numpy(binary_rows(2000, LARGER)).double()
    model = perceptron(latents=latents, shape=LARGER)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(300):
        optimizer.zero_grad()
        (-density.elbo(model, x[(100 * step) % 2000 :][:100], 1).mean()).backward()
        optimizer.step()
    return model


def coded(model: nn.Module, x: np.ndarray, **options) -> tuple:
    """Return the message of x and its coder, after x came back from it."""
    coding = Coding(**options)
    with exactly():
        exact_model = prepared(model)
        coder = BitsBack(exact_model, pixel_code(exact_model, x.shape[1:], coding.tile), coding)
        message = coder.push(x)
        assert np.array_equal(coder.pop(message.words, message.count, message.plain), x)
    assert message.count == len(x)
    assert 0 <= message.plain <= len(x)
    return message, coder


# Exactness.


@given(
    seed=SEEDS,
    levels=st.sampled_from([2, 5, 256]),
    count=st.integers(1, 24),
    tile=st.integers(1, 5),
    particles=st.integers(1, 3),
    deep=st.booleans(),
    extreme=st.sampled_from([0.0, 0.2, 0.5]),
)
def test_arrays_come_back(
    seed: int, levels: int, count: int, tile: int, particles: int, deep: bool, extreme: float
) -> None:
    """Noise in which no, some or all values are the lowest or the highest; one datum, or a few."""
    generator = np.random.default_rng(seed)
    x = generator.integers(levels, size=(count, *SHAPE))
    place = generator.random(x.shape)
    x[place < extreme] = 0
    x[place >= 1 - extreme] = levels - 1
    coded(_perceptron(levels, (3, 2) if deep else (3,)), x, tile=tile, particles=particles)


@pytest.mark.parametrize("value", [0, 1])
@pytest.mark.parametrize("count", [1, 300])
def test_constant_data_come_back(value: int, count: int) -> None:
    coded(perceptron(), np.full((count, *SHAPE), value), tile=8)


@pytest.mark.parametrize(
    "make",
    [lambda: LadderVAE(Pixels((1, 16, 16)), (1, 2), 4), lambda: ConvVAE(Pixels((1, 16, 16)), 3, 4)],
)
@pytest.mark.parametrize("particles", [1, 3])
def test_models_of_every_kind_code_their_data(make, particles: int) -> None:
    x = np.random.default_rng(0).integers(2, size=(30, 1, 16, 16))
    message, _ = coded(make(), x, tile=3, particles=particles)
    assert message.plain < 30


class Foreign(nn.Module):
    """A model of PyTorch distributions, with a latent array and a prior that is not standard."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 4 * 6).view(4, 6))

    def prior(self) -> Distribution:
        return Independent(
            Normal(self.weight.new_full((2, 2), 0.5), self.weight.new_full((2, 2), 2.0)), 2
        )

    def posterior(self, x: Tensor) -> Distribution:
        mean = (x.to(self.weight) @ self.weight.T).unflatten(-1, (2, 2))
        return Independent(Normal(mean, torch.full_like(mean, 0.4)), 2)

    def likelihood(self, z: Tensor) -> Distribution:
        return Independent(Bernoulli(logits=z.flatten(-2) @ self.weight), 1)


@pytest.mark.parametrize(
    ("pixels", "particles"), [(Pixels((1, 4, 4), reach=2, context=4), 3), (COLOURED, 1)]
)
def test_autoregressive_pixels_come_back(pixels: Pixels, particles: int) -> None:
    torch.manual_seed(0)
    model = MLPVAE(pixels, (2,), ((8,),))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    x = np.random.default_rng(0).integers(pixels.levels, size=(11, *pixels.shape))
    for tile in (1, 4):
        content = density.compress(model, x, tile=tile, particles=particles)
        assert (density.decompress(model, content) == x).all()


@pytest.mark.slow
def test_autoregressive_pixels_cost_the_bound() -> None:
    """Rows of stripes: without its neighbours every pixel costs a bit."""
    phase = np.random.default_rng(1).integers(2, size=(160, 1, 8, 1))
    x = (np.arange(8) + phase) % 2
    torch.manual_seed(0)
    model = MLPVAE(Pixels(LARGER, reach=1, context=8), (1,), ((8,),))
    data = torch.from_numpy(x).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        (-density.elbo(model, data, 1).mean()).backward()
        optimizer.step()
    with exactly():
        coder = BitsBack(prepared(model), pixel_code(prepared(model), LARGER, 16), Coding(tile=16))
        coded = coder.push(x)
    with torch.no_grad():
        bound = -density.estimate(model, data, 64).elbo.mean().item() / math.log(2)
    assert coded.net_bits / (coded.count - coded.plain) == pytest.approx(bound, rel=0.02)
    assert bound < 14  # eight phases, and 64 pixels


def test_a_model_of_plain_distributions_is_coded() -> None:
    x = np.random.default_rng(0).integers(2, size=(200, 6))
    message, _ = coded(Foreign(), x, tile=2)
    assert message.plain < 40


# Cost.


def bound(model: nn.Module, x: np.ndarray, samples: int, draws: int) -> tuple[float, float]:
    r"""Return the mean importance-weighted bound in bits per row, and its standard error."""
    torch.manual_seed(3)
    with torch.no_grad():
        log_w = density.log_weights(model, torch.from_numpy(x).double(), samples * draws)
    each = -(log_w.view(draws, samples, -1).logsumexp(1) - math.log(samples)) / math.log(2)
    return each.mean().item(), (each.mean(1).std() / math.sqrt(draws)).item()


@pytest.mark.parametrize("latents", [(3,), pytest.param((3, 2), marks=pytest.mark.slow)])
def test_the_net_rate_is_the_negative_elbo_within_one_per_cent(latents: tuple[int, ...]) -> None:
    model = trained(latents)
    x = binary_rows(1600, LARGER)
    message, _ = coded(model, x, tile=40)
    ideal, error = bound(model, x[message.plain :], 1, 32)
    # the codec draws once a datum: 1 % is 4 of its standard errors
    assert 4 * math.sqrt(32) * error < 0.01 * ideal
    assert message.net_bits / (len(x) - message.plain) == pytest.approx(ideal, rel=0.01)


def test_particles_reach_the_importance_weighted_bound() -> None:
    model = trained((3,))
    x = binary_rows(640, LARGER)
    one, many = (coded(model, x, tile=40, particles=k)[0] for k in (1, 16))
    net = [message.net_bits / (len(x) - message.plain) for message in (one, many)]
    ideal, _ = bound(model, x[many.plain :], 16, 4)
    assert net[1] == pytest.approx(ideal, rel=0.01)
    assert net[1] < 0.99 * net[0]
    assert many.initial_bits <= 1.2 * one.initial_bits  # coupled: those of one


def test_all_bits_are_counted() -> None:
    model = perceptron()
    message, coder = coded(model, binary_rows(200), tile=4)
    assert message.plain > 0
    assert (
        32 * len(message.words) - 32
        < message.initial_bits + message.net_bits
        <= 32 * len(message.words)
    )
    # what the first tile pops is there
    assert message.initial_bits > PRECISION * 4 * coder.code.layers.width


def test_bit_swap_needs_fewer_bits_to_start() -> None:
    model = perceptron(latents=(3, 2))
    x = binary_rows(60)
    swap = coded(model, x, tile=8)[0]
    joint = coded(model, x, tile=8, swap=False)[0]
    assert swap.initial_bits < 0.75 * joint.initial_bits


@pytest.mark.slow
def test_bit_swap_needs_fewer_bits_to_start_and_as_many_a_datum() -> None:
    model = trained((3, 2))
    x = binary_rows(400, LARGER)
    swap = coded(model, x, tile=8)[0]
    joint = coded(model, x, tile=8, swap=False)[0]
    assert swap.initial_bits < 0.75 * joint.initial_bits
    rates = [message.net_bits / (len(x) - message.plain) for message in (swap, joint)]
    assert rates[0] == pytest.approx(rates[1], rel=0.02)


def test_positions_are_uniform_and_a_function_of_the_datum_alone() -> None:
    x = torch.randn(500, 7)
    positions = noise(x, 500, 40)
    assert np.array_equal(noise(x[100:101], 1, 40)[0], positions[100])
    assert abs(positions.mean() / 2**PRECISION - 0.5) < 5 * math.sqrt(1 / 12 / positions.size)
    assert abs(np.corrcoef(positions.T)[np.triu_indices(40, 1)]).max() < 5 / math.sqrt(500)


def test_latents_of_one_cluster_cost_no_more_than_the_bound() -> None:
    """Where all rows have one latent far from the prior's mean, returned bits are not uniform."""
    model = trained((3,))
    x = np.repeat(binary_rows(1, LARGER), 3200, 0)
    message, _ = coded(model, x, tile=32)
    ideal, _ = bound(model, x[:1], 1, 4000)
    assert message.net_bits / (len(x) - message.plain) == pytest.approx(ideal, rel=0.015)


# Other processes, types and blocks.


READER = """
import sys, numpy as np, torch, density
torch.set_num_threads(2)
sys.path.insert(0, sys.argv[1])
from tests.density.coding.test_bits_back import perceptron
x = density.decompress(perceptron(2, (3, 2)).float(), open(sys.argv[2], "rb").read())
np.save(sys.argv[3], x)
"""


@pytest.mark.slow
def test_another_process_with_other_threads_reads_the_same(tmp_path: Path) -> None:
    torch.set_default_dtype(torch.float32)
    torch.set_num_threads(1)
    model = perceptron(2, (3, 2))
    x = binary_rows(300)
    (tmp_path / "file").write_bytes(density.compress(model, x, tile=3, verify=False))
    root = Path(__file__).parents[3]
    command = [
        sys.executable,
        "-c",
        READER,
        str(root),
        str(tmp_path / "file"),
        str(tmp_path / "x.npy"),
    ]
    subprocess.run(command, check=True, cwd=root)
    assert np.array_equal(np.load(tmp_path / "x.npy"), x)


def test_threads_are_as_they_were_and_the_model_too() -> None:
    model = perceptron().float().train()
    torch.set_num_threads(2)
    density.compress(model, binary_rows(20))
    assert torch.get_num_threads() == 2
    assert model.training
    assert next(model.parameters()).dtype == torch.float32


@pytest.mark.parametrize(
    "x",
    [
        torch.randint(0, 2, (30, *SHAPE), dtype=torch.uint8),
        torch.randint(0, 2, (30, *SHAPE)).bool(),
        torch.randint(0, 2, (30, *SHAPE)).float(),
        np.random.default_rng(0).integers(0, 2, (30, *SHAPE), dtype=np.uint16),
        np.asfortranarray(np.random.default_rng(0).integers(0, 2, (30, *SHAPE)).astype(">f4")),
    ],
)
def test_data_come_back_of_their_type_dtype_and_shape(x) -> None:
    again = density.decompress(perceptron(), density.compress(perceptron(), x))
    assert type(again) is type(x)
    assert again.dtype == x.dtype
    assert again.shape == x.shape
    assert (again == x).all()


def test_equal_bits_are_more_than_equal_numbers() -> None:
    zeros = np.zeros((2, 3))
    assert same_bits(zeros, zeros.copy())
    assert not same_bits(zeros, -zeros)
    assert not same_bits(zeros, zeros.astype(np.float32))
    assert not same_bits(zeros, zeros.T)


def test_a_block_is_read_without_the_others() -> None:
    model = perceptron()
    x = binary_rows(70)
    content = density.compress(model, x, block=30)
    header, _ = unpack(content)
    assert [block.count for block in header.blocks] == [30, 30, 10]
    assert np.array_equal(density.decompress(model, content, block=1), x[30:60])
    assert np.array_equal(density.decompress(model, content), x)
    with pytest.raises(InputError, match=r"block must lie in 0\.\.2; got block=3"):
        density.decompress(model, content, block=3)


# Refusals.


class Correlated(Foreign):
    def posterior(self, x: Tensor) -> Distribution:
        mean = x.to(self.weight) @ self.weight.T
        return MultivariateNormal(mean, torch.eye(4, dtype=mean.dtype))


class Unbounded(Foreign):
    def posterior(self, x: Tensor) -> Distribution:
        return Independent(Normal(super().posterior(x).mean / 0, 1.0, validate_args=False), 2)


@pytest.mark.parametrize(
    ("model", "x", "reason"),
    [
        (perceptron, np.zeros((0, *SHAPE), int), "needs at least one row; got none"),
        (
            perceptron,
            np.full((3, *SHAPE), 7),
            r"codes whole numbers 0\.\.1; got 7; binarise the data first",
        ),
        (
            lambda: perceptron(5),
            np.full((3, *SHAPE), 7),
            r"codes whole numbers 0\.\.4; got 7; use a model of these",
        ),
        (perceptron, np.full((3, *SHAPE), 0.5), "got 0.5"),
        (perceptron, np.full((3, *SHAPE), math.nan), "got nan"),
        (
            perceptron,
            np.zeros((3, 1, 2, 8), int),
            r"data are \(1, 4, 4\) each; got \(1, 2, 8\); reshape",
        ),
        (
            perceptron,
            np.full((3, *SHAPE), -0.0),
            r"the sign of -0\.0 would be lost; got 48 of them; add 0\.0",
        ),
        (
            perceptron,
            torch.full((3, *SHAPE), -0.0),
            r"the sign of -0\.0 would be lost; got 48 of them",
        ),
        (
            perceptron,
            torch.zeros((3, *SHAPE), dtype=torch.bfloat16),
            r"NumPy has no torch\.bfloat16; convert",
        ),
        (perceptron, np.zeros((3, *SHAPE), str), "must be whole numbers; got dtype"),
        (Correlated, np.zeros((30, 6), int), "diagonal Gaussians; got MultivariateNormal"),
        (Unbounded, np.zeros((30, 6), int), "no finite mean and deviation"),
        (
            lambda: MLPVAE(Pixels((4,), "gaussian"), (2,), ((4,),)),
            np.zeros((3, 4), int),
            "got Normal, a density",
        ),
    ],
)
def test_data_and_models_that_cannot_be_coded_are_refused(
    model, x: np.ndarray, reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        density.compress(model(), x)


def test_a_model_without_weights_is_refused() -> None:
    class Bare:
        def prior(self) -> Distribution:
            return Normal(0, 1)

        posterior = likelihood = prior

    with pytest.raises(InputError, match=r"needs a torch module.*; got Bare"):
        density.compress(Bare(), np.zeros((3, 2), int))


@pytest.mark.parametrize("options", [{"particles": 0}, {"tile": 0}, {"block": 0}])
def test_options_that_break_a_rule_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(options))}.* must|must lie in 1"):
        density.compress(perceptron(), np.zeros((3, *SHAPE), int), **options)
