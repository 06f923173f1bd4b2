"""What a program that shows metrics gets is what ``metrics.jsonl`` holds."""

import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import univae
from experiments import train_density, train_gan, train_similar, train_text
from experiments.training.run_folder import Run
from experiments.training.tracking import EVENTS, TRACKERS, tracking
from univae.checkpoint import read_weights
from univae.errors import InputError

ROWS = [
    ("train", 2, {"loss": 1.5, "seconds": 0.1}),
    ("validation", 4, {"nll_nats": 2.5, "notes": ["a note"], "selection": None, "best": True}),
    ("train", 4, {"loss": float("nan")}),
    ("train", 6, {"loss": 0.5}),
]


def events(run: Path) -> EventAccumulator:
    found = EventAccumulator(str(run / EVENTS))
    found.Reload()
    return found


def curve(run: Path, name: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events(run).Scalars(name)]


def write(run: Path, step: int, rows: list[tuple[str, int, Mapping[str, Any]]]) -> None:
    with tracking("tensorboard", run, step) as tracker:
        for kind, at, numbers in rows:
            tracker.row(kind, at, numbers)


def test_numbers_become_curves_and_other_values_do_not(tmp_path: Path) -> None:
    write(tmp_path, 0, ROWS)
    assert curve(tmp_path, "train/loss") == [(2, 1.5), (6, 0.5)]
    assert curve(tmp_path, "validation/nll_nats") == [(4, 2.5)]
    names = ["train/loss", "train/seconds", "validation/nll_nats"]
    assert sorted(events(tmp_path).Tags()["scalars"]) == names


def test_a_resumed_run_replaces_the_steps_after_its_checkpoint(tmp_path: Path) -> None:
    write(tmp_path, 0, ROWS)
    write(tmp_path, 4, [("train", 4, {"loss": 7.0})])
    assert curve(tmp_path, "train/loss") == [(2, 1.5), (4, 7.0)]


def test_the_rows_of_the_checkpoints_own_step_are_shown_once(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {"out": str(tmp_path / "run")})
    with run.tracked("tensorboard", 0):
        run.log("train", 2, loss=1.5)
        run.log("validation", 2, nll_nats=3.0)  # after the checkpoint of step 2
    run.truncate_rows(1)
    with suppress(ZeroDivisionError), run.tracked("tensorboard", 2):
        run.log("validation", 2, nll_nats=4.0)
        _ = 1 / 0
    run.log("train", 3, loss=9.0)  # outside of a tracked block
    assert curve(run.path, "train/loss") == [(2, 1.5)]
    assert curve(run.path, "validation/nll_nats") == [(2, 4.0)]


def test_a_resume_that_is_refused_changes_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_default_dtype(torch.float32)
    run = tmp_path / "run"
    train_gan.main(gan(run, track="no"))
    before = {path: path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match="needs the extra board"):
        train_gan.main(gan(run, resume=True, steps=6))
    after = {path: path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}
    assert after == before


def test_a_tracker_that_shows_nothing_writes_nothing(tmp_path: Path) -> None:
    with tracking("no", tmp_path, 0) as tracker:
        tracker.row(*ROWS[0])
    assert list(tmp_path.iterdir()) == []


def test_without_tensorboard_a_line_says_what_to_install_and_no_folder_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_default_dtype(torch.float32)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match=r"needs the extra board: pip install 'univae\[board\]'"):
        train_gan.main(gan(tmp_path / "run"))
    assert list(tmp_path.iterdir()) == []


def gan(out: Path, **options: Any) -> train_gan.Config:
    small: dict[str, Any] = {
        "steps": 4, "batch_size": 8, "width": 4, "latent": 8, "hidden": (16,), "feature_steps": 3,
        "validation_data": 40, "validate_every": 2, "log_every": 1, "threads": 1,
        "track": "tensorboard",
    }  # fmt: skip
    return train_gan.Config.of(data="digits", out=out, **small | options)


def test_a_run_is_tracked_with_its_grids_and_resumes_without(tmp_path: Path) -> None:
    torch.set_default_dtype(torch.float32)
    run = tmp_path / "run"
    train_gan.main(gan(run))
    rows = list(Run.open(run).rows())
    losses = [(row["step"], row["loss"]) for row in rows if row["kind"] == "train"]
    assert curve(run, "train/loss") == [(step, pytest.approx(loss)) for step, loss in losses]
    distances = curve(run, "validation/selection")
    assert [step for step, _ in distances] == [2, 4]
    grids = events(run).Images("samples")
    assert [grid.step for grid in grids] == [2, 4]
    assert grids[0].encoded_image_string.startswith(b"\x89PNG")
    train_gan.main(gan(run, resume=True, track="no", steps=5))
    assert [step for step, _ in curve(run, "train/loss")] == [1, 2, 3, 4]


def test_every_tracker_has_a_summary() -> None:
    assert all(kind.summary for kind in TRACKERS.values())


class Project:
    """A stand-in of the library Trackio, which keeps what it gets."""

    def __init__(self) -> None:
        self.started: list[tuple[str, str]] = []
        self.logged: list[tuple[int, dict[str, Any]]] = []
        self.finished = 0

    def init(self, project: str, *, name: str, embed: bool, **more: bool) -> "Project":
        print("* started")
        self.started.append((project, name))
        return self

    def log(self, metrics: dict[str, Any], step: int) -> None:
        self.logged.append((step, metrics))

    def finish(self) -> None:
        print("* finished")
        self.finished += 1

    def Image(self, pixels: Any) -> tuple[str, tuple[int, ...]]:
        return "image", pixels.shape


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> Project:
    library = Project()
    monkeypatch.setitem(sys.modules, "trackio", library)  # type: ignore[arg-type]
    return library


