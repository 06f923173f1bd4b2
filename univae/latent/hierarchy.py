r"""The joint distribution of several latent layers, stacked or concatenated.

A *climb* computes the distribution of one layer after the other and receives the value chosen for
each: the posterior :math:`q(z \mid x) = \prod_l q(z_l \mid z_{<l}, x)` of a stack of layers, or a
prior from the top down, :math:`p(z_L)\, p(z_{L-1} \mid z_L) \cdots`. The rule that
chooses the values determines the result: a sample, a density, a mode, or the symbols of a codec.

A *layout* (:mod:`univae.latent.layouts`) packs the layers into one tensor.

References:
    UniVAE (Su, 2021), https://kexue.fm/archives/8475
    Importance Weighted Autoencoders (Burda et al., 2015), https://arxiv.org/abs/1509.00519
    Ladder Variational Autoencoders (Sønderby et al., 2016), https://arxiv.org/abs/1602.02282
    Doubly Reparameterized Gradient Estimators (Tucker et al., 2018),
    https://arxiv.org/abs/1810.04152
"""

from collections.abc import Callable, Collection, Sequence
from typing import ClassVar, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float
from torch import Size, Tensor, nn
from torch.distributions import Distribution
from torch.distributions.constraints import Constraint
from torch.func import functional_call

from univae.errors import InputError
from univae.latent.layouts import Flat, Stacked
from univae.latent.sampling import from_noise, to_noise

__all__ = ["Choose", "Climb", "DetachableClimb", "Hierarchical", "ModuleClimb"]


Choose: TypeAlias = Callable[[int, Distribution], Tensor]  # (layer, p(z_l | ...)) -> z_l

# Calls ``choose`` once for every layer 0..L-1, in the order in which they depend on each other, for
# latents of the leading shape ``lead``: (lead, choose) -> anything.
Climb: TypeAlias = Callable[[Size, Choose], object]


@runtime_checkable
class DetachableClimb(Protocol):
    """A climb whose parameters can be held constant."""

    def __call__(self, lead: Size, choose: Choose) -> object:
        """Call ``choose`` once for every layer."""
        ...

    def detached(self) -> Climb:
        """Return the same climb, differentiable in the chosen values alone."""
        ...


class ModuleClimb:
    """The climb of a module, ``module(choose, *context)``, whose distributions broadcast.

    ``context`` are tensors of the batch shape, for example an encoder's features of x. The
    distributions may depend on nothing else.
    """

    def __init__(self, module: nn.Module, context: Sequence[Tensor] = ()) -> None:
        self.module = module
        self.context = tuple(context)
        self.constants: dict[str, Tensor] | None = None  # used instead of the module's weights

    def __call__(self, lead: Size, choose: Choose) -> None:
        """Call ``choose`` once for every layer."""
        if self.constants is None:
            self.module(choose, *self.context)
        else:
            functional_call(self.module, self.constants, (choose, *self.context))

    def detached(self) -> "ModuleClimb":
        """Return the same climb with weights and context held constant."""
        climb = ModuleClimb(self.module, [tensor.detach() for tensor in self.context])
        climb.constants = {name: w.detach() for name, w in self.module.named_parameters()}
        return climb


