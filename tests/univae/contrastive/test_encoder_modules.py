"""The modules of an encoder: which are checked, and what is refused where one is missing."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from cached_encoders import WIDTH, assert_same, direct, encoder, grads
from torch import Tensor, nn
from torch.nn.modules.module import _global_forward_pre_hooks

from univae.contrastive.encoder_modules import encoder_modules
from univae.contrastive.gradient_cache import cached_backward
from univae.contrastive.losses import paired_info_nce
from univae.errors import InputError

X = torch.ones(4, WIDTH)


def test_a_module_and_the_owner_of_a_method_are_known_and_a_function_lists_its_modules() -> None:
    model = nn.Linear(2, 2)
    other = nn.Linear(2, 2)
    for encode in (model, model.forward):
        encoder_of = encoder_modules(encode, [other])
        assert encoder_of.modules == [model]
        assert not encoder_of.is_function
    functions: list[Callable[..., Tensor]] = [
        lambda x: model(x),
        functools.partial(model),
        F.normalize,
    ]
    for encode in functions:
        assert encoder_modules(encode).modules == []
        encoder_of = encoder_modules(encode, [model, other])
        assert encoder_of.modules == [model, other]
        assert encoder_of.is_function


@pytest.mark.parametrize("keep", [0, 1, 9])
def test_a_function_needs_no_modules_without_distribution(keep: int) -> None:
    model = encoder(0.2)
    x = torch.randn(12, WIDTH)
    torch.manual_seed(1)
    value = cached_backward(model, x, paired_info_nce, 4, keep=keep)
    expected = [value, *grads(model)]
    for modules in ((), (model,)):
        model.zero_grad()
        torch.manual_seed(1)
        value = cached_backward(
            lambda rows: model(rows), x, paired_info_nce, 4, keep=keep, modules=modules
        )
        assert_same([value, *grads(model)], expected)


def test_the_weights_of_listed_modules_are_not_counted_as_memory_of_a_graph() -> None:
    model = nn.Linear(4, 400)
    x = torch.randn(8, 4)
    graphs = {}
    for modules in ((), (model,)):
        calls = []

        def encode(rows: Tensor, calls: list[int] = calls) -> Tensor:
            calls.append(len(rows))
            return (model(rows) @ model.weight).tanh()

        cached_backward(encode, x, paired_info_nce, 2, keep=0, keep_bytes=20_000, modules=modules)
        graphs[bool(modules)] = len(calls)
    # A chunk saves some 6,700 bytes of activations, and the 12,800 of the weights where they count.
    assert graphs == {False: 4 + 3, True: 4 + 2}


def test_a_device_that_nothing_shows_is_refused() -> None:
    message = "encode computes on meta, where neither its inputs nor its modules are; list"
    with pytest.raises(InputError, match=message):
        cached_backward(lambda rows: rows.to("meta"), X, paired_info_nce, 2)


def test_the_check_of_calls_ends_with_the_first_chunk_also_after_an_error() -> None:
    model = encoder()
    hooks = []

    def encode(rows: Tensor) -> Tensor:
        hooks.append(len(_global_forward_pre_hooks))
        if len(hooks) > 9:
            raise OSError
        return model(rows)

    before = len(_global_forward_pre_hooks)
    cached_backward(encode, X.double(), paired_info_nce, 2, keep=0)
    assert hooks == [before + 1, before, before, before]
    hooks += [0] * 9
    with pytest.raises(OSError):
        cached_backward(encode, X.double(), paired_info_nce, 2)
    assert len(_global_forward_pre_hooks) == before


@pytest.mark.parametrize("tracked", [True, False])
@pytest.mark.parametrize(
    "wrap", [lambda model: model, lambda model: model.forward, lambda model: lambda x: model(x)]
)
def test_an_encoder_that_normalises_with_its_batch_is_refused(
    wrap: Callable[[Any], Any], tracked: bool
) -> None:
    model = nn.Sequential(nn.Linear(WIDTH, 4), nn.BatchNorm1d(4, track_running_stats=tracked))
    message = (
        "encode must compute each row from that row alone; got BatchNorm1d 1, which mixes the rows"
    )
    for columns in (wrap(model), [wrap(model), torch.nn.Linear(WIDTH, 4)]):
        batch = X.double() if callable(columns) else [X.double(), X.double()]
        with pytest.raises(InputError, match=message):
            cached_backward(columns, batch, lambda *r: r[0].sum(), 2)
        with pytest.raises(InputError, match=message):
            cached_backward(columns, batch, lambda *r: r[0].sum(), 2, keep=9)
    assert all(p.grad is None for p in model.parameters())


def test_statistics_of_one_whole_chunk_are_those_of_the_batch() -> None:
    model = nn.Sequential(nn.Linear(WIDTH, 4), nn.BatchNorm1d(4))
    x = torch.randn(8, WIDTH)
    expected = direct(model, x, paired_info_nce)
    assert_same([cached_backward(model, x, paired_info_nce, 8), *grads(model)], expected)


def test_a_batch_norm_that_evaluates_gives_each_row_from_itself() -> None:
    model = nn.Sequential(nn.Linear(WIDTH, 4), nn.BatchNorm1d(4)).eval()
    x = torch.randn(8, WIDTH)
    expected = direct(model, x, paired_info_nce)
    assert_same([cached_backward(model, x, paired_info_nce, 3), *grads(model)], expected)
