"""Image and table models from the command line: trained, resumed, shown, and refused with one line."""

import csv
import json
import math
import os
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_commands import refused
from torch.distributions import kl_divergence

import density
from density.images.ladder import LadderVAE
from density.images.mlp import MLPVAE
from density.images.registry import build
from density.likelihoods.head import Pixels
from density.trained import TrainedDensity
from experiments import demo, likelihood, train_density
from experiments.cli.options import parse, stored
from experiments.data.readers import read
from experiments.evaluation.bounds import layered_bound
from experiments.images.config import ImageShape, model_config
from experiments.images.run import fit_to
from experiments.images.task import DensityTask, ImageObjective, measure_images
from experiments.reports.image_grid import grid
from experiments.training.stopping import Interrupted
from experiments.training.task import Progress, reseed
from univae.errors import InputError
from univae.latent.hierarchy import Hierarchical

COMMON: dict[str, Any] = {
    "steps": 6,
    "batch_size": 20,
    "validation_data": 20,
    "validation_samples": 4,
    "threads": 1,
}


def config(out: Path, data: str = "digits", **options: Any) -> train_density.Config:
    small = {"latents": (3,), "hidden": (16,), "hidden_above": (8,), "width": 8}
    return train_density.Config.of(data=data, out=out, **COMMON | small | options)


@pytest.fixture(autouse=True)
def _single_precision() -> None:
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    ("data", "options"),
    [
        ("digits", {"binarisation": "dynamic"}),
        pytest.param(
            "digits",
            {"latents": (4, 2), "binarisation": "static", "objective": "dreg", "k": 3},
            marks=pytest.mark.slow,
        ),
        ("digits", {"model": "conv", "components": 3, "annealing": "linear", "free_bits": 0.1}),
        pytest.param(
            "digits",
            {"model": "attention", "heads": 2, "likelihood": "categorical", "objective": "stl"},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "digits",
            {
                "model": "ladder",
                "latents": (1,),
                "objective": "multiply-iwae",
                "groups": 2,
                "k": 2,
            },
            marks=pytest.mark.slow,
        ),
        ("digits", {"binarisation": "static", "reach": 2, "context": 6}),
        ("wine", {"objective": "ciwae", "k": 4, "activation": "relu"}),
        pytest.param("iris", {"objective": "iwae", "k": 4}, marks=pytest.mark.slow),
    ],
)
def test_every_model_trains_reopens_and_tells_its_likelihood(
    tmp_path: Path, data: str, options: dict
) -> None:
    result = train_density.main(config(tmp_path / "run", data, **options))
    assert math.isfinite(result["validation_nll_nats"])
    dims = math.prod(read(data).shape)
    assert result["bits_per_dim"] == pytest.approx(
        result["validation_nll_nats"] / dims / math.log(2)
    )
    assert len(result["kl_nats"]) == len(options.get("latents", (3,)))
    assert result["elbo_nats"] == pytest.approx(
        -result["reconstruction_nats"] - sum(result["kl_nats"]), rel=1e-4
    )
    opened = TrainedDensity.open(tmp_path / "run", "cpu")
    held_out = train_density.held_out_data(config(tmp_path / "run", data, **options))
    reseed(0, "validation")
    again = measure_images(opened.model, held_out, COMMON["validation_samples"])
    assert again["nll_nats"] == pytest.approx(result["validation_nll_nats"], rel=1e-5)
    page = (tmp_path / "run" / "report.html").read_text()
    assert ("Draws from the prior" in page) == (data == "digits")


