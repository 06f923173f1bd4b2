"""``univae.train_text`` and its siblings: what the commands do, from Python, with data in memory."""

import configparser
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import univae
from density.trained import TrainedDensity
from experiments import train_text
from experiments.functions.memory import TEXTS as TEXT_FORMAT
from experiments.functions.memory import write_once
from gan.trained import TrainedGan
from univae import entry_points
from univae.errors import InputError
from univae.sentence.trained import TrainedSimilar
from univae.trained import Trained
from univae.vae.trained import TrainedText

ROOT = Path(__file__).resolve().parents[2]
TEXTS = [f"the {color} cat sees a dog number {i}" for i in range(20) for color in ("red", "blue")]
TEXT: dict[str, Any] = {
    "tokenizer": "bytes", "width": 8, "heads": 2, "layers": 2, "max_length": 64,
    "latent_layers": 2, "latent_width": 4, "batch_tokens": 512, "validation_samples": 2,
    "validation_texts": 10, "steps": 2, "report": False, "progress": False, "calibration": 0.0,
}  # fmt: skip
DENSITY: dict[str, Any] = {
    "latents": (3,), "hidden": (8,), "validation_samples": 2, "steps": 2, "report": False, "progress": False,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _single_precision() -> None:
    torch.set_default_dtype(torch.float32)


def weights(run: Trained) -> bytes:
    return run.weights.read_bytes()


def test_the_entry_points_are_those_of_the_library() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    for group in entry_points.LIBRARY:
        declared = settings["options.entry_points"].get(group, "").split("\n")
        if group == entry_points.KINDS or any(declared):
            assert dict(line.split(" = ") for line in declared if line) == dict(
                entry_points.LIBRARY[group]
            )


# Training.


def test_texts_in_memory_train_as_the_file_does_and_nothing_global_changes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("".join(f"{text}\n" for text in TEXTS))
    handler = signal.getsignal(signal.SIGINT)
    threads = torch.get_num_threads()
    state = torch.get_rng_state()
    run = univae.train_text(TEXTS, tmp_path / "memory", threads=1, **TEXT)
    assert signal.getsignal(signal.SIGINT) is handler
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    assert capfd.readouterr() == ("", "")
    assert isinstance(run, TrainedText)
    stored = tmp_path / "memory" / "in_memory_data" / "text.txt"
    assert stored.read_text() == file.read_text()

    of_file = univae.train_text(str(file), str(tmp_path / "file"), threads=1, **TEXT)
    assert weights(of_file) == weights(run)
    options = {k: v for k, v in TEXT.items() if k not in ("report", "progress")}
    train_text.train(
        train_text.Config.of(out=tmp_path / "command", text=str(file), threads=1, **options)
    )
    assert weights(univae.load(tmp_path / "command", "cpu")) == weights(run)


def test_a_run_of_texts_in_memory_is_resumed_without_them_or_with_the_same(tmp_path: Path) -> None:
    out = tmp_path / "run"
    univae.train_text(TEXTS, out, **TEXT)
    for texts in (None, TEXTS):
        again = univae.train_text(texts, out, resume=True, **TEXT)
        assert again.path == out
    with pytest.raises(InputError, match="was started with other data than these"):
        univae.train_text(TEXTS[1:], out, resume=True, **TEXT)
    assert isinstance(univae.load(out, "cpu"), TrainedText)


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_of_the_user_with_the_name_of_data_in_memory_stays(
    tmp_path: Path, resume: bool
) -> None:
    file = tmp_path / "run" / "in_memory_data" / "text.txt"
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    for data in (TEXTS, file):
        with pytest.raises(InputError):
            univae.train_text(data, tmp_path / "run", resume=resume, **TEXT)
        assert [p for p in (tmp_path / "run").rglob("*") if p.is_file()] == [file]
        assert file.read_text() == "mine"


def test_data_in_memory_of_a_run_that_does_not_start_are_removed_unless_they_were_there(
    tmp_path: Path,
) -> None:
    out = tmp_path / "new" / "run"
    for _ in range(2):
        with pytest.raises(InputError):
            univae.train_text(TEXTS, out, **TEXT | {"steps": -1})
        assert not out.parent.exists()
    file = out / "in_memory_data" / "text.txt"
    write_once(TEXTS, file, TEXT_FORMAT)  # and killed
    content = file.read_text()
    with pytest.raises(InputError):
        univae.train_text(file, out, **TEXT | {"steps": -1})
    assert file.read_text() == content
    univae.train_text(TEXTS[1:], out, **TEXT)
    assert file.read_text() == "".join(f"{text}\n" for text in TEXTS[1:])


def test_rows_in_memory_train_a_table_and_an_image_model(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    run = univae.train_density(rng.normal(size=(60, 3)), tmp_path / "table", **DENSITY)
    assert isinstance(run, TrainedDensity)
    assert run.sample(2, seed=1).shape == (2, 3)
    images = rng.integers(256, size=(60, 4, 4)).astype(np.uint8)
    validation = images[:10]
    run = univae.train_density(
        images, tmp_path / "images", validation=validation, likelihood="logistic",
        binarisation="none", **DENSITY,
    )  # fmt: skip
    assert (run.path / "in_memory_data" / "validation.npy").is_file()
    assert run.sample(2).dtype == np.uint8
    frame = pytest.importorskip("pandas").DataFrame(rng.normal(size=(60, 2)), columns=["a", "b"])
    assert univae.train_density(frame, tmp_path / "frame", **DENSITY).path == tmp_path / "frame"


def test_the_names_of_a_frame_are_names_and_its_cells_keep_their_types(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame(rng.normal(size=(60, 2)), columns=[2019, 2020])
    frame["code"] = np.where(rng.random(60) < 0.5, "01234", "none")
    frame["truth"] = rng.random(60) < 0.5
    out = tmp_path / "run"
    run = univae.train_density(frame, out, **DENSITY)
    assert isinstance(run, TrainedDensity)
    assert run.columns is not None
    assert run.columns.names == ("2019", "2020", "code", "truth")
    assert run.columns.sizes == (0, 0, 2, 2)
    assert run.folder.data_record()["data"]["count"] == 60
    drawn = run.sample(50, seed=0)
    assert drawn["truth"].dtype == bool
    assert set(drawn["code"]) == {"01234", "none"}
    pandas.testing.assert_frame_equal(run.impute(frame, samples=2), frame)

    univae.train_density(frame, out, resume=True, **DENSITY)
    with pytest.raises(InputError, match="was started with other data than these"):
        univae.train_density(frame[::-1], out, resume=True, **DENSITY)


def test_a_run_of_data_in_memory_is_resumed_where_it_was_moved(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 2))
    univae.train_density(rows, tmp_path / "old", **DENSITY)
    moved = (tmp_path / "old").rename(tmp_path / "new")
    run = univae.train_density(None, moved, resume=True, **{**DENSITY, "steps": 3})
    assert "step 3" in repr(run)
    univae.train_text(TEXTS, tmp_path / "old", **TEXT)
    moved = (tmp_path / "old").rename(tmp_path / "text")
    run = univae.train_text(None, moved, resume=True, **{**TEXT, "steps": 3})
    assert "step 3" in repr(run)


def test_a_gan_returns_rows_in_the_units_of_its_data(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal([5000, 0], [300, 0.01], (80, 2))
    run = univae.train_gan(
        rows, tmp_path / "run", steps=2, batch_size=16, latent=4, hidden=(8,), feature_steps=3,
        validation_data=40, report=False, progress=False,
    )  # fmt: skip
    assert isinstance(run, TrainedGan)
    drawn = run.sample(200, seed=3)
    assert drawn.dtype == rows.dtype
    assert abs(drawn[:, 0].mean() - 5000) < 900
    assert np.abs(drawn[:, 1]).max() < 1
    np.testing.assert_array_equal(drawn, run.sample(200, seed=3))


@pytest.mark.parametrize("as_frame", [False, True])
def test_pairs_in_memory_train_a_sentence_model(as_frame: bool, tmp_path: Path) -> None:
    pairs: Any = [(f"a cat number {i}", f"the cat {i}") for i in range(40)]
    if as_frame:
        pairs = pytest.importorskip("pandas").DataFrame(pairs, columns=["a", "b"])
    run = univae.train_similar(
        pairs, tmp_path / "run", tokenizer="words", vocab_size=60, width=16, heads=2, layers=1,
        max_length=16, batch_size=6, held_out=0.2, steps=2, report=False, progress=False,
    )  # fmt: skip
    assert isinstance(run, TrainedSimilar)
    assert run.encode("a cat").shape == (1, 16)


def test_training_works_in_another_thread(tmp_path: Path) -> None:
    runs = []
    thread = threading.Thread(
        target=lambda: runs.append(univae.train_text(TEXTS, tmp_path / "run", **TEXT))
    )
    thread.start()
    thread.join()
    assert isinstance(runs[0], TrainedText)


def test_training_works_in_inference_mode_and_whole_floats_are_whole_numbers(
    tmp_path: Path,
) -> None:
    with torch.inference_mode():
        run = univae.train_text(TEXTS, tmp_path / "run", **{**TEXT, "steps": 2.0})
        assert torch.is_inference_mode_enabled()
    assert run.config["steps"] == 2
    assert not (run.path / "samples").exists()
    assert not (run.path / "plots").exists()


def test_a_column_whose_name_begins_with_a_dash_can_be_left_out(tmp_path: Path) -> None:
    frame = pytest.importorskip("pandas").DataFrame(
        np.random.default_rng(0).normal(size=(60, 3)), columns=["a", "-x", "b"]
    )
    run: Any = univae.train_density(frame, tmp_path / "run", drop=["-x"], **DENSITY)
    assert list(run.sample(1).columns) == ["a", "b"]
    with pytest.raises(InputError, match="drop: only the first value can begin with a dash"):
        univae.train_density(frame, tmp_path / "other", drop=["a", "-x"], **DENSITY)


def test_the_tiny_preset_of_a_gan_takes_tables(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(80, 2))
    run: Any = univae.train_gan(
        rows, tmp_path / "run", preset="tiny", steps=1, batch_size=16, feature_steps=3,
        validation_data=40, report=False, progress=False,
    )  # fmt: skip
    assert run.sample(3).shape == (3, 2)


# What is refused.


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (TEXTS, {"stepz": 3}, "no option --stepz; did you mean --steps"),
        (TEXTS, {"steps": -1}, "steps must be at least 1"),
        (TEXTS, {"steps": True}, "^train_text: steps needs a value; got steps=True$"),
        (TEXTS, {"steps": 2.5}, "steps must be a whole number; got '2.5'"),
        (TEXTS, {"preset": "huge"}, "preset must be one of"),
        (TEXTS, {"help": True}, "give the options of a training, not of help"),
        (TEXTS, {"text": "a.txt"}, "the data are given twice"),
        (TEXTS[:1], {}, "held-out texts are needed"),
        ([1, 2], {}, "every entry must be a text; row 0"),
        ({"text": TEXTS}, {}, "got dict"),
        ([*TEXTS, "half \ud83d"], {}, r"row 40 .from 0. holds '.ud83d', half of a surrogate pair"),
        ([], {}, "train_text: the data in memory are empty"),
        ("nowhere.txt", {}, "nowhere.txt"),
    ],
)
def test_bad_input_leaves_nothing_behind(
    data: Any, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        univae.train_text(data, tmp_path / "run", **{**TEXT, **options})
    assert list(tmp_path.iterdir()) == []


def test_a_failed_start_keeps_the_folder_of_the_user_and_removes_its_own(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    for out in (mine, tmp_path / "a" / "b"):
        with pytest.raises(InputError, match="held-out texts are needed"):
            univae.train_text(TEXTS[:1], out, **TEXT)
        with pytest.raises(InputError, match="no option --stepz"):
            univae.train_density(np.zeros((3, 2)), out, stepz=1)
    assert [path.name for path in tmp_path.rglob("*")] == ["mine"]


def test_a_list_of_the_names_of_files_is_no_list_of_texts(tmp_path: Path) -> None:
    files = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for file in files:
        file.write_text("".join(f"{text}\n" for text in TEXTS))
    with pytest.raises(InputError, match=r"name of a file.* give \[Path\(name\) for name in names"):
        univae.train_text([str(file) for file in files], tmp_path / "run", **TEXT)
    assert not (tmp_path / "run").exists()
    options = {**TEXT, "steps": 1}
    run = univae.train_text(files, tmp_path / "run", **options)
    assert run.folder.data_record()["text"]["count"] > 0


def test_a_folder_with_other_files_is_refused_and_unchanged(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files"):
        univae.train_text(TEXTS, tmp_path, **TEXT)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(InputError, match="out is required"):
        univae.train_text(TEXTS)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("out", [None, 3])
def test_an_out_that_is_no_path_is_refused(out: Any) -> None:
    with pytest.raises(InputError, match=r"^train_text: out is required: the run folder to write"):
        univae.train_text(TEXTS, out, **TEXT)


@pytest.mark.parametrize(
    ("train", "data", "message"),
    [
        (univae.train_density, np.array([["a", "b"]]), "must be numbers"),
        (univae.train_density, [[1, 2], [3]], "rows of different lengths"),
        (univae.train_density, [], "must have a row or more"),
        (univae.train_density, [1.0, 2.0], r"such as \(N, columns\) .* got shape \(2,\)"),
        (univae.train_gan, np.empty((0, 3)), r"must have a row .* got shape \(0, 3\)"),
        (univae.train_similar, [], "train_similar: the data in memory are empty"),
        (univae.train_similar, [("a", "half \ud83d")], "train_similar: row 0 .*surrogate pair"),
        (univae.train_similar, [("a",)], r"must be tuples \(a, b\)"),
        (univae.train_similar, [3, 4], r"must be tuples \(a, b\)"),
    ],
)
def test_data_of_another_kind_are_refused(
    train: Any, data: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        train(data, tmp_path / "run", steps=1)
    assert list(tmp_path.iterdir()) == []


# Beside a user's own package of the name of the commands'.


def run_beside_another_package(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    foreign = tmp_path / "experiments"
    foreign.mkdir(exist_ok=True)
    (foreign / "__init__.py").write_text("")
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_everything_works_beside_a_users_own_package(tmp_path: Path) -> None:
    code = (
        "import univae, density; "
        f"texts = {TEXTS!r}; "
        f"run = univae.train_text(texts, 'run', **{TEXT!r}); "
        "print(run.sample(1) != [], density.score(run, ['a text'], 4, 'posterior').count)"
    )
    done = run_beside_another_package(tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "1"]
    assert done.stderr == ""
    done = run_beside_another_package(tmp_path, "-m", "univae", "--version")
    assert done.stdout.strip() == f"univae {univae.__version__}", done.stderr


def test_another_package_that_is_imported_already_is_named(tmp_path: Path) -> None:
    code = "import experiments, univae; univae.train_text(['a text'], 'run')"
    done = run_beside_another_package(tmp_path, "-c", code)
    message = done.stderr.splitlines()[-1]
    assert "this process has imported another package 'experiments'" in message
    assert str(tmp_path) in message
    assert not (tmp_path / "run").exists()
