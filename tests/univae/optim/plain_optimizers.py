"""Readable twins of the optimizers: one tensor at a time, every gradient of a window kept."""

from typing import Any

import torch
from torch import Tensor


def adamw(p: Tensor, windows: list[list[Tensor]], **o: Any) -> Tensor:
    """AdamW over windows of gradients; the same gradient may stand in several places."""
    beta1, beta2 = o["betas"]
    m = torch.zeros_like(p)
    v = torch.zeros_like(p)
    for s, grads in enumerate(windows, start=1):
        k = len(grads)
        m = beta1 * m + (1 - beta1) * sum(grads) / k
        v = beta2 * v + (1 - beta2) * sum(g * g for g in grads) / k
        mean = m / (1 - beta1**s)
        square = v / (1 - beta2**s)
        if o["second_moment"] == "corrected":
            square = mean**2 + (square - mean**2).clamp_min(0) / k
        if o["second_moment"] == "unbiased":
            weights = [(1 - beta1) * beta1**i / (1 - beta1**s) for i in range(s)]
            noise = sum(weight**2 for weight in weights)
            square = mean**2 + (square - mean**2).clamp_min(0) * (1 - noise) / (k - noise)
        p = p - o["lr"] * o["weight_decay"] * p
        p = p - o["lr"] * mean / (square.sqrt() + o["eps"])
    return p


def tiger(p: Tensor, windows: list[list[Tensor]], **o: Any) -> Tensor:
    """Tiger over windows of gradients."""
    m = torch.zeros_like(p)
    for grads in windows:
        m = o["beta"] * m + (1 - o["beta"]) * sum(grads) / len(grads)
        p = p - o["lr"] * (m.sign() + o["weight_decay"] * p)
    return p


def egdd(p: Tensor, grads: list[Tensor], **o: Any) -> Tensor:
    """EGDD, in the order of the published code."""
    m = torch.zeros_like(p)
    gain = torch.ones_like(p)
    gbar = torch.zeros_like(p)
    scale = torch.ones(())
    for t, g in enumerate(grads, start=1):
        agreement = (g * m).sum()
        if o["directions"]:
            agreement = agreement / (g.norm() * m.norm()).clamp_min(1e-300)
        scale = (scale * (o["scale_lr"] * agreement).exp()).clamp(0.1, 10)
        trend = (
            g.sign() * gbar.sign() if o["signs"] else g * gbar / (1 - o["beta"] ** max(t - 1, 1))
        )
        gain = (gain * (o["gain_lr"] * trend).exp()).clamp(0.01, 100)
        m = o["momentum"] * m + o["lr"] * gain * g
        gbar = o["beta"] * gbar + (1 - o["beta"]) * g
        p = p - o["lr"] * o["weight_decay"] * p - scale * m
    return p
