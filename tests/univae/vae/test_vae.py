"""Oracles U2-U7, U9, U12-U15 and further properties of a UniVAE.

U1 is in test_mask, U8, U10 and U11 in test_latent.
"""

import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence
from torch.nn.functional import normalize

from density.estimation.importance import log_likelihood, log_weights
from univae.decoding.beam import beam_search
from univae.decoding.sampling import Sampling, generate
from univae.errors import InputError
from univae.latent.heads import GaussianHead
from univae.latent.hierarchy import Choose
from univae.text.special import END, PAD, START
from univae.vae.dense import dense
from univae.vae.likelihood import text_log_prob
from univae.vae.model import UniVAE, UniVAEConfig

VOCAB = 20
VARIANTS = [
    {},
    {"latent": "vmf", "kappa": 8.0},
    {"norm": "post", "scale": "log_n"},
    {"prior": "learned", "scale": "log_n_clip", "scale_base": 4},
    {"latent": "vmf", "prior": "learned", "learn_kappa": True, "latent_layers": 4},
    {"latent_layers": 1},
    {"softmax": "adaptive", "vocab_size": 256},  # ids from 16 on are in classes
]


def make(**options) -> UniVAE:
    config = {
        "vocab_size": VOCAB,
        "width": 16,
        "heads": 2,
        "layers": 4,
        "latent_layers": 3,
        "latent_width": 4,
    }
    model = UniVAE(UniVAEConfig(**{**config, **options})).eval()
    for (
        p
    ) in model.parameters():  # far from the small initial weights, so that no path is negligible
        p.data += 0.1 * torch.randn_like(p)
    return model


def texts(*lengths: int) -> torch.Tensor:
    ids = torch.full((len(lengths), max(lengths)), PAD)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(END + 1, VOCAB, (length,))
        ids[row, length - 1] = END
    return ids


def teacher(z: torch.Tensor) -> Choose:
    return lambda layer, q: z[..., layer, :]


@pytest.fixture(params=range(len(VARIANTS)))
def model(request) -> UniVAE:
    return make(**VARIANTS[request.param])


def test_two_streams_equal_the_dense_mask(model: UniVAE) -> None:
    ids = texts(5, 8, 2)
    target = texts(3, 4, 7)
    z = model.prior().sample((3,))
    posterior, _, logits = model.two_streams(ids, target, teacher(z))
    plain, _, expected, _ = dense(model, ids, target, teacher(z))
    torch.testing.assert_close(logits, expected, atol=1e-12, rtol=1e-12)
    for q, p in zip(posterior, plain, strict=True):
        torch.testing.assert_close(q.log_prob(z[:, 0]), p.log_prob(z[:, 0]), atol=1e-10, rtol=1e-10)


def test_posterior_and_likelihood_equal_the_dense_mask_for_many_latents(model: UniVAE) -> None:
    ids = texts(5, 8, 2)
    z, log_q = model.posterior(ids).rsample_with_log_prob((4,))
    log_p = model.likelihood(z).log_prob(ids)
    for k in range(4):
        posterior, _, logits, _ = dense(model, ids, ids, teacher(z[k]))
        expected = sum(q.log_prob(z[k, :, layer]) for layer, q in enumerate(posterior))
        torch.testing.assert_close(log_q[k], expected, atol=1e-10, rtol=1e-10)
        torch.testing.assert_close(log_p[k], text_log_prob(logits, ids), atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(model.posterior(ids).log_prob(z), log_q, atol=1e-12, rtol=1e-12)


def test_training_gradients_equal_the_dense_mask(model: UniVAE) -> None:
    ids = texts(5, 8, 2)
    z = model.prior().sample((3,))

    def gradients(run) -> list[torch.Tensor]:
        posterior, _, logits, *_ = run(ids, ids, teacher(z))
        loss = text_log_prob(logits, ids).sum() + sum(
            q.log_prob(z[:, i]).sum() for i, q in enumerate(posterior)
        )
        return torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)

    plain = gradients(lambda *call: dense(model, *call))
    for ours, theirs in zip(gradients(model.two_streams), plain, strict=True):
        if theirs is None:
            assert ours is None
        else:
            torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)


