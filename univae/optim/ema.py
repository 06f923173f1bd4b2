"""Exponential moving average of a model's weights: evaluate the average, train the original."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from univae.dtypes import computation_dtype
from univae.errors import InputError
from univae.optim.base import State, StateDict
from univae.optim.divided import local_part

__all__ = ["EMA"]

NAMED_DIFFERENCES = 3  # names in the message about the average of another model


class EMA:
    r"""The moving average of a model's weights, in at least float32.

    .. math::
        \bar\theta \gets \bar\theta + (1 - d_n) (\theta - \bar\theta), \qquad
        d_n = \min\left(d, \frac{1 + n}{10 + n}\right)

    :math:`n` counts the updates before this one, so the weight of the random initial weights
    vanishes quickly. Call :meth:`update` after every optimizer step. Floating-point buffers (the
    statistics of a BatchNorm) are averaged with the weights; integer buffers are counts, which are
    not averaged.

    References:
        Acceleration of stochastic approximation by averaging (Polyak & Juditsky, 1992),
        https://doi.org/10.1137/0330046
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise InputError(f"EMA: decay must lie in [0, 1), 0.999 say; got decay={decay}")
        self.decay = decay
        self.updates = 0
        self.sources: dict[str, Tensor] = _floating_tensors(model)
        self.averages: dict[str, Tensor] = {}
        for name, x in self.sources.items():
            self.averages[name] = x.detach().to(computation_dtype(x), copy=True)

    @torch.no_grad()
    def update(self) -> None:
        """Move the average toward the model's current weights."""
        weight = 1.0 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        averages = list(self.averages.values())
        weights = [x.to(a.dtype) for x, a in zip(self.sources.values(), averages, strict=True)]
        if averages:
            torch._foreach_lerp_(averages, weights, weight)
        self.updates += 1

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Give the model the averaged weights inside the block; restore its weights after it.

        They are restored bit for bit.
        """
        weights = {name: x.detach().clone() for name, x in self.sources.items()}
        self._copy(self.averages, self.sources)
        try:
            yield
        finally:
            self._copy(weights, self.sources)

    def state_dict(self) -> State:
        """Return the count of updates and the averages, as tensors that later updates change."""
        return {"updates": self.updates, "averages": dict(self.averages)}

    def load_state_dict(self, state: StateDict) -> None:
        """Load a copy of a saved average; the decay stays that of the constructor.

        Raises:
            InputError: the average has other names than the tensors of this model.
        """
        differences = sorted(state["averages"].keys() ^ self.averages.keys())
        if differences:
            names = ", ".join(differences[:NAMED_DIFFERENCES])
            raise InputError(
                f"EMA: the saved average is of another model, which differs in {names}; "
                "load it into the model it was saved with"
            )
        self._copy(state["averages"], self.averages)
        self.updates = state["updates"]

    @staticmethod
    @torch.no_grad()
    def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
        for name, x in target.items():
            x.copy_(source[name])


def _floating_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the model's floating-point parameters and persistent buffers, tied ones once.

    Buffers outside the state dict are tables computed from the configuration: they need no average.
    """
    persistent = model.state_dict(keep_vars=True)
    tensors = [*model.named_parameters(), *model.named_buffers()]
    persistent_tensors = [(name, x) for name, x in tensors if name in persistent]
    return {name: local_part(x) for name, x in persistent_tensors if x.is_floating_point()}
