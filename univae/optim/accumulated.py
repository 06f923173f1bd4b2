"""SGD and AdamW whose momentum is the accumulation buffer of a window of gradients.

References:
    Gradient accumulation hidden in momentum (Su, 2021), https://kexue.fm/archives/8634
    Decoupled Weight Decay Regularization (Loshchilov & Hutter, 2017),
    https://arxiv.org/abs/1711.05101
"""

from typing import SupportsIndex

import torch
from torch import Tensor

from univae.errors import InputError
from univae.optim.base import Group, Parameters, State, StateDict, require
from univae.optim.cache_chunks import Scratch, is_plain
from univae.optim.half_words import pack, round_stochastically, unpack
from univae.optim.second_moments import SECOND_MOMENTS, Moments, SecondMoment, mean_noise
from univae.optim.torch_states import is_torch_state, windowed_state
from univae.optim.windowed import Block, Change, Windowed

__all__ = ["AccumulatedAdamW", "AccumulatedSGD", "SecondMoment"]

# The step count of a loaded torch.optim.SGD, which stores none: so large that the momentum of a
# window that ends early needs no bias correction.
ASSUMED_STEPS = 2**30

OPENED_WITH = "opened_with"  # option of a group: the second moment of its open window
SUMMED = [name for name, rule in SECOND_MOMENTS.items() if rule.of_summed]

FUSED_DEVICES = ("cpu", "cuda")  # types for which torch has a fused AdamW


class AccumulatedSGD(Windowed):
    r"""SGD with momentum over windows of ``window`` gradients: exactly SGD on their mean.

    .. math::
        m \gets \mu\, m + \tfrac1k \sum_{i=1}^{k} (g_i + \lambda \theta), \qquad
        \theta \gets \theta - \eta\, m

    Torch's convention: gradients enter with weight 1, not :math:`1 - \mu`. With ``window=1`` it is
    ``torch.optim.SGD``, bit for bit. Nesterov's momentum is not available: it needs the mean
    gradient in a buffer of its own.

    Raises:
        InputError: a learning rate, momentum, weight decay or window outside its range.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        momentum: float = 0.9,
        window: SupportsIndex = 1,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        require(self, "momentum", momentum, "in [0, 1)", holds=0 <= momentum < 1)
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "window": window,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Load a copy of a state saved by this class or by ``torch.optim.SGD``.

        A state of torch leaves the window of this optimizer as it is.

        Raises:
            InputError: the state is of another optimizer, or of an SGD with ``nesterov`` or
                ``dampening``.
        """
        if not is_torch_state(state_dict, "nesterov"):
            super().load_state_dict(state_dict)
            return
        for group in state_dict["param_groups"]:
            dampening = group["dampening"]
            self._require_saved("nesterov=False; got nesterov=True", holds=not group["nesterov"])
            self._require_saved(f"dampening=0; got dampening={dampening}", holds=not dampening)
        states = {}
        for index, state in state_dict["state"].items():
            momentum = state.get("momentum_buffer")
            if momentum is not None:
                states[index] = {"step": ASSUMED_STEPS, "momentum_buffer": momentum}
        super().load_state_dict(windowed_state(state_dict, states, self.param_groups))

    def decays(self, group: Group) -> dict[str, float]:
        """Return the decay of the momentum."""
        return {"momentum_buffer": float(group["momentum"])}  # torch's default is an integer 0

    def _fold(self, group: Group, block: Block, *, is_first: bool) -> None:
        m = block.averages["momentum_buffer"]
        grads = block.grads
        k = group["window"]
        if is_first:
            torch._foreach_mul_(m, group["momentum"])
        if k == 1 and group["weight_decay"]:
            # added to the gradient, and not in _move, to round as torch does
            grads = list(torch._foreach_add(grads, block.params, alpha=group["weight_decay"]))
        torch._foreach_add_(m, grads, alpha=1 / k)

    def _move(self, group: Group, block: Block, step: int, count: int, scratch: Scratch) -> None:
        m = block.averages["momentum_buffer"]
        if group["window"] > 1 and group["weight_decay"]:
            torch._foreach_add_(m, block.params, alpha=group["weight_decay"])
        torch._foreach_add_(block.params, m, alpha=-group["lr"])


