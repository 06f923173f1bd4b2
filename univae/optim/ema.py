"""Exponential moving average of a model's weights: evaluate the average, train the original."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from univae.dtypes import computation_dtype
from univae.errors import InputError

__all__ = ["EMA"]


class EMA:
    r"""Keeps the moving average of a model's weights, in at least float32.

    .. math::
        \bar\theta \gets \bar\theta + (1 - d_n) (\theta - \bar\theta), \qquad
        d_n = \min\left(d, \frac{1 + n}{10 + n}\right)

    :math:`n` counts the updates before this one, so an early average forgets the random start
    quickly. Call :meth:`update` after every optimizer step. Floating-point buffers (the statistics
    of a BatchNorm) are averaged with the weights they belong to; integer buffers are counts, and
    stay the model's own.

    References:
        Acceleration of stochastic approximation by averaging (Polyak & Juditsky, 1992),
        https://doi.org/10.1137/0330046
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise InputError(f"EMA: decay must lie in [0, 1), 0.999 say; got decay={decay}")
        self.decay = decay
        self.updates = 0
        self.sources: dict[str, Tensor] = _floating(model)
        self.averages: dict[str, Tensor] = {
            name: x.detach().to(computation_dtype(x), copy=True) for name, x in self.sources.items()
        }

    @torch.no_grad()
    def update(self) -> None:
        """Move the average toward the model's present weights."""
        weight = 1.0 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        averages = list(self.averages.values())
        current = [x.to(a.dtype) for x, a in zip(self.sources.values(), averages, strict=True)]
        if averages:
            torch._foreach_lerp_(averages, current, weight)
        self.updates += 1

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Inside the block the model has the averaged weights.

        After it, its own again, bit for bit.
        """
        own = {name: x.detach().clone() for name, x in self.sources.items()}
        self._fill(self.sources, self.averages)
        try:
            yield
        finally:
            self._fill(self.sources, own)

    def state_dict(self) -> dict[str, Any]:
        """The count of updates and the averages (the tensors themselves, as ``nn.Module.state_dict`` gives its own)."""
        return {"updates": self.updates, "averages": dict(self.averages)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a saved average.

        Its names must be this model's. The decay is the constructor's.
        """
        if state["averages"].keys() != self.averages.keys():
            names = sorted(state["averages"].keys() ^ self.averages.keys())
            raise InputError(
                f"EMA: the saved average is of another model, which differs in {', '.join(names[:3])}"
            )
        self._fill(self.averages, state["averages"])
        self.updates = state["updates"]

    @staticmethod
    @torch.no_grad()
    def _fill(to: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
        for name, x in to.items():
            x.copy_(values[name])


def _floating(model: nn.Module) -> dict[str, Tensor]:
    # Persistent tensors only: a table that is rebuilt from the configuration needs no average.
    kept = model.state_dict(keep_vars=True)
    named = [*model.named_parameters(), *model.named_buffers()]  # tied tensors appear once
    return {name: x for name, x in named if name in kept and x.is_floating_point()}
