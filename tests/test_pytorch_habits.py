"""What PyTorch's users expect of any module: meta tensors, autocast, parametrizations, stable names.

``python tests/test_pytorch_habits.py --update`` writes ``weight_names.json`` anew, for a model that
is new. A name or shape that changes makes weights of earlier versions unreadable.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # or tests/experiments would hide the package of that name
    sys.path.insert(0, str(Path(__file__).parents[1]))

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from experiments.training.compilation import require_compiler
from tests.models import CASES, seeded_case, step
from univae import devices
from univae.attention import adaptive_head, transformer
from univae.contrastive import ranking, tiled_softmax
from univae.devices import all_true, any_false, is_readable
from univae.errors import InputError
from univae.latent import gaussian

ROOT = Path(__file__).resolve().parents[1]
NAMES = Path(__file__).with_name("weight_names.json")
ROUNDING = 1e-4  # of a step in float32: operations are fused, and sums have another order
HALF = {torch.bfloat16: 2**-8, torch.float16: 2**-11}  # rounding of a number
FACTOR = 40  # of the rounding of a number that a gradient may be away
WITH_FAST_PATHS = (devices, adaptive_head, transformer, ranking, tiled_softmax, gaussian)

every_case = pytest.mark.parametrize("name", CASES)


@pytest.fixture(autouse=True)
def _single_precision() -> None:
    torch.set_default_dtype(torch.float32)


@every_case
def test_a_step_runs_without_memory_on_the_meta_device(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the checks of PyTorch's own distributions read values
    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", False)
    model, batch, loss = seeded_case(name)
    value = loss(model.to("meta"), *(x.to("meta") for x in batch))
    value.backward()
    assert value.is_meta
    with_gradient = [p for p in model.parameters() if p.grad is not None]
    assert with_gradient
    assert all(p.grad is not None and p.grad.is_meta for p in with_gradient)


@every_case
def test_code_for_values_that_cannot_be_read_gives_the_same_step(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    value, gradient = step(*_arranged(name))
    for module in WITH_FAST_PATHS:
        monkeypatch.setattr(module, "is_readable", lambda x: False)
    other_value, other_gradient = step(*_arranged(name))
    assert other_value == pytest.approx(value, rel=1e-5)
    torch.testing.assert_close(
        other_gradient, gradient, rtol=1e-4, atol=1e-4 * gradient.abs().max().item()
    )


def test_values_are_unknown_on_the_meta_device_and_while_code_is_compiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # torch.compile turns the checks of all distributions off, for the rest of the process
    distribution = torch.distributions.Distribution
    monkeypatch.setattr(distribution, "_validate_args", distribution._validate_args)
    some = torch.tensor([True, False])
    assert is_readable(some)
    assert not all_true(some)
    assert any_false(some)
    assert all_true(some[:1])
    assert not any_false(some[:1])
    for unknown in (some.to("meta"), some[:1].to("meta")):
        assert not is_readable(unknown)
        assert not all_true(unknown)
        assert not any_false(unknown)

    @torch.compile(backend="eager", fullgraph=True)
    def compiled(x: torch.Tensor) -> torch.Tensor:
        return x + all_true(x > 0) + 2 * any_false(x > 0)

    assert compiled(torch.ones(2)).tolist() == [1.0, 1.0]
    assert compiled(-torch.ones(2)).tolist() == [-1.0, -1.0]


@every_case
@pytest.mark.parametrize("dtype", HALF)
def test_a_step_in_half_precision_is_near_that_in_float32(name: str, dtype: torch.dtype) -> None:
    loss, model, *batch = _arranged(name)
    value, gradient = step(loss, model, *batch)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**6)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    before = [p.detach().clone() for p in model.parameters()]
    optimizer.zero_grad()
    torch.manual_seed(3)
    with torch.autocast("cpu", dtype):
        low = loss(model, *batch)
    scaler.scale(low).backward()
    scaler.unscale_(optimizer)
    low_gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    scaler.step(optimizer)
    scaler.update()
    assert low.dtype == torch.float32
    assert low.item() == pytest.approx(value, rel=FACTOR * HALF[dtype], abs=FACTOR * HALF[dtype])
    distance = (low_gradient - gradient).norm() / gradient.norm()
    assert distance < FACTOR * HALF[dtype]
    assert scaler.get_scale() == 2.0**6  # no gradient was infinite
    assert any(not torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


@every_case
def test_a_parametrized_linear_layer_trains(name: str) -> None:
    loss, model, *batch = _arranged(name)
    value, gradient = step(loss, model, *batch)
    layers = [m for m in model.modules() if type(m) in (nn.Linear, nn.Conv2d)]
    for layer in layers:
        # its norm would divide by that of rows, which is 0 where layers start at 0
        with torch.no_grad():
            layer.weight.add_(1e-3 * torch.randn_like(layer.weight))
    value, gradient = step(loss, model, *batch)
    for layer in layers:
        parametrizations.weight_norm(layer)
    other_value, _ = step(loss, model, *batch)
    assert layers
    assert other_value == pytest.approx(value, rel=1e-4)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4 / float(gradient.norm()))
    optimizer.step()
    after, _ = step(loss, model, *batch)
    assert after < other_value


@every_case
def test_the_weights_of_a_model_keep_their_names_and_shapes(name: str) -> None:
    stored = json.loads(NAMES.read_text(encoding="utf-8"))
    assert stored[name] == _names(name), (
        "weights of earlier versions cannot be read; if the model is new, run "
        "python tests/test_pytorch_habits.py --update"
    )


def test_every_stored_list_of_names_is_that_of_a_model() -> None:
    assert json.loads(NAMES.read_text(encoding="utf-8")).keys() == CASES.keys()


@pytest.mark.slow
def test_exported_decoders_give_what_they_give_eagerly() -> None:
    differences = _in_a_process("export")
    assert differences.keys() == {name for name in CASES if not name.startswith("similar")}
    for name, difference in differences.items():
        assert difference < 1e-5, name


@pytest.mark.slow
def test_compiled_steps_are_those_of_eager_code() -> None:
    try:
        require_compiler(torch.device("cpu"))
    except InputError as error:
        pytest.skip(str(error))
    differences = _in_a_process("compile")
    assert differences.keys() == CASES.keys()
    for name, difference in differences.items():
        assert difference < ROUNDING, name


def _arranged(name: str) -> tuple[Any, ...]:
    """Return loss, model and the tensors of the batch, as ``step`` takes them."""
    model, batch, loss = seeded_case(name)
    return loss, model, *batch


def _names(name: str) -> dict[str, list[int]]:
    model, _, _ = seeded_case(name)
    return {key: list(weight.shape) for key, weight in model.state_dict().items()}


def _in_a_process(action: str) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.compiled_models", action]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment
    )
    assert done.returncode == 0, done.stderr
    differences: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return differences


if __name__ == "__main__":
    if sys.argv[1:] != ["--update"]:
        sys.exit("usage: python tests/test_pytorch_habits.py --update")
    content = json.dumps({name: _names(name) for name in CASES}, indent=1)
    NAMES.write_text(content + "\n", encoding="utf-8")
