"""Other processes that continue a run take its steps: every datum once an epoch, in its order."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from experiments import train_density, train_gan
from experiments.gans.task import GanTask
from experiments.images.task import DensityTask
from experiments.studies.processes import together
from experiments.training.division import divided_anew, even_parts, share_of_each
from experiments.training.loop import fit_task
from experiments.training.run_folder import Run
from experiments.training.settings import Settings
from tests.experiments.training.test_loop import SETTINGS, Toy
from univae.checkpoint import read_json, write_json
from univae.errors import InputError
from univae.latent.stream_norm import StreamNorm

ROWS = 300
EPOCH = 240  # rows to train on
SMALL = {"held_out": 0.2, "validation_data": 20, "validate_every": 0, "threads": 1}


@pytest.fixture
def data(tmp_path: Path) -> str:
    torch.set_default_dtype(torch.float32)
    x = np.arange(4 * ROWS, dtype=np.float32).reshape(ROWS, 4)
    np.save(tmp_path / "rows.npy", x)
    return str(tmp_path / "rows.npy")


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 5), st.integers(6, 20))
def test_joint_batches_keep_their_rows_and_the_order(
    parts: int, processes: int, count: int, rows: int
) -> None:
    order = np.random.default_rng(0).permutation(parts * count * rows)
    items = np.split(order, parts * count)
    divided = divided_anew(items, parts, processes)
    assert len(divided) == processes * count
    for i in range(count):
        before = np.concatenate(items[i * parts : (i + 1) * parts])
        after = np.concatenate(divided[i * processes : (i + 1) * processes])
        assert np.array_equal(before, after)


def test_a_step_keeps_its_micro_batches_where_processes_can_share_them() -> None:
    assert [share_of_each(4, processes) for processes in (1, 2, 4)] == [4, 2, 1]
    assert share_of_each(4, 3) == 1
    assert share_of_each(1, 2) == 1
    assert [even_parts(4, processes) for processes in (1, 2, 4, 3, 8)] == [4, 4, 4, 3, 8]


def recorded(load: Callable, folder: Path) -> Callable:
    """A task's ``load`` that writes the rows of every item it loads into a new file."""

    def loading(task: object, item: np.ndarray) -> object:
        count = sum(1 for _ in folder.glob("*.npy"))
        with (folder / f"{count}-{torch.initial_seed()}.npy").open("wb") as file:
            np.save(file, item)
        return load(task, item)

    return loading


def density(options: Mapping[str, object]) -> None:
    small = {"latents": (3,), "hidden": (8,), "validation_samples": 2, "batch_size": 10}
    train_density.train(train_density.Config.of(**SMALL, **small, **options))


def gan(options: Mapping[str, object]) -> None:
    small = {"latent": 4, "hidden": (8,), "batch_size": 20, "feature_steps": 1}
    train_gan.train(train_gan.Config.of(**SMALL, **small, **options))


@pytest.mark.parametrize(
    ("train", "task", "accumulate"),
    [pytest.param(density, DensityTask, 2, marks=pytest.mark.slow), (gan, GanTask, 1)],
)
@pytest.mark.parametrize(("first", "second"), [(2, 1), pytest.param(1, 2, marks=pytest.mark.slow)])
def test_every_datum_is_loaded_once_an_epoch_where_other_processes_continue_in_its_middle(
    train: Callable,
    task: type,
    accumulate: int,
    first: int,
    second: int,
    data: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "loaded").mkdir()
    monkeypatch.setattr(task, "load", recorded(task.load, tmp_path / "loaded"))
    out = tmp_path / "run"
    options = {"data": data, "out": out, "accumulate": 2 * accumulate // first}
    if train is gan:
        options["accumulate"] = 1
    rows_of_a_step = {density: 10 * 2 * accumulate, gan: 20 * first}[train]
    steps = EPOCH // rows_of_a_step
    together(first, partial(train, {**options, "steps": steps // 2}))
    together(second, partial(train, {**options, "steps": steps, "resume": True}))
    state = read_json(out / "checkpoints" / "last" / "state.json")
    assert (state["step"], state["epoch"], state["processes"]) == (steps, 0, first)
    loaded = np.concatenate([np.load(path) for path in (tmp_path / "loaded").iterdir()])
    assert len(loaded) == len(np.unique(loaded)) == EPOCH


def begun_by_two(task: Toy, settings: Settings, path: Path) -> None:
    """Train in this process; then let the run be one that two processes began."""
    fit_task(task, settings, Run.create(path, asdict(settings)))
    state = path / "checkpoints" / "last" / "state.json"
    write_json(state, {**read_json(state), "processes": 2})


def resume(task: Toy, settings: Settings, path: Path) -> None:
    longer = replace(settings, resume=True, steps=settings.steps + 1)
    fit_task(task, longer, Run.create(path, asdict(longer)))


def test_second_moments_that_are_those_of_other_gradients_are_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = replace(SETTINGS, window=2, accumulate=1, clip=0.0, steps=2, validate_every=0)
    begun_by_two(Toy(), settings, tmp_path / "folded")
    resume(Toy(), settings, tmp_path / "folded")
    note = "2 processes folded their own gradients into the momentum; 1 fold the means of 2"
    assert note in capsys.readouterr().err
    clipped = replace(settings, clip=1.0)
    begun_by_two(Toy(), clipped, tmp_path / "clipped")
    resume(Toy(), clipped, tmp_path / "clipped")
    assert "processes" not in capsys.readouterr().err


def test_moving_statistics_of_other_processes_are_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def normalised() -> Toy:
        task = Toy()
        task.module[1] = StreamNorm(8)
        return task

    settings = replace(SETTINGS, steps=2, validate_every=0)
    begun_by_two(normalised(), settings, tmp_path / "run")
    resume(normalised(), settings, tmp_path / "run")
    err = capsys.readouterr().err
    assert err.count("the moving statistics of 1, and weights that depend on them") == 1


def test_rows_that_processes_cannot_share_equally_are_refused(data: str, tmp_path: Path) -> None:
    def refused() -> None:
        with pytest.raises(InputError, match="2 processes cannot share the 5 rows of a step"):
            gan_of_five({"steps": 2, "resume": True})

    def gan_of_five(options: Mapping[str, object]) -> None:
        small = {"latent": 4, "hidden": (8,), "batch_size": 5}
        config = train_gan.Config.of(data=data, out=tmp_path / "run", **SMALL, **small, **options)
        train_gan.train(config)

    gan_of_five({"steps": 1})
    together(2, refused)
