r"""Normalisation rules: the score :math:`\hat f` of a critic's f and its gradient norm n.

.. math:: n_i = \|\nabla_{x_i} f_i\|, \qquad
    \hat f = K \frac{f}{n + |f|} \;\text{(GN)}, \qquad
    \hat f = K \frac{f \, n}{n^2 + \epsilon} \;\text{(GraN)}

Every rule has three formulas, all of f and n (B,): its value :math:`\hat f`, its slope
:math:`\partial \hat f / \partial f` at constant n, and its lever
:math:`\frac{1}{n} \frac{\partial \hat f}{\partial n} / \frac{\partial \hat f}{\partial f}`.

References:
    Gradient Normalization for Generative Adversarial Networks (Wu et al., 2021),
    https://arxiv.org/abs/2109.02235

    GraN-GAN: Piecewise Gradient Normalization for GANs (Bhaskara et al., 2021),
    https://arxiv.org/abs/2111.03162
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from univae.errors import InputError
from univae.registry import lookup

__all__ = ["NORMALIZATIONS", "GradientNorm", "Method", "Normalization", "NormalizationName"]

# Below this fraction of n + |f| the norm n is rounding noise, and its derivative is set to 0.
SMALLEST_NORM = 1e-12


@runtime_checkable
class Formula(Protocol):
    """The three formulas of a normalisation, with its constants eps and K."""

    def value(self, f: Tensor, n: Tensor, eps: float, K: float) -> Tensor:
        r"""Return :math:`\hat f`."""
        ...

    def slope(self, f: Tensor, n: Tensor, eps: float, K: float) -> Tensor:
        r"""Return :math:`\partial \hat f / \partial f`."""
        ...

    def lever_times_norm(self, f: Tensor, n: Tensor, eps: float) -> Tensor:
        r"""Return :math:`\partial_n \hat f / \partial_f \hat f` for n > 0."""
        ...


class _GN:
    def value(self, f: Tensor, n: Tensor, eps: float, K: float) -> Tensor:
        return K * f / _nonzero(n + f.abs())

    def slope(self, f: Tensor, n: Tensor, eps: float, K: float) -> Tensor:
        total = n + f.abs()
        safe_total = _nonzero(total)
        is_positive = total > torch.finfo(total.dtype).tiny
        return torch.where(is_positive, K * (n / safe_total) / safe_total, K)

    def lever_times_norm(self, f: Tensor, n: Tensor, eps: float) -> Tensor:
        return -f / n


class _GraN:
    def value(self, f: Tensor, n: Tensor, eps: float, K: float) -> Tensor:
        return K * f * n / (n.square() + eps)

    def slope(self, f: Tensor, n: Tensor, eps: float, K: float) -> Tensor:
        return K * n / (n.square() + eps)

    def lever_times_norm(self, f: Tensor, n: Tensor, eps: float) -> Tensor:
        return f * (eps - n.square()) / (n.square() + eps) / n


@dataclass(frozen=True)
class Normalization:
    """A row of :data:`NORMALIZATIONS`."""

    summary: str
    formula: Formula | None = None  # None: the score is the critic's f
    # Whether the score is unchanged when f is multiplied by a positive number. Then no gradient
    # controls the size of the weights.
    ignores_scale: bool = False

    @property
    def uses_gradient(self) -> bool:
        """Whether the score depends on the critic's input gradient."""
        return self.formula is not None


NORMALIZATIONS: dict[str, Normalization] = {
    "none": Normalization("f itself"),
    "gn": Normalization(
        "K f / (n + |f|), n the norm of f's input gradient", _GN(), ignores_scale=True
    ),
    "gran": Normalization("K f n / (n^2 + eps)", _GraN()),
}

# The names of the rows that have a formula.
_METHODS = tuple(name for name, row in NORMALIZATIONS.items() if row.uses_gradient)

if TYPE_CHECKING:
    NormalizationName: TypeAlias = str
    Method: TypeAlias = str
else:
    NormalizationName = Literal[tuple(NORMALIZATIONS)]
    Method = Literal[_METHODS]


@dataclass(frozen=True)
class GradientNorm:
    """A normalisation with its constants: the score as a function of f and n, both (B,).

    Attributes:
        method: the row of :data:`NORMALIZATIONS`, ``gn`` or ``gran``.
        eps: of ``gran``: bounds the amplification of a flat critic, by K / (2 sqrt(eps)).
        K: the bound on the gradient of a piecewise linear critic, and for ``gn`` on the score.
    """

    method: Method = "gn"
    eps: float = 0.1
    K: float = 1.0

    def __post_init__(self) -> None:
        if self.method not in _METHODS:
            allowed = " or ".join(_METHODS)
            raise InputError(f"GradientNorm: method must be {allowed}; got method={self.method!r}")
        for name, value in (("eps", self.eps), ("K", self.K)):
            if not 0 < value < math.inf:
                raise InputError(f"GradientNorm: {name} must be above 0; got {name}={value!r}")

    @classmethod
    def of(cls, normalization: NormalizationName, eps: float, K: float) -> "GradientNorm | None":
        """Return the rule of a row of :data:`NORMALIZATIONS`, or None where the score is f."""
        row = lookup(NORMALIZATIONS, normalization, "normalization")
        return cls(normalization, eps, K) if row.uses_gradient else None

    def __call__(
        self, f: Float[Tensor, "batch"], n: Float[Tensor, "batch"]
    ) -> Float[Tensor, "batch"]:
        r"""Return :math:`\hat f`.

        Where f and n are both 0, GN returns 0 with the gradient of f.
        """
        return self._formula.value(f, n, self.eps, self.K)

    def slope(self, f: Float[Tensor, "batch"], n: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
        r"""Return :math:`\partial \hat f / \partial f` at constant n.

        Times n, it is the norm of :math:`\nabla \hat f`.
        """
        return self._formula.slope(f, n, self.eps, self.K)

    def lever(self, f: Float[Tensor, "batch"], n: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
        r"""Return :math:`\frac{1}{n} \partial_n \hat f / \partial_f \hat f`.

        It is 0 where n is 0: there the norm has no gradient.
        """
        has_gradient = n > SMALLEST_NORM * (n + f.abs())
        safe_norm = torch.where(has_gradient, n, 1.0)
        ratio = self._formula.lever_times_norm(f, safe_norm, self.eps)
        return torch.where(has_gradient, ratio / safe_norm, 0.0)

    @property
    def _formula(self) -> Formula:
        formula = NORMALIZATIONS[self.method].formula
        assert formula is not None
        return formula


def _nonzero(total: Tensor) -> Tensor:
    # f = n = 0 would divide 0 by 0: the score of such a row is f.
    return torch.where(total > torch.finfo(total.dtype).tiny, total, 1.0)
