"""Scores of a critic and their input gradients, of all rows in one backward pass."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from gan.normalization.module_types import refuse_batch_statistics
from univae.dtypes import at_least_float32
from univae.errors import InputError

__all__ = ["Critic", "differentiate", "norms", "per_row", "scores"]

# Rows (B, ...), and labels (B,) of a conditional critic, to scores (B,) or (B, 1).
Critic: TypeAlias = Callable[..., Tensor]


def scores(
    critic: Critic, x: Float[Tensor, "batch *shape"], labels: Tensor | None = None
) -> Float[Tensor, "batch"]:
    """Return the critic's f as (B,), in at least float32.

    Raises:
        InputError: the critic does not return one number per row.
    """
    f = critic(x) if labels is None else critic(x, labels)
    if f.shape not in ((len(x),), (len(x), 1)):
        raise InputError(
            f"critic: must return one number per row, ({len(x)},) or ({len(x)}, 1); "
            f"got {tuple(f.shape)}; end it with a linear layer of one output"
        )
    return at_least_float32(f.reshape(-1))


def differentiate(
    critic: Critic,
    x: Float[Tensor, "batch *shape"],
    labels: Tensor | None = None,
    *,
    create_graph: bool = True,
) -> tuple[Float[Tensor, "batch"], Float[Tensor, "batch *shape"]]:
    r"""Return :math:`f_i` and :math:`\nabla_{x_i} f_i` in at least float32.

    One backward pass of :math:`\sum_i f_i` computes every row's gradient, because no score depends
    on another row. Both results are detached unless ``create_graph``.

    Raises:
        InputError: the critic normalises with the statistics of its batch, or does not return one
            number per row.
    """
    refuse_batch_statistics(critic, "differentiate")
    with torch.inference_mode(mode=False), torch.enable_grad():
        if x.is_inference():
            x = x.clone()
        if not (create_graph and x.requires_grad):
            x = x.detach().requires_grad_()
        f = scores(critic, x, labels)
        gradient = _gradient_of_sum(f, x, create_graph=create_graph)

    gradient = at_least_float32(gradient)
    if create_graph:
        return f, gradient
    return f.detach(), gradient.detach()


def norms(g: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch"]:
    """Return the norm of each row over all its coordinates; its gradient at 0 is 0."""
    rows = g.flatten(1) if g.ndim > 1 else g[:, None]
    row_norms: Tensor = torch.linalg.vector_norm(rows, dim=1)
    return row_norms


def per_row(values: Float[Tensor, "batch"], x: Float[Tensor, "batch *shape"]) -> Tensor:
    """Return one number per row, viewed as (B, 1, ..., 1) to broadcast over the rows of ``x``."""
    return values.view(-1, *[1] * (x.ndim - 1))


def _gradient_of_sum(f: Tensor, x: Tensor, *, create_graph: bool) -> Tensor:
    if not f.requires_grad:  # the critic is constant in x and in its weights
        return torch.zeros_like(x)
    (gradient,) = torch.autograd.grad(
        f.sum(), x, create_graph=create_graph, allow_unused=True, materialize_grads=True
    )
    return gradient
