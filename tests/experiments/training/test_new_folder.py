"""A start that was killed blocks no other; a folder with anything of the user's is never taken."""

import shutil
from pathlib import Path

import pytest

from experiments.data.records import has_typed_paths
from experiments.training.folder_lock import LOCK, is_lock
from experiments.training.loop import fit_task
from experiments.training.new_folder import is_startable, remove_start
from experiments.training.run_folder import Run
from experiments.training.settings import Settings
from tests.experiments.training.test_loop import SETTINGS, Toy, train
from univae.errors import InputError

LEFT_BY_A_START = ("config.json", "data.json", "tokenizer.json", "corpus/ids.bin", "samples/a.json")


def started(path: Path) -> Run:
    """Return a run that was started, with files of its own beside those of every start."""
    run = Run.create(path, {"steps": 1})
    for name in LEFT_BY_A_START[1:]:
        file = path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("mine")
    return run


def test_a_new_run_starts_where_one_was_killed_while_its_files_were_removed(
    tmp_path: Path,
) -> None:
    run = started(tmp_path / "run")
    assert not is_startable(run.path)  # it holds a run
    while (run.path / "config.json").exists() or any(run.path.iterdir()):
        entries = sorted(
            run.path.iterdir(), key=lambda p: (p.name == LOCK, p.name != "config.json")
        )
        first = entries[0]
        shutil.rmtree(first) if first.is_dir() else first.unlink()  # in the order of remove_start
        assert is_startable(run.path)
    started(run.path)
    (run.path / "config.json").unlink()
    again = Run.create(run.path, {"steps": 2})
    names = {path.name for path in again.path.iterdir()}
    assert names == {LOCK, "config.json", "environment.json", "samples", "plots", "checkpoints"}
    assert not list((again.path / "samples").iterdir())


def test_a_start_is_removed_with_its_configuration_first_and_its_lock_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = started(tmp_path / "run")
    removed: list[str] = []
    unlink = Path.unlink

    def recorded(path: Path, missing_ok: bool = False) -> None:
        removed.append(path.name)
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", recorded)
    remove_start(run.path, run.created)
    own = [name for name in removed if not name.endswith(".new")]
    assert (own[0], own[-1]) == ("config.json", LOCK)
    assert not run.path.exists()


@pytest.mark.parametrize(
    "names", [("diary.txt",), ("corpus/a.txt",), ("corpus/a.txt", "data.json")]
)
def test_files_of_the_user_are_no_residue(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    assert not is_startable(tmp_path)
    with pytest.raises(InputError, match="holds other files"):
        Run.create(tmp_path, {"steps": 1})
    (tmp_path / LOCK).write_text("somebody's")
    assert not is_lock(tmp_path / LOCK)
    assert not is_startable(tmp_path)
    assert {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()} == {
        *names,
        LOCK,
    }


def test_checkpoints_are_no_residue(tmp_path: Path) -> None:
    run = started(tmp_path / "run")
    (run.path / "config.json").unlink()
    (run.path / "checkpoints" / "last").mkdir()
    assert not is_startable(run.path)


def test_a_resume_sweeps_what_a_killed_checkpoint_left(tmp_path: Path) -> None:
    _, _, run = train(tmp_path / "run")
    checkpoints = run.path / "checkpoints"
    (checkpoints / "last").rename(checkpoints / ".last.old")  # killed between the two renames
    (checkpoints / ".last.new").mkdir()
    shutil.copytree(checkpoints / "best", checkpoints / ".best.old")  # killed after them
    fit_task(
        Toy(),
        Settings(**{**vars(SETTINGS), "resume": True}),
        Run.create(run.path, {**run.config, "resume": True}),
    )
    assert sorted(path.name for path in checkpoints.iterdir()) == ["best", "last"]


def test_a_failure_that_cannot_be_recorded_hides_no_error_and_makes_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run"
    loss = Toy.loss

    def removing(self: Toy, *arguments: object) -> object:
        shutil.rmtree(path, ignore_errors=True)
        return loss(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Toy, "loss", removing)
    with pytest.raises(FileNotFoundError) as error:
        train(path)
    assert str(error.value.filename).startswith(str(path))
    assert not path.exists()


def test_only_a_trained_run_without_a_record_of_its_data_is_of_the_first_version(
    tmp_path: Path,
) -> None:
    run = Run.create(tmp_path / "run", {"steps": 1})
    assert not has_typed_paths(run.path)  # killed while its data were prepared
    (run.path / "checkpoints" / "last").mkdir()
    assert has_typed_paths(run.path)
    run.record_data({})
    assert not has_typed_paths(run.path)
