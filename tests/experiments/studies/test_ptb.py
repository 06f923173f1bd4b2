"""The study of Penn Treebank: its models are normalised, and its scores are those of the models."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from density.estimation.importance import estimate
from experiments.studies import ptb, ptb_scores
from experiments.studies.ptb_models import LanguageModel, Peer, TokenByToken
from experiments.studies.ptb_scores import test_texts, totals
from experiments.studies.ptb_table import draw, markdown, run_result, summary
from univae.checkpoint import read_json, write_json
from univae.text.special import END, PAD, RESERVED
from univae.vae.model import UniVAE, UniVAEConfig

test_texts.__test__ = False  # type: ignore[attr-defined]

WORDS = [f"w{i}" for i in range(20)]
SMALL = ["width=16", "heads=2", "layers=2", "latent_width=3", "softmax=full", "vocab_size=24"]
SMALL += ["validation_texts=4", "validation_samples=2", "batch_tokens=84"]


@pytest.fixture(autouse=True)
def _single_precision() -> None:
    torch.set_default_dtype(torch.float32)


def shape(**options: Any) -> UniVAEConfig:
    return UniVAEConfig(300, width=16, heads=2, layers=2, latent_width=3, max_length=8, **options)


def padded() -> Tensor:
    ids = torch.randint(RESERVED, 300, (3, 5))
    ids[:, -1] = END
    ids[1, 2:] = torch.tensor([END, PAD, PAD])
    return ids


@pytest.mark.parametrize("softmax", ["full", "adaptive"])
def test_next_tokens_of_the_language_model_have_probability_one(softmax: str) -> None:
    model = LanguageModel(shape(softmax=softmax)).eval()
    ids = torch.tensor([[7, 290, 8]])
    following = torch.arange(END, 300)[:, None]
    longer = torch.cat((ids.expand(len(following), -1), following), 1)
    torch.testing.assert_close(
        model.log_prob(longer).logsumexp(0, keepdim=True), model.log_prob(ids)
    )


def test_padding_changes_no_likelihood_of_the_language_model() -> None:
    model = LanguageModel(shape()).eval()
    ids = padded()
    alone = torch.cat([model.log_prob(row[row != PAD][None]) for row in ids])
    torch.testing.assert_close(model.log_prob(ids), alone)
    loss, _ = model.loss(ids)
    torch.testing.assert_close(loss, -alone.sum())
    assert model.validate(ids, 1)["nll_nats"] == pytest.approx(-alone.mean().item(), rel=1e-5)


@pytest.mark.parametrize("softmax", ["full", "adaptive"])
def test_token_by_token_a_univae_has_the_likelihood_of_its_model(softmax: str) -> None:
    model = UniVAE(shape(softmax=softmax)).eval()
    ids = padded()
    z = model.posterior(ids).sample(torch.Size((4,)))
    again = TokenByToken(model).likelihood(z).log_prob(ids)
    assert again.shape == (4, 3)
    torch.testing.assert_close(again, model.likelihood(z).log_prob(ids))


@pytest.fixture
def peer() -> Peer:
    pytest.importorskip("x_transformers")
    return Peer(shape(dropout=0.1), kl_weight=0.5, kl_floor=0.0).eval()


def test_both_terms_of_the_peers_bound_are_those_of_its_own_loss(peer: Peer) -> None:
    ids = padded()
    tokens = (ids != PAD).sum()
    torch.manual_seed(1)
    loss, parts = peer.loss(ids)
    torch.manual_seed(1)
    bound = peer.elbo(ids)

    torch.testing.assert_close(parts["reconstruction_nats_per_token"], -bound.log_likelihood.sum())
    torch.testing.assert_close(parts["kl_nats_above_floor_per_token"], bound.kl.sum())
    total = -bound.log_likelihood.sum() + 0.5 * tokens * bound.kl.mean()
    torch.testing.assert_close(loss, total)


def test_the_peer_is_a_latent_model_with_one_weight_a_draw_and_text(peer: Peer) -> None:
    ids = padded()
    z = peer.posterior(ids).sample(torch.Size((2,)))
    each = [
        [peer.likelihood(z[k, i : i + 1]).log_prob(ids[i : i + 1]) for i in range(3)]
        for k in range(2)
    ]
    expected = torch.stack([torch.cat(row) for row in each])
    torch.testing.assert_close(peer.likelihood(z).log_prob(ids), expected)

    scores = estimate(peer, ids, 40)
    assert scores.khat.shape == (3,)
    assert (scores.log_likelihood >= scores.elbo).all()


def test_differences_to_the_language_model_are_of_the_same_texts(tmp_path: Path) -> None:
    likelihoods = {"vae": [[-3.0, -7.0], [-5.0]], "lm": [[-1.0, -6.0], [-2.0]]}
    for name, blocks in likelihoods.items():
        (tmp_path / name).mkdir()
        for i, values in enumerate(blocks):
            block = {"seconds": 1.5, "columns": {"log_likelihood": values}}
            write_json(tmp_path / name / f"{2 * i:05}.json", block)
    columns, seconds = ptb_scores.read_scores(tmp_path / "vae")
    assert columns == {"log_likelihood": [-3.0, -7.0, -5.0]}
    assert seconds == 3.0
    pair = ptb_scores.paired_difference(tmp_path / "vae", tmp_path / "lm")  # 2, 1 and 3
    assert pair == {"nats": pytest.approx(2.0), "standard_error": pytest.approx(1 / math.sqrt(3))}


def test_totals_are_means_over_texts() -> None:
    exact = totals({"log_likelihood": [-1.0, -3.0]}, samples=500, tokens=4.0)
    assert exact == {
        "texts": 2,
        "nll_nats": 2.0,
        "nll_standard_error": pytest.approx(1.0),
        "tokens_per_text": 4.0,
        "perplexity_per_token": pytest.approx(math.exp(2 / 4)),
    }

    columns = {"elbo": [-2.0, -5.0], "standard_error": [0.3, 0.4], "khat": [0.1, math.nan]}
    columns |= {"log_likelihood": [-1.0, -3.0], "effective_samples": [10.0, 20.0]}
    sampled = totals(columns, samples=500, tokens=4.0)
    assert sampled["minus_elbo_nats"] == pytest.approx(3.5)
    assert sampled["monte_carlo_error"] == pytest.approx(0.25)
    assert sampled["khat_unreliable"] == 0.5


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Return training, validation and test texts."""
    lines = [" ".join(WORDS[i % 20] for i in range(start, start + 4)) for start in range(40)]
    names = []
    for name in ("train", "valid", "test"):
        (tmp_path / f"{name}.txt").write_text("\n".join(lines) + "\n")
        names.append(str(tmp_path / f"{name}.txt"))
    return names


