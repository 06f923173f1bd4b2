r"""Step sizes adapted by exponentiated gradients around any optimizer.

References:
    Step-size Adaptation Using Exponentiated Gradient Updates (Amid et al., 2022),
    https://arxiv.org/abs/2202.00145
    Online Learning Rate Adaptation with Hypergradient Descent (Baydin et al., 2017),
    https://arxiv.org/abs/1703.04782
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from univae.dtypes import computation_dtype
from univae.errors import InputError
from univae.optim.base import Group, State, StateDict, gradient, zero_state
from univae.optim.cache_chunks import Scratch, cache_chunks
from univae.optim.exponentiated import grow_gains, grow_scales, quantiles, require_rates
from univae.optim.windowed import Windowed

__all__ = ["AdaptedSteps"]

SCALARS = frozenset({"scale", "count"})  # state of one number a parameter


class AdaptedSteps:
    r"""Learned factors of the steps of an optimizer: a scale per tensor, a gain per coordinate.

    Gains are adapted where ``gain_lr`` is above 0. With :math:`u_t` the step the optimizer takes,
    momentum, preconditioner, weight decay and schedule included, and :math:`\Delta_t` the one
    taken,

    .. math::
        s \gets s\, e^{-\gamma_s \cos(g_t, \Delta_{t-1})}, \qquad
        n \gets n\, e^{-\gamma_n \operatorname{sign}(g_t \odot \Delta_{t-1})}, \qquad
        \Delta_t = s\, n \odot u_t

    The arguments are the derivatives of the loss by :math:`\log s` and :math:`\log n` - for
    any optimizer - as direction and sign; raw with ``directions=False`` and
    ``signs=False``. Optimizers with a window adapt to every micro-gradient and scale the step at
    its end.

    **Noise.** :math:`\Delta_{t-1}` has moved along its own noise, so the next gradient points
    against it, and both shrink where noise dominates. With ``halves=True`` call :meth:`split`
    between the backward passes of the two halves of a batch, :math:`g_t = a_t + b_t`: the optimizer
    receives :math:`a_t + b_{t-1}` (in ``.grad``), one half a step late, and the step sizes are
    measured along :math:`-b_{t-1}`, the gradient where the last step began, whose noise is in
    neither :math:`\theta_t` nor :math:`g_t`: :math:`\mathbb{E} \langle g_t, b_{t-1} \rangle =
    \frac12 \mathbb{E} \langle \nabla L(\theta_t), \nabla L(\theta_{t-1}) \rangle`. The optimizer's
    own preconditioner is ignored there.

    The optimizer is not wrapped: schedulers and checkpoints keep working; save :meth:`state_dict`
    beside that of the optimizer.

    Raises:
        InputError: a rate that is negative or not finite.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        scale_lr: float = 1e-3,
        gain_lr: float = 0.0,
        *,
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
        self._first_halves: dict[Tensor, Tensor] = {}
        self._handles = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        ]

    def remove(self) -> None:
        """Leave the steps of the optimizer unchanged from now on."""
        for handle in self._handles:
            handle.remove()

    def step_sizes(self) -> dict[str, float]:
        """Return quantiles of the scales over tensors and of the gains over coordinates."""
        return quantiles(self.state.values())

    @torch.no_grad()
    def split(self) -> None:
        """Copy the gradients of the first half of the batch, to which the second half's are added.

        Call it between the two backward passes.
        """
        self._first_halves = {}
        for p in self._parameters():
            if p.grad is not None:
                self._first_halves[p] = p.grad.clone()

    def state_dict(self) -> State:
        """Return the state of each parameter, by its index in the optimizer."""
        states = {}
        for index, p in enumerate(self._parameters()):
            if p in self.state:
                states[index] = self.state[p]
        return {"state": states}

    def load_state_dict(self, state: StateDict) -> None:
        """Load a copy of a saved state.

        Raises:
            InputError: the state is of another optimizer, or a tensor does not have its parameter's
                shape.
        """
        entries = state.get("state")
        if not isinstance(entries, Mapping):
            raise InputError(
                "AdaptedSteps: not a saved state of step sizes; load a result of state_dict()"
            )
        for index, p in enumerate(self._parameters()):
            if index in entries:
                self.state[p] = _checked_copy(entries[index], p, index)

    @torch.no_grad()
    def _before(
        self, optimizer: Optimizer, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> None:
        """Adapt the step sizes, and store the parameters before the optimizer moves them."""
        arguments = (*args[1:], *kwargs.values())  # the first is the optimizer itself
        if any(argument is not None for argument in arguments):
            raise InputError(
                "AdaptedSteps: step() takes no closure, because the gradients are read before it; "
                "call the closure first"
            )
        grads = self._gradients()
        if self.halves and grads and not self._first_halves:
            raise InputError(
                "AdaptedSteps: with halves, call split() between the backward passes of the two "
                "halves"
            )
        for chunk in cache_chunks(grads):
            self._adapt(chunk, [grads[p] for p in chunk])
        if self.halves:
            self._delay_second_halves(grads)
        if self._is_window_end():
            for p in self._parameters():
                if p in self.state:
                    self.state[p]["step"].copy_(p)

    def _adapt(self, params: Sequence[Tensor], grads: list[Tensor]) -> None:
        states = [self._state(p) for p in params]
        name = "held" if self.halves else "step"  # of the state
        flat, directions = Scratch().copy([state[name] for state in states])
        if not self.halves:
            flat.neg_()  # the last step was added to the parameters
        if self.scale_lr:
            scales = [state["scale"] for state in states]
            grow_scales(scales, grads, directions, self.scale_lr, normalise=self.directions)
        if self.gain_lr:
            gains = [state["gain"] for state in states]
            grow_gains(gains, grads, directions, self.gain_lr, signs=self.signs)

    @torch.no_grad()
    def _after(
        self, optimizer: Optimizer, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> None:
        """Replace the step of the optimizer by its product with scales and gains."""
        if isinstance(optimizer, Windowed) and not optimizer.moved:
            return
        scratch = Scratch()
        for chunk in cache_chunks(p for p in self._parameters() if p in self.state):
            states = [self.state[p] for p in chunk]
            before = [state["step"] for state in states]
            after = [p.to(start.dtype) for p, start in zip(chunk, before, strict=True)]
            _, step = scratch.copy(after)
            torch._foreach_sub_(step, before)
            torch._foreach_mul_(step, [state["scale"] for state in states])
            if self.gain_lr:
                torch._foreach_mul_(step, [state["gain"] for state in states])
            torch._foreach_add_(before, step)
            torch._foreach_copy_(chunk, before)
            torch._foreach_copy_(before, step)

    def _delay_second_halves(self, params: Iterable[Tensor]) -> None:
        """Replace the second half of each gradient by that of the previous step.

        The first step has no previous one and uses its first half twice.
        """
        for p in params:
            state = self.state[p]
            assert p.grad is not None
            first = self._first_halves.get(p, torch.zeros_like(p))
            second = p.grad - first
            p.grad.copy_(first + (state["held"] if state["count"] else first))
            state["held"].copy_(second)
            state["count"] += 1
        self._first_halves = {}

    def _state(self, p: Tensor) -> dict[str, Tensor]:
        if p not in self.state:
            step = zero_state(p)
            self.state[p] = {"step": step, "scale": step.new_ones(())}
            if self.gain_lr:
                self.state[p]["gain"] = torch.ones_like(step)
            if self.halves:
                self.state[p] |= {"held": torch.zeros_like(step), "count": step.new_zeros(())}
        return self.state[p]

    def _is_window_end(self) -> bool:
        if not isinstance(self.optimizer, Windowed):
            return True
        groups = self.optimizer.param_groups
        return all(group["position"] + 1 == group["window"] for group in groups)

    def _parameters(self) -> Iterator[Tensor]:
        return (p for group in self._groups() for p in group["params"])

    def _gradients(self) -> dict[Tensor, Tensor]:
        """Return the gradient to descend of every parameter that has one, in state precision."""
        grads = {}
        for group in self._groups():
            for p in group["params"]:
                if p.grad is not None:
                    grads[p] = gradient(p, maximize=group.get("maximize", False))
        return grads

    def _groups(self) -> list[Group]:
        return self.optimizer.param_groups


def _checked_copy(entry: object, p: Tensor, index: int) -> dict[str, Tensor]:
    """Return a copy of a parameter's saved state, in the dtype of the state."""
    if not isinstance(entry, Mapping) or not {"step", "scale"} <= entry.keys():
        raise InputError(f"AdaptedSteps: the state of parameter {index} lacks step or scale")
    copy = {}
    for name, x in entry.items():
        shape = torch.Size() if name in SCALARS else p.shape
        if not isinstance(x, Tensor) or x.shape != shape:
            raise InputError(
                f"AdaptedSteps: {name} of parameter {index} must have the shape {tuple(shape)}"
            )
        copy[name] = x.to(device=p.device, dtype=computation_dtype(p), copy=True)
    return copy
