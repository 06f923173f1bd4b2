r"""Several layers of latents of any widths as one flat vector :math:`z = (z_1, \dots, z_L)`.

A *climb* is a module that names the law of one layer after the other and is told what was chosen for it, bottom-up
:math:`q(z_1 \mid x)\, q(z_2 \mid z_1) \cdots` or top-down :math:`p(z_L)\, p(z_{L-1} \mid z_L) \cdots`. Whoever chooses
decides what the climb is: a draw, a density, a mode, or a codec that pops each layer from its stack.

References:
    Importance Weighted Autoencoders (Burda et al., 2015), https://arxiv.org/abs/1509.00519
    Ladder Variational Autoencoders (Sønderby et al., 2016), https://arxiv.org/abs/1602.02282
    Doubly Reparameterized Gradient Estimators (Tucker et al., 2018), https://arxiv.org/abs/1810.04152
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeAlias

import torch
from jaxtyping import Float
from torch import Size, Tensor, nn
from torch.distributions import Distribution
from torch.func import functional_call

from density.model import from_noise

__all__ = ["Choose", "Hierarchy"]

Choose: TypeAlias = Callable[[int, Distribution], Tensor]  # (layer, its law given the layers chosen before) -> z_l


class Hierarchy(Distribution):
    r"""The joint law that ``climb(choose, *context)`` walks, :math:`p(z) = \prod_l p(z_l \mid \text{chosen before})`.

    The module calls ``choose(layer, law)`` once for every layer 0..L-1, in the order in which they depend on each
    other, with a law over vectors of ``widths[layer]``; it receives :math:`z_l` of shape (\*lead, width), where
    lead = (\*sample, \*batch). ``context``, tensors of the batch shape such as what an encoder says of x, broadcasts
    against it. All that the laws know must be in the module or in the context.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(
        self, climb: nn.Module, widths: Sequence[int], batch_shape: Sequence[int] = (), context: Sequence[Tensor] = ()
    ) -> None:
        self.climb, self.widths, self.context = climb, tuple(widths), tuple(context)
        self._held = False
        super().__init__(Size(batch_shape), Size((sum(self.widths),)), validate_args=False)

    def rsample(self, sample_shape: Sequence[int] = Size()) -> Float[Tensor, "*sample d"]:
        return self.rsample_with_log_prob(sample_shape)[0]

    def rsample_with_log_prob(
        self, sample_shape: Sequence[int] = Size()
    ) -> tuple[Float[Tensor, "*sample d"], Float[Tensor, "*sample"]]:
        """Draws z and returns it with its log-density, from one climb."""
        return self._joint(Size(sample_shape) + self.batch_shape, lambda layer, law: law.rsample())

    def from_noise(
        self, eps: Float[Tensor, "*sample d"]
    ) -> tuple[Float[Tensor, "*sample d"], Float[Tensor, "*sample"]]:
        r"""Maps standard normal noise (\*sample, \*batch, d) to z and its log-density.

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
        """Returns the law of every layer, from the first to the last, given the other layers that it looks at."""
        return self.walk(*self._given(z))[1]

    def modes(self) -> Float[Tensor, "*batch d"]:
        """Each layer's mode, given the modes chosen before it: a code, but not a draw and not the mean of draws."""
        return self.walk(self.batch_shape, lambda layer, law: law.mode)[0]

    def detached(self) -> "Hierarchy":
        r"""The same law with its parameters and context held constant, still a function of z.

        The gradient of ``detached().log_prob(z)`` is :math:`\partial \log q(z) / \partial z` and no score: layers that
        depend on other layers pass their part of it through the network, whose weights receive none.
        """
        held = Hierarchy(self.climb, self.widths, self.batch_shape, [part.detach() for part in self.context])
        held._held = True
        return held

    def walk(self, lead: Size, choose: Choose) -> tuple[Float[Tensor, "*lead d"], list[Distribution]]:
        """Climbs once for latents of shape (*lead, d), asking ``choose`` for each layer; returns z and the laws."""
        chosen: dict[int, Tensor] = {}
        laws: dict[int, Distribution] = {}

        def note(layer: int, law: Distribution) -> Tensor:
            laws[layer] = law.expand(lead)
            chosen[layer] = choose(layer, laws[layer])
            return chosen[layer]

        constants = {name: weight.detach() for name, weight in self.climb.named_parameters()} if self._held else {}
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
        return z, torch.stack([law.log_prob(part) for law, part in zip(laws, parts, strict=True)]).sum(0)
