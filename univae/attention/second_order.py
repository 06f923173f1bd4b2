r"""Attention, layer normalisation and GELU with second derivatives of their own.

The formulas are those of :mod:`univae.second_order`, for critics whose score contains an input
gradient, and are used for inputs of a size, device and precision for which they are measured to be
faster; all others go through operators of PyTorch. Blocks of rows are processed one after another
in buffers that are used again: they stay in the processor's cache, where a pass over new memory
would wait for page faults.

Attention, with :math:`S = q k^T / \sqrt D, \; P = \mathrm{softmax}(S), \; y = P v` and
:math:`A = g v^T - \langle g, y \rangle 1^T`:

.. math::
    g_S = P \odot A, \quad g_q = g_S k / \sqrt D, \quad g_k = g_S^T q / \sqrt D, \quad g_v = P^T g

and in the direction :math:`(\dot q, \dot k, \dot v)`

.. math::
    \dot S = (\dot q k^T + q \dot k^T) / \sqrt D, \quad
    \dot P = P \odot (\dot S - \langle P, \dot S \rangle 1^T), \quad
    \dot y = \dot P v + P \dot v, \quad
    \dot g_S = \dot P \odot A + P \odot (g \dot v^T - \langle g, \dot y \rangle 1^T)
"""

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from univae.attention.core import attend
from univae.second_order import Gradients, apply, has_own_derivatives

__all__ = ["TwiceDifferentiableNorm", "attend_unmasked", "gelu"]

BLOCK = 2**18  # numbers of a buffer

# Sizes from which own derivatives take less time than those of PyTorch in a second-order pass, on
# one thread (``experiments.benchmarks.attention_critics``): a block has fixed costs.
LEAST_SCORES = 2**17  # of all heads and images
LEAST_ACTIVATIONS = 2**18
LEAST_NORMALISED = 2**15


def attend_unmasked(
    q: Float[Tensor, "batch heads rows D"],
    k: Float[Tensor, "batch heads keys D"],
    v: Float[Tensor, "batch heads keys E"],
) -> Float[Tensor, "batch heads rows E"]:
    r"""Return :math:`\mathrm{softmax}(q k^T / \sqrt D) \, v`, twice differentiable."""
    scores = q.shape[:-1].numel() * k.shape[-2]
    if scores >= LEAST_SCORES and has_own_derivatives(q, k, v):
        return apply(_Attention(), q, k, v)
    return attend(q, k, v, twice_differentiable=True)


def gelu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    r"""Return :math:`x \, \Phi(x)`."""
    if x.numel() >= LEAST_ACTIVATIONS and has_own_derivatives(x):
        return apply(_Gelu(), x)
    return F.gelu(x)


