"""Tiger: sign descent on the mean gradient, with one state tensor per parameter.

References:
    Tiger: a tight-fisted optimizer (Su, 2023), https://kexue.fm/archives/9512
    Symbolic Discovery of Optimization Algorithms (Chen et al., 2023),
    https://arxiv.org/abs/2302.06675
"""

from typing import SupportsIndex

import torch

from univae.optim.base import Group, Parameters, require
from univae.optim.cache_chunks import Scratch
from univae.optim.windowed import Block, Windowed

__all__ = ["Tiger"]


class Tiger(Windowed):
    r"""Sign descent: a coordinate moves by the learning rate against the sign of its mean gradient.

    .. math::
        m \gets \beta m + \tfrac{1 - \beta}{k} \textstyle\sum_i g_i, \qquad
        \theta \gets \theta - \eta \left(\operatorname{sign} m + \lambda \theta\right)

    There is no second moment and no bias correction, so accumulation over a window is exact. The
    published settings are :math:`\beta` = 0.945 for images and 0.965 for text, and learning rates
    of 1e-3 to 2e-3 times the root mean square of a matrix's weights.

    Raises:
        InputError: a learning rate, beta, weight decay or window outside its range.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        beta: float = 0.965,
        weight_decay: float = 0.01,
        window: SupportsIndex = 1,
        *,
        maximize: bool = False,
    ) -> None:
        require(self, "beta", beta, "in [0, 1)", holds=0 <= beta < 1)
        defaults = {
            "lr": lr,
            "beta": beta,
            "weight_decay": weight_decay,
            "window": window,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def decays(self, group: Group) -> dict[str, float]:
        """Return the decay of the mean gradient."""
        return {"exp_avg": group["beta"]}

    def _fold(self, group: Group, block: Block, *, is_first: bool) -> None:
        m = block.averages["exp_avg"]
        if is_first:
            torch._foreach_mul_(m, group["beta"])
        torch._foreach_add_(m, block.grads, alpha=(1 - group["beta"]) / group["window"])

    def _move(self, group: Group, block: Block, step: int, count: int, scratch: Scratch) -> None:
        flat_signs, signs = scratch.copy(block.averages["exp_avg"])
        flat_signs.sign_()
        if group["weight_decay"]:
            torch._foreach_mul_(block.params, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(block.params, signs, alpha=-group["lr"])
