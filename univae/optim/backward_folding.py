"""Gradients that are folded into the optimizer, and freed, during the backward pass.

References:
    AdamA: Adam Accumulation to Reduce Memory Footprints (Zhang et al., 2023),
    https://arxiv.org/abs/2305.19982
"""

from collections.abc import Mapping
from typing import SupportsIndex

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from univae.optim.base import positive_integer
from univae.optim.windowed import Windowed

__all__ = ["Folding", "accumulate_in_backward"]


class Folding:
    """The hooks that fold gradients into an optimizer, until :meth:`remove` is called.

    The first gradient of a parameter that was added to the optimizer or unfrozen later is folded by
    :meth:`Windowed.step`, the following ones by a hook.
    """

    def __init__(self, optimizer: Windowed) -> None:
        self._optimizer = optimizer
        self._hooked: set[Tensor] = set()
        self._handles: list[RemovableHandle] = []
        # Allocate all state first: between the gradients of a backward pass it would fragment the
        # memory that they free.
        for group in optimizer.param_groups:
            for p in group["params"]:
                optimizer.begin(group, p)
        for index, group in enumerate(optimizer.param_groups):
            for p in group["params"]:
                if p.requires_grad:
                    self._register(index, p)
        self._handles.append(optimizer.register_step_post_hook(self._after_step))

    def remove(self) -> None:
        """Keep gradients in ``.grad`` from now on, until :meth:`Windowed.step`."""
        self._optimizer.processes = 1
        for handle in self._handles:
            handle.remove()

    def _register(self, group_index: int, p: Tensor) -> None:
        @torch.no_grad()
        def fold(p: Tensor) -> None:
            # load_state_dict replaces the groups
            self._optimizer.fold(self._optimizer.param_groups[group_index], [p])
            p.grad = None

        self._hooked.add(p)
        self._handles.append(p.register_post_accumulate_grad_hook(fold))

    def _after_step(
        self, optimizer: Optimizer, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> None:
        """Free the gradients that ``step`` has folded, and hook their parameters."""
        for index, group in enumerate(self._optimizer.param_groups):
            for p in group["params"]:
                if p.grad is None or p in self._hooked:
                    continue
                p.grad = None
                self._register(index, p)


def accumulate_in_backward(optimizer: Windowed, processes: SupportsIndex = 1) -> Folding:
    r"""Fold every gradient into the optimizer as soon as it is complete, and free it.

    Run one backward pass a micro-step, then :meth:`Windowed.step`. Clip gradients before, per
    parameter, or not at all: their global norm is available only when most are freed. With
    ``processes`` > 1, each folds its local gradients and the averages are averaged over torch's
    default process group once a window; if the model is wrapped for distributed training, stay
    inside its ``no_sync()``. First moments are then exactly those of one process with the window
    :math:`k W`; second moments are means of :math:`k W` squares, or with ``"summed"`` the square of
    one mean.

    Raises:
        InputError: ``processes`` is not an integer of 1 or more.
    """
    optimizer.processes = positive_integer(optimizer, "processes", processes)
    return Folding(optimizer)
