"""The loop computes the step of one large batch, resumes to the last bit, and stops safely."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from experiments.training.budget import CLOCKS
from experiments.training.checkpoints import Checkpoints
from experiments.training.distributed import World
from experiments.training.gradient_steps import GradientSteps
from experiments.training.loop import fit_task
from experiments.training.run_folder import TIMING, Run
from experiments.training.settings import Settings
from experiments.training.step import Stream
from experiments.training.stopping import Interrupted, TrainingFailed
from experiments.training.task import Progress, reseed
from univae.checkpoint import load_state, load_weights, read_json
from univae.errors import InputError
from univae.optim.schedules import tripling

WIDTH = 4
DATA = 24


class Count(nn.Module):
    """A buffer that moves whenever the module is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.rows += len(x) * self.training
        return x


class Toy:
    """Regression with dropout and noise, on batches of ragged sizes."""

    def __init__(
        self,
        dropout: float = 0.5,
        sizes: tuple[int, ...] = (5, 1, 3, 2, 4, 1, 2),
        pause: float = 0.0,
    ) -> None:
        torch.manual_seed(0)
        self.module = nn.Sequential(
            nn.Linear(WIDTH, 8), Count(), nn.Dropout(dropout), nn.Tanh(), nn.Linear(8, 1)
        )
        self.x = torch.randn(DATA, WIDTH)
        self.y = self.x.sum(-1, keepdim=True).sin()
        self.sizes = sizes
        self.pause = pause
        self.selections: list[float] = []
        self.fractions: list[float] = []
        self.break_at: tuple[int, Callable[[Tensor], Tensor]] | None = None
        self.hooks: dict[int, Callable[[], None]] = {}

    def batches(self, epoch: int) -> list[Tensor]:
        order = torch.randperm(DATA, generator=torch.Generator().manual_seed(epoch))
        return list(order[: sum(self.sizes)].split(list(self.sizes)))

    def load(self, item: Tensor) -> dict[str, Tensor]:
        return {"x": self.x[item] + 0.1 * torch.randn(len(item), WIDTH), "y": self.y[item]}

    def weight(self, batch: dict[str, Tensor]) -> int:
        return len(batch["x"])

    def loss(
        self, batch: dict[str, Tensor], progress: Progress
    ) -> tuple[Tensor, dict[str, Tensor]]:
        time.sleep(self.pause)
        self.hooks.get(progress.step, lambda: None)()
        self.fractions.append(progress.fraction)
        loss = (self.module(batch["x"]) - batch["y"]).square().sum()
        if self.break_at and progress.step >= self.break_at[0]:
            loss = self.break_at[1](loss)
        return loss, {"targets": batch["y"].sum()}

    def validate(self, progress: Progress) -> dict[str, Any]:
        assert not any(m.training for m in self.module.modules())
        assert not torch.is_grad_enabled()
        error = (
            (self.module(self.x + 0.1 * torch.randn_like(self.x)) - self.y).square().mean().item()
        )
        return {"error": error, "selection": self.selections.pop(0) if self.selections else error}


SETTINGS = Settings(
    steps=12,
    checkpoint_every=3,
    validate_every=5,
    log_every=2,
    accumulate=2,
    ema=0.9,
    lr=0.05,
    threads=1,
    seed=3,
)


def train(
    path: Path, settings: Settings = SETTINGS, task: Toy | None = None
) -> tuple[dict[str, Any], Toy, Run]:
    task = task or Toy()
    run = Run.create(path, asdict(settings))
    return fit_task(task, settings, run), task, run


def everything(run: Run, name: str = "last") -> dict[str, Any]:
    """All that a run wrote, but for what the clock decides."""
    folder = run.path / "checkpoints" / name
    state = {
        k: v for k, v in read_json(folder / "state.json").items() if k not in ("seconds", "reserve")
    }
    rows = [{k: v for k, v in row.items() if k not in TIMING} for row in run.rows()]
    return {
        "weights": (folder / "model.safetensors").read_bytes(),
        "training": load_state(folder / "optimizer.pt"),
        "state": state,
        "rows": rows,
    }


def assert_equal(a: Any, b: Any) -> None:
    """Equal to the last bit, in every tensor of a nested structure."""
    if isinstance(a, Tensor):
        assert torch.equal(a, b)
        assert a.dtype == b.dtype
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, list):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_equal(x, y)
    else:
        assert a == b


