r"""Gradient normalisation: a critic divided by the norm of its own input gradient.

.. math:: n_i = \|\nabla_{x_i} f_i\|, \qquad
    \hat f = K \frac{f}{n + |f|} \;\text{(GN)}, \qquad \hat f = K \frac{f \, n}{n^2 + \epsilon} \;\text{(GraN)}

What is true of a piecewise linear f (ReLU, LeakyReLU, convolutions, pooling): :math:`\nabla n = 0` almost everywhere,
so there :math:`\|\nabla \hat f\| = K (n / (n + |f|))^2 \le K`, or :math:`K n^2 / (n^2 + \epsilon) < K`. What is not:
that :math:`\hat f` is Lipschitz. n jumps where x crosses an activation boundary, and :math:`\hat f` with it:
:math:`f = 1 + \mathrm{relu}(x)` has :math:`\hat f = 1` left of 0 and 1/2 right of it. Of a smooth f (SiLU, softplus,
attention) not even the pointwise bound holds. :mod:`gan.audit` measures both.

References:
    Gradient Normalization for Generative Adversarial Networks (Wu et al., 2021),
    https://arxiv.org/abs/2109.02235 GraN-GAN: Piecewise Gradient Normalization for GANs (Bhaskara
    et al., 2021), https://arxiv.org/abs/2111.03162
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gan.normalization.linear_regions import Held, has_cells
from gan.normalization.module_types import is_piecewise_linear, refuse_batch_statistics
from univae.dtypes import at_least_float32
from univae.errors import InputError

__all__ = [
    "Critic",
    "GradientNorm",
    "Method",
    "differentiate",
    "normalize_for_critic",
    "normalize_for_generator",
    "normalize_gradient",
    "norms",
    "scores",
]

Method = Literal["gn", "gran"]

# x (B, ...), and labels (B,) where there are any, to scores (B,) or (B, 1).
Critic: TypeAlias = Callable[..., Tensor]


@dataclass(frozen=True)
class GradientNorm:
    """The rule of a normalised score: a function of the critic's f and n, both (B,)."""

    method: Method = "gn"
    # of gran: bounds the amplification where the critic is flat, by K / (2 sqrt(eps))
    eps: float = 0.1
    K: float = 1.0  # the bound on the gradient, and for gn also on the score

    def __post_init__(self) -> None:
        rules = {
            "method": (self.method in get_args(Method), " or ".join(get_args(Method))),
            "eps": (0 < self.eps < math.inf, "above 0"),
            "K": (0 < self.K < math.inf, "above 0"),
        }
        for name, (holds, rule) in rules.items():
            if not holds:
                raise InputError(
                    f"GradientNorm: {name} must be {rule}; got {name}={getattr(self, name)!r}"
                )

    def __call__(
        self, f: Float[Tensor, "batch"], n: Float[Tensor, "batch"]
    ) -> Float[Tensor, "batch"]:
        r"""Return :math:`\hat f`.

        Where both f and n are 0, GN gives 0 and the gradient of f itself.
        """
        if self.method == "gran":
            return self.K * f * n / (n.square() + self.eps)
        return self.K * f / _alive(n + f.abs())

    def slope(self, f: Float[Tensor, "batch"], n: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
        r"""Return :math:`\partial \hat f / \partial f` at a constant n.

        Times n, the norm of :math:`\nabla \hat f`.
        """
        if self.method == "gran":
            return self.K * n / (n.square() + self.eps)
        total = n + f.abs()
        return torch.where(
            total > torch.finfo(total.dtype).tiny,
            self.K * (n / _alive(total)) / _alive(total),
            self.K,
        )

    def lever(self, f: Float[Tensor, "batch"], n: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
        r"""Return :math:`\frac{1}{n} \frac{\partial \hat f}{\partial n} / \frac{\partial \hat f}{\partial f}`.

        0 where n is: there the norm has no gradient.
        """
        alive = n > 1e-12 * (n + f.abs())
        safe = torch.where(alive, n, 1.0)
        ratio = -f / safe
        if self.method == "gran":
            ratio = f * (self.eps - n.square()) / (n.square() + self.eps) / safe
        return torch.where(alive, ratio / safe, 0.0)


def normalize_gradient(
    critic: Critic,
    x: Float[Tensor, "batch *shape"],
    method: Method = "gn",
    create_graph: bool = True,
    *,
    labels: Tensor | None = None,
    eps: float = 0.1,
    K: float = 1.0,
) -> Float[Tensor, "batch"]:
    r"""Return :math:`\hat f(x)`, in at least float32; see :class:`GradientNorm` for ``eps`` and ``K``.

    With ``create_graph`` the result is differentiable in the critic's parameters and in x, n
    included (a second-order backward pass). Without it, these are values and nothing to
    differentiate: a score whose n is held constant would have the wrong gradient. ``x`` stays as it
    is, and ``requires_grad`` with it.

    Raises:
        InputError: for a critic that uses statistics of its batch, or that does not give one number
            a sample.
    """
    rule = GradientNorm(method, eps, K)
    graph = create_graph and torch.is_grad_enabled()
    f, g = differentiate(critic, x, labels, create_graph=graph)
    return rule(f, norms(g))


def normalize_for_generator(
    critic: Critic,
    x: Float[Tensor, "batch *shape"],
    method: Method = "gn",
    *,
    labels: Tensor | None = None,
    eps: float = 0.1,
    K: float = 1.0,
) -> Float[Tensor, "batch"]:
    r"""Return :math:`\hat f(x)` with its gradient in x alone, exact, and in one pass where the critic allows it.

    Where :func:`is_piecewise_linear` holds, n is constant around x and :math:`\nabla \hat f =
    (\partial \hat f / \partial f) \, \nabla f` needs no second-order pass: the score is returned as
    its value plus :math:`\langle \nabla \hat f, x - x_0 \rangle` at :math:`x_0 = x`. Any other
    critic takes the path of :func:`normalize_gradient`.
    """
    if not is_piecewise_linear(critic):
        return normalize_gradient(critic, x, method, labels=labels, eps=eps, K=K)
    rule = GradientNorm(method, eps, K)
    here = x.detach()
    f, g = differentiate(critic, here, labels, create_graph=False)
    n = norms(g)
    pull = rule.slope(f, n).view(-1, *[1] * (x.ndim - 1)) * g
    return rule(f, n) + (pull * (x - here)).flatten(1).sum(1)


def normalize_for_critic(
    critic: Critic,
    x: Float[Tensor, "batch *shape"],
    method: Method = "gn",
    *,
    labels: Tensor | None = None,
    eps: float = 0.1,
    K: float = 1.0,
) -> tuple[Float[Tensor, "batch"], Float[Tensor, "batch"]]:
    r"""Return :math:`\hat f(x)` with its gradient in the critic's parameters alone, exact, and the values of n.

    Where the critic's linear cells are known (:func:`gan.normalization.linear_regions.has_cells`),
    without a second-order pass. In the cell of x the critic is affine, :math:`F(x') = f + \langle
    \nabla f, x' - x \rangle` with :math:`d n = \langle \nabla f / n, d \nabla f \rangle`, so that

    .. math:: d \hat f = \partial_f \hat f \; d F(x'), \qquad
        x' = x + \frac{\partial_n \hat f}{\partial_f \hat f} \frac{\nabla f}{n}

    at a constant :math:`x'`: for GN the foot :math:`x - f \nabla f / n^2` of x on the plane F = 0.
    One plain pass to :math:`\nabla f` and one plain pass at :math:`x'` with the slopes of x cost
    less than the double backward pass.
    """
    rule = GradientNorm(method, eps, K)
    x = x.detach()
    if not has_cells(critic) or not torch.is_grad_enabled():
        f, g = differentiate(critic, x, labels, create_graph=torch.is_grad_enabled())
        n = norms(g)
        return rule(f, n), n.detach()
    assert isinstance(critic, nn.Module)
    held = Held(critic)
    with held.noted():
        f, g = differentiate(critic, x, labels, create_graph=False)
    n = norms(g)
    lever = rule.lever(f, n)
    with held.replayed():
        affine = scores(critic, x + lever.view(-1, *[1] * (x.ndim - 1)) * g, labels)
    if not _fits(critic, affine.detach(), f, lever * n.square()):
        f, g = differentiate(critic, x, labels)
        return rule(f, norms(g)), n
    return rule(f, n) + rule.slope(f, n) * (affine - affine.detach()), n


def differentiate(
    critic: Critic,
    x: Float[Tensor, "batch *shape"],
    labels: Tensor | None = None,
    *,
    create_graph: bool = True,
) -> tuple[Float[Tensor, "batch"], Float[Tensor, "batch *shape"]]:
    r"""Return :math:`f_i` and :math:`\nabla_{x_i} f_i`, in at least float32; constants unless ``create_graph``.

    One backward pass for the whole batch: the gradient of :math:`\sum_i f_i`, which is each
    sample's own as long as no score sees another sample.
    """
    refuse_batch_statistics(critic, "differentiate")
    with torch.inference_mode(False), torch.enable_grad():
        if x.is_inference():
            x = x.clone()
        x = x if create_graph and x.requires_grad else x.detach().requires_grad_()
        f = scores(critic, x, labels)
        if f.requires_grad:
            (g,) = torch.autograd.grad(
                f.sum(), x, create_graph=create_graph, allow_unused=True, materialize_grads=True
            )
        else:  # a constant
            g = torch.zeros_like(x)
    g = at_least_float32(g)
    return (f, g) if create_graph else (f.detach(), g.detach())


def norms(g: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch"]:
    """The norm of each sample over all its coordinates; its gradient at 0 is 0."""
    return torch.linalg.vector_norm(g.flatten(1) if g.ndim > 1 else g[:, None], dim=1)


def scores(
    critic: Critic, x: Float[Tensor, "batch *shape"], labels: Tensor | None = None
) -> Float[Tensor, "batch"]:
    """The critic's f as (B,), in at least float32."""
    f = critic(x) if labels is None else critic(x, labels)
    if f.shape not in ((len(x),), (len(x), 1)):
        raise InputError(
            f"critic: must give one number a sample, ({len(x)},) or ({len(x)}, 1); got {tuple(f.shape)}; end it with a "
            "linear layer of one output"
        )
    return at_least_float32(f.reshape(-1))


def _alive(total: Tensor) -> Tensor:
    # f = n = 0 is 0 / 0: such a sample gets the plain f.
    return torch.where(total > torch.finfo(total.dtype).tiny, total, 1.0)


# Whether the affine map of a critic is what its modules tell; a forward with activations of its own
# is found out.
_TOLD: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def _fits(critic: nn.Module, affine: Tensor, f: Tensor, change: Tensor) -> bool:
    if critic not in _TOLD:
        scale = f.abs() + change.abs()
        error = ((affine - f - change).abs() / torch.where(scale > 0, scale, 1.0)).median()
        _TOLD[critic] = bool(error < (0.2 if torch.is_autocast_enabled(f.device.type) else 1e-2))
    return _TOLD[critic]