def test_a_token_changes_no_logit_before_it(model: UniVAE) -> None:  # U2
    ids = texts(9)
    z = model.prior().sample((1,))
    logits = model.likelihood(z).logits(ids)[..., END:]
    for t in range(8):
        changed = ids.clone()
        changed[0, t] = (ids[0, t] - 2) % (VOCAB - 3) + 3
        moved = (model.likelihood(z).logits(changed)[..., END:] - logits).abs().amax((0, 2))
        assert moved[: t + 1].max() == 0
        assert moved[t + 1] > 1e-6


def test_given_z_the_encoders_text_changes_no_logit(model: UniVAE) -> None:  # U3
    target = texts(6)
    z = model.prior().sample((1,))
    one = model.two_streams(texts(9), target, teacher(z))[2]
    other = model.two_streams(texts(4), target, teacher(z))[2]
    torch.testing.assert_close(one, other, atol=1e-14, rtol=0)


def test_adding_row_0_instead_of_replacing_it_would_leak_the_text() -> None:  # U4
    model = make()
    target = texts(6)
    z = model.prior().sample((1,))
    one, other = (
        dense(model, ids, target, teacher(z), add=True)[2][..., END:]
        for ids in (texts(9), texts(9))
    )
    assert (one - other).abs().max() > 1e-2


def test_below_the_latents_decoder_rows_know_neither_text_nor_latent(model: UniVAE) -> None:  # U5
    target = texts(6)
    below = model.config.layers - model.config.latent_layers
    z, other = model.prior().sample((2, 1))
    one = dense(model, texts(9), target, teacher(z))[3]
    two = dense(model, texts(9), target, teacher(other))[3]
    for a, b in zip(one[:below], two[:below], strict=True):
        assert torch.equal(a, b)
    assert (one[below] - two[below]).abs().max() > 1e-6


@pytest.mark.parametrize("changed", [0, 1, 2])
def test_a_latent_changes_the_posterior_of_later_layers_only(changed: int) -> None:  # U6
    model = make()
    ids = texts(6, 4)
    z = model.prior().sample((2,))
    moved = z.clone()
    moved[:, changed] += 1.0
    before, after = (model.posterior(ids).conditionals(latent) for latent in (z, moved))
    for layer in range(3):
        difference = (before[layer].mean - after[layer].mean).abs().max()
        assert difference == 0 if layer <= changed else difference > 1e-6


def test_the_decoders_text_changes_no_posterior(model: UniVAE) -> None:  # U7
    ids = texts(6)
    z = model.prior().sample((1,))
    one, other = (model.two_streams(ids, texts(5), teacher(z))[0] for _ in range(2))
    for p, q in zip(one, other, strict=True):
        assert torch.equal(p.mean, q.mean)


def test_kl_is_summed_over_layers_and_never_averaged() -> None:  # U9
    for layers in (1, 2, 4):
        model = make(latent="vmf", kappa=32.0, latent_width=16, latent_layers=layers)
        kl = model.elbo(texts(4, 7)).kl
        assert kl.shape == (2, layers)
        torch.testing.assert_close(
            kl.sum(-1), torch.full((2,), layers * 7.582144), atol=1e-4, rtol=0
        )


@pytest.mark.parametrize("prior", ["standard", pytest.param("learned", marks=pytest.mark.slow)])
def test_the_kl_of_each_layer_has_the_mean_of_its_log_ratio(prior: str) -> None:
    model = make(prior=prior)
    ids = texts(5, 3)
    q = model.posterior(ids)
    p = model.prior()
    with torch.no_grad():
        z = q.sample((5000,))
        ratio = q.log_prob(z) - p.log_prob(z)
        kl = model.elbo(ids.repeat(1000, 1)).kl.sum(-1).view(1000, 2)
    error = (ratio.var(0) / 5000 + kl.var(0) / 1000).sqrt()
    assert ((ratio.mean(0) - kl.mean(0)).abs() < 5 * error).all()
    bound = model.elbo(ids)
    torch.testing.assert_close(bound.kl_dimensions.sum(-1), bound.kl)