@pytest.mark.parametrize(
    "stop", [1, 5, *(pytest.param(stop, marks=pytest.mark.slow) for stop in (4, 9, 12))]
)
def test_a_run_stopped_in_mid_epoch_resumes_to_the_same_bits(tmp_path: Path, stop: int) -> None:
    result, whole, first = train(tmp_path / "whole")
    task = Toy()
    task.hooks[stop - 1] = lambda: os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Interrupted, match=f"interrupted after step {stop}; continue with --resume"):
        train(tmp_path / "parts", task=task)
    state = read_json(tmp_path / "parts" / "checkpoints" / "last" / "state.json")
    assert (state["step"], state["epoch"], state["offset"]) == (
        stop,
        (2 * stop - 1) // 7,
        (2 * stop - 1) % 7 + 1,
    )
    resumed, part, second = train(tmp_path / "parts", replace(SETTINGS, resume=True))
    for name in ("last", "best"):
        assert_equal(everything(first, name), everything(second, name))
    for x, y in zip(
        whole.module.state_dict().values(), part.module.state_dict().values(), strict=True
    ):
        assert torch.equal(x, y)
    assert {**resumed, "seconds": 0} == {**result, "seconds": 0}
    assert (second.path / "DONE").exists()


def test_a_crash_loses_only_the_steps_after_the_last_checkpoint(tmp_path: Path) -> None:
    _, _, first = train(tmp_path / "whole")
    for stop in (
        2,
        8,
    ):  # before the first checkpoint, and after a validation that the last checkpoint has not seen
        task = Toy()
        task.hooks[stop - 1] = lambda: (_ for _ in ()).throw(MemoryError("no room"))
        run = Run(tmp_path / f"crash{stop}", {})
        with pytest.raises(MemoryError):
            train(run.path, task=task)
        error = read_json(run.path / "ERROR.json")
        assert (error["error"], error["step"]) == ("MemoryError: no room", stop - 1)
        with (run.path / "metrics.jsonl").open("a") as file:
            file.write('{"kind": "tra')
        train(run.path, replace(SETTINGS, resume=True))
        assert_equal(everything(first), everything(run))
        assert not (run.path / "ERROR.json").exists()


def test_all_steps_are_saved_once_before_a_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = []
    save = Checkpoints.save
    monkeypatch.setattr(
        Checkpoints,
        "save",
        lambda self, name, budget: (
            saved.append((name, self.state.step)),
            save(self, name, budget),
        ),
    )
    task = Toy()
    validate = task.validate

    def checked(progress: Progress) -> dict[str, Any]:
        state = read_json(tmp_path / "run" / "checkpoints" / "last" / "state.json")
        assert state["step"] == progress.step
        if progress.step == 10:
            raise MemoryError("killed")
        return validate(progress)

    task.validate = checked  # type: ignore[method-assign]
    with pytest.raises(MemoryError):
        train(tmp_path / "run", replace(SETTINGS, checkpoint_every=5), task)
    assert saved == [("last", 5), ("best", 5), ("last", 10)]
    _, _, whole = train(tmp_path / "whole")
    train(tmp_path / "run", replace(SETTINGS, checkpoint_every=5, resume=True))
    assert_equal(everything(whole), everything(Run.open(tmp_path / "run")))


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    result, _, run = train(tmp_path / "run")
    before = everything(run)
    again, _, _ = train(tmp_path / "run", replace(SETTINGS, resume=True))
    assert again == result == read_json(run.path / "DONE")
    assert_equal(before, everything(run))


def test_validation_logging_and_checkpoints_do_not_disturb_training(tmp_path: Path) -> None:
    _, a, _ = train(tmp_path / "a")
    _, b, _ = train(
        tmp_path / "b", replace(SETTINGS, validate_every=1, checkpoint_every=0, log_every=7)
    )
    assert_equal(dict(a.module.state_dict()), dict(b.module.state_dict()))


def test_the_seed_decides_the_noise(tmp_path: Path) -> None:
    _, a, _ = train(tmp_path / "a")
    _, b, _ = train(tmp_path / "b", replace(SETTINGS, seed=4))
    assert not torch.equal(a.module[0].weight, b.module[0].weight)


def test_every_micro_batch_draws_its_own_noise(tmp_path: Path) -> None:
    task = Toy()
    drawn = []
    task.load = lambda item: (drawn.append(torch.rand(()).item()), Toy.load(task, item))[1]  # type: ignore[method-assign]
    task.module.register_forward_pre_hook(lambda *_: drawn.append(torch.rand(()).item()))
    train(tmp_path / "run", replace(SETTINGS, validate_every=0, steps=5), task)
    assert len(drawn) == 21  # two loads and two losses a step, and the last validation
    assert len(set(drawn)) == 21


