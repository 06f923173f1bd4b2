"""A start that was killed blocks no other; a folder with anything of the user's is never taken."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from experiments import train_text
from experiments.data.own_folders import make_own
from experiments.data.records import has_typed_paths
from experiments.training import folder_lock, new_folder, run_folder
from experiments.training.folder_lock import LOCK, hold_lock, is_lock
from experiments.training.loop import fit_task
from experiments.training.new_folder import STARTING, is_startable, remove_start
from experiments.training.run_folder import Run, or_nothing
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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = started(tmp_path / "run")
    assert not is_startable(run.path)  # it holds a run
    entries = len(list(run.path.iterdir()))
    remove = new_folder._remove
    for count in range(entries):
        removed: list[str] = []

        def killed(entry: Path, count: int = count, removed: list[str] = removed) -> None:
            if len(removed) == count:
                raise KeyboardInterrupt
            removed.append(entry.name)
            remove(entry)

        with monkeypatch.context() as patch:
            patch.setattr(new_folder, "_remove", killed)
            with pytest.raises(KeyboardInterrupt):
                remove_start(run.path, run.created)
        assert len(list(run.path.iterdir())) == entries - count
        assert is_startable(run.path)
        run = started(run.path)
    (run.path / "config.json").rename(run.path / STARTING)
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
        assert not (run.path / "config.json").exists()
        removed.append(path.name)
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", recorded)
    remove_start(run.path, run.created)
    own = [name for name in removed if not name.endswith(".new")]
    assert own[-2:] == [STARTING, LOCK]
    assert not run.path.exists()


def contents(folder: Path) -> dict[str, str]:
    """Return the contents of all files below a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_text() for path in files}


@pytest.mark.parametrize("lock", ["", "process 7 on host\n"])
@pytest.mark.parametrize(
    "name",
    ["samples/a.txt", "corpus/book.txt", "data.json", "report.html", "DONE", "checkpoints/last/a"],
)
def test_a_lock_makes_no_file_a_residue(tmp_path: Path, lock: str, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("mine")
    (tmp_path / LOCK).write_text(lock)
    before = contents(tmp_path)
    with pytest.raises(InputError, match="holds other files"):
        Run.create(tmp_path, {"steps": 1})
    assert contents(tmp_path) == before


def test_a_trained_run_without_its_configuration_is_no_residue(tmp_path: Path) -> None:
    _, _, run = train(tmp_path / "run")
    (run.path / "config.json").rename(tmp_path / "config.json")
    with pytest.raises(InputError, match="holds other files"):
        Run.create(run.path, {"steps": 1})
    (run.path / STARTING).touch()
    assert not is_startable(run.path)
    assert (run.path / "DONE").exists()


@pytest.mark.parametrize("folder", ["inputs", "in_memory_data"])
@pytest.mark.parametrize("is_marked", [False, True])
def test_a_folder_of_the_user_is_no_residue_and_survives_a_refused_training(
    tmp_path: Path, folder: str, is_marked: bool
) -> None:
    out = tmp_path / "run"
    if is_marked:
        make_own(out / folder)
        assert is_startable(out)
    (out / folder).mkdir(parents=True, exist_ok=True)
    (out / folder / "thesis.doc").write_text("mine")
    book = out / folder / "book.txt"
    book.write_text("a b\nc d\ne f\n")
    before = contents(out)
    with pytest.raises(InputError):
        train_text.train(train_text.Config.of(text=str(book), out=out, steps=5))
    assert contents(out) == before
    with pytest.raises(InputError, match="holds other files"):
        Run.create(out, {"steps": 1})
    assert contents(out) == before


def test_a_failed_start_removes_its_cache_but_neither_files_of_others_nor_data_in_memory(
    tmp_path: Path,
) -> None:
    for name in ("inputs", "in_memory_data"):
        make_own(tmp_path / "run" / name)
    run = started(tmp_path / "run")
    (run.path / "diary.txt").write_text("mine")  # written after the start
    with pytest.raises(RuntimeError), or_nothing(run):
        raise RuntimeError
    assert set(contents(run.path)) == {"diary.txt", "in_memory_data/README.txt"}


def test_a_start_on_a_full_disk_names_its_folder_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "new" / "run"
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space") as error:
            Run.create(path, {"steps": 1})
    assert error.value.filename == str(path)
    assert not list(tmp_path.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "environment", full)
        with pytest.raises(OSError, match="No space"):
            Run.create(path, {"steps": 1})
    assert not list(tmp_path.iterdir())
    Run.create(path, {"steps": 1})


def test_a_lock_that_is_a_link_or_another_file_is_refused_and_not_changed(tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    out = tmp_path / "run"
    out.mkdir()
    (out / LOCK).symlink_to(mine)
    for _ in range(2):
        assert not is_lock(out / LOCK)
        with pytest.raises(InputError, match="is not the lock of a run"), hold_lock(out):
            pass
        with pytest.raises(InputError, match="holds other files"):
            Run.create(out, {"steps": 1})
        (out / LOCK).unlink()
        (out / LOCK).write_text("mine")
    assert mine.read_text() == (out / LOCK).read_text() == "mine"


def test_a_lock_that_was_removed_before_it_was_held_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = folder_lock._lock
    calls = []

    def removed_before(descriptor: int, folder: Path) -> None:
        if not calls:
            (folder / LOCK).unlink()  # as a process that fails to start does
        calls.append(descriptor)
        lock(descriptor, folder)

    monkeypatch.setattr(folder_lock, "_lock", removed_before)
    with hold_lock(tmp_path):
        assert (tmp_path / LOCK).read_text().startswith(f"process {os.getpid()} ")
        with pytest.raises(InputError, match="is training in this folder"), hold_lock(tmp_path):
            pass
    assert len(calls) == 3


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