def test_cached_generation_has_the_logits_of_a_full_pass(model: UniVAE) -> None:  # U12
    ids = texts(9, 9)
    z = model.prior().sample((2,))
    step = model.decoder(z)
    tokens = torch.cat((torch.full((2, 1), START), ids[:, :-1]), 1)
    stepped = torch.stack([step(tokens[:, t]) for t in range(9)], 1)
    torch.testing.assert_close(stepped, model.likelihood(z).logits(ids), atol=1e-12, rtol=1e-12)


def test_cached_generation_agrees_in_float32() -> None:  # U12, at float32's tolerance
    model = make().float()
    ids = texts(9, 9)
    z = model.prior().sample((2,))
    step = model.decoder(z)
    tokens = torch.cat((torch.full((2, 1), START), ids[:, :-1]), 1)
    stepped = torch.stack([step(tokens[:, t]) for t in range(9)], 1)
    assert stepped.dtype == z.dtype == torch.float32
    torch.testing.assert_close(stepped, model.likelihood(z).logits(ids), atol=1e-5, rtol=1e-5)


def test_without_a_latent_the_model_is_an_exact_language_model() -> None:  # U13
    """W_out = 0 makes log p(x) known, and the bounds rise to it as published (S=1, d=16, k=4)."""
    model = make(latent="vmf", kappa=4.0, latent_width=16, latent_layers=1)
    torch.nn.init.zeros_(model.inject[0].weight)
    ids = texts(5, 7)
    with torch.no_grad():
        exact = model.likelihood(model.prior().sample((2,))).log_prob(ids)
        log_w = log_weights(model, ids, 40_000)
    gap = {k: log_likelihood(log_w.view(k, -1, 2)) - exact for k in (1, 10, 100, 1000)}
    means = {k: g.mean().item() for k, g in gap.items()}
    assert means[1] == pytest.approx(-0.46246, abs=5 * gap[1].std().item() / math.sqrt(80_000))
    for k, published in ((1, -0.462), (10, -0.074), (100, -0.0086), (1000, -0.0005)):
        error = gap[k].std().item() / math.sqrt(gap[k].numel())
        assert abs(means[k] - published) < 5 * error + 1e-3
        assert means[k] < 5 * error  # a bound from below
    assert means[1] < means[10] < means[100] < means[1000]


def test_padding_a_batch_changes_no_logit_and_no_posterior(model: UniVAE) -> None:  # U15
    ids = texts(6, 4)
    z = model.prior().sample((2,))
    wide = torch.nn.functional.pad(ids, (0, 5), value=PAD)
    real = ids != PAD
    one, other = (model.likelihood(z).logits(x)[:, : ids.shape[1]][real] for x in (ids, wide))
    torch.testing.assert_close(one, other, atol=1e-12, rtol=0)
    one, other = (model.posterior(x).log_prob(z) for x in (ids, wide))
    torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-12)
    torch.manual_seed(1)
    first = model.elbo(ids)
    torch.manual_seed(1)
    torch.testing.assert_close(
        first.log_likelihood, model.elbo(wide).log_likelihood, atol=1e-12, rtol=1e-12
    )


def test_the_likelihood_is_normalised_over_all_texts() -> None:
    """Sum p(x | z) over every text of up to two tokens, and what is left for longer ones."""
    model = make(vocab_size=6)
    z = model.prior().sample((1,))
    words = range(END + 1, 6)
    short = [[END], *([a, END] for a in words), *([a, b, END] for a in words for b in words)]
    longer = [[a, b, c] for a in words for b in words for c in words]
    total = 0.0
    for text in (*short, *longer):
        total += model.likelihood(z).log_prob(torch.tensor([text])).exp().item()
    assert total == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("latent", ["gaussian", "vmf"])
