"""A descent step of one player: gradient, its norm, the optimizer; refused where not finite."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

__all__ = ["NotFinite", "default_optimizer", "descend"]

LEARNING_RATE = 2e-4
BETAS = (0.0, 0.9)


class NotFinite(FloatingPointError):
    """The gradient of a player is not finite; nothing was updated with it.

    ``report`` has the player, its loss and its gradient norm.
    """

    def __init__(self, player: str, report: Mapping[str, float]) -> None:
        numbers = ", ".join(f"{name} {value:g}" for name, value in report.items())
        super().__init__(
            f"the gradient of the {player} is not finite ({numbers}); nothing was updated with it"
        )
        self.report = {"player": player, **report}


def default_optimizer(player: nn.Module) -> Optimizer:
    """Return Adam(2e-4, betas (0, 0.9)) for all weights of a player."""
    device = next(player.parameters()).device.type
    return torch.optim.Adam(
        player.parameters(), lr=LEARNING_RATE, betas=BETAS, fused=device in ("cpu", "cuda")
    )


def descend(optimizer: Optimizer, loss: Tensor, player: str, largest_norm: float) -> Tensor:
    """Step ``optimizer`` along the gradient of ``loss``; return the norm of the gradient.

    A longer gradient is scaled to ``largest_norm``, if that is not 0.

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