def test_training_lowers_the_bound_and_resumes_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"binarisation": "dynamic", "steps": 60, "lr": 1e-2, "validate_every": 30}
    whole = train_density.train(config(tmp_path / "whole", **options))
    first, *_, last = (
        row["nll_nats"] for row in TrainedDensity.open(tmp_path / "whole").folder.rows("validation")
    )
    assert last < first < 64 * math.log(2)
    load = DensityTask.load
    loaded: list[int] = []

    def load_and_stop(task: DensityTask, item: np.ndarray) -> torch.Tensor:
        loaded.append(len(item))
        if len(loaded) == 17:
            os.kill(os.getpid(), signal.SIGTERM)
        return load(task, item)

    monkeypatch.setattr(DensityTask, "load", load_and_stop)
    settings = config(tmp_path / "parts", **options)
    with pytest.raises(Interrupted, match="after step 17"):
        train_density.train(settings)
    resumed = train_density.train(settings.change(resume=True))
    paths = [
        tmp_path / run / "checkpoints" / "last" / "model.safetensors" for run in ("whole", "parts")
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert {**resumed, "seconds": 0} == {**whole, "seconds": 0}


@pytest.mark.slow
def test_the_older_name_of_an_objective_trains_opens_and_resumes_alike(tmp_path: Path) -> None:
    weights = []
    for name in ("multiply-iwae", "miwae"):
        out = tmp_path / name
        argv = ["--data", "digits", "--out", str(out), "--objective", name, "--groups", "2"]
        argv += ["--steps", "4", "--batch-size", "20", "--threads", "1", "--validation-data", "20"]
        train_density.train(parse(train_density.Config, argv, train_density.PRESETS, ""))
        assert json.loads((out / "config.json").read_text())["objective"] == name
        opened = stored(train_density.Config, TrainedDensity.open(out).folder)
        assert opened.objective.objective == name
        resumed = parse(train_density.Config, [*argv, "--resume"], train_density.PRESETS, "")
        train_density.train(resumed)
        weights.append((out / "checkpoints" / "last" / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_the_layered_bound_sums_to_the_elbo_of_the_joint() -> None:
    torch.manual_seed(0)
    shape = ImageShape(latents=(4, 2), hidden=(16,), hidden_above=(8,))
    model = build(model_config(shape, read("digits"), binary=True)).eval()
    x = torch.bernoulli(torch.full((5, 1, 8, 8), 0.3))
    assert isinstance(model.posterior(x), Hierarchical)
    torch.manual_seed(1)
    log_p, kl = layered_bound(model, x, 7)
    torch.manual_seed(1)
    joint = density.elbo(model, x, 7)
    assert kl.shape == (5, 2)
    torch.testing.assert_close((log_p - kl.sum(-1)).double(), joint, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layers", [1, 2])
def test_the_analytic_divergence_is_the_mean_of_the_sampled_one_summed_over_layers(
    layers: int,
) -> None:  # D14
    torch.set_default_dtype(torch.float64)
    one = MLPVAE(Pixels((1, 4, 4)), (3,), ((8,),))
    model = one if layers == 1 else LadderVAE(Pixels((1, 16, 8)), (1, 2), width=4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    x = torch.randint(2, (4, *model.output.pixels.shape)).double()
    draws = 400
    q = model.posterior(x)
    p = model.prior()
    z = q.sample((draws,))
    sampled = q.log_prob(z) - p.log_prob(z)
    if isinstance(q, Hierarchical) and isinstance(p, Hierarchical):  # both from the top down
        pairs = zip(q.conditionals(z), p.conditionals(z), strict=True)
        analytic = torch.stack([kl_divergence(a, b) for a, b in pairs]).sum(0)
    else:
        analytic = kl_divergence(q, p.expand((4,))).expand(draws, -1)
    difference = analytic - sampled
    error = difference.std(0) / math.sqrt(draws)
    assert analytic.mean() > 0.01
    # eight comparisons: fails once in two thousand seeds
    assert (difference.mean(0).abs() < 4 * error).all()


def test_dynamic_binarisation_draws_anew_and_training_grey_stays_grey() -> None:
    data = read("digits")
    rows = np.arange(50)
    model = build(model_config(ImageShape(latents=(2,)), data, binary=True))
    task = DensityTask(
        model,
        ImageObjective(binarisation="dynamic", batch_size=50),
        0,
        (data, rows),
        torch.zeros(2),
    )
    (batch,) = task.batches(0)
    draws = torch.stack([task.load(batch) for _ in range(400)])
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    grey = data.batch(batch) / 16
    # 3200 pixels at five standard errors
    assert (draws.mean(0) - grey).abs().max() < 5 * 0.5 / math.sqrt(400)
    assert sorted(batch) == list(rows)
    assert not np.array_equal(task.batches(0)[0], task.batches(1)[0])
    grey_task = DensityTask(model, ImageObjective(batch_size=50), 0, (data, rows), torch.zeros(2))
    assert torch.equal(grey_task.load(batch), data.batch(batch))


def test_annealing_and_free_bits_weigh_the_kl() -> None:
    data = read("digits")
    rows = np.arange(40)
    model = build(model_config(ImageShape(latents=(3,)), data, binary=True))
    x = torch.bernoulli(torch.full((40, 1, 8, 8), 0.5))
    losses = {}
    for name, options, fraction in (
        ("plain", {}, 0.0),
        ("none of it", {"annealing": "linear", "anneal_warmup": 0.5}, 0.0),
        ("half", {"annealing": "linear", "anneal_warmup": 0.5}, 0.25),
        ("free", {"free_bits": 1e3}, 0.0),
        ("weighted", {"kl_weight": 4.0, "annealing": "linear", "anneal_warmup": 0.5}, 0.25),
        ("weighted and free", {"kl_weight": 0.5, "free_bits": 1e3}, 0.0),
    ):
        task = DensityTask(model, ImageObjective(batch_size=40, **options), 0, (data, rows), x)
        torch.manual_seed(0)
        loss, logged = task.loss(x, Progress(0, fraction))
        losses[name] = loss.item()
    reconstruction = logged["reconstruction_nats"].item()
    kl = logged["kl_nats"].item()
    assert losses["plain"] == pytest.approx(reconstruction + kl, rel=1e-5)
    assert losses["none of it"] == pytest.approx(reconstruction, rel=1e-5)
    assert losses["half"] == pytest.approx(reconstruction + 0.5 * kl, rel=1e-5)
    assert losses["free"] == pytest.approx(reconstruction + 1e3 * 40, rel=1e-5)
    assert losses["weighted"] == pytest.approx(reconstruction + 0.5 * 4 * kl, rel=1e-5)
    free = reconstruction + 0.5 * 1e3 * 40
    assert losses["weighted and free"] == pytest.approx(free, rel=1e-5)


def test_a_cut_validation_is_that_of_the_first_rows() -> None:
    data = read("digits")
    model = build(model_config(ImageShape(latents=(3,)), data, binary=False)).eval()
    held_out = data.batch(np.arange(20))
    objective = ImageObjective(validation_samples=2)
    found = []
    for rows in (20, 12):
        task = DensityTask(model, objective, 0, (data, np.arange(40)), held_out[:rows])
        assert (task.validation_rows, task.fewest_rows) == (rows, 4)
        torch.manual_seed(0)
        found.append(task.validate_rows(Progress(0, 0.0), 12))
    assert found[0] == found[1]
    assert found[0]["data"] == 12
    task.held_out = held_out[:3]
    assert task.fewest_rows == 3


def test_a_weight_of_the_kl_is_noted_in_the_result_and_the_bound_has_none(tmp_path: Path) -> None:
    result = train_density.train(config(tmp_path / "run", kl_weight=0.25, steps=1))
    (note,) = result["notes"]
    assert note.startswith("--kl-weight 0.25 weighs the KL in training only; validations")
    bound = -result["reconstruction_nats"] - sum(result["kl_nats"])
    assert result["elbo_nats"] == pytest.approx(bound)
    with pytest.raises(InputError, match="kl_weight must be 1 unless the objective is elbo"):
        config(tmp_path / "other", kl_weight=0.25, objective="iwae")


def test_a_grid_puts_pictures_side_by_side() -> None:
    images = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 1, 20, 20)
    page = grid(images, levels=3, columns=2)
    assert page.shape == (2 * (40 + 2), 2 * (40 + 2), 1)
    assert [page[20, 20, 0], page[20, 60, 0], page[60, 20, 0], page[60, 60, 0]] == [0, 128, 255, 0]
    assert page[0, 0, 0] == 128  # the line between pictures


def test_the_pictures_on_the_page_are_those_of_the_run(tmp_path: Path) -> None:
    train_density.main(config(tmp_path / "run", validation_data=18))
    described = json.loads((tmp_path / "run" / "samples" / "reconstructions.json").read_text())
    with Image.open(tmp_path / "run" / "samples" / described["file"]) as picture:
        # one row of 16 data, and its reconstructions below
        assert picture.size == (16 * 42, 2 * 42)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "vae"}, "objective must be elbo, iwae"),
        ({"k": 0}, "k must be at least 1; got k=0"),
        ({"groups": 2}, "groups must be 1 unless multiply-iwae or miwae; got groups=2"),
        ({"beta": 2.0}, "beta must be in"),
        (
            {"objective": "iwae", "annealing": "linear"},
            "annealing must be none unless the objective is elbo",
        ),
        ({"objective": "iwae", "free_bits": 1.0}, "free_bits must be 0 unless elbo"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"validation_data": 1}, "validation_data must be at least 2"),
        ({"validation_samples": 0}, "validation_samples must be at least 1"),
    ],
)
def test_an_objective_that_does_not_fit_is_refused(
    options: dict[str, Any], message: str, unchecked: None
) -> None:
    with pytest.raises(InputError, match=message):
        ImageObjective(**options)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ("nowhere.npy", (), "nowhere.npy is no file, folder or built-in set"),
        (
            "digits",
            ("--likelihood", "bernoulli"),
            "likelihood=bernoulli needs zeros and ones; digits has others",
        ),
        (
            "wine",
            ("--likelihood", "logistic"),
            "likelihood=logistic needs whole numbers; wine has real ones",
        ),
        (
            "wine",
            ("--binarisation", "dynamic"),
            "needs grey levels; wine has real numbers; give --binarisation none",
        ),
        ("wine", ("--model", "conv"), r"ConvVAE: data must be \(channels, height, width\)"),
        (
            "digits",
            ("--model", "univae", "--latents", "3", "--reach", "2", "--binarisation", "static"),
            "got reach=2",
        ),
        ("wine", ("--reach", "2"), "reach must be 0, or more for images"),
        (
            "digits",
            ("--model", "conv", "--latents", "3", "4"),
            r"model=conv has one latent; got latents=\(3, 4\)",
        ),
        (
            "digits",
            ("--model", "univae", "--objective", "stl", "--k", "2"),
            "use the objective iwae or",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    data: str,
    options: tuple[str, ...],
    message: str,
    unchecked: None,
) -> None:
    said = refused(capsys, "train-density", "--data", data, "--out", tmp_path / "run", *options)
    assert re.search(message, said), said
    assert not (tmp_path / "run").exists()