def test_accumulation_equals_one_large_batch_of_ragged_parts(tmp_path: Path) -> None:
    # A step of the batches (5, 1, 3) is the step of one batch of 9: no dropout, no noise that would
    # differ in shape.
    common = replace(SETTINGS, lr=0.02, steps=4, ema=0.0)
    parts = Toy(0.0, sizes=(5, 1, 3))
    whole = Toy(0.0, sizes=(9,))
    for task in (parts, whole):
        task.load = lambda item, task=task: {"x": task.x[item], "y": task.y[item]}  # type: ignore[method-assign]
    _, _, first = train(tmp_path / "parts", replace(common, accumulate=3), parts)
    _, _, second = train(tmp_path / "whole", replace(common, accumulate=1), whole)
    for x, y in zip(
        parts.module.state_dict().values(), whole.module.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(x, y)
    for a, b in zip(first.rows("train"), second.rows("train"), strict=True):
        assert {k: v for k, v in a.items() if k not in TIMING} == pytest.approx(
            {k: v for k, v in b.items() if k not in TIMING}
        )


def test_a_step_is_adamw_on_the_mean_loss_per_target(tmp_path: Path) -> None:
    settings = replace(
        SETTINGS,
        steps=1,
        accumulate=3,
        warmup=0.0,
        lr_floor=1.0,
        clip=0.1,
        ema=0.0,
        weight_decay=0.1,
    )
    task = Toy(0.0)
    naive = Toy(0.0)
    for t in (task, naive):
        t.load = lambda item, t=t: {"x": t.x[item], "y": t.y[item]}  # type: ignore[method-assign]
    _, _, run = train(tmp_path / "run", replace(settings, log_every=1), task)
    rows = torch.cat(naive.batches(0)[:3])
    loss = (naive.module(naive.x[rows]) - naive.y[rows]).square().mean()
    loss.backward()
    p = {name: p for name, p in naive.module.named_parameters() if p.requires_grad}
    norm = torch.stack([x.grad.norm() for x in p.values()]).norm()
    for (
        name,
        x,
    ) in p.items():  # after one step, AdamW's moments cancel: the step is lr g / (|g| + eps)
        decay = 0.1 if x.ndim == 2 else 0.0
        g = x.grad * 0.1 / (norm + 1e-6)
        expected = x * (1 - 0.05 * decay) - 0.05 * g / (g.abs() + 1e-8)
        torch.testing.assert_close(task.module.get_parameter(name), expected)
    (row,) = run.rows("train")
    assert row["loss"] == pytest.approx(loss.item())
    assert row["gradient_norm"] == pytest.approx(norm.item())
    assert row["lr"] == 0.05
    assert row["targets"] == pytest.approx(naive.y[rows].mean().item())


def test_rows_average_over_the_steps_since_the_row_before(tmp_path: Path) -> None:
    settings = replace(SETTINGS, steps=6, accumulate=1, validate_every=0)
    _, _, each = train(tmp_path / "each", replace(settings, log_every=1))
    _, _, third = train(tmp_path / "third", replace(settings, log_every=3))
    sizes = Toy().sizes
    losses = [row["loss"] for row in each.rows("train")]
    means = [
        sum(s * x for s, x in zip(sizes[i : i + 3], losses[i : i + 3], strict=True)) for i in (0, 3)
    ]
    assert [row["loss"] for row in third.rows("train")] == pytest.approx(
        [means[0] / 9, means[1] / 7]
    )
    assert [row["step"] for row in third.rows()] == [3, 6, 6]


def test_the_checkpoint_holds_the_weights_that_were_validated(tmp_path: Path) -> None:
    result, task, run = train(tmp_path / "run")
    averaged = Toy().module
    load_weights(averaged, run.checkpoint("last") / "model.safetensors")
    assert not torch.equal(averaged[0].weight, task.module[0].weight)
    other = Toy()
    other.module = averaged.eval()
    reseed(SETTINGS.seed, "validation")
    with torch.no_grad():
        assert other.validate(Progress(12, 1.0))["error"] == result["error"]
    raw = load_state(run.checkpoint("last") / "optimizer.pt")["weights"]
    assert_equal(dict(raw), dict(task.module.state_dict()))


def test_best_is_where_the_selection_was_smallest_and_last_is_the_end(tmp_path: Path) -> None:
    task = Toy()
    task.selections = [math.nan, 3.0, 2.0, math.inf, 2.5]
    _, _, run = train(tmp_path / "run", replace(SETTINGS, validate_every=2, steps=10), task)
    assert [row["selection"] for row in run.rows("validation")] == [None, 3.0, 2.0, None, 2.5]
    states = {name: read_json(run.checkpoint(name) / "state.json") for name in ("best", "last")}
    assert (states["best"]["step"], states["last"]["step"]) == (6, 10)
    assert states["last"]["best"] == states["best"]["best"] == 2.0


def test_the_rate_may_fall_in_passes_and_eps_reaches_the_optimizer(tmp_path: Path) -> None:
    settings = replace(SETTINGS, steps=13, schedule="tripling", log_every=1, lr=0.1, eps=0.5)
    stepper = GradientSteps(Toy(), settings, World(0, 1, torch.device("cpu")))
    assert {group["eps"] for group in stepper.optimizer.param_groups} == {0.5}
    _, task, run = train(tmp_path / "run", settings)
    assert [row["lr"] for row in run.rows("train")] == pytest.approx(
        [0.1 * tripling(t) for t in task.fractions[::2]]
    )


def test_the_rate_warms_up_and_falls_to_its_floor(tmp_path: Path) -> None:
    settings = replace(SETTINGS, steps=10, warmup=0.4, lr_floor=0.5, log_every=1, lr=0.1)
    _, task, run = train(tmp_path / "run", settings)
    assert task.fractions[::2] == pytest.approx([(i + 0.5) / 10 for i in range(10)])
    rates = [row["lr"] for row in run.rows("train")]
    half = [0.1 * (0.5 + 0.5 * (1 + math.cos(math.pi * (i + 0.5) / 6)) / 2) for i in range(6)]
    assert rates == pytest.approx([0.0125, 0.0375, 0.0625, 0.0875, *half])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda loss: loss * math.nan, "the loss is nan"),
        (lambda loss: loss + math.inf, "the loss is inf"),
        (
            lambda loss: loss - loss.detach() + (loss - loss.detach()).sqrt() + 1.0,
            "the norm of the gradient is",
        ),
    ],
)
def test_numbers_that_are_not_finite_stop_training_and_update_nothing(
    tmp_path: Path, damage: Callable[[Tensor], Tensor], message: str
) -> None:
    task = Toy()
    task.break_at = 5, damage
    seen: list[dict[str, Tensor]] = []
    task.hooks[5] = lambda: seen.append({k: v.clone() for k, v in task.module.named_parameters()})
    with pytest.raises(
        TrainingFailed,
        match=f"training stopped in step 6: {message}.*nothing was updated.*ERROR.json",
    ):
        train(tmp_path / "run", task=task)
    assert_equal(seen[0], dict(task.module.named_parameters()))
    error = read_json(tmp_path / "run" / "ERROR.json")
    assert (error["step"], error["epoch"], error["offset"]) == (5, 1, 3)
    assert message in error["error"]
    assert [row["step"] for row in error["rows"]] == [2, 4, 5]
    assert error["try"][0] == "a lower --lr"
    assert not math.isfinite(float(error["loss"])) or not math.isfinite(
        float(error["gradient_norm"])
    )
    assert not (tmp_path / "run" / "DONE").exists()


