"""The second pass draws what the first one drew, on every device."""

from types import SimpleNamespace

import pytest
import torch
from cached_encoders import WIDTH, assert_same, direct, distance, encoder, grads
from torch import Tensor, nn

from univae.contrastive.gradient_cache import cached_backward
from univae.contrastive.losses import paired_info_nce
from univae.contrastive.random_state import Generators, devices_of
from univae.errors import InputError


def test_dropout_is_replayed_and_without_replay_the_gradient_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = encoder(0.3)
    x = torch.randn(24, WIDTH)
    torch.manual_seed(7)
    expected = direct(model, x, paired_info_nce, 5)
    torch.manual_seed(7)
    value = cached_backward(model, x, paired_info_nce, 5)
    assert_same([value, *grads(model)], expected)
    model.zero_grad()
    monkeypatch.setattr(Generators, "restore", lambda self: None)
    with pytest.raises(
        InputError, match=r"the second pass of encode returned other.*relative distance of \d\.\d+"
    ):
        cached_backward(model, x, paired_info_nce, 5)
    assert distance(grads(model), expected[1:]) > 0.1


@pytest.mark.parametrize("keep", [0, 1, 3, 9])
def test_afterwards_the_generator_is_where_one_pass_and_the_loss_leave_it(keep: int) -> None:
    model = encoder(0.3)
    x = torch.randn(20, WIDTH)

    def loss(v: Tensor) -> Tensor:
        return paired_info_nce(v + 0.01 * torch.randn_like(v))

    torch.manual_seed(5)
    expected = direct(model, x, loss, 6)
    state = torch.get_rng_state()
    torch.manual_seed(5)
    assert_same([cached_backward(model, x, loss, 6, keep=keep), *grads(model)], expected)
    assert torch.equal(torch.get_rng_state(), state)


def test_an_error_in_the_second_pass_leaves_the_generator_there_too() -> None:
    model = encoder(0.3)
    x = torch.randn(6, WIDTH)
    calls = []

    def fails(part: Tensor) -> Tensor:
        calls.append(len(part))
        if len(calls) == 4:
            raise OSError
        return model(part)

    torch.manual_seed(5)
    for part in x.split(2):
        model(part)
    state = torch.get_rng_state()
    torch.manual_seed(5)
    with pytest.raises(OSError):
        cached_backward(fails, x, paired_info_nce, 2, keep=0)
    assert torch.equal(torch.get_rng_state(), state)


def test_noise_from_elsewhere_is_found_out() -> None:
    model = encoder()
    source = torch.Generator().manual_seed(1)

    def encode(x: Tensor) -> Tensor:
        return model(x + torch.randn(x.shape, generator=source))

    with pytest.raises(InputError, match="use torch's default generators alone"):
        cached_backward(encode, torch.randn(8, WIDTH), paired_info_nce, 4)


class FakeDevice:
    """The generator of a device this machine lacks: a counter."""

    state = 0

    def get_rng_state(self, device: torch.device) -> Tensor:
        return torch.tensor(self.state)

    def set_rng_state(self, state: Tensor, device: torch.device) -> None:
        self.state = int(state)


def test_the_generators_of_all_devices_are_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeDevice()
    monkeypatch.setattr(torch, "get_device_module", lambda device: fake)
    monkeypatch.setattr(
        "univae.contrastive.encoding.devices_of", lambda *things: [torch.device("cuda", 1)]
    )
    model = encoder()
    drawn = []

    def encode(x: Tensor) -> Tensor:
        fake.state += 1
        drawn.append(fake.state)
        return model(x)

    cached_backward(encode, torch.randn(8, WIDTH), paired_info_nce, 2)
    assert drawn == [1, 2, 3, 4, 1, 2, 3]
    assert fake.state == 4


def test_devices_are_found_in_nested_inputs_and_in_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    class Elsewhere:  # a stand-in for a tensor on a device that this machine lacks
        def __init__(self, index: int) -> None:
            self.device = torch.device("cuda", index)

    monkeypatch.setattr("univae.contrastive.random_state.Tensor", Elsewhere)
    nested = {"a": [1, "b", (Elsewhere(0), None)], "c": SimpleNamespace(x={"y": Elsewhere(2)})}
    assert devices_of(nested, Elsewhere(0)) == [torch.device("cuda", 0), torch.device("cuda", 2)]
    model = nn.Linear(1, 1)
    monkeypatch.setattr(model, "parameters", lambda: iter([Elsewhere(3)]))
    assert devices_of([model]) == [torch.device("cuda", 3)]
    assert devices_of(torch.ones(1), [nn.Linear(2, 2)], "text", 3) == []
