"""EGDD: gradient descent with a step size per tensor and a gain per coordinate, both learned.

Both are updated by unnormalised exponentiated gradients, see :mod:`univae.optim.exponentiated`.

References:
    Step-size Adaptation Using Exponentiated Gradient Updates (Amid et al., 2022),
    https://arxiv.org/abs/2202.00145
"""

from collections.abc import Callable
from typing import overload

import torch
from torch import Tensor

from univae.optim.base import (
    Base,
    Group,
    Loss,
    Options,
    Parameters,
    State,
    evaluate,
    gradient,
    require,
    zero_state,
)
from univae.optim.cache_chunks import Scratch, cache_chunks
from univae.optim.exponentiated import grow_gains, grow_scales, quantiles, require_rates

__all__ = ["EGDD"]


class EGDD(Base):
    r"""SGD with momentum, a per-tensor scale :math:`s` and a per-coordinate gain :math:`n`.

    .. math::
        s &\gets s\, e^{\gamma_s \cos(g, m)}, &
        n &\gets n\, e^{\gamma_n \operatorname{sign}(g) \operatorname{sign}(\bar g)}, \\
        m &\gets \mu m + \eta\, n \odot g, &
        \bar g &\gets \beta \bar g + (1 - \beta) g, \qquad
            \theta \gets (1 - \eta \lambda)\, \theta - s\, m

    With ``directions=False`` the cosine is the raw product :math:`\langle g, m \rangle`; with
    ``signs=False`` the signs are :math:`g \odot \bar g / (1 - \beta^{\max(t - 1, 1)})`. Scales stay
    within [0.1, 10], gains within [0.01, 100]; from 1, that takes at least 2303 and 461 steps at
    the default rates. ``gain_lr=0`` stores no gains and saves two tensors per parameter; with
    ``scale_lr=0`` too it is plain SGD with momentum.

    Noise in the gradient shrinks both: each step has moved along its own noise, so that the next
    gradient points against it (see :class:`univae.optim.AdaptedSteps` for a measure that is free of
    this).

    Raises:
        InputError: a rate, momentum or decay outside its range.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-2,
        momentum: float = 0.9,
        beta: float = 0.9,
        gain_lr: float = 1e-2,
        scale_lr: float = 1e-3,
        *,
        signs: bool = True,
        directions: bool = True,
        weight_decay: float = 0.0,
        maximize: bool = False,
    ) -> None:
        require(self, "momentum", momentum, "in [0, 1)", holds=0 <= momentum < 1)
        require(self, "beta", beta, "in [0, 1)", holds=0 <= beta < 1)
        require_rates(self, gain_lr, scale_lr)
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "beta": beta,
            "gain_lr": gain_lr,
            "scale_lr": scale_lr,
            "signs": signs,
            "directions": directions,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], Loss]) -> Loss: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], Loss] | None = None) -> Loss | None:
        """Adapt the step sizes to the gradients, then move; return the loss of ``closure``."""
        loss = evaluate(closure)
        scratch = Scratch()
        for group in self.param_groups:
            with_gradients = (p for p in group["params"] if p.grad is not None)
            for chunk in cache_chunks(with_gradients):
                grads = [gradient(p, maximize=group["maximize"]) for p in chunk]
                self._update(group, chunk, grads, scratch)
        return loss

    def step_sizes(self) -> dict[str, float]:
        """Return quantiles of the scales over tensors and of the gains over coordinates."""
        return quantiles(self.state.values())

    def slots(self, group: Options) -> set[str]:
        """Return the names of the momentum and, with a ``gain_lr``, of gain and mean gradient."""
        return {"momentum", "gain", "gbar"} if group["gain_lr"] else {"momentum"}

    def numbers(self, group: Options) -> set[str]:
        """Return the names of the step count and the scale."""
        return {"step", "scale"}

    def _update(
        self, group: Group, params: list[Tensor], grads: list[Tensor], scratch: Scratch
    ) -> None:
        states = [self._state(group, p) for p in params]
        m = [state["momentum"] for state in states]
        scales = [state["scale"] for state in states]
        if group["scale_lr"]:
            grow_scales(scales, grads, m, group["scale_lr"], normalise=group["directions"])

        torch._foreach_mul_(m, group["momentum"])
        if group["gain_lr"]:
            self._add_with_gains(group, states, grads, scratch)
        else:
            torch._foreach_add_(m, grads, alpha=group["lr"])

        for state in states:
            state["step"] += 1
        if group["weight_decay"]:
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_addcmul_(params, m, scales, value=-1)

    def _add_with_gains(
        self, group: Group, states: list[State], grads: list[Tensor], scratch: Scratch
    ) -> None:
        """Adapt the gains, and add the gradients times their gains to the momentum."""
        m = [state["momentum"] for state in states]
        gains = [state["gain"] for state in states]
        gbar = [state["gbar"] for state in states]
        _, trends = scratch.copy(gbar)
        if not group["signs"]:
            weights = [1 - group["beta"] ** max(state["step"], 1) for state in states]
            torch._foreach_div_(trends, weights)
        grow_gains(gains, grads, trends, group["gain_lr"], signs=group["signs"])
        torch._foreach_addcmul_(m, gains, grads, value=group["lr"])
        torch._foreach_lerp_(gbar, grads, 1 - group["beta"])

    def _state(self, group: Group, p: Tensor) -> State:
        state: State = self.state[p]
        if not state:
            momentum = zero_state(p)
            state.update(step=0, momentum=momentum, scale=momentum.new_ones(()))
            if group["gain_lr"]:
                state.update(gain=torch.ones_like(momentum), gbar=torch.zeros_like(momentum))
        return state
