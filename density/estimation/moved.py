r"""A posterior moved in its noise: another Gaussian in the place of :math:`\mathcal{N}(0, I)`.

.. math:: \epsilon = m_x + (e^{s_x} + L_x)\, n, \qquad z = T_x(\epsilon), \qquad
          n \sim \mathcal{N}(0, I)

with a diagonal :math:`e^s` and a strictly lower triangular L. Of a diagonal Gaussian this moves
mean and covariance, in units of its own spread; of any other posterior that maps normal noise to
samples, a stack of layers say, it moves their counterparts.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Size, Tensor
from torch.distributions import Distribution
from torch.distributions.constraints import Constraint

from univae.errors import InputError
from univae.latent.sampling import from_noise, to_noise

__all__ = ["Moved", "is_invertible", "moved_alike", "moved_where", "widened"]


class Moved(Distribution):
    r"""The distribution of :math:`T(m + (e^s + L) n)` for a posterior :math:`T(\epsilon)`.

    Here :math:`n \sim \mathcal{N}(0, I)`, m is ``shift``, s ``log_scale`` and L, strictly lower
    triangular, ``lower``: without it the coordinates of the noise stay independent.
    """

    arg_constraints: ClassVar[dict[str, Constraint]] = {}
    has_rsample = True

    def __init__(
        self,
        q: Distribution,
        shift: Float[Tensor, "*batch_and_event"],
        log_scale: Float[Tensor, "*batch_and_event"],
        lower: Float[Tensor, "*batch d d"] | None = None,
    ) -> None:
        self.q = q
        self.shift = shift
        self.log_scale = log_scale
        self.lower = lower
        super().__init__(q.batch_shape, q.event_shape, validate_args=False)

    @property
    def parameters(self) -> list[Tensor]:
        """The shift, the log-scale and, if there is one, the triangular matrix."""
        parameters = [self.shift, self.log_scale]
        return parameters if self.lower is None else [*parameters, self.lower]

    def replaced(self, parameters: Sequence[Tensor]) -> "Moved":
        """Return the same posterior moved by other parameters; of a matrix, its part below."""
        shift, log_scale, *lower = parameters
        return Moved(self.q, shift, log_scale, lower[0].tril(-1) if lower else None)

    def from_noise(self, eps: Float[Tensor, "*sample"]) -> tuple[Tensor, Tensor]:
        """Map standard normal noise to z and its log-density."""
        inner = self.shift + self._stretched(eps)
        z, log_q = from_noise(self.q, inner)
        return z, log_q + self._log_ratio(inner, eps, log_q)

    def to_noise(self, z: Float[Tensor, "*sample"]) -> tuple[Tensor, Tensor]:
        """Return the noise of z, and the log-density of z.

        Raises:
            InputError: the posterior has no inverse map.
        """
        inner, log_q = to_noise(self.q, z)
        eps = self._shrunk(inner - self.shift)
        return eps, log_q + self._log_ratio(inner, eps, log_q)

    def rsample_with_log_prob(self, sample_shape: Sequence[int] = Size()) -> tuple[Tensor, Tensor]:
        """Draw z with its log-density."""
        shape = (*sample_shape, *self.shift.shape)
        return self.from_noise(torch.randn(shape, dtype=self.shift.dtype, device=self.shift.device))

    def rsample(self, sample_shape: Sequence[int] = Size()) -> Tensor:
        """Draw z."""
        return self.rsample_with_log_prob(sample_shape)[0]

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density of z, in nats; raises as :meth:`to_noise`."""
        return self.to_noise(value)[1]

    def _stretched(self, eps: Tensor) -> Tensor:
        """Multiply noise by the scales and the triangular matrix."""
        scaled = self.log_scale.exp() * eps
        if self.lower is None:
            return scaled
        mixed = (self.lower @ self._flat(eps).unsqueeze(-1)).squeeze(-1)
        return scaled + mixed.view_as(scaled)

    def _shrunk(self, centred: Tensor) -> Tensor:
        """Invert :meth:`_stretched`."""
        if self.lower is None:
            return centred / self.log_scale.exp()
        matrix = self.lower + torch.diag_embed(self._flat(self.log_scale).exp())
        flat = self._flat(centred).unsqueeze(-1)
        solution: Tensor = torch.linalg.solve_triangular(matrix, flat, upper=False)
        return solution.reshape(centred.shape)

    def _log_ratio(self, inner: Tensor, eps: Tensor, log_q: Tensor) -> Tensor:
        """Return the log-density of eps over that of inner, and the volume, for each of log_q."""
        log_ratio = (inner.square() - eps.square()) / 2 - self.log_scale
        return log_ratio.reshape(*log_q.shape, -1).sum(-1)

    def _flat(self, values: Tensor) -> Tensor:
        """Return noise, (*lead, *event), as vectors, (*lead, d)."""
        return values.reshape(*values.shape[: values.dim() - len(self.event_shape)], -1)


def widened(q: Distribution, factor: Float[Tensor, "B"]) -> Moved:
    """Return the posterior with the spread of each datum multiplied by its factor."""
    zeros = torch.zeros_like(q.sample())
    log_factor = factor.to(zeros).log().view(-1, *[1] * (zeros.dim() - 1))
    return Moved(q, zeros, zeros + log_factor)


def moved_alike(
    q: Distribution, moved: Distribution, rows: Bool[Tensor, "B"] | Int[Tensor, "rows"]
) -> Distribution:
    """Return ``q``, the posterior of some rows of a batch, moved as these rows of the batch are."""
    if not isinstance(moved, Moved):
        return q
    return Moved(moved_alike(q, moved.q, rows), *[p[rows] for p in moved.parameters])


def moved_where(moved: Moved, rows: Bool[Tensor, "B"]) -> Moved:
    """Return the posterior moved in some rows alone."""
    parameters = []
    for values in moved.parameters:
        mask = rows.view(-1, *[1] * (values.dim() - 1))
        parameters.append(torch.where(mask, values, 0.0))
    return Moved(moved.q, *parameters)


def is_invertible(q: Distribution) -> bool:
    """Return whether q maps normal noise to its samples and back."""
    try:
        to_noise(q, q.sample())
    except InputError:
        return False
    return True
