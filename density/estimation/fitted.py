r"""The proposal that a pilot has fitted to a batch of data.

.. math:: (1 - \alpha)\, r_x(z) + \alpha\, p(z)

Of each datum r is its moved posterior, with Gaussian or Student tails.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float64, Int
from torch import Size, Tensor
from torch.distributions import Distribution

from density.estimation.moved import moved_alike
from density.estimation.noise_laws import StudentT
from density.estimation.pilot import DEGREES
from density.estimation.proposal import Draws, chunk_sizes
from density.estimation.streams import own_draws
from density.model import LatentModel
from univae.errors import InputError
from univae.latent.sampling import from_noise, to_noise

__all__ = ["Fitted"]

TAILS = StudentT(DEGREES)


@dataclass(frozen=True)
class Fitted:
    """The mixture of moved posteriors and prior for the data ``x``, in any batches."""

    x: Tensor
    posterior: Distribution  # of x, moved
    student: Bool[Tensor, "B"]
    prior_share: float
    replicates: ClassVar[int] = 1

    def draws(
        self, model: LatentModel, x: Tensor, q: Distribution, samples: int, chunk: int
    ) -> Draws:
        """Yield ``samples`` draws a datum of the mixture, for data among those of the fit.

        Raises:
            InputError: a datum is not among them.
        """
        prior = model.prior()
        rows = self.rows_of(x)
        moved = moved_alike(q, self.posterior, rows)
        is_student = self.student[rows]
        with own_draws(x, "picks", axis=0):
            start = torch.rand(len(rows), dtype=torch.float64, device=rows.device)
        picks = self._picks(samples, start)
        drawn = 0
        for count in chunk_sizes(samples, chunk):
            mask = picks[drawn : drawn + count].view(
                count, *q.batch_shape, *[1] * len(q.event_shape)
            )
            with own_draws(x, "fitted"):
                z = self._noisy_draws(moved, is_student, count)
                z = torch.where(mask, prior.sample(Size((count, *q.batch_shape))), z)
            drawn += count
            yield z, self._log_density(prior, moved, is_student, z)

    def log_prob(
        self, model: LatentModel, x: Tensor, q: Distribution, z: Tensor
    ) -> Float64[Tensor, "K B"]:
        """Return the log-density of latents (K, B, *E) of data among those of the fit."""
        rows = self.rows_of(x)
        moved = moved_alike(q, self.posterior, rows)
        return self._log_density(model.prior(), moved, self.student[rows], z)

    def rows_of(self, x: Tensor) -> Int[Tensor, "rows"]:
        """Return the index in the data of the fit of each datum; equal data share the first.

        Raises:
            InputError: a datum is not among them.
        """
        rows = []
        for datum in x:
            is_equal = torch.isclose(self.x, datum, rtol=0.0, atol=0.0, equal_nan=True)
            matches = is_equal.reshape(len(self.x), -1).all(1).nonzero()
            if len(matches) == 0:
                raise InputError(
                    "Auto: a fitted proposal serves the data of its fit; got another datum; "
                    "fit again with these data"
                )
            rows.append(matches[0, 0])
        return torch.stack(rows).to(self.student.device)

    def _picks(self, samples: int, start: Float64[Tensor, "rows"]) -> Bool[Tensor, "samples rows"]:
        """Return which draws come from the prior: its share, evenly spaced from a uniform start.

        Each draw has the law of the mixture, as if picked independently; the number of draws from
        the prior varies by one.
        """
        index = torch.arange(samples + 1, dtype=torch.float64, device=start.device)
        passed = (index.unsqueeze(-1) * self.prior_share + start).floor()
        return passed.diff(dim=0) > 0

    def _noisy_draws(self, moved: Distribution, is_student: Tensor, count: int) -> Tensor:
        like = moved.sample()
        width = moved.event_shape.numel() + TAILS.extra
        shape = (count, *moved.batch_shape, width)
        normals = torch.randn(shape, dtype=torch.float64, device=like.device)
        noise = torch.where(is_student.unsqueeze(-1), TAILS.shape(normals), normals[..., :-1])
        return from_noise(moved, noise.to(like.dtype).view(count, *like.shape))[0]

    def _log_density(
        self, prior: Distribution, moved: Distribution, is_student: Tensor, z: Tensor
    ) -> Float64[Tensor, "K B"]:
        noise, log_q = to_noise(moved, z)
        log_q = log_q.double()
        heavy = TAILS.log_ratio(noise.reshape(*log_q.shape, -1).double())
        log_r = log_q + torch.where(is_student, heavy, 0.0) + math.log1p(-self.prior_share)
        return torch.logaddexp(log_r, prior.log_prob(z).double() + math.log(self.prior_share))
