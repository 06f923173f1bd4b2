"""The registry of training objectives of image and table models, for ``--objective``.

A row of :data:`BOUNDS` is a bound on the log-likelihood, with its loss and the names of the options
of :class:`experiments.images.task.ImageObjective` that it uses.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, TypeAlias, runtime_checkable

from torch import Tensor

import density
from density.images.base import DataModel
from experiments.evaluation.bounds import layered_bound
from univae.errors import InputError
from univae.vae.kl_weight import Annealing, annealed_weight

__all__ = ["BOUNDS", "Bound", "BoundName", "BoundOptions", "check_options"]


@runtime_checkable
class BoundOptions(Protocol):
    """The options that bounds read; ``ImageObjective`` has them."""

    @property
    def k(self) -> int: ...
    @property
    def groups(self) -> int: ...
    @property
    def beta(self) -> float: ...
    @property
    def kl_weight(self) -> float: ...
    @property
    def annealing(self) -> Annealing: ...
    @property
    def anneal_warmup(self) -> float: ...
    @property
    def anneal_cycles(self) -> int: ...
    @property
    def free_bits(self) -> float: ...


class Bound(ABC):
    """A lower bound on the log-likelihood, estimated from samples of the posterior."""

    summary: ClassVar[str]
    options: ClassVar[frozenset[str]] = frozenset({"k"})
    # whether its gradient needs the posterior with constant parameters
    detaches_posterior: ClassVar[bool] = False

    @abstractmethod
    def value(self, model: DataModel, x: Tensor, options: BoundOptions) -> Tensor:
        """Return the bound of every row x (B, *shape), (B,), in nats."""

    def loss(
        self, model: DataModel, x: Tensor, options: BoundOptions, fraction: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the sum to minimise over the rows x, in nats, and its terms by name.

        ``fraction`` is the fraction of training that is done.
        """
        return -self.value(model, x, options).sum(), {}


class _ELBO(Bound):
    summary = "the evidence lower bound"
    options = frozenset({"k", "kl_weight", "annealing", "free_bits"})

    def value(self, model: DataModel, x: Tensor, options: BoundOptions) -> Tensor:
        return density.elbo(model, x, options.k)

    def loss(
        self, model: DataModel, x: Tensor, options: BoundOptions, fraction: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        log_p, kl = layered_bound(model, x, options.k)
        o = options
        weight = annealed_weight(
            fraction, o.annealing, o.anneal_warmup, o.anneal_cycles, o.kl_weight
        )
        cost = kl.sum()
        if options.free_bits:
            cost = kl.mean(0).clamp_min(options.free_bits).sum() * len(x)
        terms = {"reconstruction_nats": -log_p.sum(), "kl_nats": kl.sum()}
        return weight * cost - log_p.sum(), terms


class _IWAE(Bound):
    summary = "the importance-weighted bound of --k samples"

    def value(self, model: DataModel, x: Tensor, options: BoundOptions) -> Tensor:
        return density.iwae(model, x, options.k)


class _DReG(Bound):
    summary = "iwae with doubly reparameterised gradients"
    detaches_posterior = True

    def value(self, model: DataModel, x: Tensor, options: BoundOptions) -> Tensor:
        return density.dreg(model, x, options.k)


class _STL(Bound):
    summary = "iwae without the score of the posterior"
    detaches_posterior = True

    def value(self, model: DataModel, x: Tensor, options: BoundOptions) -> Tensor:
        return density.stl(model, x, options.k)


class _MultiplyIWAE(Bound):
    summary = "the mean of iwae over --groups"
    options = frozenset({"k", "groups"})

    def value(self, model: DataModel, x: Tensor, options: BoundOptions) -> Tensor:
        return density.multiply_iwae(model, x, options.groups, options.k)


class _MIWAE(_MultiplyIWAE):
    """The name of version 0.1.0, which config.json of older runs holds."""

    summary = "another name of multiply-iwae"


class _CIWAE(Bound):
    summary = "--beta times the ELBO, the rest iwae"
    options = frozenset({"k", "beta"})

    def value(self, model: DataModel, x: Tensor, options: BoundOptions) -> Tensor:
        return density.ciwae(model, x, options.k, options.beta)


BOUNDS: Mapping[str, Bound] = {
    "elbo": _ELBO(),
    "iwae": _IWAE(),
    "dreg": _DReG(),
    "stl": _STL(),
    "multiply-iwae": _MultiplyIWAE(),
    "miwae": _MIWAE(),
    "ciwae": _CIWAE(),
}

if TYPE_CHECKING:
    BoundName: TypeAlias = str
else:
    BoundName = Literal[tuple(BOUNDS)]

# Option -> its value without effect, and the words before the bounds that use it in a message.
_WITHOUT_EFFECT: Mapping[str, tuple[object, str]] = {
    "groups": (1, "unless"),
    "kl_weight": (1.0, "unless the objective is"),
    "annealing": ("none", "unless the objective is"),
    "free_bits": (0.0, "unless"),
}


def check_options(name: str, options: BoundOptions) -> None:
    """Raise :class:`InputError` for an option that the bound ``name`` would ignore."""
    for option, (neutral, words) in _WITHOUT_EFFECT.items():
        value = getattr(options, option)
        if value == neutral or option in BOUNDS[name].options:
            continue
        users = " or ".join(name for name, bound in BOUNDS.items() if option in bound.options)
        required = f"{neutral:g}" if isinstance(neutral, float) else neutral
        raise InputError(f"{option} must be {required} {words} {users}; got {option}={value}")
