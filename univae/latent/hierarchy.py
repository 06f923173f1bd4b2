r"""Joint distributions of several latent layers: stacked layers of one width, or a flat vector of any widths.

:class:`Layered`: a stack of layers turns row 0 of latent layer :math:`l` into a distribution of
:math:`z_l`, and :math:`z_l` back into row 0, so that :math:`q(z \mid x) = \prod_l q(z_l \mid
z_{<l}, x)`. Without a text, the same climb is a prior.

:class:`Hierarchy`: the layers are one flat vector :math:`z = (z_1, \dots, z_L)`. A *climb* is a
module that names the distribution of one layer after the other and receives the value chosen for
it, bottom-up :math:`q(z_1 \mid x)\, q(z_2 \mid z_1) \cdots` or top-down :math:`p(z_L)\, p(z_{L-1}
\mid z_L) \cdots`. The caller that chooses decides what the climb computes: a sample, a density, a
mode, or a codec that pops each layer from its stack.

References:
    UniVAE (Su, 2021), https://kexue.fm/archives/8475 Importance Weighted Autoencoders (Burda et
    al., 2015), https://arxiv.org/abs/1509.00519 Ladder Variational Autoencoders (Sønderby et al.,
    2016), https://arxiv.org/abs/1602.02282 Doubly Reparameterized Gradient Estimators (Tucker et
    al., 2018), https://arxiv.org/abs/1810.04152
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any, ClassVar, TypeAlias

import torch
from jaxtyping import Float
from torch import Size, Tensor, nn
from torch.distributions import Distribution, Normal
from torch.func import functional_call

from univae.errors import InputError
from univae.latent.sampling import from_noise

__all__ = ["Choose", "Climb", "Hierarchy", "Layered", "StreamNorm"]


Choose: TypeAlias = Callable[[int, Distribution], Tensor]  # (layer, p(z_l | z_<l, ...)) -> z_l

Climb: TypeAlias = Callable[
    [Size, Choose], Sequence[Distribution]
]  # (leading shape, choose) -> one conditional a layer


class StreamNorm(nn.BatchNorm1d):
    r"""Batch normalisation (rows, d) that also trains on one row, which it sees as the newest of a stream.

    Two rows and more are normalised with their own statistics, as in ``nn.BatchNorm1d``. One row
    :math:`x` has no variance of its own. It joins the moving statistics :math:`m, v` with their
    momentum :math:`a`, and is normalised with what results, where the past is constant:

    .. math::

        m' = m + a (x - m), \qquad v' = (1 - a) (v + a (x - m)^2), \qquad y = \frac{x - m'}{\sqrt{v' + \epsilon}}

    So :math:`|y| \le \sqrt{(1 - a) / a}`, which is 3 at the usual momentum of 0.1, whatever the row is, as a batch of
    n rows has :math:`|y| \le \sqrt{n - 1}`. Before any update :math:`m = 0` and :math:`v = 1`. Nothing is drawn and
    the statistics are buffers, so that a resumed run repeats bit for bit.

    References:
        Updating mean and variance estimates: an improved method (West, 1979),
        https://doi.org/10.1145/359146.359153
    """

    def forward(self, input: Float[Tensor, "rows d"]) -> Float[Tensor, "rows d"]:
        if self.training and len(input) == 1:
            return self._newest(input)
        return super().forward(input)

    def _newest(self, row: Float[Tensor, "1 d"]) -> Float[Tensor, "1 d"]:
        momentum = self.momentum
        assert momentum is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        change = row - self.running_mean
        mean = self.running_mean + momentum * change
        variance = (1 - momentum) * (self.running_var + momentum * change.square())
        normalised = (row - mean) / (variance + self.eps).sqrt()
        with torch.no_grad():
            self.running_mean.copy_(mean[0])
            self.running_var.copy_(variance[0])
            self.num_batches_tracked.add_(1)

        return normalised


class Layered(Distribution):
    r"""The joint distribution of one latent a layer, :math:`p(z) = \prod_l p(z_l \mid z_{<l})`.

    ``climb(lead, choose)`` walks the layers for latents of leading shape ``lead``, asks ``choose``
    for each :math:`z_l` and returns the conditionals it met. Sampling climbs once; :meth:`log_prob`
    climbs with z given.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(self, climb: Climb, batch_shape: Size, event_shape: Size) -> None:
        self.climb = climb
        super().__init__(batch_shape, event_shape, validate_args=False)

    def rsample(self, sample_shape: Sequence[int] = Size()) -> Float[Tensor, "*sample layers d"]:
        return self.rsample_with_log_prob(sample_shape)[0]

    def rsample_with_log_prob(
        self, sample_shape: Sequence[int] = Size()
    ) -> tuple[Float[Tensor, "*sample layers d"], Float[Tensor, "*sample"]]:
        """Draw z and returns it with its log-density, from one climb."""
        z, conditionals = self.walk(
            Size(sample_shape) + self.batch_shape, lambda layer, p: p.rsample()
        )
        return z, self._sum(conditionals, z)

    def from_noise(
        self, eps: Float[Tensor, "*sample layers d"]
    ) -> tuple[Float[Tensor, "*sample layers d"], Float[Tensor, "*sample"]]:
        r"""Map standard normal noise to :math:`z_l = \mu_l(z_{<l}) + \sigma_l(z_{<l})\, \epsilon_l`, with log-density.

        Raises:
            InputError: a layer is not Gaussian, so that no normal noise makes its draws.
        """

        def choose(layer: int, p: Distribution) -> Tensor:
            if not isinstance(getattr(p, "base_dist", None), Normal):
                what = f"maps normal noise through Gaussian layers; layer {layer} is {type(p).__name__}"
                raise InputError(
                    f"from_noise: {what}; draw from the posterior itself, or mix it with the prior"
                )
            return p.mean + p.stddev * eps[..., layer, :]

        z, conditionals = self.walk(eps.shape[:-2], choose)
        return z, self._sum(conditionals, z)

    def log_prob(self, value: Float[Tensor, "*sample layers d"]) -> Float[Tensor, "*sample"]:
        return self._sum(self.conditionals(value), value)

    def conditionals(self, z: Float[Tensor, "*sample layers d"]) -> Sequence[Distribution]:
        r"""Return :math:`p(z_l \mid z_{<l})` for every layer, given z."""
        return self.walk(z.shape[:-2], lambda layer, p: z[..., layer, :])[1]

    def modes(self) -> Float[Tensor, "*batch layers d"]:
        """Each layer's mode, computed from the modes before it: a code, but not a draw and not the mean of draws."""
        return self.walk(self.batch_shape, lambda layer, p: p.mode)[0]

    def resample(
        self, z: Float[Tensor, "*sample layers d"], layers: Collection[int]
    ) -> Float[Tensor, "*sample layers d"]:
        """Draw the named layers anew, each given the layers before it, and keeps the others as they are."""
        return self.walk(
            z.shape[:-2], lambda layer, p: p.sample() if layer in layers else z[..., layer, :]
        )[0]

    def walk(self, lead: Size, choose: Choose) -> tuple[Tensor, Sequence[Distribution]]:
        """Climb once for latents of shape (*lead, layers, d), asking ``choose`` for each.

        Returns z and the laws.
        """
        chosen: list[Tensor] = []

        def note(layer: int, p: Distribution) -> Tensor:
            chosen.append(choose(layer, p))
            return chosen[-1]

        conditionals = self.climb(lead, note)
        return torch.stack(chosen, -2), conditionals

    @staticmethod
    def _sum(conditionals: Sequence[Distribution], z: Tensor) -> Tensor:
        return torch.stack(
            [p.log_prob(z[..., layer, :]) for layer, p in enumerate(conditionals)]
        ).sum(0)