class Clock:
    """A clock that advances in the task only: half a second a step, some seconds a validation."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, task: Toy, validation: float = 10.0
    ) -> None:
        self.now = 1e6
        loss = task.loss
        validate = task.validate
        monkeypatch.setitem(CLOCKS, "wall", lambda: self.now)
        task.loss = lambda *a: (self.pass_by(0.25), loss(*a))[1]  # type: ignore[method-assign]
        task.validate = lambda *a: (self.pass_by(validation), validate(*a))[1]  # type: ignore[method-assign]

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


MINUTE = replace(
    SETTINGS, minutes=1.0, steps=1, validate_every=0, checkpoint_every=0, log_every=1000
)


@pytest.mark.parametrize(("every", "validations", "steps"), [(0, [0], 79), (30, [0], 79)])
def test_a_time_budget_holds_with_the_last_validation_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int, validations: list[int], steps: int
) -> None:
    # 10 s for the first validation, then steps while another fits in before 50 s, then the last
    # validation. One at step 30 would take more than a tenth of the time.
    task = Toy()
    Clock(monkeypatch, task)
    result, _, run = train(tmp_path / "run", replace(MINUTE, validate_every=every), task)
    assert (result["steps"], result["seconds"]) == (steps, 59.5)
    assert [row["step"] for row in run.rows("validation")] == [*validations, steps]
    assert task.fractions[0] == 0  # the first validation uses up nothing of the schedule
    assert task.fractions[-1] == 39 / 40
    assert task.fractions == sorted(task.fractions)


def test_a_time_budget_without_time_to_train_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Clock(monkeypatch, task := Toy())
    with pytest.raises(
        InputError,
        match=r"^the 0\.3 minutes of training leave no time to train: a validation takes 10 s; give "
        r"more --minutes with --resume$",
    ):
        train(tmp_path / "run", replace(MINUTE, minutes=0.3), task)
    Clock(monkeypatch, task := Toy())
    # the first validation counts: 10 s of 24, and 10 s for the last one
    longer = replace(MINUTE, minutes=0.4, resume=True)
    assert train(tmp_path / "run", longer, task)[0]["steps"] == 7
    Clock(monkeypatch, task := Toy())
    # from 10 s to 14 s
    assert train(tmp_path / "enough", replace(MINUTE, minutes=0.4), task)[0]["steps"] == 7


def test_a_time_budget_is_carried_over_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Toy()
    task.hooks[29] = lambda: os.kill(os.getpid(), signal.SIGTERM)
    # shorter than a step: time is left for a validation, not for a step
    Clock(monkeypatch, task, validation=0.1)
    with pytest.raises(Interrupted, match="after step 30"):
        train(tmp_path / "run", MINUTE, task)
    for _ in range(2):  # the second time there is nothing left to do
        Clock(monkeypatch, task := Toy(), validation=0.1).now = 7.0
        result, _, _ = train(tmp_path / "run", replace(MINUTE, resume=True), task)
        assert (result["steps"], result["seconds"]) == (119, 59.7)
    assert task.fractions == []


def test_a_stream_straddles_epochs_and_an_empty_one_is_refused() -> None:
    task = Toy()
    items, epoch, offset = Stream(task).take(0, 5, 10)
    expected = [*task.batches(0)[5:], *task.batches(1), task.batches(2)[0]]
    assert [item.tolist() for item in items] == [item.tolist() for item in expected]
    assert (epoch, offset) == (2, 1)
    assert Stream(task).take(0, 7, 1)[1:] == (1, 1)
    task.sizes = ()
    task.batches = lambda epoch: []  # type: ignore[method-assign]
    with pytest.raises(InputError, match="the data give no batch"):
        Stream(task).take(0, 0, 1)


def test_bf16_computes_the_loss_in_bfloat16_and_keeps_the_weights(tmp_path: Path) -> None:
    torch.set_default_dtype(torch.float32)
    task = Toy()
    kinds = []
    task.module.register_forward_hook(
        lambda module, args, out: kinds.append((out.dtype, torch.is_grad_enabled()))
    )
    train(tmp_path / "run", replace(SETTINGS, precision="bf16", steps=2, validate_every=0), task)
    # validation is in full precision
    assert set(kinds) == {(torch.bfloat16, True), (torch.float32, False)}
    assert task.module[0].weight.dtype == torch.float32


@pytest.mark.parametrize(
    "wrong",
    [
        *(
            {"steps": 0},
            {"minutes": -1.0},
            {"lr": 0.0},
            {"lr": math.nan},
            {"warmup": 2.0},
            {"lr_floor": 2.0},
        ),
        *(
            {"weight_decay": -1.0},
            {"beta1": 1.0},
            {"beta2": -0.1},
            {"clip": -1.0},
            {"ema": 1.0},
            {"accumulate": 0},
        ),
        *(
            {"precision": "fp8"},
            {"checkpoint_every": -1},
            {"validate_every": -1},
            {"log_every": 0},
            {"threads": -1},
        ),
        *({"clock": "sun"}, {"schedule": "steps"}, {"eps": 0.0}),
    ],
)
def test_settings_outside_their_range_are_refused(wrong: dict[str, Any], unchecked: None) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(InputError, match=rf"^{name} must be .*; got {name}={value}$"):
        Settings(**wrong)


def test_a_device_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for name in ("warp", "cuda:7"):
        with pytest.raises(InputError, match=f"device must be .*; got device={name}"):
            train(tmp_path / name, replace(SETTINGS, device=name))


_SCRIPT = """
import os, sys, json, torch
sys.path.insert(0, {tests!r})
torch.set_default_dtype(torch.float64)
from experiments.training.distributed import join
from test_loop import *
settings = Settings(**json.loads(sys.argv[2]))
try:
    with join("cpu") as world:  # a command may have joined before the loop does
        _, task, _ = train(Path(sys.argv[1]), settings, Toy(pause=float(sys.argv[3])))
        print(len(task.fractions), world.total([1 + world.rank]))