def test_the_learned_prior_is_normalised(latent: str) -> None:
    """The standard prior as proposal: the mean weight is the integral of the learned density."""
    learned = make(latent=latent, prior="learned", latent_layers=2, latent_width=2).prior()
    standard = make(latent=latent, latent_layers=2, latent_width=2).prior()
    if latent == "gaussian":  # wider than the target, so that weights are bounded
        standard = Independent(Normal(torch.zeros(2, 2), 3.0), 2)
    z = standard.sample((50_000,))
    w = (learned.log_prob(z) - standard.log_prob(z)).exp()
    assert abs(w.mean().item() - 1) < 5 * w.std().item() / math.sqrt(50_000)
    assert w.std() > 0.01  # it is another density than the standard one


def test_a_learned_gaussian_prior_starts_as_the_standard_one_and_is_trained() -> None:
    torch.manual_seed(0)
    model = UniVAE(UniVAEConfig(VOCAB, 16, 2, 4, 2, 4, prior="learned"))
    z = torch.randn(5, 2, 4)
    standard = Independent(Normal(torch.zeros(2, 4), 1.0), 2)
    torch.testing.assert_close(model.prior().log_prob(z), standard.log_prob(z))
    optimizer = torch.optim.Adam(model.expect.parameters(), lr=0.03)
    ids = texts(5, 8, 2, 6)
    losses = []
    for _ in range(20):
        torch.manual_seed(0)  # the same latents: the loss falls by what the prior learns alone
        kl = model.elbo(ids).kl.sum()
        losses.append(kl.item())
        optimizer.zero_grad()
        kl.backward()
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]


def test_batch_normalised_means_hold_the_kl_above_their_bound() -> None:
    """BN-VAE: the mean KL over a batch is at least d/2 gamma^2, whatever the encoder computes."""
    head = GaussianHead(8, 4, gamma=0.6).train()
    for scale in (1e-4, 1e3):
        q = head(torch.randn(4096, 8) * scale)
        torch.testing.assert_close(
            q.mean.std(0, unbiased=False), torch.full((4,), 0.6), atol=1e-3, rtol=0
        )
    kl = kl_divergence(q, Independent(Normal(torch.zeros(4), 1.0), 1)).mean()
    assert kl >= 4 / 2 * 0.6**2 - 1e-6
    model = make(bn_gamma=0.6).train()
    assert model.elbo(texts(4, 5, 6, 7)).kl.mean(0).min() > 4 / 2 * 0.6**2 * 0.99
    assert model.eval().posterior(texts(4, 5)).sample().shape == (2, 3, 4)


def test_words_are_blanked_in_training_only_and_never_the_start() -> None:
    model = make(word_dropout=0.999)
    ids = texts(6)
    other = texts(6)
    z = model.prior().sample((1,))
    log_p = model.likelihood(z).log_prob
    assert (log_p(ids) - log_p(other)).abs().max() > 1e-3
    model.train()
    torch.testing.assert_close(model.likelihood(z).logits(ids), model.likelihood(z).logits(other))
    first = model.likelihood(z).logits(ids)[:, 0]
    torch.testing.assert_close(first, model.eval().likelihood(z).logits(ids)[:, 0])


def test_kappa_is_learned_when_asked() -> None:
    model = make(latent="vmf", learn_kappa=True, kappa=8.0).train()
    bound = model.elbo(texts(5, 4))
    (bound.kl.sum() - bound.log_likelihood.sum()).backward()
    for head in model.infer:
        assert head[1].log_kappa.grad.abs() > 0
    assert not any("kappa" in name for name, _ in make(latent="vmf").named_parameters())