class Hierarchy(Distribution):
    r"""The joint law that ``climb(choose, *context)`` walks, :math:`p(z) = \prod_l p(z_l \mid \text{chosen before})`.

    The module calls ``choose(layer, law)`` once for every layer 0..L-1, in the order in which they
    depend on each other, with a law over vectors of ``widths[layer]``; it receives :math:`z_l` of
    shape (\*lead, width), where lead = (\*sample, \*batch). ``context``, tensors of the batch shape
    such as what an encoder says of x, broadcasts against it. All that the laws know must be in the
    module or in the context.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(
        self,
        climb: nn.Module,
        widths: Sequence[int],
        batch_shape: Sequence[int] = (),
        context: Sequence[Tensor] = (),
    ) -> None:
        self.climb = climb
        self.widths = tuple(widths)
        self.context = tuple(context)
        self._held = False
        super().__init__(Size(batch_shape), Size((sum(self.widths),)), validate_args=False)

    def rsample(self, sample_shape: Sequence[int] = Size()) -> Float[Tensor, "*sample d"]:
        return self.rsample_with_log_prob(sample_shape)[0]

    def rsample_with_log_prob(
        self, sample_shape: Sequence[int] = Size()
    ) -> tuple[Float[Tensor, "*sample d"], Float[Tensor, "*sample"]]:
        """Draw z and returns it with its log-density, from one climb."""
        return self._joint(Size(sample_shape) + self.batch_shape, lambda layer, law: law.rsample())

    def from_noise(
        self, eps: Float[Tensor, "*sample d"]
    ) -> tuple[Float[Tensor, "*sample d"], Float[Tensor, "*sample"]]:
        r"""Map standard normal noise (\*sample, \*batch, d) to z and its log-density.

        .. math:: z_l = \mu_l(z_{<l}) + \sigma_l(z_{<l})\, \epsilon_l

        :class:`InputError` for layers whose law is not made of normal noise.
        """
        parts = eps.split(self.widths, -1)
        log_p: list[Tensor] = []

        def choose(layer: int, law: Distribution) -> Tensor:
            z, density = from_noise(law, parts[layer])
            log_p.append(density)
            return z

        return self.walk(eps.shape[:-1], choose)[0], torch.stack(log_p).sum(0)

    def log_prob(self, value: Float[Tensor, "*sample d"]) -> Float[Tensor, "*lead"]:
        return self._joint(*self._given(value))[1]

    def conditionals(self, z: Float[Tensor, "*sample d"]) -> list[Distribution]:
        """Return the law of every layer, from the first to the last, given the other layers that it looks at."""
        return self.walk(*self._given(z))[1]

    def modes(self) -> Float[Tensor, "*batch d"]:
        """Each layer's mode, given the modes chosen before it: a code, but not a draw and not the mean of draws."""
        return self.walk(self.batch_shape, lambda layer, law: law.mode)[0]

    def detached(self) -> "Hierarchy":
        r"""The same law with its parameters and context held constant, still a function of z.

        The gradient of ``detached().log_prob(z)`` is :math:`\partial \log q(z) / \partial z` and no
        score: layers that depend on other layers pass their part of it through the network, whose
        weights receive none.
        """
        held = Hierarchy(
            self.climb, self.widths, self.batch_shape, [part.detach() for part in self.context]
        )
        held._held = True
        return held

    def walk(
        self, lead: Size, choose: Choose
    ) -> tuple[Float[Tensor, "*lead d"], list[Distribution]]:
        """Climb once for latents of shape (*lead, d), asking ``choose`` for each layer.

        Returns z and the laws.
        """
        chosen: dict[int, Tensor] = {}
        laws: dict[int, Distribution] = {}

        def note(layer: int, law: Distribution) -> Tensor:
            laws[layer] = law.expand(lead)
            chosen[layer] = choose(layer, laws[layer])
            return chosen[layer]

        constants = (
            {name: weight.detach() for name, weight in self.climb.named_parameters()}
            if self._held
            else {}
        )
        functional_call(self.climb, constants, (note, *self.context))
        layers = range(len(self.widths))
        return torch.cat([chosen[layer] for layer in layers], -1), [laws[layer] for layer in layers]

    def _given(self, z: Tensor) -> tuple[Size, Choose]:
        lead = torch.broadcast_shapes(z.shape[:-1], self.batch_shape)
        parts = z.expand(*lead, -1).split(self.widths, -1)
        return lead, lambda layer, law: parts[layer]

    def _joint(self, lead: Size, choose: Choose) -> tuple[Tensor, Tensor]:
        z, laws = self.walk(lead, choose)
        parts = z.split(self.widths, -1)
        return z, torch.stack(
            [law.log_prob(part) for law, part in zip(laws, parts, strict=True)]
        ).sum(0)