class TwiceDifferentiableNorm(nn.LayerNorm):
    """Layer normalisation over the last dimension."""

    def forward(self, input: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """Return normalised rows."""
        is_large = input.numel() >= LEAST_NORMALISED
        if is_large and has_own_derivatives(input, self.weight, self.bias):
            return apply(_LayerNorm(self.eps), input, self.weight, self.bias)
        return super().forward(input)


class _Attention:
    """Attention of (batch, heads, rows, D); results are views of (heads, batch, D, rows).

    A product with few columns takes a quarter of the time where the columns are the rows, and the
    matrices of one head are views, which matrices of all heads are not.
    """

    def composed(self, *inputs: Tensor) -> Tensor:
        q, k, v = inputs
        return (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1) @ v

    def value(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        q, k, v = inputs
        weights = _empty(q, (q.shape[-2], k.shape[-2]))
        y = _empty(q, (v.shape[-1], q.shape[-2]))
        for head, (scores,) in _blocks(weights, 1):
            torch.bmm(q[head] * _scale(q), k[head].mT, out=scores)
            torch.softmax(scores, -1, out=weights[head])
            torch.bmm(v[head].mT, weights[head].mT, out=y[head])
        return y.mT, weights

    def gradients(
        self, grad: Tensor, inputs: Sequence[Tensor], kept: Sequence[Tensor], needed: Sequence[bool]
    ) -> Gradients:
        (weights,) = kept
        results = [_empty(x, x.mT.shape[-2:]) for x in inputs]
        scale = _scale(inputs[0])
        for head, (by_weights, by_scores) in _blocks(weights, 2):
            q, k, v, g, p = (x[head] for x in (*inputs, grad, weights))
            by_q, by_k, by_v = (x[head] for x in results)
            torch.bmm(g.mT, p, out=by_v)
            torch.bmm(g, v.mT, out=by_weights)
            _softmax_backward(by_weights, p, by_scores)
            torch.bmm((k * scale).mT, by_scores.mT, out=by_q)
            torch.bmm((q * scale).mT, by_scores, out=by_k)
        return tuple(x.mT for x in results)

    def second(
        self,
        grad: Tensor,
        inputs: Sequence[Tensor],
        kept: Sequence[Tensor],
        gradients: Gradients,
        cotangents: Sequence[Tensor | None],
        needed: Sequence[bool],
    ) -> Gradients | None:
        (weights,) = kept
        directions = [c for c in cotangents if c is not None]
        if len(directions) < len(cotangents):
            return None
        results = [_empty(x, x.mT.shape[-2:]) for x in (grad, *inputs)]
        for head, buffers in _blocks(weights, 3):
            variables = [x[head] for x in (grad, *inputs, *directions, weights)]
            _second_of_block(variables, [x[head] for x in results], buffers)
        return tuple(x.mT for x in results)


def _second_of_block(
    variables: Sequence[Tensor], results: Sequence[Tensor], buffers: Sequence[Tensor]
) -> None:
    g, q, k, v, dq, dk, dv, p = variables
    by_g, by_q, by_k, by_v = results
    first, dp, last = buffers
    scale = _scale(q)
    q = q * scale
    dq = dq * scale

    torch.bmm(torch.cat((dq, q), -1), torch.cat((k, dk), -1).mT, out=first)
    _softmax_backward(first, p, dp)
    torch.bmm(v.mT, dp.mT, out=by_g).baddbmm_(dv.mT, p.mT)
    torch.bmm(g.mT, dp, out=by_v)

    a = torch.bmm(g, v.mT, out=first)
    a.sub_(torch.mul(a, p, out=last).sum(-1, keepdim=True))
    dgs = torch.bmm(g, dv.mT, out=last).mul_(p).addcmul_(a, dp)
    dgs.addcmul_(p, dgs.sum(-1, keepdim=True), value=-1)
    gs = a.mul_(p)
    torch.bmm(k.mT, dgs.mT, out=by_q).baddbmm_(dk.mT, gs.mT).mul_(scale)
    torch.bmm(q.mT, dgs, out=by_k).baddbmm_(dq.mT, gs)


class _LayerNorm:
    r""":math:`y = w \odot \hat x + b` with :math:`\hat x = r (x - \bar x)`, 1 / r the deviation.

    With :math:`\Pi` the projection off 1 and :math:`\hat x`, :math:`g_x = r \Pi (w g)`. For a
    cotangent c of it and :math:`p = r \Pi c`, that of g is :math:`w p`, that of w is :math:`g p`,
    and, with means over the row, that of x is

    .. math:: -r (\overline{w g \hat x} \, p + \overline{c \hat x} \, g_x + \overline{c g_x} \hat x)
    """

    def __init__(self, eps: float) -> None:
        self.eps = eps

    def composed(self, *inputs: Tensor) -> Tensor:
        x, weight, bias = inputs
        return F.layer_norm(x, weight.shape, weight, bias, self.eps)

    def value(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        x, weight, bias = inputs
        return torch.native_layer_norm(x, weight.shape, weight, bias, self.eps)

    def gradients(
        self, grad: Tensor, inputs: Sequence[Tensor], kept: Sequence[Tensor], needed: Sequence[bool]
    ) -> Gradients:
        x, weight, bias = inputs
        gradients: Gradients = torch.ops.aten.native_layer_norm_backward(
            grad, x, weight.shape, *kept, weight, bias, list(needed)
        )
        return gradients

    def second(
        self,
        grad: Tensor,
        inputs: Sequence[Tensor],
        kept: Sequence[Tensor],
        gradients: Gradients,
        cotangents: Sequence[Tensor | None],
        needed: Sequence[bool],
    ) -> Gradients | None:
        x, weight, _ = inputs
        mean, r = kept
        c, *others = cotangents
        by_x = gradients[0]
        if c is None or by_x is None or any(other is not None for other in others):
            return None
        p = torch.ops.aten.native_layer_norm_backward(
            c, x, weight.shape, mean, r, None, None, [True, False, False]
        )[0]
        product = grad * p
        by_weight = product.flatten(0, -2).sum(0) if needed[2] else None
        by_grad = p * weight

        normalised = torch.sub(x, mean).mul_(r)
        grad_mean = torch.mul(normalised, grad, out=product).mul_(weight).mean(-1, keepdim=True)
        c_mean = torch.mul(normalised, c, out=product).mean(-1, keepdim=True)
        mean_product = torch.mul(by_x, c, out=product).mean(-1, keepdim=True)
        p.mul_(grad_mean).addcmul_(by_x, c_mean).addcmul_(normalised, mean_product).mul_(-r)
        return by_grad, p, by_weight, None


class _Gelu:
    r""":math:`y = x \Phi(x)`, with :math:`y'' = (2 - x^2) \, e^{-x^2 / 2} / \sqrt{2 \pi}`."""

    def composed(self, *inputs: Tensor) -> Tensor:
        return F.gelu(inputs[0])

    def value(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return (F.gelu(inputs[0]),)

    def gradients(
        self, grad: Tensor, inputs: Sequence[Tensor], kept: Sequence[Tensor], needed: Sequence[bool]
    ) -> Gradients:
        return (torch.ops.aten.gelu_backward(grad, inputs[0]),)

    def second(
        self,
        grad: Tensor,
        inputs: Sequence[Tensor],
        kept: Sequence[Tensor],
        gradients: Gradients,
        cotangents: Sequence[Tensor | None],
        needed: Sequence[bool],
    ) -> Gradients | None:
        (x,) = inputs
        (c,) = cotangents
        if c is None:
            return None
        by_x = torch.empty_like(x, memory_format=torch.contiguous_format)
        flat = [t.reshape(-1).split(BLOCK) for t in (x, grad, c, by_x)]
        density = x.new_empty(min(BLOCK, x.numel()))
        for x_block, grad_block, c_block, result in zip(*flat, strict=True):
            torch.mul(x_block, x_block, out=result)
            # 2^x is computed in a third of the time of e^x
            power = torch.mul(result, -0.5 / math.log(2), out=density[: len(result)]).exp2_()
            power.mul_(grad_block).mul_(c_block)
            result.sub_(2).mul_(power).mul_(-1 / math.sqrt(2 * math.pi))
        return torch.ops.aten.gelu_backward(c, x), by_x


def _scale(q: Tensor) -> float:
    return 1 / math.sqrt(q.shape[-1])


def _softmax_backward(by_weights: Tensor, weights: Tensor, out: Tensor) -> None:
    torch._softmax_backward_data(by_weights, weights, -1, weights.dtype, grad_input=out)


def _empty(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Return new matrices (batch, heads, *shape), those of one head after another."""
    batch, heads = x.shape[:2]
    return x.new_empty(heads, batch, *shape).transpose(0, 1)


def _blocks(weights: Tensor, buffers: int) -> Iterator[tuple[tuple[slice, int], list[Tensor]]]:
    """Yield the images and the head of each block, and buffers of the shape of their weights."""
    batch, heads, rows, keys = weights.shape
    size = max(1, min(batch, BLOCK // max(1, rows * keys)))
    storage = [weights.new_empty(size, rows, keys) for _ in range(buffers)]
    for head in range(heads):
        for start in range(0, batch, size):
            images = slice(start, start + size)
            yield (images, head), [buffer[: batch - start] for buffer in storage]
