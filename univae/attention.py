r"""The attention core: one function that attends and one module that projects, rotates, scales and attends.

The entropy of a softmax row should not drift with the number :math:`n` of keys it sees. Scaling the scores by
:math:`\ln n / \ln 512` holds it nearly constant for scores of moderate spread; it is a heuristic between the exact
laws of two models: :math:`\sqrt{\ln n}` for independent scores, :math:`\ln n` for a fixed gap between what is relevant
and what is not.

References:
    Attention Is All You Need (Vaswani et al., 2017), https://arxiv.org/abs/1706.03762
    Entropy-invariant softmax attention (Su, 2021), https://kexue.fm/archives/8823 and /9034; the clip /9706
"""

import math
from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor, nn

from univae.errors import InputError
from univae.mask import causal as causal_mask
from univae.mask import visible_keys
from univae.rope import rotate

__all__ = ["Attention", "KeyValueCache", "Mix", "Scale", "Step", "attend", "entropy_scale", "require_head_width"]

Scale = Literal["sqrt", "log_n", "log_n_clip"]
_SCALES = get_args(Scale)

# Who attends to whom: maps the heads' (q, k, v), each (batch, heads, rows, D), to outputs for the last rows of them.
Mix: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]

# One new row a sequence (batch, width) at the position of a phase (half,), to its output.
Step: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def entropy_scale(n: Int[Tensor, "*rows"], scale: Scale = "log_n", base: int = 512) -> Float[Tensor, "*rows"]:
    r"""Returns the factor on a row's scores: :math:`\ln n / \ln b`, or :math:`\max(1, \ln n / \ln b)` for the clip.

    ``log_n`` equals plain attention at :math:`n = b`. ``log_n_clip`` is for weights trained without the factor:
    with ``base`` the training length it changes nothing up to that length. float32, or float64 where that is the
    default dtype.

    >>> entropy_scale(torch.tensor([1, 64, 512, 4096]))
    tensor([0.0000, 0.6667, 1.0000, 1.3333])
    """
    factor = n.to(torch.promote_types(torch.get_default_dtype(), torch.float32)).log() / math.log(base)
    return factor.clamp_min(1) if scale == "log_n_clip" else factor


def attend(
    q: Float[Tensor, "*batch rows D"],
    k: Float[Tensor, "*batch keys D"],
    v: Float[Tensor, "*batch keys E"],
    mask: Bool[Tensor, "..."] | None = None,
    causal: bool = False,
    scale: Scale = "sqrt",
    twice_differentiable: bool = False,
    *,
    base: int = 512,
    dropout: float = 0.0,
) -> Float[Tensor, "*batch rows E"]:
    r"""Returns :math:`\mathrm{softmax}_j(\lambda_i \, q_i \cdot k_j / \sqrt{D}) \, v_j`, softmax in at least float32.

    ``mask`` is ``True`` where row i may see key j. ``causal``: the rows are the last rows of the keys and see nothing
    later, so one row against a cache is the same call as a whole text. :math:`\lambda_i` is 1 for ``"sqrt"``,
    otherwise :func:`entropy_scale` of the keys that row i sees. It multiplies q last of all, so normalised queries
    keep it. ``twice_differentiable`` writes the softmax out, because the fused kernels have no second derivative.

    Raises:
        InputError: for a scale that is not one of ``sqrt``, ``log_n``, ``log_n_clip``.
    """
    if scale not in _SCALES:
        raise InputError(f"attend: scale must be one of {', '.join(_SCALES)}; got {scale!r}")
    rows, keys = q.shape[-2], k.shape[-2]
    if scale != "sqrt":
        seen = visible_keys(rows, keys, mask, causal).to(q.device)
        q = (q * entropy_scale(seen, scale, base)[..., None]).to(q.dtype)
    causal = causal and rows > 1  # the last row sees every key
    if causal and (mask is not None or rows != keys or twice_differentiable):
        triangle = causal_mask(rows, keys, q.device)
        mask, causal = triangle if mask is None else mask & triangle, False
    if twice_differentiable:
        return _attend_explicitly(q, k, v, mask, dropout)

    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, dropout_p=dropout)


