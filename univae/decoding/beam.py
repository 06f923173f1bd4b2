"""Beam search over any next-token logits.

References:
    Length penalty: Google's Neural Machine Translation System (Wu et al., 2016),
    https://arxiv.org/abs/1609.08144
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from univae.decoding.sampling import Stepper
from univae.dtypes import at_least_float32
from univae.errors import InputError
from univae.text.special import END, PAD, START

__all__ = ["beam_search"]


@torch.no_grad()
def beam_search(
    step: Stepper, rows: int, width: int, max_length: int, length_penalty: float = 0.0
) -> tuple[Int[Tensor, "{rows} length"], Float[Tensor, "{rows}"]]:
    r"""Return each row's best text of ``width`` hypotheses and its log-probability in nats.

    Hypotheses are ranked by :math:`\log p / \mathrm{length}^\alpha` at the end and by
    :math:`\log p` before; with ``width`` 1 this is greedy decoding.

    Args:
        step: runs ``rows * width`` rows, the hypotheses of a text next to each other.
        rows: the number of texts.
        width: the number of hypotheses of each.
        max_length: tokens of the longest text, its end included.
        length_penalty: the exponent :math:`\alpha`; above 0 it prefers longer texts.

    Raises:
        InputError: ``width`` or ``max_length`` is less than 1.
    """
    if width < 1:
        raise InputError(f"beam_search: width must be at least 1; got width={width}")
    if max_length < 1:
        raise InputError(f"beam_search: max_length must be at least 1; got max_length={max_length}")
    device = getattr(step, "device", None)
    first_row = torch.arange(rows, device=device)[:, None] * width
    tokens = torch.full((rows * width,), START, device=device)
    texts = torch.full((rows, width, max_length), PAD, device=device)
    running = torch.ones(rows, width, dtype=torch.bool, device=device)
    scores: Tensor | None = None
    length = 0
    while length < max_length and running.any():
        log_p = at_least_float32(step(tokens)).log_softmax(-1).view(rows, width, -1)
        scores, parent, token = _extended(scores, _with_padding(log_p, running))
        texts = texts.gather(1, parent[..., None].expand_as(texts))
        texts[:, :, length] = token
        running = running.gather(1, parent) & (token != END)
        step.reorder((first_row + parent).flatten())
        tokens = token.flatten()
        length += 1
    assert scores is not None
    text_lengths = (texts != PAD).sum(-1).clamp_min(1)
    winner = (scores / text_lengths**length_penalty).argmax(1, keepdim=True)
    best = texts.gather(1, winner[..., None].expand(-1, -1, max_length)).squeeze(1)

    return best[:, :length], scores.gather(1, winner).squeeze(1)


def _with_padding(
    log_p: Float[Tensor, "rows width vocab"], running: Bool[Tensor, "rows width"]
) -> Float[Tensor, "rows width vocab"]:
    """Return log-probabilities under which ended hypotheses continue with padding, at 0 nats."""
    padding_only = torch.full_like(log_p[:1, :1], -math.inf)
    padding_only[..., PAD] = 0
    return torch.where(running[..., None], log_p, padding_only)


def _extended(
    scores: Float[Tensor, "rows width"] | None, log_p: Float[Tensor, "rows width vocab"]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the scores of the best extended hypotheses, their parents and their last tokens."""
    _, width, vocabulary = log_p.shape
    if scores is None:
        total = log_p[:, 0]  # all hypotheses are the same empty text: extend only the first
    else:
        total = (scores[..., None] + log_p).flatten(1)
    if total.shape[1] < width:  # fewer continuations than hypotheses: add impossible ones
        total = F.pad(total, (0, width - total.shape[1]), value=-math.inf)
    best_scores, best = total.topk(width, 1)
    parent = best.div(vocabulary, rounding_mode="floor")
    return best_scores, parent, best % vocabulary
