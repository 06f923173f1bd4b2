r"""SGD and AdamW whose momentum is the accumulation buffer.

Per coordinate, let micro-gradients be :math:`\mu + \sigma \epsilon`. The published rule keeps the
mean of squares :math:`\mu^2 + \sigma^2` where an accumulated gradient has the square of the mean,
:math:`\mu^2 + \sigma^2 / k`: steps come out too small by up to :math:`\sqrt k` where noise
dominates. Since both :math:`\mu^2 \approx \hat m^2` and their sum are at hand, the variance can be
divided by :math:`k` without any memory (``second_moment="corrected"``):

.. math:: v_{\text{eff}} = \hat m^2 + \max(\hat v - \hat m^2, 0) / k

References:
    Gradient accumulation hidden in momentum (Su, 2021), https://kexue.fm/archives/8634 Decoupled
    Weight Decay Regularization (Loshchilov & Hutter, 2017), https://arxiv.org/abs/1711.05101
"""

from collections.abc import Mapping
from typing import Any, Literal, SupportsIndex, TypeAlias

import torch
from torch import Tensor

from univae.optim.base import Scratch, require
from univae.optim.windowed import Windowed

__all__ = ["AccumulatedAdamW", "AccumulatedSGD", "SecondMoment"]

SecondMoment: TypeAlias = Literal["corrected", "plain"]
LONG_AGO = (
    2**30
)  # steps of an SGD, which torch does not count: only a window that ends early asks whether there are few


class AccumulatedSGD(Windowed):
    r"""SGD with momentum over windows of ``window`` gradients: exactly SGD on their mean.

    .. math::
        m \gets \mu\, m + \tfrac1k \sum_{i=1}^{k} (g_i + \lambda \theta), \qquad \theta \gets \theta - \eta\, m

    Torch's convention: gradients enter with weight 1, not :math:`1 - \mu`. With ``window=1`` it is
    ``torch.optim.SGD``, bit for bit. Nesterov's momentum needs the mean gradient by itself, which
    is never held.

    Raises:
        InputError: a learning rate, momentum, weight decay or window outside its range.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = 0.9,
        window: SupportsIndex = 1,
        weight_decay: float = 0.0,
        maximize: bool = False,
    ) -> None:
        require(self, "momentum", momentum, 0 <= momentum < 1, "in [0, 1)")
        defaults = {"lr": lr, "momentum": momentum, "window": window, "weight_decay": weight_decay}
        super().__init__(params, defaults | {"maximize": maximize})

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a copy of a saved state: one of this class, or of ``torch.optim.SGD``, which it equals.

        The window stays this optimizer's own where the state is torch's.

        Raises:
            InputError: for the state of another optimizer, or of an SGD with ``nesterov`` or
                ``dampening``.
        """
        if not _is_torchs(state_dict, "nesterov"):
            super().load_state_dict(state_dict)
            return
        for group in state_dict["param_groups"]:
            self._require_saved(not group["nesterov"], "nesterov=False; got nesterov=True")
            self._require_saved(
                not group["dampening"], f"dampening=0; got dampening={group['dampening']}"
            )
        states = {}
        for index, state in state_dict["state"].items():
            if state.get("momentum_buffer") is not None:
                states[index] = {"step": LONG_AGO, "momentum_buffer": state["momentum_buffer"]}
        super().load_state_dict(self._with_windows(state_dict, states))

    def decays(self, group: dict[str, Any]) -> dict[str, float]:
        return {"momentum_buffer": float(group["momentum"])}  # torch keeps an integer 0 by default

    def _fold(
        self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], first: bool
    ) -> None:
        m = self._slots(params, "momentum_buffer")
        k = group["window"]
        if first:
            torch._foreach_mul_(m, group["momentum"])
        if k == 1 and group["weight_decay"]:  # here and not in the move, to round as torch does
            grads = list(torch._foreach_add(grads, params, alpha=group["weight_decay"]))
        torch._foreach_add_(m, grads, alpha=1 / k)

    def _move(
        self, group: dict[str, Any], params: list[Tensor], step: int, count: int, scratch: Scratch
    ) -> None:
        m = self._slots(params, "momentum_buffer")
        if group["window"] > 1 and group["weight_decay"]:
            torch._foreach_add_(m, params, alpha=group["weight_decay"])
        torch._foreach_add_(params, m, alpha=-group["lr"])


