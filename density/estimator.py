"""A VAE of a table as an estimator of scikit-learn: fit, score_samples, sample, score."""

import copy
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeAlias, cast, runtime_checkable

import numpy as np
import sklearn.utils.validation as sklearn_validation
import torch
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils import check_random_state
from torch import Tensor
from torch.distributions import Distribution
from torch.quasirandom import SobolEngine

from density.estimation.noise_laws import StudentT, draws_from
from density.estimation.proposal import Draws
from density.estimation.proposals import SMALLEST_UNIFORM
from density.images.base import DataModel
from density.model import LatentModel
from density.scores import score
from univae.train import train_density

__all__ = ["DensityEstimator"]

Table: TypeAlias = Any  # what scikit-learn takes: an array, a list of lists, a DataFrame
RandomState: TypeAlias = Any  # None, a seed, or a RandomState of NumPy

SEEDS = 2**31 - 1
FEWEST_SPLIT = 40  # rows; of fewer all are used for training and for the choice of the best weights
VALIDATIONS = 5  # of which the best weights are kept
HELD_OUT = 0.1  # share of the rows that choose the best weights


@runtime_checkable
class TableRun(Protocol):
    """The run of a table model, as :class:`density.trained.TrainedDensity` is."""

    model: DataModel

    def to_model(self, data: np.ndarray) -> Tensor:
        """Return rows in the units of the model."""
        ...

    def sample(self, count: int, seed: int | None = None) -> np.ndarray:
        """Draw rows in the units of the data."""
        ...


class DensityEstimator(DensityMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """The density of the rows of a table of real numbers, by a VAE.

    The columns are standardised for training, and densities and samples are in the units of the
    data. Log-densities are importance-sampled estimates, in expectation lower bounds; the noise is
    the same for every row and every call, so that the density of a row does not depend on others.

    Args:
        latents: the number of latents.
        hidden: widths of the hidden layers, or the width of one.
        steps: optimizer steps.
        batch_size: rows in a step.
        learning_rate: the highest learning rate.
        samples: importance samples of the density of a row; more are more precise.
        random_state: seed of weights, batches and noise; None: another one at every fit.

    Attributes:
        n_features_in_: the number of columns.
        feature_names_in_: their names, where the table had names.
        run_: the trained run, whose folder is deleted; its ``model`` is a module.
    """

    def __init__(
        self,
        latents: int = 4,
        hidden: int | Sequence[int] = (64, 64),
        steps: int = 500,
        batch_size: int = 64,
        learning_rate: float = 5e-3,
        samples: int = 256,
        random_state: RandomState = None,
    ) -> None:
        self.latents = latents
        self.hidden = hidden
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.samples = samples
        self.random_state = random_state

    def fit(self, X: Table, y: object = None) -> "DensityEstimator":
        """Train on the rows X (N, columns); ``y`` is ignored.

        Raises:
            ValueError: X holds no numbers, or NaN, or fewer than 2 rows.
            univae.errors.InputError: a parameter is out of its range.
        """
        rows = _validated(self, X, reset=True)
        seed = int(check_random_state(self.random_state).randint(SEEDS))
        self._centre = rows.mean(0)
        deviation = rows.std(0)
        self._spread = np.where(deviation > 0, deviation, 1.0)
        standardised = (rows - self._centre) / self._spread
        options: dict[str, Any] = {"held_out": HELD_OUT}
        if len(rows) < FEWEST_SPLIT:
            options = {"validation": standardised}
        with tempfile.TemporaryDirectory() as folder:
            run = train_density(
                standardised,
                Path(folder) / "run",
                progress=False,
                report=False,
                latents=(self.latents,),
                hidden=tuple(np.atleast_1d(self.hidden).tolist()),
                likelihood="gaussian",
                binarisation="none",
                steps=self.steps,
                batch_size=min(self.batch_size, len(rows)),
                lr=self.learning_rate,
                seed=seed,
                checkpoint_every=0,
                validate_every=self.steps // VALIDATIONS,
                device="cpu",
                **options,
            )
            self.run_ = cast("TableRun", run)
            self.run_.to_model(standardised[:1])  # reads the units, before the folder is deleted
        self._model = copy.deepcopy(self.run_.model).double()
        self._noise_seed = seed
        return self

    def score_samples(self, X: Table) -> np.ndarray:
        """Return the log-density of every row in nats, (N,), in the units of the data."""
        sklearn_validation.check_is_fitted(self)
        rows = _validated(self, X, reset=False)
        x = self.run_.to_model((rows - self._centre) / self._spread).double()
        scores = score(self._model, x, self.samples, SameNoise(self._noise_seed))
        jacobian = float(np.log(self._spread).sum())
        log_densities: np.ndarray = scores.log_likelihood - jacobian
        return log_densities

    def score(self, X: Table, y: object = None) -> float:
        """Return the mean log-density of the rows in nats; ``y`` is ignored."""
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1, random_state: RandomState = None) -> np.ndarray:
        """Draw rows (n_samples, columns) in the units of the data."""
        sklearn_validation.check_is_fitted(self)
        seed = int(check_random_state(random_state).randint(SEEDS))
        rows = self.run_.sample(n_samples, seed=seed)
        in_units: np.ndarray = rows * self._spread + self._centre
        return in_units


@dataclass(frozen=True)
class SameNoise:
    """The posterior with Student tails, whose noise is the same evenly spread points for all data.

    The weights of a datum are unbiased, and do not depend on the other data of its batch.
    """

    seed: int
    replicates: ClassVar[int] = 1

    def draws(
        self, model: LatentModel, x: Tensor, q: Distribution, samples: int, chunk: int
    ) -> Draws:
        """Yield all ``samples`` draws a datum at once: they are few."""
        law = StudentT()
        width = q.event_shape.numel() + law.extra
        points = SobolEngine(width, scramble=True, seed=self.seed)
        uniforms = points.draw(samples, dtype=torch.float64)
        normals = torch.special.ndtri(uniforms.clamp(SMALLEST_UNIFORM, 1 - SMALLEST_UNIFORM))
        expanded = normals[:, None].expand(samples, *q.batch_shape, width)
        yield draws_from(law, expanded, q, q.sample().dtype)


def _validated(estimator: DensityEstimator, X: Table, *, reset: bool) -> np.ndarray:
    """Return the rows as float64, after scikit-learn's checks of names, shapes and values."""
    settings: dict[str, Any] = {"dtype": np.float64, "reset": reset}
    if reset:
        settings["ensure_min_samples"] = 2
    if hasattr(sklearn_validation, "validate_data"):  # since scikit-learn 1.6
        rows: np.ndarray = sklearn_validation.validate_data(estimator, X, **settings)
        return rows
    rows = estimator._validate_data(X, **settings)  # scikit-learn 1.4 and 1.5
    return np.asarray(rows)
