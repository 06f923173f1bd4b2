"""Bounds of simulated data hold the truth, and texts that were cut are an outcome of their own."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from golden import make
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from density import LatentModel
from experiments import likelihood
from experiments.evaluation.annealing import Annealing
from experiments.evaluation.scorer import ScoringTask
from experiments.evaluation.simulated import Simulation
from experiments.text.scorer import TextScorer
from univae.text.special import END, PAD
from univae.vae.model import UniVAE, UniVAEConfig


class Linear:
    """z ~ N(0, 1), x | z ~ N(z, 1), with a posterior that is too wide."""

    def prior(self) -> Distribution:
        return Independent(Normal(torch.zeros(1), 1.0), 1)

    def posterior(self, x: Tensor) -> Distribution:
        return Independent(Normal(x / 2, 1.5 * math.sqrt(0.5)), 1)

    def likelihood(self, z: Tensor) -> Distribution:
        return Independent(Normal(z, 1.0), 1)


@dataclass
class LinearScorer:
    """A scorer of :class:`Linear`, which records the data that were simulated."""

    model: LatentModel = field(default_factory=Linear)
    simulated: list[Tensor] = field(default_factory=list)
    cut: int = 0
    folder: Any = None
    columns: tuple[str, ...] = ()
    table: Any = None

    def rows_at_once(self, latents: int) -> int:
        return 160 // latents

    def count_cut(self, x: Tensor) -> int:
        self.simulated.append(x)
        return self.cut

    def rows(self) -> Iterator[Any]:
        yield from ()

    def rates(self, rows: Sequence[Any], log_likelihood: float) -> dict[str, Any]:
        return {}

    def notes(self, rows: Sequence[Any], result: Any) -> list[str]:
        return []

    def write_worst(self, rows: Sequence[Any]) -> None: ...


def test_the_bounds_hold_the_likelihood_of_the_data_that_were_drawn() -> None:
    scorer = LinearScorer(cut=2)
    simulation = Simulation(100, 10, 4, "posterior")
    result = simulation.bounds(scorer)
    assert [len(x) for x in scorer.simulated] == [20] * 5  # 160 latents, 8 a datum
    x = torch.cat(scorer.simulated)
    truth = Normal(0.0, math.sqrt(2.0)).log_prob(x).mean().item()
    error = result["gap_standard_error_nats"]
    assert result["lower_nats"] < truth + 5 * error
    assert result["upper_nats"] > truth - 5 * error
    assert result["gap_nats"] == pytest.approx(result["upper_nats"] - result["lower_nats"])
    assert 0 < error < result["lower_standard_error_nats"]
    # log p(x) of x ~ p has the variance 1 / 2
    spread = math.sqrt(0.5 / 100)
    assert result["lower_standard_error_nats"] == pytest.approx(spread, rel=0.4)
    assert (result["count"], result["cut"]) == (100, 10)
    assert simulation.notes(result | {"cut": 0}) == []


def test_one_datum_has_no_error_and_says_so() -> None:
    simulation = Simulation(1, 5, 4, "prior")
    result = simulation.bounds(LinearScorer())
    assert result["lower_standard_error_nats"] is None
    assert result["lower_nats"] is not None
    (note,) = simulation.notes(result)
    assert note.endswith("are null: one datum has no spread")
    assert "gap_standard_error_nats" in note


def test_texts_that_end_and_texts_that_were_cut_are_all_outcomes() -> None:
    length = 3
    config = UniVAEConfig(
        vocab_size=5, width=8, heads=2, layers=1, latent_layers=1, latent_width=2, max_length=length
    )
    model = UniVAE(config).eval()
    words = (3, 4)
    outcomes = []
    for count in range(length):
        for text in itertools.product(words, repeat=count):
            outcomes.append([*text, END, *[PAD] * (length - count - 1)])
    cut = [list(text) for text in itertools.product(words, repeat=length)]
    z = model.prior().sample()
    with torch.no_grad():
        log_p = model.likelihood(z.unsqueeze(0)).log_prob(torch.tensor(outcomes + cut))
    assert log_p.exp().sum() == pytest.approx(1.0)

    draws = 4000
    with torch.no_grad():
        texts = model.likelihood(z.expand(draws, *z.shape)).sample()
    share = (texts != END).all(1).double().mean()
    expected = log_p[len(outcomes) :].exp().sum()
    error = (expected * (1 - expected) / draws).sqrt()
    assert abs(share - expected) < 5 * error


def test_texts_that_were_cut_are_counted_and_noted(tmp_path: Path) -> None:
    torch.set_default_dtype(torch.float32)
    folder = make.copy_run("text", tmp_path)
    data = Path(make.__file__).parent / "data" / "texts.txt"
    task = ScoringTask(folder, "cpu", str(data), 2, Annealing(2, 2, "prior"))
    scorer = TextScorer(task)
    ids = torch.tensor([[5, 6, END, PAD], [5, 6, 7, 8], [END, PAD, PAD, PAD]])
    assert scorer.count_cut(ids) == 1

    assert Simulation(3, 4, 2, "prior").notes({"cut": 2}) == [
        "sandwich: 2 of 3 simulated texts have max_length tokens and no end; "
        "their bounds are of the probability that a text begins so"
    ]


@pytest.mark.slow
def test_the_data_are_scored_alike_with_and_without_a_sandwich(tmp_path: Path) -> None:
    torch.set_default_dtype(torch.float32)
    folder = make.copy_run("images", tmp_path)
    data = str(Path(make.__file__).parent / "data" / "images.npy")
    options: dict[str, Any] = {"run": folder, "data": data, "limit": 4, "samples": 30}
    plain = likelihood.main(likelihood.Config(**options))
    bounded = likelihood.main(likelihood.Config(**options, sandwich=6, annealing_steps=4, chains=2))
    bounds = bounded.pop("sandwich")
    assert {**bounded, "report": ""} == {**plain, "report": ""}
    assert bounds["cut"] == 0
    assert bounds["gap_nats"] > -5 * bounds["gap_standard_error_nats"]


@pytest.mark.slow
def test_a_run_of_texts_has_its_bounds_and_says_how_many_were_cut(tmp_path: Path) -> None:
    torch.set_default_dtype(torch.float32)
    folder = make.copy_run("text", tmp_path)
    data = str(Path(make.__file__).parent / "data" / "texts.txt")
    config = likelihood.Config(
        run=folder, data=data, limit=2, samples=2, sandwich=3, annealing_steps=4, chains=2
    )
    result = likelihood.main(config)
    bounds = result["sandwich"]
    assert bounds["count"] == 3
    assert math.isfinite(bounds["gap_nats"])
    notes = [note for note in result.get("notes", []) if note.startswith("sandwich: ")]
    assert bool(notes) == bool(bounds["cut"])
