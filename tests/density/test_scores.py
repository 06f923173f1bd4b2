"""``density.score``: the same numbers as the command, and those of closed forms."""

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from golden import make
from pyro.infer.autoguide import AutoDiagonalNormal, AutoNormal
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, Normal

import density
import univae
from density.estimation.importance import log_mean_weight
from density.estimation.registry import PROPOSALS
from experiments import likelihood
from univae.errors import InputError

DATA = Path(__file__).parents[1] / "golden" / "data"


class LinearGaussian:
    """Model z ~ N(0, 1), x | z ~ N(z, 1) with a posterior that is exact, times ``widen``."""

    def __init__(self, widen: float = 1.0) -> None:
        self.widen = widen

    def prior(self) -> Distribution:
        return Normal(0.0, 1.0)

    def posterior(self, x: Tensor) -> Distribution:
        return Normal(x / 2, self.widen * math.sqrt(0.5))

    def likelihood(self, z: Tensor) -> Distribution:
        return Normal(z, 1.0)

    def evidence(self, x: Tensor) -> Tensor:
        return Normal(0.0, math.sqrt(2.0)).log_prob(x)


class Own(nn.Module):
    """A user's own model of whole numbers, with dropout."""

    def __init__(self, levels: int = 2) -> None:
        super().__init__()
        self.levels = levels
        self.encoder = nn.Sequential(nn.Linear(6, 4), nn.Dropout(0.5))
        self.decoder = nn.Linear(2, 6 * levels)

    def prior(self) -> Distribution:
        return Independent(Normal(torch.zeros(2).to(self.decoder.weight), 1.0), 1)

    def posterior(self, x: Tensor) -> Distribution:
        mean, log_scale = self.encoder(x).chunk(2, -1)
        return Independent(Normal(mean, log_scale.exp()), 1)

    def likelihood(self, z: Tensor) -> Distribution:
        table = self.decoder(z).unflatten(-1, (6, self.levels))
        if self.levels == 2:
            return Independent(Bernoulli(logits=table[..., 0]), 1)
        return Independent(Categorical(logits=table), 1)


# Runs: the function and the command.


