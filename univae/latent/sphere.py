"""The uniform distribution on the unit sphere, and the constraint of unit vectors."""

from typing import ClassVar

import torch
from jaxtyping import Float, Real
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.nn.functional import normalize
from torch.types import _size

from univae.dtypes import as_floating, at_least_float32
from univae.errors import InputError
from univae.latent.bessel import log_uniform

__all__ = ["SMALLEST_DIM", "HypersphericalUniform", "UnitVector"]

SMALLEST_DIM = 2  # of a space that holds a sphere with a uniform distribution


class UnitVector(constraints.Constraint):
    """Vectors of length one, up to the rounding of their dtype."""

    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        """Return which vectors have length one."""
        value = as_floating(value)
        tolerance = max(1e-5, 16 * torch.finfo(value.dtype).eps)
        norm = torch.linalg.vector_norm(at_least_float32(value), dim=-1)
        inside: Tensor = (norm - 1).abs() <= tolerance
        return inside


class HypersphericalUniform(Distribution):
    r"""The uniform distribution on the unit sphere of :math:`R^d`.

    Its density is :math:`C_d(0) = \Gamma(d/2) / (2 \pi^{d/2})`.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    support = UnitVector()
    has_rsample = True

    def __init__(
        self,
        dim: int,
        batch_shape: _size = (),
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        validate_args: bool | None = None,
    ) -> None:
        if dim < SMALLEST_DIM:
            raise InputError(
                f"HypersphericalUniform: dim must be at least 2 to hold a sphere; got dim={dim}"
            )
        self.dtype = dtype or torch.get_default_dtype()
        self.device = device
        super().__init__(torch.Size(batch_shape), torch.Size((dim,)), validate_args=validate_args)

    def rsample(self, sample_shape: _size = ()) -> Float[Tensor, "*shape d"]:
        """Draw unit vectors."""
        shape = self._extended_shape(sample_shape)
        return normalize(torch.randn(shape, dtype=self.dtype, device=self.device), dim=-1)

    def log_prob(self, value: Real[Tensor, "*shape d"]) -> Float[Tensor, "*result"]:
        """Return the constant log-density, in nats."""
        if self._validate_args:
            self._validate_sample(value)
        shape = torch.broadcast_shapes(value.shape[:-1], self.batch_shape)
        return at_least_float32(as_floating(value)).new_full(
            shape, log_uniform(self.event_shape[0])
        )

    def entropy(self) -> Float[Tensor, "*batch"]:
        """Return the logarithm of the sphere's area, in nats."""
        log_area = -log_uniform(self.event_shape[0])
        return torch.full(self.batch_shape, log_area, dtype=self.dtype, device=self.device)

    def expand(self, batch_shape: _size, _instance: object = None) -> "HypersphericalUniform":
        """Return the distribution with another batch shape."""
        return HypersphericalUniform(
            self.event_shape[0],
            batch_shape,
            dtype=self.dtype,
            device=self.device,
            validate_args=self._validate_args,
        )