class AccumulatedAdamW(Windowed):
    r"""AdamW over windows of ``window`` gradients, without a buffer for their sum.

    .. math::
        m &\gets \beta_1 m + \tfrac{1 - \beta_1}{k} \textstyle\sum_i g_i, &
        v &\gets \beta_2 v + \tfrac{1 - \beta_2}{k} \textstyle\sum_i g_i^2, \\
        \hat m &= m / (1 - \beta_1^s), &
        \theta &\gets (1 - \eta \lambda)\, \theta
            - \eta\, \hat m / (\sqrt{v_{\text{eff}}} + \epsilon)

    :math:`s` counts updates. :math:`v_{\text{eff}}` is :math:`\hat v = v / (1 - \beta_2^s)` with
    ``second_moment="plain"``, the published rule; ``"corrected"`` divides the variance in it by
    :math:`k`, and ``"unbiased"`` also takes the noise of :math:`\hat m` into account (see
    :mod:`univae.optim.second_moments`). ``"summed"`` is AdamW on the mean gradient of a window,

    .. math:: v \gets \beta_2 v + (1 - \beta_2) \left(\tfrac1k \textstyle\sum_i g_i\right)^2,

    with both moments rounded to half their bits after each update: inside a window they share the
    memory of :math:`v`, and the sum has that of :math:`m` (:mod:`univae.optim.half_words`); they
    are numbers to read only where no window is open, and the group's option ``second_moment`` can
    change to or from ``"summed"`` only there. With ``window=1`` all are
    ``torch.optim.AdamW(fused=True)``, bit for bit, where torch has that kernel (float32 and float64
    parameters on CPU and CUDA, whose gradients lie in memory as they do), and round as its other
    implementations elsewhere.

    Raises:
        InputError: a learning rate, beta, eps, weight decay, window or second moment outside its
            range.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        window: SupportsIndex = 1,
        second_moment: SecondMoment = "corrected",
        *,
        maximize: bool = False,
    ) -> None:
        names = " or ".join(SECOND_MOMENTS)
        is_choice = second_moment in SECOND_MOMENTS
        require(self, "betas", betas, "in [0, 1)", holds=all(0 <= beta < 1 for beta in betas))
        require(self, "eps", eps, "0 or more", holds=eps >= 0)
        require(self, "second_moment", second_moment, names, holds=is_choice)
        defaults = {
            "lr": lr,
            "betas": tuple(betas),
            "eps": eps,
            "weight_decay": weight_decay,
            "window": window,
            "second_moment": second_moment,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: Group) -> None:
        """Add a group of parameters, as :meth:`Windowed.add_param_group` does."""
        rule = param_group.get("second_moment", self.defaults["second_moment"])
        super().add_param_group(param_group | {OPENED_WITH: rule})

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Load a copy of a state saved by this class or by ``torch.optim.AdamW``.

        A state of torch leaves the window and the second moment of this optimizer as they are.

        Raises:
            InputError: the state is of another optimizer, of an AdamW with ``amsgrad``, or of an
                Adam whose weight decay is part of the gradient; or it was saved inside a window,
                and one of its second moment and that of this optimizer is ``summed``.
        """
        if not is_torch_state(state_dict, "amsgrad"):
            for saved, group in zip(state_dict["param_groups"], self.param_groups, strict=False):
                if saved.get("position"):
                    opened = saved.get(OPENED_WITH, saved.get("second_moment"))
                    self._require_rule(opened, saved.get("second_moment"))
                    self._require_rule(opened, group["second_moment"])
            super().load_state_dict(state_dict)
            return
        for group in state_dict["param_groups"]:
            weight_decay = group["weight_decay"]
            is_coupled = not group.get("decoupled_weight_decay", True) and weight_decay != 0
            rule = f"decoupled decay; got Adam's weight_decay={weight_decay}"
            self._require_saved("amsgrad=False; got amsgrad=True", holds=not group["amsgrad"])
            self._require_saved(rule, holds=not is_coupled)
        states = {}
        for index, state in state_dict["state"].items():
            if state:
                states[index] = {**state, "step": int(state["step"])}
        super().load_state_dict(windowed_state(state_dict, states, self.param_groups))

    def decays(self, group: Group) -> dict[str, float]:
        """Return the decays of the mean gradient and of the mean squared gradient."""
        return dict(zip(("exp_avg", "exp_avg_sq"), group["betas"], strict=True))

    def _change(
        self, group: Group, block: Block, change: Change, length: int, scratch: Scratch
    ) -> None:
        is_whole = change.folds and change.is_first and change.step > 0
        if group["window"] == 1 and is_whole and _has_fused_kernel(block):
            _fused_step(group, block, change.step)
        else:
            super()._change(group, block, change, length, scratch)

    def _require_same_window(self, group: Group) -> None:
        super()._require_same_window(group)
        rule = group["second_moment"]
        if group["position"] == 0:
            group[OPENED_WITH] = rule
        else:
            self._require_rule(group.setdefault(OPENED_WITH, rule), rule)

    def _require_rule(self, opened: str | None, rule: str | None) -> None:
        """Raise InputError where one of two rules of a window sums its gradients, and one not."""
        if (opened in SUMMED) != (rule in SUMMED):
            raise InputError(
                f"{type(self).__name__}: second_moment can change to or from "
                f"{', '.join(SUMMED)} only between two windows; got second_moment={rule} inside a "
                f"window of {opened}; call finish() before the change"
            )

    def _reduced(self, group: Group) -> list[str]:
        """Return the averages that differ between processes inside a window."""
        return ["exp_avg"] if self._sums(group) else super()._reduced(group)

    def _open(self, group: Group, state: State) -> None:
        if self._sums(group):
            pack([state["exp_avg"]], [state["exp_avg_sq"]])
        else:
            super()._open(group, state)

    def _fold(self, group: Group, block: Block, *, is_first: bool) -> None:
        beta1, beta2 = group["betas"]
        k = group["window"]
        m = block.averages["exp_avg"]
        v = block.averages["exp_avg_sq"]
        if self._sums(group):
            if is_first:
                pack(m, v)
            torch._foreach_add_(m, block.grads, alpha=1 / k)
            return
        if k == 1:
            torch._foreach_lerp_(m, block.grads, 1 - beta1)  # rounds as torch does
        else:
            if is_first:
                torch._foreach_mul_(m, beta1)
            torch._foreach_add_(m, block.grads, alpha=(1 - beta1) / k)
        if is_first:
            torch._foreach_mul_(v, beta2)
        torch._foreach_addcmul_(v, block.grads, block.grads, value=(1 - beta2) / k)

    def _rescale(self, group: Group, block: Block, change: Change, length: int) -> None:
        if not self._sums(group):
            super()._rescale(group, block, change, length)
            return
        beta1, _ = group["betas"]
        share = self._share(group, change, length, has_past=change.step > 1 and beta1 > 0)
        if share != 1:
            torch._foreach_div_(block.averages["exp_avg"], share)

    def _move(self, group: Group, block: Block, step: int, count: int, scratch: Scratch) -> None:
        beta1, beta2 = group["betas"]
        lr = group["lr"]
        m = block.averages["exp_avg"]
        v = block.averages["exp_avg_sq"]
        sums = self._sums(group)
        if sums:
            _average_mean(m, v, group["betas"], scratch)
        noise = mean_noise(beta1, step)
        moments = Moments(m, v, 1 - beta1**step, 1 - beta2**step, noise)
        root, denominator = SECOND_MOMENTS[group["second_moment"]].root(moments, count, scratch)
        root.add_(group["eps"])
        if group["weight_decay"]:
            torch._foreach_mul_(block.params, 1 - lr * group["weight_decay"])
        torch._foreach_addcdiv_(block.params, m, denominator, value=-lr / moments.mean_weight)
        if sums:
            round_stochastically(m, v, step, scratch)

    def _sums(self, group: Group) -> bool:
        """Return whether a window holds the sum of its gradients in place of their average."""
        has_several = group["window"] > 1 or self.processes > 1
        return has_several and group["second_moment"] in SUMMED


