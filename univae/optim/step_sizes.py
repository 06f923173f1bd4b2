r"""Step sizes adapted by exponentiated gradients around any optimizer.

References:
    Step-size Adaptation Using Exponentiated Gradient Updates (Amid et al., 2022),
    https://arxiv.org/abs/2202.00145 Online Learning Rate Adaptation with Hypergradient Descent
    (Baydin et al., 2017), https://arxiv.org/abs/1703.04782
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from univae.errors import InputError
from univae.optim.base import Scratch, cached, gradient, zeros
from univae.optim.egdd import grow_gains, grow_scales, require_rates, spread
from univae.optim.windowed import Windowed

__all__ = ["AdaptedSteps"]


class AdaptedSteps:
    r"""Multiplies every step of an optimizer by a learned scale per tensor and, if asked, a gain per coordinate.

    With :math:`u_t` the step the optimizer takes, momentum, preconditioner, weight decay and
    schedule included, and :math:`\Delta_t` the one taken,

    .. math::
        s \gets s\, e^{-\gamma_s \cos(g_t, \Delta_{t-1})}, \qquad
        n \gets n\, e^{-\gamma_n \operatorname{sign}(g_t \odot \Delta_{t-1})}, \qquad
        \Delta_t = s\, n \odot u_t

    The arguments are the derivatives of the loss by :math:`\log s` and :math:`\log n` - whatever
    the optimizer makes of its gradients - as direction and sign; raw with ``directions=False`` and
    ``signs=False``. Optimizers with a window adapt to every micro-gradient and scale the step at
    its end.

    **Noise.** :math:`\Delta_{t-1}` has moved along its own noise, so the next gradient leans
    against it, and both shrink where noise dominates. With ``halves=True`` call :meth:`split`
    between the backward passes of the two halves of a batch, :math:`g_t = a_t + b_t`: the optimizer
    is given :math:`a_t + b_{t-1}` (in ``.grad``), one half entering a step late, and the step sizes
    are measured along :math:`-b_{t-1}`, taken where the last step began, whose noise is in neither
    :math:`\theta_t` nor :math:`g_t`: :math:`\mathbb{E} \langle g_t, b_{t-1} \rangle = \frac12
    \mathbb{E} \langle \nabla L(\theta_t), \nabla L(\theta_{t-1}) \rangle`. The optimizer's own
    preconditioner is ignored there.

    The optimizer stays as it is: schedulers and checkpoints keep working; save :meth:`state_dict`
    beside its own.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        scale_lr: float = 1e-3,
        gain_lr: float = 0.0,
        signs: bool = True,
        directions: bool = True,
        halves: bool = False,
    ) -> None:
        require_rates(self, gain_lr, scale_lr)
        self.optimizer = optimizer
        self.scale_lr = scale_lr
        self.gain_lr = gain_lr
        self.signs = signs
        self.directions = directions
        self.halves = halves
        self.state: dict[Tensor, dict[str, Tensor]] = {}
        self._first: dict[Tensor, Tensor] = {}
        self._handles = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        ]

    def remove(self) -> None:
        """From now on the optimizer's steps are its own."""
        for handle in self._handles:
            handle.remove()

    def step_sizes(self) -> dict[str, float]:
        """Quantiles of the scales over tensors and of the gains over coordinates, for a log."""
        return spread(self.state.values())

    @torch.no_grad()
    def split(self) -> None:
        """Notes the gradients of the first half of the batch; the second half's add up on them."""
        self._first = {p: p.grad.clone() for _, p in self._with_gradient() if p.grad is not None}

    def state_dict(self) -> dict[str, Any]:
        """What is remembered of each parameter, by its place in the optimizer."""
        return {
            "state": {i: self.state[p] for i, p in enumerate(self._parameters()) if p in self.state}
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a copy of a saved state.

        Raises:
            InputError: the state is of another optimizer, or a tensor does not have its parameter's
                shape.
        """
        entries = state.get("state")
        if not isinstance(entries, Mapping):
            raise InputError(
                "AdaptedSteps: not a saved state of step sizes; give what state_dict() returned"
            )
        for index, p in enumerate(self._parameters()):
            if index in entries:
                self.state[p] = _fitting(entries[index], p, index)

    @torch.no_grad()
    def _before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if any(
            x is not None for x in (*args[1:], *kwargs.values())
        ):  # the first is the optimizer itself
            raise InputError(
                "AdaptedSteps: step() takes no closure, for the gradients are read before it; call it first"
            )
        ready = [
            (gradient(p, group.get("maximize", False)), p) for group, p in self._with_gradient()
        ]
        if self.halves and ready and not self._first:
            raise InputError(
                "AdaptedSteps: with halves, call split() between the backward passes of the two halves"
            )
        for run in self._runs(ready):
            self._adapt(run)
        if self.halves:
            self._delay(p for _, p in ready)
        if self._will_move():
            for p in self._parameters():
                if p in self.state:
                    self.state[p]["step"].copy_(p)

    def _adapt(self, run: list[tuple[Tensor, Tensor]]) -> None:
        grads = [g for g, _ in run]
        states = [self._state(p) for _, p in run]
        steps = [state["held"] if self.halves else state["step"] for state in states]
        against = Scratch().copy(steps)
        if not self.halves:
            torch._foreach_neg_(against)
        if self.scale_lr:
            grow_scales(
                [state["scale"] for state in states], grads, against, self.scale_lr, self.directions
            )
        if self.gain_lr:
            grow_gains(
                [state["gain"] for state in states], grads, against, self.gain_lr, self.signs
            )

    @torch.no_grad()
    def _after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if isinstance(optimizer, Windowed) and not optimizer.moved:
            return
        scratch = Scratch()
        for run in cached(p for p in self._parameters() if p in self.state):
            states = [self.state[p] for p in run]
            before = [state["step"] for state in states]
            taken = scratch.copy([p.to(b.dtype) for p, b in zip(run, before, strict=True)])
            torch._foreach_sub_(taken, before)
            torch._foreach_mul_(taken, [state["scale"] for state in states])
            if self.gain_lr:
                torch._foreach_mul_(taken, [state["gain"] for state in states])
            torch._foreach_add_(before, taken)
            torch._foreach_copy_(run, before)
            torch._foreach_copy_(before, taken)

    def _delay(self, params: Iterator[Tensor]) -> None:
        for p in params:
            state = self.state[p]
            assert p.grad is not None
            first = self._first.get(p, torch.zeros_like(p))
            second = p.grad - first
            p.grad.copy_(first + (state["held"] if state["count"] else first))
            state["held"].copy_(second)
            state["count"] += 1
        self._first = {}

    def _state(self, p: Tensor) -> dict[str, Tensor]:
        if p not in self.state:
            step = zeros(p)
            self.state[p] = {"step": step, "scale": step.new_ones(())}
            if self.gain_lr:
                self.state[p]["gain"] = torch.ones_like(step)
            if self.halves:
                self.state[p] |= {"held": torch.zeros_like(step), "count": step.new_zeros(())}
        return self.state[p]

    def _will_move(self) -> bool:
        groups = self.optimizer.param_groups
        return not isinstance(self.optimizer, Windowed) or all(
            g["position"] + 1 == g["window"] for g in groups
        )

    def _parameters(self) -> Iterator[Tensor]:
        return (p for group in self.optimizer.param_groups for p in group["params"])

    def _with_gradient(self) -> list[tuple[dict[str, Any], Tensor]]:
        groups = self.optimizer.param_groups
        return [(group, p) for group in groups for p in group["params"] if p.grad is not None]

    @staticmethod
    def _runs(ready: list[tuple[Tensor, Tensor]]) -> Iterator[list[tuple[Tensor, Tensor]]]:
        grads = {p: g for g, p in ready}
        for run in cached(grads):
            yield [(grads[p], p) for p in run]


def _fitting(entry: Any, p: Tensor, index: int) -> dict[str, Tensor]:
    """Return a copy of a parameter's saved step sizes, in the precision they are kept in."""
    if not isinstance(entry, Mapping) or not {"step", "scale"} <= entry.keys():
        raise InputError(f"AdaptedSteps: the state of parameter {index} lacks step or scale")
    like = zeros(p)
    fitting = {}
    for name, x in entry.items():
        shape = torch.Size() if name in ("scale", "count") else p.shape
        if not isinstance(x, Tensor) or x.shape != shape:
            raise InputError(
                f"AdaptedSteps: {name} of parameter {index} must have the shape {tuple(shape)}"
            )
        fitting[name] = x.to(device=p.device, dtype=like.dtype, copy=True)
    return fitting
