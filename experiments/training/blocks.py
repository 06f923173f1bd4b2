"""The repeated blocks of a model, and activations that the backward pass computes again.

With ``--recompute`` only the inputs of each block are kept from the forward to the backward pass,
which computes all else again, with the same random numbers: memory of one block instead of all, for
about a third more time.

References:
    Training Deep Nets with Sublinear Memory Cost (Chen et al., 2016),
    https://arxiv.org/abs/1604.06174
"""

from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from univae.errors import InputError

__all__ = ["blocks_of", "recompute"]


def blocks_of(module: nn.Module) -> list[nn.Module]:
    """Return the repeated blocks of a model: the members of its lists of ``blocks``."""
    return [
        block
        for name, child in module.named_modules()
        if name.split(".")[-1] == "blocks"
        for block in child.children()
    ]


def recompute(module: nn.Module) -> None:
    """Let backward passes compute the activations of the blocks of a model again.

    Names of weights do not change.

    Raises:
        InputError: the model has no blocks.
    """
    blocks = blocks_of(module)
    if not blocks:
        raise InputError(
            "--recompute: this model has no Transformer blocks, whose activations are computed "
            "again; train texts, sentences, or images with --model attention or univae, or leave "
            "out --recompute"
        )
    for block in blocks:
        forward = MethodType(type(block).forward, block)
        block.forward = partial(_recomputed, forward)


def _recomputed(forward: Callable[..., Any], *args: object) -> object:
    """Return ``forward(*args)``, whose activations are not kept where gradients are computed."""
    if not torch.is_grad_enabled():
        return forward(*args)
    return checkpoint(forward, *args, use_reentrant=False)
