r"""Scaled dot-product attention, as a function and as a multi-head module.

References:
    Attention Is All You Need (Vaswani et al., 2017), https://arxiv.org/abs/1706.03762
"""

import math
from collections.abc import Callable
from typing import TypeAlias

import torch.nn.functional as F
from jaxtyping import Bool, Float, Inexact
from torch import Tensor, nn

from univae.attention.cache import KeyValueCache
from univae.attention.masks import causal as causal_mask
from univae.attention.masks import visible_keys
from univae.attention.rotary import rotate
from univae.attention.scaling import SCALES, Scale, entropy_scale
from univae.dtypes import at_least_float32
from univae.errors import InputError
from univae.registry import lookup

__all__ = ["Attention", "Mix", "Step", "attend", "require_head_width"]


# Maps the (q, k, v) of all heads, each (batch, heads, rows, D), to the outputs of the last rows.
Mix: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]


# Maps one new row a sequence (batch, width), and the phase (half,) of its position, to its output.
Step: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def attend(
    q: Float[Tensor, "*batch rows D"],
    k: Float[Tensor, "*batch keys D"],
    v: Float[Tensor, "*batch keys E"],
    mask: Bool[Tensor, "..."] | None = None,
    *,
    causal: bool = False,
    scale: Scale = "sqrt",
    twice_differentiable: bool = False,
    base: int = 512,
    dropout: float = 0.0,
) -> Float[Tensor, "*batch rows E"]:
    r"""Return :math:`\mathrm{softmax}_j(\lambda_i \, q_i \cdot k_j / \sqrt{D}) \, v_j`.

    The softmax is computed in at least float32. ``mask`` is ``True`` where row i may see key j.
    With ``causal`` the rows are the last rows of the keys and see no later ones, so that one row
    against a cache is the same call as a whole text. :math:`\lambda_i` is the
    :func:`entropy_scale` of the keys that row i sees; it multiplies q after any
    normalisation of the queries. ``twice_differentiable`` computes the softmax explicitly, because
    the fused kernels have no second derivative.

    Raises:
        InputError: ``scale`` is not one of ``sqrt``, ``log_n``, ``log_n_clip``.
    """
    rows = q.shape[-2]
    keys = k.shape[-2]
    if lookup(SCALES, scale, "attend: scale").factor is not None:
        key_counts = visible_keys(rows, keys, mask, is_causal=causal).to(q.device)
        q = (q * entropy_scale(key_counts, scale, base)[..., None]).to(q.dtype)

    if rows == 1:  # the last row sees every key
        causal = False
    if causal and (mask is not None or rows != keys or twice_differentiable):
        triangle = causal_mask(rows, keys, q.device)
        mask = triangle if mask is None else mask & triangle
        causal = False
    if twice_differentiable:
        return _attend_explicitly(q, k, v, mask, dropout)

    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=causal, dropout_p=dropout
    )


def _attend_explicitly(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float
) -> Tensor:
    scores = at_least_float32(q @ k.mT / math.sqrt(q.shape[-1]))
    if mask is None:
        return F.dropout(scores.softmax(-1), dropout).to(v.dtype) @ v

    # A row that sees no key returns zeros, as from the fused kernels, without NaN in either
    # derivative.
    empty = ~mask.any(-1, keepdim=True)
    scores = scores.masked_fill(~(mask | empty), -math.inf)
    weights = F.dropout(scores.softmax(-1), dropout).masked_fill(empty, 0)
    return weights.to(v.dtype) @ v


def require_head_width(width: int, heads: int) -> None:
    """Check that every head has an even number of features, which rotate in pairs.

    Raises:
        InputError: ``width`` is not an even multiple of ``heads``.
    """
    if heads < 1 or width < 1 or width % heads or (width // heads) % 2:
        raise InputError(
            "Attention: width must be an even multiple of heads, so that head features rotate in "
            f"pairs; got width={width}, heads={heads}"
        )


class Attention(nn.Module):
    """Multi-head attention with rotary positions.

    Projects rows to heads, rotates queries and keys, attends by ``mix``, and projects back.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        require_head_width(width, heads)
        self.heads = heads
        self.project = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)

    def forward(
        self,
        x: Float[Tensor, "batch rows width"],
        phase: Inexact[Tensor, "#batch rows half"],
        mix: Mix,
    ) -> Float[Tensor, "batch out width"]:
        """Return the attended rows: the last rows of ``x``, as many as ``mix`` returns."""
        return self.join(mix(*self.split(x, phase)))

    def split(
        self, x: Float[Tensor, "batch rows width"], phase: Inexact[Tensor, "#batch rows half"]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the arguments of ``mix``: rotated queries and keys, and values."""
        # The gradient of a split is one concatenation, that of slices a sum of padded tensors.
        qk, v = self.project(x).unflatten(-1, (3, self.heads, -1)).split((2, 1), 2)
        q, k = rotate(qk, phase[..., None, None, :]).transpose(1, 3).unbind(2)
        return q, k, v.squeeze(2).transpose(1, 2)

    def join(self, mixed: Float[Tensor, "batch heads out D"]) -> Float[Tensor, "batch out width"]:
        """Return the output of what ``mix`` returned for each head."""
        output: Tensor = self.merge(mixed.transpose(1, 2).flatten(2))
        return output

    def stepper(self, cache: KeyValueCache) -> Step:
        """Return ``forward`` of one new row a sequence: (x, phase) -> x.

        The row is appended to the cache and sees all of it.
        """
        project = (self.project.weight, self.project.bias)
        merge = (self.merge.weight, self.merge.bias)
        shape = (-1, 3, self.heads, self.project.in_features // self.heads)

        def step(x: Tensor, phase: Tensor) -> Tensor:
            qkv = F.linear(x, *project).view(shape)
            q, k = rotate(qkv[:, :2], phase).unbind(1)
            attended = cache.extend(q, k, qkv.select(1, 2))
            return F.linear(attended.view(x.shape), *merge)

        return step