def _average_mean(
    m: list[Tensor], v: list[Tensor], betas: tuple[float, float], scratch: Scratch
) -> None:
    """Unpack the averages, and average the mean gradient, which ``m`` holds, into them."""
    beta1, beta2 = betas
    past_m, past_v = unpack(v, scratch)
    torch._foreach_copy_(v, past_v)
    torch._foreach_mul_(v, beta2)
    torch._foreach_addcmul_(v, m, m, value=1 - beta2)
    torch._foreach_mul_(m, 1 - beta1)
    torch._foreach_add_(m, past_m, alpha=beta1)


def _has_fused_kernel(block: Block) -> bool:
    """Return whether torch's fused AdamW takes a block.

    It reads memory in order, as much of each tensor as the parameter has.
    """
    columns = [block.params, block.grads, *block.averages.values()]
    for p, *others in zip(*columns, strict=True):
        facts = (p.shape, p.dtype, p.device)
        if any((x.shape, x.dtype, x.device) != facts for x in others):
            return False
    first = block.params[0]
    is_fit = first.device.type in FUSED_DEVICES and first.is_floating_point()
    return is_fit and is_plain(columns)


def _fused_step(group: Group, block: Block, step: int) -> None:
    """Take a step of torch's fused AdamW: one pass over memory."""
    beta1, beta2 = group["betas"]
    count = torch.tensor(float(step), device=block.params[0].device)
    torch._fused_adamw_(
        block.params,
        block.grads,
        block.averages["exp_avg"],
        block.averages["exp_avg_sq"],
        [],
        [count] * len(block.params),
        lr=group["lr"],
        beta1=beta1,
        beta2=beta2,
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        amsgrad=False,
        maximize=False,  # the gradients are to be descended
    )