except KeyboardInterrupt as error:
    print(error)
    sys.exit(130)
"""


def start_two(path: Path, settings: Settings) -> list[subprocess.Popen]:
    """Start two processes that train together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    both = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    both |= {"OMP_NUM_THREADS": "1"}
    return [start(path, settings, RANK=rank, LOCAL_RANK=rank, **both) for rank in ("0", "1")]


def start(path: Path, settings: Settings, pause: float = 0.0, **variables: str) -> subprocess.Popen:
    code = _SCRIPT.format(tests=str(Path(__file__).parent))
    arguments = [sys.executable, "-c", code, str(path), json.dumps(asdict(settings)), str(pause)]
    root = {"PYTHONPATH": str(Path(__file__).parents[3])}
    return subprocess.Popen(
        arguments,
        env=os.environ | root | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_two_processes_equal_one_with_twice_the_batches(tmp_path: Path) -> None:
    settings = replace(SETTINGS, steps=5)
    processes = start_two(tmp_path / "two", settings)
    _, one, first = train(tmp_path / "one", replace(settings, accumulate=4))
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    # of the 20 micro-batches, each computed half
    assert [out for out, _ in outputs] == ["10 [3.0]\n"] * 2
    second = Run.open(tmp_path / "two")
    two = Toy().module
    two.load_state_dict(load_state(second.checkpoint("last") / "optimizer.pt")["weights"])
    for x, y in zip(one.module.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(x, y)
    assert len(first.rows()) == len(second.rows()) == 3
    for a, b in zip(first.rows(), second.rows(), strict=True):
        assert a.keys() == b.keys()
        assert all(a[k] == pytest.approx(b[k]) for k in a if k not in TIMING)
    longer = replace(settings, steps=8, resume=True)  # and both train on alike
    processes = start_two(tmp_path / "two", longer)
    _, one, _ = train(tmp_path / "one", replace(longer, accumulate=4))
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [out for out, _ in outputs] == ["6 [3.0]\n"] * 2, outputs
    two.load_state_dict(load_state(second.checkpoint("last") / "optimizer.pt")["weights"])
    for x, y in zip(one.module.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(x, y)


def test_ctrl_c_saves_and_exits_130_without_a_traceback(tmp_path: Path) -> None:
    settings = replace(SETTINGS, log_every=1, checkpoint_every=0)
    process = start(tmp_path / "run", settings, pause=0.1)
    while not (tmp_path / "run" / "metrics.jsonl").exists():
        time.sleep(0.01)
        assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "stopping after this step" in err
    assert out.startswith("interrupted after step")
    _, _, first = train(tmp_path / "whole", settings)
    _, _, second = train(tmp_path / "run", replace(settings, resume=True))
    assert_equal(everything(first), everything(second))


@pytest.mark.parametrize(
    ("signals", "pause", "kind"),
    [
        ((signal.SIGINT, signal.SIGINT), 0.6, KeyboardInterrupt),
        ((signal.SIGTERM, signal.SIGINT), 0.6, KeyboardInterrupt),
        (
            (signal.SIGINT, signal.SIGINT, signal.SIGTERM),
            0.0,
            Interrupted,
        ),  # one Ctrl-C under a launcher
        ((signal.SIGTERM, signal.SIGTERM), 0.6, Interrupted),
    ],
)
def test_a_second_ctrl_c_aborts_at_once_and_an_echo_or_sigterm_does_not(
    tmp_path: Path, signals: tuple[int, ...], pause: float, kind: type[BaseException]
) -> None:
    def send() -> None:
        for number in signals:
            os.kill(os.getpid(), number)
            time.sleep(pause)

    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    task = Toy()
    task.hooks[1] = send
    with pytest.raises(kind) as caught:
        train(tmp_path / "run", replace(SETTINGS, checkpoint_every=0, accumulate=1), task)
    assert caught.type is kind
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
    assert (tmp_path / "run" / "checkpoints" / "last").exists() == (kind is Interrupted)
