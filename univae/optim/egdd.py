r"""EGDD: gradient descent with a step size for every tensor and a gain for every coordinate, both learned as it runs.

Both are updated by unnormalised exponentiated gradients: multiplied by the exponential of minus a
rate times the derivative of the loss, so they stay positive. With signs and cosines in place of raw
products the updates do not depend on the gradient's magnitude: a gain changes by a factor of at
most :math:`e^{\gamma_n}` a step.

References:
    Step-size Adaptation Using Exponentiated Gradient Updates (Amid et al., 2022),
    https://arxiv.org/abs/2202.00145 Learning rates by exponentiated gradients (Su, 2022),
    https://kexue.fm/archives/8968
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from univae.optim.base import Base, Scratch, cached, gradient, require, with_grad, zeros

__all__ = ["EGDD", "grow_gains", "grow_scales", "require_rates", "spread"]

GAINS = (1e-2, 1e2)
SCALES = (0.1, 10.0)


class EGDD(Base):
    r"""SGD with momentum whose per-tensor scale :math:`s` and per-coordinate gain :math:`n` adapt to the gradients.

    .. math::
        s &\gets s\, e^{\gamma_s \cos(g, m)}, &
        n &\gets n\, e^{\gamma_n \operatorname{sign}(g) \operatorname{sign}(\bar g)}, \\
        m &\gets \mu m + \eta\, n \odot g, &
        \bar g &\gets \beta \bar g + (1 - \beta) g, \qquad \theta \gets (1 - \eta \lambda)\, \theta - s\, m

    With ``directions=False`` the cosine is the raw product :math:`\langle g, m \rangle`; with
    ``signs=False`` the signs are :math:`g \odot \bar g / (1 - \beta^{\max(t - 1, 1)})`. Scales stay
    within [0.1, 10], gains within [0.01, 100]; from 1, that takes at least 2303 and 461 steps at
    the default rates. ``gain_lr=0`` keeps no gains and saves two tensors per parameter; with
    ``scale_lr=0`` too it is plain SGD with momentum.

    Noise in the gradient shrinks both: each step has moved along its own noise, so that the next
    gradient points against it (see :class:`univae.optim.AdaptedSteps` for a measure that is free of
    this).

    Raises:
        InputError: a rate, momentum or decay outside its range.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        momentum: float = 0.9,
        beta: float = 0.9,
        gain_lr: float = 1e-2,
        scale_lr: float = 1e-3,
        signs: bool = True,
        directions: bool = True,
        weight_decay: float = 0.0,
        maximize: bool = False,
    ) -> None:
        require(self, "momentum", momentum, 0 <= momentum < 1, "in [0, 1)")
        require(self, "beta", beta, 0 <= beta < 1, "in [0, 1)")
        require_rates(self, gain_lr, scale_lr)
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "beta": beta,
            "gain_lr": gain_lr,
            "scale_lr": scale_lr,
        }
        defaults |= {"signs": signs, "directions": directions}
        super().__init__(params, defaults | {"weight_decay": weight_decay, "maximize": maximize})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Adapt the step sizes to the gradients that are there, then moves."""
        loss = with_grad(closure)
        scratch = Scratch()
        for group in self.param_groups:
            for run in cached(p for p in group["params"] if p.grad is not None):
                self._update(group, run, [gradient(p, group["maximize"]) for p in run], scratch)
        return loss

    def step_sizes(self) -> dict[str, float]:
        """Quantiles of the scales over tensors and of the gains over coordinates, for a log."""
        return spread(self.state.values())

    def slots(self, group: Mapping[str, Any]) -> set[str]:
        return {"momentum", "gain", "gbar"} if group["gain_lr"] else {"momentum"}

    def numbers(self, group: Mapping[str, Any]) -> set[str]:
        return {"step", "scale"}

    def _update(
        self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], scratch: Scratch
    ) -> None:
        states = [self._state(group, p) for p in params]
        m = [state["momentum"] for state in states]
        scales = [state["scale"] for state in states]
        if group["scale_lr"]:
            grow_scales(scales, grads, m, group["scale_lr"], group["directions"])
        torch._foreach_mul_(m, group["momentum"])
        if group["gain_lr"]:
            gains = [state["gain"] for state in states]
            gbar = [state["gbar"] for state in states]
            trail = scratch.copy(gbar)
            if not group["signs"]:
                torch._foreach_div_(
                    trail, [1 - group["beta"] ** max(state["step"], 1) for state in states]
                )
            grow_gains(gains, grads, trail, group["gain_lr"], group["signs"])
            torch._foreach_addcmul_(m, gains, grads, value=group["lr"])
            torch._foreach_lerp_(gbar, grads, 1 - group["beta"])
        else:
            torch._foreach_add_(m, grads, alpha=group["lr"])
        for state in states:
            state["step"] += 1
        if group["weight_decay"]:
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_addcmul_(params, m, scales, value=-1)

    def _state(self, group: dict[str, Any], p: Tensor) -> dict[str, Any]:
        state = self.state[p]
        if not state:
            momentum = zeros(p)
            state.update(step=0, momentum=momentum, scale=momentum.new_ones(()))
            if group["gain_lr"]:
                state.update(gain=torch.ones_like(momentum), gbar=torch.zeros_like(momentum))
        return state


def grow_scales(
    scales: list[Tensor], grads: list[Tensor], against: list[Tensor], rate: float, directions: bool
) -> None:
    r"""Multiply each scale by :math:`e^{\gamma \cos(g, m)}`, or :math:`e^{\gamma \langle g, m \rangle}`, in place.

    ``against`` is what the last step subtracted, up to a positive factor: where it still agrees
    with the gradient the step was too short.
    """
    agreement = torch.stack(
        [torch.dot(g.reshape(-1), m.reshape(-1)) for g, m in zip(grads, against, strict=True)]
    )
    if directions:
        lengths = torch.stack(torch._foreach_norm(grads)) * torch.stack(
            torch._foreach_norm(against)
        )
        agreement = agreement / lengths.clamp_min(torch.finfo(lengths.dtype).tiny)
    grown = (torch.stack(scales) * (rate * agreement).exp()).clamp(*SCALES)
    torch._foreach_copy_(scales, list(grown.unbind()))


def grow_gains(
    gains: list[Tensor], grads: list[Tensor], trail: list[Tensor], rate: float, signs: bool
) -> None:
    r"""Multiply each gain by :math:`e^{\gamma \operatorname{sign}(g \bar g)}`, or :math:`e^{\gamma g \bar g}`.

    In place; ``trail``, what gradients so far have agreed on, is used up.
    """
    torch._foreach_mul_(trail, grads)
    if signs:  # for a sign, e^(rate s) = 1 + sinh(rate) (s + tanh(rate / 2) s^2): an exponential each is dear
        torch._foreach_sign_(trail)
        torch._foreach_addcmul_(trail, trail, trail, value=math.tanh(rate / 2))
        torch._foreach_addcmul_(gains, gains, trail, value=math.sinh(rate))
    else:
        torch._foreach_mul_(trail, rate)
        torch._foreach_exp_(trail)
        torch._foreach_mul_(gains, trail)
    torch._foreach_clamp_min_(gains, GAINS[0])
    torch._foreach_clamp_max_(gains, GAINS[1])


def require_rates(owner: object, gain_lr: float, scale_lr: float) -> None:
    """Refuse rates below 0."""
    require(owner, "gain_lr", gain_lr, 0 <= gain_lr < float("inf"), "0 (no gains) or more")
    require(owner, "scale_lr", scale_lr, 0 <= scale_lr < float("inf"), "0 (scales stay 1) or more")


def spread(states: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Smallest, median and largest scale.

    The 5%, 50% and 95% quantiles of at most 1000 gains a tensor.
    """
    states = list(states)
    scales = [state["scale"].double() for state in states if "scale" in state]
    gains = [
        g[:: max(1, len(g) // 1000)].double()
        for s in states
        if "gain" in s
        for g in (s["gain"].flatten(),)
    ]
    found: dict[str, float] = {}
    if scales:
        found |= _quantiles("scale", torch.stack(scales), {"min": 0.0, "median": 0.5, "max": 1.0})
    if gains:
        found |= _quantiles("gain", torch.cat(gains), {"p05": 0.05, "median": 0.5, "p95": 0.95})
    return found


def _quantiles(name: str, values: Tensor, at: Mapping[str, float]) -> dict[str, float]:
    levels = values.new_tensor(list(at.values()))
    return {f"{name}_{key}": x for key, x in zip(at, values.quantile(levels).tolist(), strict=True)}
