"""Beam search over any next-token logits.

References:
    Length penalty: Google's Neural Machine Translation System (Wu et al., 2016),
    https://arxiv.org/abs/1609.08144
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from univae.decoding.sampling import Stepper
from univae.errors import InputError
from univae.text.special import END, PAD, START

__all__ = ["beam_search"]


@torch.no_grad()
def beam_search(
    step: Stepper, rows: int, width: int, max_length: int, length_penalty: float = 0.0
) -> tuple[Int[Tensor, "{rows} length"], Float[Tensor, "{rows}"]]:
    r"""Return each row's best text of ``width`` hypotheses and its log-probability in nats.

    ``step`` runs ``rows * width`` rows, the hypotheses of a text side by side. Hypotheses are
    ranked by :math:`\log p / \mathrm{length}^\alpha` at the end and by :math:`\log p` before; with
    ``width`` 1 this is greedy.

    Raises:
        InputError: if ``width`` < 1.
    """
    if width < 1:
        raise InputError(f"beam_search: width must be at least 1; got width={width}")
    device = getattr(step, "device", None)
    tokens = torch.full((rows * width,), START, device=device)
    texts = torch.full((rows, width, max_length), PAD, device=device)
    running = torch.ones(rows, width, dtype=torch.bool, device=device)
    score: Tensor | None = None
    for t in range(max_length):
        gain = step(tokens).log_softmax(-1).view(rows, width, -1)
        # A finished hypothesis has one continuation: nothing, at no cost.
        stay = torch.full_like(gain[:1, :1], -math.inf)
        stay[..., PAD] = 0
        gain = torch.where(running[..., None], gain, stay)
        # At the start all hypotheses are the same text; only the first may grow.
        total = gain[:, 0] if score is None else (score[..., None] + gain).flatten(1)
        score, best = _top(total, width)
        parent = best.div(gain.shape[-1], rounding_mode="floor")
        token = best % gain.shape[-1]
        texts = texts.gather(1, parent[..., None].expand_as(texts))
        texts[:, :, t] = token
        running = running.gather(1, parent) & (token != END)
        step.reorder((torch.arange(rows, device=device)[:, None] * width + parent).flatten())
        tokens = token.flatten()
        if not running.any():
            break
    assert score is not None
    length = (texts != PAD).sum(-1).clamp_min(1)
    winner = (score / length**length_penalty).argmax(1, keepdim=True)
    chosen = texts.gather(1, winner[..., None].expand(-1, -1, max_length)).squeeze(1)

    return chosen[:, : t + 1], score.gather(1, winner).squeeze(1)


def _top(total: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The best ``width`` entries; where fewer exist, the rest are impossible ones."""
    if total.shape[1] < width:
        total = torch.nn.functional.pad(total, (0, width - total.shape[1]), value=-math.inf)
    score, best = total.topk(width, 1)
    return score, best
