"""Other processes that continue a run take its steps: every datum once an epoch, in its order."""

from collections.abc import Callable, Mapping
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
from univae.checkpoint import read_json
from univae.errors import InputError

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
    ("train", "task", "accumulate"), [(density, DensityTask, 2), (gan, GanTask, 1)]
)
@pytest.mark.parametrize(("first", "second"), [(2, 1), (1, 2)])
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
