"""Averages, schedules and parameter groups against their formulas."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from univae.errors import InputError
from univae.optim.ema import EMA
from univae.optim.parameter_groups import parameter_groups
from univae.optim.schedules import cosine, ramp, tripling

fractions = st.floats(0, 1)


def _train(model: nn.Module, ema: EMA, steps: int) -> None:
    for _ in range(steps):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn_like(p))
        ema.update()


def test_the_average_is_the_weighted_sum_of_all_weights_seen() -> None:
    model = nn.Linear(2, 3)
    ema = EMA(model, 0.3)
    seen = [model.weight.detach().clone()]
    for _ in range(5):
        _train(model, ema, 1)
        seen.append(model.weight.detach().clone())
    decays = [0.1, 2 / 11, 0.25, 0.3, 0.3]  # (1 + n) / (10 + n) until it passes 0.3, at n = 3
    weights = [math.prod(decays)] + [
        (1 - d) * math.prod(decays[i + 1 :]) for i, d in enumerate(decays)
    ]
    assert sum(weights) == pytest.approx(1)
    torch.testing.assert_close(
        ema.averages["weight"], sum(w * x for w, x in zip(weights, seen, strict=True))
    )


def test_swapping_shows_the_average_and_returns_the_weights_bit_for_bit() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    ema = EMA(model, 0.9)
    model(torch.randn(4, 2))
    _train(model, ema, 3)
    own = {name: x.clone() for name, x in model.state_dict().items()}
    with ema.swapped():
        for name, x in ema.averages.items():
            assert torch.equal(model.state_dict()[name], x)
            assert not torch.equal(x, own[name])
    with pytest.raises(RuntimeError, match="multiplied"), ema.swapped():
        model(torch.randn(4, 7))
    for name, x in model.state_dict().items():
        assert torch.equal(x, own[name])


def test_float_buffers_are_averaged_and_counts_are_not() -> None:
    model = nn.BatchNorm1d(3)
    ema = EMA(model, 0.9)
    model(torch.randn(4, 3) + 5)
    ema.update()
    # rebuilt from the configuration
    model.register_buffer("table", torch.ones(3), persistent=False)
    assert EMA(model, 0.9).averages.keys() == {"weight", "bias", "running_mean", "running_var"}
    torch.testing.assert_close(ema.averages["running_mean"], 0.9 * model.running_mean)
    with ema.swapped():
        assert model.num_batches_tracked == 1


def test_half_precision_weights_are_averaged_in_float32() -> None:
    model = nn.Linear(1, 1, bias=False).bfloat16()
    nn.init.ones_(model.weight)
    ema = EMA(model, 0.999)
    ema.updates = 10**6
    nn.init.constant_(model.weight, 1.0078125)  # the next bfloat16
    ema.update()
    assert ema.averages["weight"].dtype == torch.float32
    assert 1 < ema.averages["weight"].item() < 1.0001
    assert EMA(nn.Linear(1, 1).double(), 0.9).averages["weight"].dtype == torch.float64


def test_a_reloaded_average_continues_bit_for_bit() -> None:
    model = nn.Linear(2, 2)
    whole = EMA(model, 0.5)
    part = EMA(model, 0.5)
    _train(model, whole, 3)
    part.load_state_dict(whole.state_dict())
    with torch.no_grad():
        model.weight.add_(1)
    whole.update()
    part.update()
    assert part.updates == whole.updates == 4
    assert torch.equal(part.averages["weight"], whole.averages["weight"])
    with pytest.raises(InputError, match="another model, which differs in bias"):
        EMA(nn.Linear(2, 2, bias=False), 0.5).load_state_dict(whole.state_dict())


@pytest.mark.parametrize("decay", [-0.1, 1.0, 2.0])
def test_a_decay_outside_its_range_is_refused(decay: float) -> None:
    with pytest.raises(InputError, match=rf"EMA: decay must lie in \[0, 1\).*decay={decay}"):
        EMA(nn.Linear(1, 1), decay)


def test_the_cosine_passes_through_its_corners() -> None:
    assert cosine(0.0, warmup=0.1) == 0
    assert cosine(0.05, warmup=0.1) == pytest.approx(0.5)
    assert cosine(0.1, warmup=0.1) == 1
    assert cosine(0.55, warmup=0.1, floor=0.2) == pytest.approx(0.6)
    assert cosine(1.0, warmup=0.1, floor=0.2) == pytest.approx(0.2)
    assert cosine(0.0) == 1
    assert cosine(1.0) == pytest.approx(0)
    assert cosine(0.5, warmup=1.0) == 0.5
    assert cosine(1.0, warmup=1.0) == 1
    assert [ramp(t, 0.5) for t in (0.0, 0.25, 0.5, 1.0)] == [0, 0.5, 1, 1]
    assert ramp(0.0, 0.0) == 1


@given(fractions, fractions, fractions, fractions)
def test_the_cosine_rises_then_falls_and_stays_above_its_floor(
    a: float, b: float, warmup: float, floor: float
) -> None:
    early, late = sorted((a, b))
    first = cosine(early, warmup, floor)
    second = cosine(late, warmup, floor)
    if late < warmup:
        assert first <= second
    elif early >= warmup:
        assert floor - 1e-12 <= second <= first + 1e-12 <= 1 + 2e-12


def test_the_tripling_schedule_holds_each_rate_for_its_epochs() -> None:
    held = [tripling((epoch + 0.5) / 3280) for epoch in range(3280)]
    assert held == [10 ** (-i / 7) for i in range(8) for _ in range(3**i)]
    assert tripling(1.0) == pytest.approx(0.1)


def test_only_matrices_that_mix_features_decay() -> None:
    model = nn.ModuleDict(
        {
            "embed": nn.Embedding(4, 3),
            "mix": nn.Linear(3, 4),
            "norm": nn.LayerNorm(3),
            "out": nn.Linear(3, 4),
        }
    )
    model["out"].weight = model["embed"].weight  # tied: an embedding
    model["frozen"] = nn.Linear(3, 3).requires_grad_(False)
    decayed, plain = parameter_groups(model, 0.1)
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    assert [p is model["mix"].weight for p in decayed["params"]] == [True]
    trainable = [p for p in model.parameters() if p.requires_grad]
    assert len(plain["params"]) == len(trainable) - 1
    assert {id(p) for p in decayed["params"] + plain["params"]} == {id(p) for p in trainable}
    assert [g["weight_decay"] for g in parameter_groups(nn.LayerNorm(3), 0.1)] == [0.0]