def test_trackio_gets_finite_numbers_and_grids(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "project" / "run"
    (run / "samples").mkdir(parents=True)
    PIL.Image.new("L", (6, 4)).save(run / "samples" / "step_000004.png")
    with tracking("trackio", run, 0) as tracker:
        for row in ROWS:
            tracker.row(*row)
    assert project.started == [("project", "run")]
    assert project.logged == [
        (2, {"train/loss": 1.5, "train/seconds": 0.1}),
        (4, {"validation/nll_nats": 2.5, "samples": ("image", (4, 6, 3))}),
        (6, {"train/loss": 0.5}),
    ]
    assert project.finished == 1
    assert capsys.readouterr().out == ""  # for the result of the command


def test_a_resumed_run_is_a_run_of_its_own_in_trackio(project: Project, tmp_path: Path) -> None:
    stored = [{"kind": "validation", "step": 4, "nll_nats": 2.0}]
    with suppress(ZeroDivisionError), tracking("trackio", tmp_path / "run", 4, stored):
        _ = 1 / 0
    assert project.started == [(tmp_path.name, "run from step 4")]
    assert project.logged == [(4, {"validation/nll_nats": 2.0})]
    assert project.finished == 1


def test_a_training_is_shown_in_trackio(project: Project, tmp_path: Path) -> None:
    torch.set_default_dtype(torch.float32)
    train_gan.main(gan(tmp_path / "run", track="trackio"))
    names = {name for _, metrics in project.logged for name in metrics}
    assert any(name.startswith("train/") for name in names)
    assert any(name.startswith("validation/") for name in names)
    assert project.finished == 1


def test_without_trackio_a_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_default_dtype(torch.float32)
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(InputError, match=r"needs the extra trackio: pip install 'univae\[track"):
        train_gan.main(gan(tmp_path / "run", track="trackio"))
    assert not (tmp_path / "run").exists()


def files_of(run: Path) -> dict[str, str]:
    """Return the tables that the projector reads, by their path in the folder of events."""
    tables = (run / EVENTS).rglob("*.tsv")
    return {str(path.relative_to(run / EVENTS)): path.read_text() for path in tables}


@pytest.mark.slow
def test_texts_and_latents_of_a_text_model_are_shown_and_change_no_weight(tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("".join(f"the cat sat on mat {i}\n" for i in range(80)))
    weights = []
    for track in ("tensorboard", "no"):
        out = tmp_path / track
        config = train_text.Config.of(
            text=str(texts), out=out, width=16, heads=2, layers=2, latent_layers=1, latent_width=3,
            vocab_size=300, steps=4, validate_every=2, validation_texts=4, batch_tokens=256,
            threads=1, calibration=0.0, track=track,
        )  # fmt: skip
        train_text.train(config)
        weights.append(read_weights(out / "checkpoints/last/model.safetensors"))
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])

    run = tmp_path / "tensorboard"
    found = events(run)
    assert {"samples/text_summary", "reconstructions/text_summary"} <= set(found.Tags()["tensors"])
    steps = [event.step for event in found.Tensors("reconstructions/text_summary")]
    assert steps == [row["step"] for row in Run.open(run).rows("validation")]
    shown = found.Tensors("reconstructions/text_summary")[-1].tensor_proto.string_val[0].decode()
    assert "the cat sat on mat" in shown
    tables = files_of(run)
    assert len(tables["00004/held_out/tensors.tsv"].splitlines()) == 4
    assert tables["00004/held_out/metadata.tsv"].startswith("the cat sat on mat")
    vectors = np.loadtxt(run / EVENTS / "00004/held_out/tensors.tsv")
    trained = univae.load(run, checkpoint="last")
    labels = tables["00004/held_out/metadata.tsv"].splitlines()
    np.testing.assert_allclose(vectors, trained.encode(labels).reshape(4, 3), atol=1e-4)


def test_vectors_of_sentences_and_latents_of_rows_are_shown(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("".join(f"cat {i}\ta cat {i}\n" for i in range(20)))
    config = train_similar.Config.of(
        pairs=(pairs,), out=tmp_path / "similar", width=16, heads=2, layers=1, vocab_size=300,
        steps=1, batch_size=4, held_out=0.3, threads=1, track="tensorboard",
    )  # fmt: skip
    train_similar.train(config)
    vectors = np.loadtxt(tmp_path / "similar" / EVENTS / "00001/held_out/tensors.tsv")
    np.testing.assert_allclose((vectors**2).sum(1), 1, atol=1e-4)

    np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(size=(60, 3)))
    train_density.train(
        train_density.Config.of(
            data=str(tmp_path / "rows.npy"), out=tmp_path / "rows", model="mlp", latents=(2,),
            hidden=(8,), steps=1, threads=1, track="tensorboard",
        )
    )  # fmt: skip
    tables = files_of(tmp_path / "rows")
    assert tables["00001/held_out/metadata.tsv"].startswith("row ")
    assert len(tables["00001/held_out/tensors.tsv"].splitlines()[0].split()) == 2