class Hierarchical(Distribution):
    r"""The joint distribution of latent layers, :math:`p(z) = \prod_l p(z_l \mid \text{before})`.

    ``climb(lead, choose)`` calls ``choose(layer, conditional)`` once for every layer, in the order
    in which they depend on each other, and receives :math:`z_l` for latents of leading shape
    ``lead`` = (\*sample, \*batch). ``layout`` packs the layers into z.
    """

    arg_constraints: ClassVar[dict[str, Constraint]] = {}
    has_rsample = True

    def __init__(
        self, climb: Climb, layout: Stacked | Flat, batch_shape: Sequence[int] = ()
    ) -> None:
        self.climb = climb
        self.layout = layout
        super().__init__(Size(batch_shape), layout.event_shape, validate_args=False)

    def rsample(self, sample_shape: Sequence[int] = Size()) -> Float[Tensor, "*sample_and_event"]:
        """Draw z, differentiable in the parameters."""
        return self.rsample_with_log_prob(sample_shape)[0]

    def rsample_with_log_prob(
        self, sample_shape: Sequence[int] = Size()
    ) -> tuple[Float[Tensor, "*sample_and_event"], Float[Tensor, "*sample"]]:
        """Draw z and return it with its log-density, from one climb."""
        lead = Size(sample_shape) + self.batch_shape
        return self._with_log_prob(lead, lambda layer, p: p.rsample())

    def from_noise(
        self, eps: Float[Tensor, "*sample_and_event"]
    ) -> tuple[Float[Tensor, "*sample_and_event"], Float[Tensor, "*sample"]]:
        r"""Map standard normal noise, of the shape of z, to z and its log-density.

        .. math:: z_l = \mu_l(z_{<l}) + \sigma_l(z_{<l})\, \epsilon_l

        Raises:
            InputError: the distribution of a layer is not a map of normal noise.
        """
        noise = self.layout.split(eps)
        log_p: list[Tensor] = []

        def choose(layer: int, p: Distribution) -> Tensor:
            z, log_density = from_noise(p, noise[layer])
            log_p.append(log_density)
            return z

        z, _ = self.walk(self._lead(eps), choose)
        return z, torch.stack(log_p).sum(0)

    def to_noise(
        self, z: Float[Tensor, "*sample_and_event"]
    ) -> tuple[Float[Tensor, "*sample_and_event"], Float[Tensor, "*sample"]]:
        r"""Return the noise that :meth:`from_noise` maps to z, and the log-density of z.

        .. math:: \epsilon_l = (z_l - \mu_l(z_{<l})) / \sigma_l(z_{<l})

        Raises:
            InputError: the distribution of a layer is not a map of normal noise.
        """
        noise = []
        log_p = []
        for p, latent in zip(self.conditionals(z), self.layout.split(z), strict=True):
            eps, log_density = to_noise(p, latent)
            noise.append(eps)
            log_p.append(log_density)
        return self.layout.join(noise), torch.stack(log_p).sum(0)

    def log_prob(self, value: Float[Tensor, "*sample_and_event"]) -> Float[Tensor, "*sample"]:
        """Return the log-density of z, in nats."""
        return self._with_log_prob(*self._teacher_forcing(value))[1]

    def conditionals(self, z: Float[Tensor, "*sample_and_event"]) -> list[Distribution]:
        """Return the distribution of every layer given the layers of z that it depends on."""
        return self.walk(*self._teacher_forcing(z))[1]

    def modes(self) -> Float[Tensor, "*batch_and_event"]:
        """Return each layer's mode, given the modes of the layers before it.

        This is a code for x, neither a sample nor the mean of samples.
        """
        return self.walk(self.batch_shape, lambda layer, p: p.mode)[0]

    def resample(
        self, z: Float[Tensor, "*sample_and_event"], layers: Collection[int]
    ) -> Float[Tensor, "*lead_and_event"]:
        """Draw some layers, each given the layers before it, and return the others as in z."""
        lead, from_z = self._teacher_forcing(z)

        def choose(layer: int, p: Distribution) -> Tensor:
            return p.sample() if layer in layers else from_z(layer, p)

        return self.walk(lead, choose)[0]

    def detached(self) -> "Hierarchical":
        r"""Return the distribution with its parameters and context constant, a function of z.

        The gradient of ``detached().log_prob(z)`` is :math:`\partial \log q(z) / \partial z`
        without the score: layers that depend on other layers pass their gradient through the
        network, whose weights get none.

        Raises:
            InputError: the climb is not a :class:`DetachableClimb`.
        """
        if not isinstance(self.climb, DetachableClimb):
            raise InputError(
                "detached: the parameters of this posterior are not separable from the model; "
                "use the objective iwae or elbo"
            )
        return Hierarchical(self.climb.detached(), self.layout, self.batch_shape)

    def walk(self, lead: Size, choose: Choose) -> tuple[Tensor, list[Distribution]]:
        """Climb once for latents of leading shape ``lead``; ``choose`` gives each layer's value.

        Returns z and the conditional distributions, of batch shape ``lead``, by layer.
        """
        latents: dict[int, Tensor] = {}
        conditionals: dict[int, Distribution] = {}

        def record(layer: int, p: Distribution) -> Tensor:
            conditionals[layer] = p if p.batch_shape == lead else p.expand(lead)
            latents[layer] = choose(layer, conditionals[layer])
            return latents[layer]

        self.climb(lead, record)
        layers = range(len(latents))
        z = self.layout.join([latents[layer] for layer in layers])
        return z, [conditionals[layer] for layer in layers]

    def _lead(self, z: Tensor) -> Size:
        return z.shape[: z.dim() - len(self.event_shape)]

    def _teacher_forcing(self, z: Tensor) -> tuple[Size, Choose]:
        """Return the leading shape of z and the batch, and a ``choose`` that returns z's layers."""
        lead = torch.broadcast_shapes(self._lead(z), self.batch_shape)
        latents = self.layout.split(z.expand(*lead, *self.event_shape))
        return lead, lambda layer, p: latents[layer]

    def _with_log_prob(self, lead: Size, choose: Choose) -> tuple[Tensor, Tensor]:
        z, conditionals = self.walk(lead, choose)
        log_p = []
        for conditional, latent in zip(conditionals, self.layout.split(z), strict=True):
            log_p.append(conditional.log_prob(latent))
        return z, torch.stack(log_p).sum(0)