@pytest.mark.parametrize(
    ("name", "file", "proposal"),
    [
        pytest.param("text", "texts.txt", "auto", marks=pytest.mark.slow),
        ("text", "texts.txt", "defensive"),
        ("table", "table.npy", "defensive"),
        ("images", "images.npy", "posterior"),
    ],
)
def test_the_function_and_the_command_give_the_same_numbers(
    name: str, file: str, proposal: str, tmp_path: Path
) -> None:
    torch.set_default_dtype(torch.float32)
    folder = make.copy_run(name, tmp_path)
    out = tmp_path / "scores.csv"
    result = likelihood.main(
        likelihood.Config(
            run=folder,
            data=str(DATA / file),
            out=out,
            limit=3,
            samples=24,
            seed=3,
            proposal=proposal,
            device="cpu",
        )
    )
    data: Any = np.load(DATA / file)[:3] if file.endswith("npy") else None
    if data is None:
        data = (DATA / file).read_text().splitlines()[:3]
    run = univae.load(folder, "cpu")
    state = torch.get_rng_state()
    scores = density.score(run, data, 24, proposal, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    with out.open() as file_:
        rows = list(csv.DictReader(file_))
    for column in ("log_likelihood_nats", "standard_error_nats", "elbo_nats", "khat"):
        expected = [float(row[column]) for row in rows]
        np.testing.assert_array_equal(scores.columns[column], expected)
    assert scores.mean == pytest.approx(result["log_likelihood_nats"])
    for rate, value in scores.rates.items():
        assert value == pytest.approx(result[rate])


def test_a_run_scores_as_the_function_does(tmp_path: Path) -> None:
    torch.set_default_dtype(torch.float32)
    run = univae.load(make.copy_run("text", tmp_path), "cpu")
    scores = run.score(["a cat"], 8, "posterior", seed=2)
    expected = density.score(run, ["a cat"], 8, "posterior", seed=2)
    np.testing.assert_array_equal(scores.log_likelihood, expected.log_likelihood)


def test_scores_are_in_the_order_of_the_texts(tmp_path: Path) -> None:
    torch.set_default_dtype(torch.float32)
    run = univae.load(make.copy_run("text", tmp_path), "cpu")
    texts = ["a cat sees the large blue dog", "a", "the small red fish likes no bird at all"] * 8
    whole = run.score(texts, 16, "posterior").log_likelihood
    order = np.argsort([len(text) for text in texts], kind="stable")
    lengths = np.array([len(text) for text in texts])[order]
    means = [-whole[order][lengths == length].mean() for length in np.unique(lengths)]
    assert means == sorted(means)
    assert (np.abs(whole - np.tile(whole[:3], 8)) < 3).all()


# Models.


@pytest.mark.parametrize("proposal", ["auto", "posterior", density.Widened()])
def test_a_known_evidence_is_found_within_the_stated_error(proposal: Any) -> None:
    model = LinearGaussian(1.3)
    x = 2 * torch.randn(250)
    scores = density.score(model, x, 200, proposal)
    error = np.abs(scores.log_likelihood - model.evidence(x).numpy())
    assert (error < 6 * scores.standard_errors + 1e-9).all()
    assert scores.count == len(scores) == 250
    assert scores.reliable is not None
    assert scores.reliable.mean() > 0.9
    assert scores.standard_error == pytest.approx(
        scores.log_likelihood.std(ddof=1) / math.sqrt(250)
    )


def test_the_exact_posterior_has_no_error_and_one_datum_has_that_of_its_estimate() -> None:
    x = torch.tensor([0.7])
    scores = density.score(LinearGaussian(), x, 40, "posterior")
    assert scores.mean == pytest.approx(float(LinearGaussian().evidence(x)))
    assert scores.standard_error == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("levels", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_an_own_torch_model_is_scored_and_compresses(levels: int) -> None:
    model = Own(levels)
    x = torch.randint(levels, (12, 6)).to(torch.get_default_dtype())
    model.train()
    scores = density.score(model, x, 40)
    assert model.training
    assert all(module.training for module in model.modules())
    from_array = density.score(model, x.numpy().astype(np.uint8), 40)
    np.testing.assert_array_equal(scores.log_likelihood, from_array.log_likelihood)
    content = density.compress(model, x)
    assert torch.equal(torch.as_tensor(density.decompress(model, content)), x)


class WithConstants(Own):
    """An own model with constants of the default dtype in its prior, and maybe in its decoder."""

    def __init__(self, scale: Tensor | None = None) -> None:
        super().__init__()
        self.scale = scale

    def prior(self) -> Distribution:
        return Independent(Normal(torch.zeros(2), torch.ones(2)), 1)

    def likelihood(self, z: Tensor) -> Distribution:
        if self.scale is not None:
            z = z @ self.scale
        return super().likelihood(z)


def test_a_prior_of_float32_constants_compresses_and_the_default_dtype_stays() -> None:
    torch.set_default_dtype(torch.float32)
    model = WithConstants()
    x = torch.randint(2, (12, 6))
    assert density.score(model, x.float(), 30).count == len(x)
    decoded = density.decompress(model, density.compress(model, x))
    assert torch.equal(torch.as_tensor(decoded), x)
    assert torch.get_default_dtype() == torch.float32


def test_a_constant_that_stays_float32_is_refused_with_the_way_out() -> None:
    torch.set_default_dtype(torch.float32)
    x = torch.randint(2, (12, 6))
    with pytest.raises(InputError, match=r"stays float32 .*new_zeros.*register_buffer") as caught:
        density.compress(WithConstants(torch.eye(2)), x)
    assert "\n" not in str(caught.value)


def test_log_likelihood_is_of_a_model_and_data_or_of_log_weights() -> None:
    model = LinearGaussian(1.2)
    x = torch.randn(9)
    estimate = density.log_likelihood(model, x, 4000, proposal="posterior")
    torch.testing.assert_close(estimate, model.evidence(x), atol=0.1, rtol=0)
    log_w = density.log_weights(model, x, 5).requires_grad_()
    of_weights = density.log_likelihood(log_w)
    torch.testing.assert_close(of_weights, log_mean_weight(log_w))
    of_weights.sum().backward()
    assert log_w.grad is not None
    with pytest.raises(InputError, match="takes log-weights alone, or a model and data"):
        density.log_likelihood(log_w, x)  # type: ignore[call-overload]


def test_without_a_seed_the_global_generator_draws() -> None:
    x = torch.randn(4)
    torch.manual_seed(5)
    first = density.score(LinearGaussian(1.5), x, 30, seed=None).log_likelihood
    second = density.score(LinearGaussian(1.5), x, 30, seed=None).log_likelihood
    torch.manual_seed(5)
    again = density.score(LinearGaussian(1.5), x, 30, seed=None).log_likelihood
    assert (first != second).any()
    np.testing.assert_array_equal(first, again)


def test_whole_numbers_are_scored_as_floats_by_a_model_that_takes_no_others() -> None:
    x = torch.randint(2, (12, 6))
    scores = density.score(Own(), x, 30, "posterior")
    assert scores.count == len(x)
    torch.manual_seed(0)
    torch.randint(2, (12, 6))
    model = Own()
    from_floats = density.score(model, x.to(torch.get_default_dtype()), 30, "posterior")
    from_whole = density.score(model, x, 30, "posterior")
    np.testing.assert_array_equal(from_whole.log_likelihood, from_floats.log_likelihood)


def test_a_datum_that_is_not_in_a_batch_is_refused_with_the_way_out() -> None:
    x = torch.randint(2, (12, 6)).to(torch.get_default_dtype())
    with pytest.raises(InputError, match=r"shape \(6,\) must have batch shape .*x\[None\]"):
        density.score(Own(), x[0], 30)
    with pytest.raises(InputError, match=r"does not take data of shape \(12, 5\)"):
        density.score(Own(), x[:, :5], 30)
    assert density.score(Own(), x[0][None], 30).count == 1


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": "posterior"}, "samples must be a whole number of at least 1; got"),
        ({"samples": 2.5}, r"samples must be a whole number of at least 1; got samples=2.5"),
        ({"samples": 0}, "samples must be at least 1; got samples=0"),
        ({"proposal": 3}, "proposal must be a name, .*; got int 3"),
    ],
)
def test_an_argument_of_another_type_is_named(options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        density.score(LinearGaussian(), torch.zeros(3), **options)


@pytest.mark.parametrize("kind", ["list", "frame"])
def test_lists_and_frames_compress_as_their_arrays(kind: str) -> None:
    rows = np.random.default_rng(0).integers(2, size=(9, 6))
    data: Any = rows.tolist()
    if kind == "frame":
        data = pytest.importorskip("pandas").DataFrame(rows)
    model = Own()
    content = density.compress(model, data)
    assert content == density.compress(model, rows)
    np.testing.assert_array_equal(density.decompress(model, content), rows)


@pytest.mark.parametrize("data", [["a", "b"], [[0, 1], [1]], 3])
def test_what_is_no_array_of_numbers_is_not_compressed(data: Any) -> None:
    with pytest.raises(InputError, match=r"^compress: data must "):
        density.compress(Own(), data)


def test_a_file_of_scores_needs_its_folder(tmp_path: Path) -> None:
    scores = density.score(LinearGaussian(), torch.zeros(3), 30)
    with pytest.raises(InputError, match=r"^to_csv: .*nowhere is no folder .*; create it first"):
        scores.to_csv(tmp_path / "nowhere" / "s.csv")
    assert list(tmp_path.iterdir()) == []


# Pyro.


def conjugate(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x[:, 0])


def test_an_automatic_guide_is_scored_beside_all_of_its_data() -> None:
    x = torch.randn(130, 1)  # more than a batch
    guide = AutoNormal(conjugate, init_scale=0.7)
    guide(x)
    scores = density.score(density.from_pyro(conjugate, guide), x, 500)
    truth = Normal(0.0, math.sqrt(2.0)).log_prob(x[:, 0]).numpy()
    assert (np.abs(scores.log_likelihood - truth) < 5 * scores.standard_errors).all()
    assert scores.proposal == "Defensive"


def test_a_joint_guide_and_a_bare_program_are_refused() -> None:
    x = torch.randn(3, 1)
    guide = AutoDiagonalNormal(conjugate)
    with pytest.raises(InputError, match="use AutoNormal"):
        density.score(density.from_pyro(conjugate, guide), x)
    with pytest.raises(InputError, match=r"density.from_pyro\(model, guide\)"):
        density.score(conjugate, x)


# What is refused.


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (torch.randn(2), {"samples": 0}, "samples must be at least 1"),
        (torch.randn(0), {}, "at least one datum"),
        (["a"], {}, "an array of numbers"),
        (3.0, {}, "a row for each datum"),
        (torch.randn(2), {"proposal": "best"}, "proposal must be one of .*auto"),
    ],
)
def test_bad_input_is_refused_in_one_line(data: Any, options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        density.score(LinearGaussian(), data, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "message"), [("gan_table", "no likelihood"), ("similar", "no likelihood")]
)
def test_a_run_without_a_likelihood_says_which_runs_have_one(
    name: str, message: str, tmp_path: Path
) -> None:
    run = univae.load(make.copy_run(name, tmp_path), "cpu")
    with pytest.raises(InputError, match=f"{message}.*train-text, train-density"):
        density.score(run, ["a text"])


