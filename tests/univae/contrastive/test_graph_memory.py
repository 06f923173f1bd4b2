"""How many graphs are built, and what they hold at once."""

import functools
import gc
import weakref

import pytest
import torch
from cached_encoders import WIDTH, assert_same, direct, encoder, grads
from torch import Tensor

from univae.contrastive.gradient_cache import cached_backward
from univae.contrastive.losses import paired_info_nce


@pytest.mark.parametrize(("keep", "graphs"), [(0, 6), (1, 6), (2, 6), (5, 6), (6, 6)])
def test_each_chunk_builds_one_graph_and_those_kept_run_once(keep: int, graphs: int) -> None:
    model = encoder()
    x = torch.randn(12, WIDTH)
    cached_backward(model, x, paired_info_nce, 2, keep=keep)
    assert sum(graph for _, graph in model.rows) == graphs
    assert sum(not graph for _, graph in model.rows) == 6 - keep


def test_graphs_are_kept_within_their_bytes() -> None:
    x = torch.randn(60, WIDTH)
    again = {}
    for limit in (0, 1, 6_000, 12_000, 10**9):
        model = encoder(0.2)
        torch.manual_seed(2)
        expected = direct(model, x, paired_info_nce, 10)
        model.rows.clear()
        torch.manual_seed(2)
        assert_same(
            [
                cached_backward(model, x, paired_info_nce, 10, keep=0, keep_bytes=limit),
                *grads(model),
            ],
            expected,
        )
        again[limit] = len(model.rows) - 6
    assert again[0] == again[1] == 6
    assert again[10**9] == 0
    assert 6 > again[6_000] > again[12_000] > 0


def test_the_graph_of_the_loss_is_gone_in_the_second_pass() -> None:
    model = encoder()
    x = torch.randn(12, WIDTH)
    alive = []
    held = []

    def loss(v: Tensor) -> Tensor:
        scores = v @ v.T
        held.append(weakref.ref(scores))
        return (scores.logsumexp(-1) - v.sum(-1)).mean()

    def encode(part: Tensor) -> Tensor:
        if held:
            alive.append(held[0]() is not None)
        return model(part)

    gc.disable()
    try:
        cached_backward(encode, x, loss, 3)
    finally:
        gc.enable()
    assert alive == [False] * 3


def live_peak(chunks: int, keep: int = 1) -> int:
    """Return the peak of the bytes saved for backward passes, without those of the loss."""
    torch.manual_seed(0)
    model = encoder()
    x = torch.randn(8 * chunks, WIDTH)
    held: dict[int, int] = {}
    peak = 0

    class Token:
        def __init__(self, x: Tensor) -> None:
            self.x = x

    def pack(x: Tensor) -> Token:
        nonlocal peak
        token = Token(x)
        held[id(token)] = x.numel() * x.element_size()
        weakref.finalize(token, held.pop, id(token))
        peak = max(peak, sum(held.values()))
        return token

    def encode(part: Tensor) -> Tensor:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda token: token.x):
            return model(part)

    cached_backward(encode, x, functools.partial(paired_info_nce, rows=256), 8, keep=keep)
    return peak


def test_what_graphs_hold_does_not_grow_with_the_batch() -> None:
    one = live_peak(4)
    assert live_peak(64) == live_peak(512) == one
    assert live_peak(4, keep=3) >= 2.9 * one
