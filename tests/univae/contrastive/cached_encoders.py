"""Encoders and comparisons that the tests of ``cached_backward`` share."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH = 6


class Encoder(nn.Module):
    """Two layers and a cosine's unit rows; counts the graphs it builds and the rows it sees."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, 8)
        self.second = nn.Linear(8, 4)
        self.dropout = nn.Dropout(dropout)
        self.rows: list[tuple[int, bool]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.rows.append((len(x), torch.is_grad_enabled()))
        return F.normalize(self.second(self.dropout(self.first(x).tanh())), dim=-1)


def encoder(dropout: float = 0.0, seed: int = 3) -> Encoder:
    torch.manual_seed(seed)
    return Encoder(dropout)


def grads(*modules: nn.Module) -> list[Tensor]:
    return [p.grad.clone() for module in modules for p in module.parameters() if p.grad is not None]


def direct(
    model: nn.Module, x: Tensor, loss: Callable[..., Tensor], chunk: int | None = None
) -> list[Tensor]:
    """One graph of all, drawing random numbers chunk by chunk: the value, then the gradients."""
    value = loss(torch.cat([model(part) for part in x.split(chunk or len(x))]))
    model.zero_grad()
    value.backward()
    value_and_gradients = [value.detach(), *grads(model)]
    model.zero_grad()
    return value_and_gradients


def assert_same(ours: list[Tensor], theirs: list[Tensor], tolerance: float = 1e-12) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def distance(ours: list[Tensor], theirs: list[Tensor]) -> float:
    a, b = (torch.cat([x.flatten() for x in parts]) for parts in (ours, theirs))
    return ((a - b).norm() / b.norm()).item()
