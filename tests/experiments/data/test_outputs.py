"""Output paths: no file is replaced unasked or left incomplete; links are followed."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from experiments.cli import commands as cli
from experiments.data.outputs import Output, output_file
from univae.errors import InputError
from univae.temporary_files import temporary_beside


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """An existing file, beside files named like temporary ones."""
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / ".mine.txt.new").write_text("a neighbour with a name of ours")
    (tmp_path / ".mine.txt.old").write_text("another")
    return tmp_path / "mine.txt"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_existing_file_is_replaced_only_with_overwrite(target: Path) -> None:
    before = names(target.parent)
    with pytest.raises(
        InputError, match=r"--out .*mine\.txt: it exists; give another name, or --overwrite"
    ):
        Output(target).write_text("yours")
    assert target.read_text() == "mine"
    target.chmod(0o640)
    Output(target, overwrite=True).write_text("yours")
    assert target.read_text() == "yours"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert names(target.parent) == before  # neighbours stay, no temporary file does


def test_a_file_that_the_same_command_wrote_is_replaced(target: Path) -> None:
    Output(target, replaces=lambda path: path.read_text() == "mine").write_text("new")
    assert target.read_text() == "new"
    with pytest.raises(InputError, match="it exists"):
        Output(target, replaces=lambda path: path.read_text() == "mine").write_text("newer")


def test_an_output_that_is_an_input_is_refused_also_with_overwrite(
    target: Path, tmp_path: Path
) -> None:
    hard = tmp_path / "hard"
    soft = tmp_path / "soft"
    os.link(target, hard)
    soft.symlink_to(target)
    for path in (target, hard, soft, tmp_path / "." / "mine.txt"):
        with pytest.raises(InputError, match=r"it is the input .*mine\.txt"):
            Output(path, overwrite=True, inputs=(target,))


def test_a_part_of_an_input_folder_is_refused_and_a_result_in_a_run_is_not(tmp_path: Path) -> None:
    run = tmp_path / "run"
    images = tmp_path / "images"
    for folder in (run / "samples", images):
        folder.mkdir(parents=True)
    (run / "config.json").write_text("{}")
    (run / "scores.csv").write_text("")
    (images / "a.png").write_text("")
    (images / "samples").mkdir()
    (images / "samples" / "b.png").write_text("")
    inputs = [
        run / "config.json",
        run / "checkpoints" / "best",
        images / "a.png",
        images / "samples" / "b.png",
    ]
    for path in inputs:
        path.parent.mkdir(exist_ok=True)
        with pytest.raises(InputError, match="it is a part of the input"):
            Output(path, overwrite=True, inputs=(run, images))
    with pytest.raises(InputError, match=r"it would become a part of the input .*outside of it"):
        Output(images / "new.npz", inputs=(run, images))
    for path in (run / "scores.csv", run / "samples" / "drawn.npz"):
        Output(path, overwrite=True, inputs=(run, images, "digits")).check_file()


def test_a_link_stays_a_link_and_its_target_is_written(target: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = elsewhere / "link"
    dangling = elsewhere / "dangling"
    link.symlink_to(target)
    dangling.symlink_to(tmp_path / "new.txt")
    with pytest.raises(InputError, match="it exists"):
        Output(link).check_file()
    Output(link, overwrite=True).write_text("through the link")
    Output(dangling).write_text("at its end")
    assert link.is_symlink()
    assert target.read_text() == "through the link"
    assert dangling.is_symlink()
    assert (tmp_path / "new.txt").read_text() == "at its end"
    assert names(elsewhere) == ["dangling", "link"]


@pytest.mark.skipif(
    not hasattr(os, "mknod") or os.geteuid() != 0, reason="making a device node needs root"
)
def test_a_device_is_written_to_and_stays_a_device(tmp_path: Path) -> None:
    node = tmp_path / "null"
    try:
        os.mknod(node, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("this container makes no devices")
    with Output(node).file() as temporary, temporary.open("wb") as file:
        np.save(file, np.zeros(3))
    assert stat.S_ISCHR(node.stat().st_mode)
    assert names(tmp_path) == ["null"]


def test_a_pipe_gets_the_content(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    Output(pipe).write_text("through")
    reader.join(timeout=10)
    assert received == [b"through"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_write_that_raises_leaves_no_file(tmp_path: Path) -> None:
    def half(path: Path) -> None:
        path.write_text("half")
        raise OSError("no")

    with pytest.raises(OSError, match="no"), Output(tmp_path / "file").file() as temporary:
        half(temporary)
    with pytest.raises(OSError, match="no"), Output(tmp_path / "folder").folder() as folder:
        half(folder / "half")
    assert names(tmp_path) == []


def test_a_file_that_another_process_creates_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    def write() -> None:
        with Output(tmp_path / "file").file() as temporary:
            temporary.write_text("mine")
            (tmp_path / "file").write_text("of another process")

    with pytest.raises(InputError, match="it exists"):
        write()
    assert (tmp_path / "file").read_text() == "of another process"
    assert names(tmp_path) == ["file"]


def test_a_folder_of_results_must_be_new_or_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = tmp_path / "full"
    empty = tmp_path / "empty"
    linked = tmp_path / "linked"
    (full / "inside").mkdir(parents=True)
    (full / "inside" / "notes.txt").write_text("content")
    empty.mkdir()
    linked.symlink_to(empty)
    for overwrite in (False, True):
        with pytest.raises(InputError, match="holds other files; give a new or empty folder"):
            Output(full, overwrite).check_folder()
    monkeypatch.chdir(full)
    for path in (Path("."), Path(".."), Path("/")):
        with pytest.raises(InputError, match="the folder you are in, or one above it"):
            Output(path).check_folder()
    with pytest.raises(InputError, match="no folder"):
        Output(full / "inside" / "notes.txt").check_folder()
    with Output(linked).folder() as folder:
        (folder / "0.png").write_text("")
    assert linked.is_symlink()
    assert names(empty) == ["0.png"]
    assert (full / "inside" / "notes.txt").read_text() == "content"


def test_a_path_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        Output(tmp_path / "missing" / "file")
    with pytest.raises(InputError, match="it is a folder; give the name of a file"):
        output_file(tmp_path, True, ())
    assert output_file(None, False, ()) is None
    if os.geteuid() != 0:
        tmp_path.chmod(0o555)
        with pytest.raises(InputError, match="cannot be written to"):
            Output(tmp_path / "file").check_file()
        tmp_path.chmod(0o755)


def test_every_command_with_an_output_path_has_the_option_overwrite() -> None:
    import importlib
    from dataclasses import fields

    for command in (
        "sample",
        "encode",
        "likelihood",
        "compress",
        "decompress",
        "search",
        "similar",
        "compare",
    ):
        module = importlib.import_module(cli.COMMANDS[command][0])
        options = {field.name: field.default for field in fields(module.Config)}
        assert options["overwrite"] is False, command


def test_standard_output_that_is_a_pipe_gets_the_content() -> None:
    script = (
        "from pathlib import Path\n"
        "from experiments.data.outputs import Output\n"
        "Output(Path('/dev/stdout')).check_file().write_text('through')\n"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=root, check=False
    )
    assert (done.returncode, done.stdout) == (0, "through")


def test_a_folder_is_written_where_a_killed_process_of_the_same_number_left_one(
    tmp_path: Path,
) -> None:
    left = temporary_beside(tmp_path / "out")
    left.mkdir()
    (left / "half").touch()
    with Output(tmp_path / "out").folder() as folder:
        (folder / "whole").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "whole"]


def test_a_new_folder_is_as_readable_as_any(tmp_path: Path) -> None:
    with Output(tmp_path / "new").folder() as folder:
        (folder / "0.png").write_text("")
    (tmp_path / "plain").mkdir()
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_minus_is_standard_output_where_a_command_allows_it(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Output(Path("-"), stdout=True).check_file().write_bytes(b"\0data")
    assert capfdbinary.readouterr().out == b"\0data"
    assert names(tmp_path) == []
    with pytest.raises(InputError, match="standard output takes one file"):
        Output(Path("-"), stdout=True).check_folder()
    Output(Path("-")).write_bytes(b"a file of that name")
    assert names(tmp_path) == ["-"]
