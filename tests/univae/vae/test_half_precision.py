"""Models cast to half precision: every distribution works, and its nats are float32 at least."""

import copy
import itertools
import math

import pytest
import torch
from torch import Tensor

from univae.decoding.beam import beam_search
from univae.latent.families import FAMILIES
from univae.latent.heads import GaussianHead, VonMisesFisherHead
from univae.latent.stream_norm import StreamNorm
from univae.text.special import END, PAD
from univae.vae.config import PRIORS, UniVAEConfig
from univae.vae.likelihood import text_log_prob
from univae.vae.model import UniVAE

IDS = torch.tensor([[5, 6, 7, END], [8, END, PAD, PAD]])
OPTIONS = {"gaussian": {"bn_gamma": 0.5}, "vmf": {"learn_kappa": True}}

every_half = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
every_model = pytest.mark.parametrize(
    ("prior", "latent", "norm"), list(itertools.product(PRIORS, FAMILIES, ["pre", "post"]))
)


def pair_of(prior: str, latent: str, norm: str, dtype: torch.dtype) -> tuple[UniVAE, UniVAE]:
    """Return a model in half precision, and one in float32 with the same weights."""
    torch.set_default_dtype(torch.float32)
    config = UniVAEConfig(
        vocab_size=9,
        width=16,
        heads=2,
        layers=3,
        latent_layers=2,
        latent_width=3,
        latent=latent,
        prior=prior,
        norm=norm,
        max_length=4,
        **OPTIONS[latent],
    )
    half = UniVAE(config).to(dtype).eval()
    return half, copy.deepcopy(half).float()


@every_half
@every_model
def test_every_distribution_agrees_with_float32(
    prior: str, latent: str, norm: str, dtype: torch.dtype
) -> None:
    half, single = pair_of(prior, latent, norm, dtype)
    q = half.posterior(IDS)
    z, log_q = q.rsample_with_log_prob((3,))
    pairs: list[tuple[Tensor, Tensor]] = [
        (log_q, single.posterior(IDS).log_prob(z)),
        (half.prior().log_prob(z), single.prior().log_prob(z)),
        (half.likelihood(z).log_prob(IDS), single.likelihood(z).log_prob(IDS)),
    ]
    for ours, truth in pairs:
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, truth, atol=0.5, rtol=0.05)
    for latents in (z, q.modes(), half.prior().sample((3, 2)), half.resample(z, [1])):
        assert latents.dtype == torch.float32
    assert half.likelihood(z.to(dtype)).log_prob(IDS).dtype == torch.float32
    assert half.likelihood(half.prior().sample((2,))).sample().dtype == torch.long


@every_half
@every_model
@pytest.mark.parametrize("rows", [1, 2])
def test_a_bound_in_half_precision_trains_every_weight_in_float32_nats(
    prior: str, latent: str, norm: str, dtype: torch.dtype, rows: int
) -> None:
    half, _ = pair_of(prior, latent, norm, dtype)
    bound = half.train().elbo(IDS[:rows])
    assert {bound.kl.dtype, bound.log_likelihood.dtype} == {torch.float32}
    (bound.kl.sum() - bound.log_likelihood.sum()).backward()
    for weight in half.parameters():
        assert weight.grad is None or weight.grad.isfinite().all()


@every_half
def test_a_long_text_keeps_its_nats_where_a_half_precision_sum_would_not(
    dtype: torch.dtype,
) -> None:
    length = 3000
    ids = torch.full((1, length), 5)
    log_p = text_log_prob(torch.zeros(1, length, 7, dtype=dtype), ids)
    assert log_p.item() == pytest.approx(-length * math.log(7), rel=1e-5)


@every_half
def test_a_beam_sums_its_scores_in_float32(dtype: torch.dtype) -> None:
    class Flat:
        """Equal logits, without an end."""

        def __call__(self, tokens: Tensor) -> Tensor:
            logits = torch.zeros(len(tokens), 7, dtype=dtype)
            logits[:, : END + 1] = -math.inf
            return logits

        def reorder(self, rows: Tensor) -> None:
            pass

    _, score = beam_search(Flat(), 1, 2, 500)
    assert score.item() == pytest.approx(-500 * math.log(7 - END - 1), rel=1e-5)


@every_half
def test_normalised_means_have_their_deviation_and_move_the_statistics(dtype: torch.dtype) -> None:
    torch.set_default_dtype(torch.float32)
    half = StreamNorm(4, eps=1e-12, affine=False).to(dtype).train()
    single = StreamNorm(4, eps=1e-12, affine=False).train()
    rows = 3 + 2 * torch.randn(64, 4)
    for count in (64, 1):
        torch.testing.assert_close(half(rows[:count]), single(rows[:count]), atol=0.02, rtol=0.02)
        assert half.running_mean is not None
        assert single.running_mean is not None
        torch.testing.assert_close(
            half.running_mean.float(), single.running_mean, atol=0.01, rtol=0
        )
    assert half.num_batches_tracked == single.num_batches_tracked == 2
    torch.testing.assert_close(half.eval()(rows), single.eval()(rows), atol=0.03, rtol=0.03)


@every_half
def test_heads_compute_their_parameters_in_float32(dtype: torch.dtype) -> None:
    torch.set_default_dtype(torch.float32)
    row = torch.randn(5, 8).to(dtype)
    gaussian = GaussianHead(8, 3, gamma=0.6).to(dtype).train()(row)
    assert gaussian.mean.dtype == gaussian.stddev.dtype == torch.float32
    torch.testing.assert_close(gaussian.mean.std(0, unbiased=False), torch.full((3,), 0.6))
    head = VonMisesFisherHead(8, 3, 32.0, learned=True).to(dtype)
    vmf = head(row)
    assert vmf.mean_direction.dtype == vmf.concentration.dtype == torch.float32
    assert vmf.concentration.item() == pytest.approx(math.exp(head.log_kappa.item()), rel=1e-6)