def test_resampling_keeps_the_layers_not_named(model: UniVAE) -> None:
    z = model.prior().sample((3,))
    last = model.config.latent_layers - 1
    out = model.resample(z, [last])
    assert torch.equal(out[:, :last], z[:, :last])
    assert (out[:, last] != z[:, last]).any(-1).all()
    with pytest.raises(InputError, match=r"got \[9\]"):
        model.resample(z, [9])


def test_modes_are_deterministic_and_fed_forward(model: UniVAE) -> None:
    q = model.posterior(texts(4, 6))
    modes = q.modes()
    assert torch.equal(modes, q.modes())
    conditionals = q.conditionals(modes)
    for layer, p in enumerate(conditionals):
        torch.testing.assert_close(p.mode, modes[:, layer])


def test_drawn_texts_have_the_models_own_probabilities() -> None:
    model = make(vocab_size=5)
    z = model.prior().sample((1,)).expand(20_000, -1, -1)
    generated = generate(model.decoder(z, 4), 20_000, 4)
    for text in ([END], [3, END], [4, END], [3, 4, END]):
        p = model.likelihood(z[:1]).log_prob(torch.tensor([text])).exp().item()
        row = torch.tensor(text + [PAD] * (generated.shape[1] - len(text)))
        share = (generated == row).all(-1).double().mean().item()
        assert abs(share - p) < 5 * math.sqrt(p / 20_000)
    assert not (generated == START).any()
    assert not (generated[:, 0] == PAD).any()


def test_a_wide_beam_finds_the_most_probable_text_and_width_one_is_greedy() -> None:
    model = make(vocab_size=6)
    z = model.prior().sample((2,))
    words = list(range(END + 1, 6))
    every = [[END], *([a, END] for a in words), *([a, b, END] for a in words for b in words)]
    every += [[a, b, c] for a in words for b in words for c in words]
    padded = torch.tensor([t + [PAD] * (3 - len(t)) for t in every])
    log_p = model.likelihood(z[:, None].expand(-1, len(every), -1, -1)).log_prob(padded)
    best, score = beam_search(model.decoder(z.repeat_interleave(60, 0), 3), 2, 60, 3)
    for row in range(2):
        winner = log_p[row].argmax()
        assert torch.equal(
            torch.nn.functional.pad(best[row], (0, 3 - best.shape[1])), padded[winner]
        )
        assert score[row].item() == pytest.approx(log_p[row, winner].item(), abs=1e-9)
    greedy = generate(model.decoder(z, 8), 2, 8, Sampling(temperature=0.0))
    assert torch.equal(beam_search(model.decoder(z, 8), 2, 1, 8)[0], greedy)


def test_normalised_latents_stay_on_the_sphere() -> None:
    model = make(latent="vmf")
    z = model.posterior(texts(4, 6)).sample((5,))
    torch.testing.assert_close(z, normalize(z, dim=-1))


def test_the_published_configuration_has_its_constant_rate() -> None:
    from experiments.text.presets import MODELS

    paper = UniVAEConfig(vocab_size=VOCAB, **MODELS["paper"])
    assert (paper.layers, paper.width, paper.heads, paper.latent_layers) == (12, 768, 12, 4)
    assert (paper.latent_width, paper.kappa, paper.latent, paper.norm) == (16, 32.0, "vmf", "post")
    small = UniVAE(UniVAEConfig(VOCAB, **{**MODELS["paper"], "width": 24, "heads": 2}))
    assert small.elbo(texts(5)).kl.sum().item() == pytest.approx(30.3286, abs=1e-3)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent_layers": 5}, r"latent_layers must lie in 1..layers=4; got latent_layers=5"),
        ({"latent": "normal"}, r"latent must be gaussian.* or .*; got latent=normal"),
        ({"latent": "vmf", "bn_gamma": 0.5}, r"no mean to batch-normalise"),
        ({"learn_kappa": True}, r"learn_kappa needs latent='vmf'"),
        ({"width": 15}, r"got width=15, heads=2"),
    ],
)
def test_an_impossible_configuration_is_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(**options)