def test_a_run_of_another_kind_or_shape_is_refused(tmp_path: Path) -> None:
    train_density.train(config(tmp_path / "run", binarisation="static"))
    opened = TrainedDensity.open(tmp_path / "run")
    assert fit_to(opened, read("digits")).levels == 2
    with pytest.raises(
        InputError, match=r"wine: a datum is \(13,\), the model of .* takes \(1, 8, 8\)"
    ):
        fit_to(opened, read("wine"))
    (tmp_path / "run" / "config.json").write_text(json.dumps({"command": "train-text"}))
    with pytest.raises(InputError, match="is not the run of an image or table model"):
        TrainedDensity.open(tmp_path / "run")


def test_likelihood_scores_every_image_and_says_what_its_bits_mean(tmp_path: Path) -> None:
    train_density.train(config(tmp_path / "run", binarisation="dynamic"))
    out = tmp_path / "scores.csv"
    options = {"run": tmp_path / "run", "data": "digits", "limit": 130}
    found = likelihood.main(likelihood.Config(**options, samples=21, proposal="posterior", out=out))
    with out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["index"]) for row in rows] == list(range(130)) == list(range(found["count"]))
    values = [float(row["log_likelihood_nats"]) for row in rows]
    assert found["log_likelihood_nats"] == pytest.approx(sum(values) / 130)
    assert found["bits_per_dim"] == pytest.approx(-sum(values) / 130 / 64 / math.log(2))
    assert "P the probability of the levels" in found["convention"]
    page = Path(found["report"]).read_text(encoding="utf-8")
    assert (
        "Log-likelihood of digits, static binarisation, 21 importance samples (posterior)" in page
    )
    assert "The least likely of digits, static binarisation, the lowest first" in page
    shown = json.loads((tmp_path / "run" / "samples" / "likelihood.json").read_text())
    assert shown["log_likelihood"] == pytest.approx(values)
    assert shown["ladder"]["samples"] == [1, 2, 4, 8, 16, 21]
    assert shown["ladder"]["nats"][-1] == pytest.approx(found["log_likelihood_nats"])
    assert shown["ladder"]["nats"][0] == pytest.approx(found["elbo_nats"])
    threshold = 1 - 1 / math.log10(21)
    unreliable = sum(not float(row["khat"]) <= threshold for row in rows)
    assert found["khat_threshold"] == pytest.approx(threshold)
    assert found["khat_unreliable"] == unreliable / 130
    assert shown["note"].startswith(
        f"{unreliable} of 130 data have a k-hat above {threshold:.2f}, the limit"
    )
    spread = torch.tensor(values).std() / math.sqrt(130)
    assert found["standard_error_over_data_nats"] == pytest.approx(spread.item(), rel=1e-4)