def _attend_explicitly(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    scores = (q @ k.mT / math.sqrt(q.shape[-1])).to(torch.promote_types(q.dtype, torch.float32))
    if mask is not None:
        # A row that sees nothing gets zeros, as from the fused kernels, and no NaN in either derivative.
        blind = ~mask.any(-1, keepdim=True)
        scores = scores.masked_fill(~(mask | blind), -math.inf)
    weights = F.dropout(scores.softmax(-1), dropout)
    if mask is not None:
        weights = weights.masked_fill(blind, 0)
    return weights.to(v.dtype) @ v


class KeyValueCache:
    """One layer's keys and values in buffers of a fixed size, filled from the front."""

    def __init__(
        self,
        shape: tuple[int, int, int, int],
        like: Tensor,
        scale: Scale = "sqrt",
        base: int = 512,
        real: Bool[Tensor, "batch capacity"] | None = None,
    ) -> None:
        """Room for ``shape`` = (batch, heads, capacity, D), with the dtype and the device of ``like``.

        ``real`` marks the places that later rows may see; without it they see all.
        """
        self.keys, self.values = like.new_zeros(shape), like.new_zeros(shape)
        self.scale: Scale = scale
        self.base, self.length, self.real = base, 0, real

    def fill(self, k: Float[Tensor, "batch heads rows D"], v: Float[Tensor, "batch heads rows D"]) -> None:
        """Stores many rows a sequence at once: a text that was read before writing begins."""
        start, self.length = self.length, self.length + k.shape[2]
        self.keys[:, :, start : self.length] = k
        self.values[:, :, start : self.length] = v

    def extend(
        self,
        q: Float[Tensor, "batch heads D"],
        k: Float[Tensor, "batch heads D"],
        v: Float[Tensor, "batch heads D"],
    ) -> Float[Tensor, "batch heads 1 D"]:
        """Stores one row a sequence and attends from it to all that is stored, as :func:`attend` does."""
        self.keys.select(2, self.length).copy_(k)
        self.values.select(2, self.length).copy_(v)
        self.length += 1
        mask = None if self.real is None else self.real[:, None, None, : self.length]
        if self.scale != "sqrt":
            q = (q * self._factor(mask)).to(q.dtype)
        keys, values = self.keys.narrow(2, 0, self.length), self.values.narrow(2, 0, self.length)
        return F.scaled_dot_product_attention(q.unsqueeze(2), keys, values, attn_mask=mask)

    def reorder(self, rows: Int[Tensor, "rows"]) -> None:
        """Row i becomes what row ``rows[i]`` was, the survivors of a beam; where these are fewer, the others go."""
        self.keys, self.values = self._kept(self.keys, rows), self._kept(self.values, rows)
        if self.real is not None:
            self.real = self.real[rows]

    def _kept(self, buffer: Tensor, rows: Tensor) -> Tensor:
        buffer[: len(rows), :, : self.length] = buffer[rows, :, : self.length]
        return buffer[: len(rows)]

    def _factor(self, mask: Tensor | None) -> Tensor | float:
        if mask is None:
            return entropy_scale(torch.tensor(self.length), self.scale, self.base).item()
        return entropy_scale(mask.sum(-1), self.scale, self.base)


def require_head_width(width: int, heads: int) -> None:
    """Raise :class:`InputError` unless every head has an even number of features, which turn in pairs."""
    if heads < 1 or width < 1 or width % heads or (width // heads) % 2:
        raise InputError(
            f"Attention: width must be an even multiple of heads, so that head features turn in pairs; "
            f"got width={width}, heads={heads}"
        )


class Attention(nn.Module):
    """Projects rows to heads, rotates queries and keys, lets ``mix`` say who attends to whom, and projects back."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        require_head_width(width, heads)
        self.heads = heads
        self.project = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "batch rows width"], phase: Complex[Tensor, "#batch rows half"], mix: Mix
    ) -> Float[Tensor, "batch out width"]:
        """Returns the attended rows: as many as ``mix`` gives back, the last rows of ``x``."""
        # Splits and not slices: the gradient of a split is one concatenation, that of a slice a sum with zeros.
        qk, v = self.project(x).unflatten(-1, (3, self.heads, -1)).split((2, 1), 2)
        q, k = rotate(qk, phase[..., None, None, :]).transpose(1, 3).unbind(2)
        v = v.squeeze(2).transpose(1, 2)
        return self.merge(mix(q, k, v).transpose(1, 2).flatten(2))

    def stepper(self, cache: KeyValueCache) -> Step:
        """Returns ``forward`` of one new row a sequence: (x, phase) -> x; it joins the cache and sees all of it."""
        project, merge = ((part.weight, part.bias) for part in (self.project, self.merge))
        shape = (-1, 3, self.heads, self.project.in_features // self.heads)

        def step(x: Tensor, phase: Tensor) -> Tensor:
            qkv = F.linear(x, *project).view(shape)
            q, k = rotate(qkv[:, :2], phase).unbind(1)
            return F.linear(cache.extend(q, k, qkv.select(1, 2)).view(x.shape), *merge)

        return step