def test_a_sphere_has_no_widened_proposal(tmp_path: Path) -> None:
    torch.set_default_dtype(torch.float32)
    run = univae.load(make.copy_run("text_vmf", tmp_path), "cpu")
    assert np.isfinite(run.score("a cat", 21, "defensive").mean)
    for name, row in PROPOSALS.items():
        if "width" in row.settings:
            with pytest.raises(InputError, match=r"needs latents on all of R\^d"):
                run.score("a cat", 4, name)


# Tables and files.


def test_a_frame_keeps_the_index_of_its_data(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    index = ["x", "y", "z"]
    frame = pandas.DataFrame({"a": [0.0, 1.0, 2.0]}, index=index)

    class Column(LinearGaussian):
        def posterior(self, x: Tensor) -> Distribution:
            return super().posterior(x[:, 0])

        def likelihood(self, z: Tensor) -> Distribution:
            return Independent(Normal(z[..., None], 1.0), 1)

    scores = density.score(Column(1.2), frame, 30)
    table = scores.to_pandas()
    assert list(table.index) == index
    np.testing.assert_array_equal(table["log_likelihood_nats"], scores.log_likelihood)
    scores.to_csv(tmp_path / "scores.csv")
    read = pandas.read_csv(tmp_path / "scores.csv", index_col="index")
    np.testing.assert_array_equal(read["elbo_nats"], scores.elbo)
    assert list(read.index) == index


def test_few_samples_have_no_khat_and_the_table_says_so() -> None:
    scores = density.score(LinearGaussian(), torch.zeros(2), 5, "posterior")
    assert scores.khat is None
    assert scores.reliable is None
    assert "khat" not in scores.columns
    assert any("21 samples" in note for note in scores.notes)


def test_a_datum_without_probability_is_noted() -> None:
    class Impossible(LinearGaussian):
        def likelihood(self, z: Tensor) -> Distribution:
            return torch.distributions.Uniform(z - 1, z + 1, validate_args=False)

    scores = density.score(Impossible(), torch.tensor([0.0, 90.0]), 30, "posterior")
    assert scores.mean == -math.inf
    assert any("no finite log-likelihood (the first is datum 1" in note for note in scores.notes)


def test_scores_print_as_a_small_aligned_table(tmp_path: Path) -> None:
    torch.set_default_dtype(torch.float32)
    run = univae.load(make.copy_run("text", tmp_path), "cpu")
    lines = repr(run.score(["a cat", "the dog"], 24)).splitlines()
    assert lines[0] == "Scores of 2 texts, proposal auto"
    assert lines[1].split()[0] == "log-likelihood"
    assert lines[1].endswith("nats/text")
    assert any(line.split()[:3] == ["bits", "per", "token"] for line in lines)
    assert max(map(len, lines)) <= 80
    assert set(run.score("a", 24).bits) == {"bits_per_token", "bits_per_char"}


@pytest.mark.parametrize("count", [1, 1000])
def test_estimates_print_in_one_line(count: int) -> None:
    x = torch.randn(count)
    model = LinearGaussian(1.2)
    results = [
        density.estimate(model, x, 30),
        density.estimate_auto(model, x[:3], samples=30),
        density.estimate_until(model, x, 1.0, start=30, limit=60),
        density.annealed(model, x, 2, 2),
        density.sandwich(model, count, 2, 2),
    ]
    for result in results:
        text = repr(result)
        assert text.startswith(type(result).__name__)
        assert "\n" not in text
        assert "tensor" not in text
        assert len(text) < 200