@pytest.mark.slow
def test_every_proposal_scores_images_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_density.train(config(tmp_path / "run", binarisation="dynamic"))
    options = {"run": tmp_path / "run", "data": "digits", "limit": 130}
    # pages are slow to draw
    monkeypatch.setattr("experiments.reports.page.write", lambda path: path)
    exact = likelihood.main(likelihood.Config(**options, samples=200, proposal="posterior"))
    for name in ("widened", "student", "sobol", "defensive", "refined", "auto"):
        other = likelihood.main(likelihood.Config(**options, samples=200, proposal=name))
        error = math.hypot(other["standard_error_nats"], exact["standard_error_nats"])
        assert abs(other["log_likelihood_nats"] - exact["log_likelihood_nats"]) < 5 * error


def test_a_proposal_that_does_not_exist_is_refused(tmp_path: Path, unchecked: None) -> None:
    with pytest.raises(
        InputError, match=r"proposal must be posterior, widened, student.*got proposal=other"
    ):
        likelihood.Config(run=tmp_path, data="digits", proposal="other")


@pytest.mark.slow
def test_the_demo_scores_digits_it_did_not_train_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = demo.Config(out=tmp_path, image_minutes=0.05, image_samples=16, threads=1)
    found = demo.score_digits(options)
    held_out = np.load(tmp_path / "digits" / "held_out.npy")
    assert found["count"] == len(held_out) == 180
    assert set(np.unique(held_out)) == {0, 1}
    assert -64 * math.log(2) < found["log_likelihood_nats"] < 0
    said = capsys.readouterr().err
    assert "k-hat is undefined below 21 samples" in said
    assert found["khat_unreliable"] is None
    assert "held-out digits as a file, restored exactly" in said
    files = found["files"]
    assert files["bytes_out"] == (tmp_path / "digits" / "held_out.bits").stat().st_size
    assert files["ideal_bits"] / 8 < files["bytes_out"] < files["archivers"]["png"]
    assert "Log-likelihood of held_out" in (tmp_path / "digits" / "report.html").read_text()