def test_few_test_texts_are_the_first_of_all_in_one_order(files: list[str]) -> None:
    path = Path(files[2])
    texts = test_texts(path, 0)
    assert test_texts(path, 5) == texts[:5]
    assert sorted(texts) == sorted(path.read_text().splitlines())


@pytest.mark.parametrize(
    "arm", [pytest.param("univae", marks=pytest.mark.slow), "lm", "peer_bound"]
)
def test_an_arm_is_trained_scored_and_drawn(arm: str, files: list[str], tmp_path: Path) -> None:
    if ptb.ARMS[arm].needs:
        pytest.importorskip(ptb.ARMS[arm].needs)
    changes = [*SMALL, "minutes=0", "steps=4"]
    out = str(tmp_path / "runs")
    few = ["--texts", "6", "--samples", "25"]
    options = ptb.parse([*files, "--out", out, "--arms", arm, *few, "--set", *changes])
    job = ptb.training_job(options, arm, 0)
    job.train(job.config)
    trained = read_json(job.config.out / "DONE")

    scoring = ptb.scoring_job(options, job)
    scores = ptb_scores.score(scoring.config)
    assert scores["texts"] == 6
    assert 5 * math.log(10) < scores["nll_nats"] < 5 * math.log(40)  # five tokens of 21
    assert ("kl_sum_nats" in scores) == (arm != "lm")
    block = scoring.config.out / "00000.json"
    kept = read_json(block)
    kept["columns"]["log_likelihood"] = 6 * [-7.0]
    write_json(block, kept)
    assert ptb_scores.score(scoring.config)["nll_nats"] == 7.0  # not scored again

    result = run_result(job.config.out, trained, scores)
    assert result["steps"] == 4
    results = summary({job.name: result})
    row = markdown(results).splitlines()[2]
    assert f"{scores['nll_nats']:.2f} ± {scores['nll_standard_error']:.2f}" in row
    draw({job.name: result}, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_the_table_has_means_over_seeds_and_the_bars() -> None:
    run = {"nll_standard_error": 0.5, "kl_sum_nats": 4.0, "mutual_information_nats": 3.5}
    runs = {"univae-0": {**run, "nll_nats": 101.0}, "univae-1": {**run, "nll_nats": 103.0}}
    runs["univae-0"]["above_language_model"] = {"nats": 2.0, "standard_error": 0.25}
    runs["univae-1"]["above_language_model"] = {"nats": 3.0, "standard_error": 0.5}
    results = summary(runs)
    assert results["table"]["univae"]["nll_nats"]["mean"] == 102.0
    assert results["bars_met_by_univae"] == {
        "nll_nats": True,
        "kl_sum_nats": False,
        "mutual_information_nats": True,
    }
    lines = markdown(results).splitlines()
    assert lines[2].startswith("| UniVAE, Gaussian latents | 102.00 ± 0.50 | +2.50 ± 0.50 |")
    assert "101.46" in lines[3]
    assert {line.count("|") for line in lines} == {13}


def test_bad_options_are_refused_in_one_line(
    files: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ptb, "find_spec", lambda name: None)
    cases = [
        ([*files[:2], "missing.txt", "--arms", "lm"], "missing.txt: no such file"),
        ([*files, "--arms", "lm", "--set", "nope=1"], "--set takes OPTION=VALUE"),
        ([*files, "--arms", "peer"], "pip install x-transformers"),
    ]
    for argv, message in cases:
        with pytest.raises(SystemExit) as stopped:
            ptb.parse([*argv, "--out", "runs"])
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err.splitlines()[-1]


def test_settings_are_numbers_or_words(files: list[str]) -> None:
    argv = [*files, "--out", "runs", "--arms", "lm", "--set", "dropout=0.1", "fit=posterior"]
    options = ptb.parse(argv)
    assert options.set == {"dropout": 0.1, "fit": "posterior"}
    assert ptb.training_job(options, "lm", 1).config.model.dropout == 0.1
    assert ptb.training_job(options, "univae", 1).config.calibration.fit == "posterior"