class AccumulatedAdamW(Windowed):
    r"""AdamW over windows of ``window`` gradients, without a buffer for their sum.

    .. math::
        m &\gets \beta_1 m + \tfrac{1 - \beta_1}{k} \textstyle\sum_i g_i, &
        v &\gets \beta_2 v + \tfrac{1 - \beta_2}{k} \textstyle\sum_i g_i^2, \\
        \hat m &= m / (1 - \beta_1^s), &
        \theta &\gets (1 - \eta \lambda)\, \theta - \eta\, \hat m / (\sqrt{v_{\text{eff}}} + \epsilon)

    :math:`s` counts updates. :math:`v_{\text{eff}}` is :math:`\hat v = v / (1 - \beta_2^s)` with
    ``second_moment="plain"``, the published rule; ``"corrected"`` divides the variance in it by
    :math:`k` (see the module). With ``window=1`` both are ``torch.optim.AdamW``, bit for bit (on
    float32 and float64 parameters).

    Raises:
        InputError: a learning rate, beta, eps, weight decay, window or second moment outside its
            range.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        window: SupportsIndex = 1,
        second_moment: SecondMoment = "corrected",
        maximize: bool = False,
    ) -> None:
        require(self, "betas", betas, all(0 <= beta < 1 for beta in betas), "in [0, 1)")
        require(self, "eps", eps, eps >= 0, "0 or more")
        require(
            self,
            "second_moment",
            second_moment,
            second_moment in ("corrected", "plain"),
            "corrected or plain",
        )
        defaults = {
            "lr": lr,
            "betas": tuple(betas),
            "eps": eps,
            "weight_decay": weight_decay,
            "window": window,
        }
        super().__init__(params, defaults | {"second_moment": second_moment, "maximize": maximize})

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a copy of a saved state: one of this class, or of ``torch.optim.AdamW``, which it equals.

        The window and the second moment stay this optimizer's own where the state is torch's.

        Raises:
            InputError: for the state of another optimizer, of an AdamW with ``amsgrad``, or of an
                Adam whose decay is
                part of the gradient.
        """
        if not _is_torchs(state_dict, "amsgrad"):
            super().load_state_dict(state_dict)
            return
        for group in state_dict["param_groups"]:
            self._require_saved(not group["amsgrad"], "amsgrad=False; got amsgrad=True")
            coupled = not group.get("decoupled_weight_decay", True) and group["weight_decay"] != 0
            self._require_saved(
                not coupled, f"decoupled decay; got Adam's weight_decay={group['weight_decay']}"
            )
        states = {
            index: {**state, "step": int(state["step"])}
            for index, state in state_dict["state"].items()
            if state
        }
        super().load_state_dict(self._with_windows(state_dict, states))

    def decays(self, group: dict[str, Any]) -> dict[str, float]:
        return dict(zip(("exp_avg", "exp_avg_sq"), group["betas"], strict=True))

    def _fold(
        self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], first: bool
    ) -> None:
        (beta1, beta2) = group["betas"]
        k = group["window"]
        m = self._slots(params, "exp_avg")
        v = self._slots(params, "exp_avg_sq")
        if k == 1:
            torch._foreach_lerp_(m, grads, 1 - beta1)  # as torch rounds it
        else:
            if first:
                torch._foreach_mul_(m, beta1)
            torch._foreach_add_(m, grads, alpha=(1 - beta1) / k)
        if first:
            torch._foreach_mul_(v, beta2)
        torch._foreach_addcmul_(v, grads, grads, value=(1 - beta2) / k)

    def _move(
        self, group: dict[str, Any], params: list[Tensor], step: int, count: int, scratch: Scratch
    ) -> None:
        (beta1, beta2) = group["betas"]
        lr = group["lr"]
        m = self._slots(params, "exp_avg")
        v = self._slots(params, "exp_avg_sq")
        unbias1 = 1 - beta1**step
        unbias2 = 1 - beta2**step
        denominator = scratch.copy(v)
        if group["second_moment"] == "corrected" and count > 1:
            squares = scratch.copy(m, place=1)
            torch._foreach_div_(denominator, unbias2)
            torch._foreach_div_(squares, unbias1)
            torch._foreach_mul_(squares, squares)
            torch._foreach_maximum_(denominator, squares)
            torch._foreach_lerp_(denominator, squares, 1 - 1 / count)  # m^2 + max(v - m^2, 0) / n
            torch._foreach_sqrt_(denominator)
        else:
            torch._foreach_sqrt_(denominator)
            torch._foreach_div_(denominator, unbias2**0.5)
        torch._foreach_add_(denominator, group["eps"])
        if group["weight_decay"]:
            torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
        torch._foreach_addcdiv_(params, m, denominator, value=-lr / unbias1)


def _is_torchs(state: Mapping[str, Any], option: str) -> bool:
    """Return whether a state is of torch's optimizer that has this option."""
    return all(option in group and "window" not in group for group in state["param_groups"])
