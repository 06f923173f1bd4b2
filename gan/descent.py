"""An optimizer step of one player, which raises where the gradient is not finite."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

__all__ = ["NotFinite", "default_optimizer", "descend"]

LEARNING_RATE = 2e-4
BETAS = (0.0, 0.9)
FUSED_DEVICES = ("cpu", "cuda")  # for which torch has a fused Adam


class NotFinite(FloatingPointError):
    """The gradient of a player is not finite; its weights were not updated.

    ``report`` has the name of the player, its loss and its gradient norm.
    """

    def __init__(self, player: str, report: Mapping[str, float]) -> None:
        numbers = ", ".join(f"{name} {value:g}" for name, value in report.items())
        super().__init__(
            f"the gradient of the {player} is not finite ({numbers}); its weights were not updated"
        )
        self.report = {"player": player, **report}


def default_optimizer(player: nn.Module) -> Optimizer:
    """Return Adam with learning rate 2e-4 and betas (0, 0.9) for all weights of a player."""
    device_type = next(player.parameters()).device.type
    return torch.optim.Adam(
        player.parameters(), lr=LEARNING_RATE, betas=BETAS, fused=device_type in FUSED_DEVICES
    )


def descend(optimizer: Optimizer, loss: Tensor, player: str, largest_norm: float) -> Tensor:
    """Take a step of ``optimizer`` on the gradient of ``loss``; return the norm of the gradient.

    A gradient longer than ``largest_norm`` is scaled to that norm; 0: no limit.

    Raises:
        NotFinite: the gradient is not finite; its message names ``player``.
    """
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    norm = nn.utils.clip_grad_norm_(weights, largest_norm or float("inf"))
    if not norm.isfinite():
        raise NotFinite(player, {"loss": loss.item(), "gradient norm": norm.item()})
    optimizer.step()
    return norm.detach()
