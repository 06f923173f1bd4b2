"""Output files and folders: none is replaced without --overwrite, and none is ever incomplete.

A command creates an :class:`Output` from the path of an option before it computes, which refuses a
bad path at once, and writes through it afterwards:

- an existing file is replaced only with ``--overwrite``, or if the same command wrote it
  (``replaces``);
- an output that is an input, or a file of an input's folder, is refused, also with ``--overwrite``;
- a symbolic link is followed: the link stays, its target is written;
- a device or a pipe is written to, never replaced, and ``-`` is standard output where a command
  allows it;
- a file inside a folder of data is refused, because the folder would hold it as data afterwards;
- a folder of results must be new or empty, and not the current folder or one above it.
"""

import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from experiments.data.sources import INPUTS
from experiments.data.standard_streams import STREAM, temporary_file, write_stdout
from univae.checkpoint import replacing_file, sync, sync_tree
from univae.disk_errors import naming
from univae.errors import InputError
from univae.temporary_files import is_temporary, remove_dead_beside, temporary_beside

__all__ = ["Output", "output_file"]

# Files and folders of a run, which no output replaces.
RUN_FILES = frozenset(
    [
        "config.json",
        "data.json",
        "environment.json",
        "metrics.jsonl",
        "model.json",
        "tokenizer.json",
        "teacher.npy",
        "token_start.npy",
        "DONE",
        "ERROR.json",
        "report.html",
        "checkpoints",
        "corpus",
        "events",
        "features",
        INPUTS,
        "plots",
        "validation",
    ]
)


@dataclass(frozen=True)
class Output:
    """A path for a command's result, checked when it is created.

    Args:
        path: the path of the result, as typed.
        overwrite: whether an existing file may be replaced.
        inputs: the files and folders that the command reads; names of built-in sets are ignored.
        option: the option of the path, for messages.
        replaces: returns whether the same command wrote an existing file, which may then be
            replaced.
        stdout: whether ``-`` is standard output, and not a file of that name.

    Raises:
        InputError: the path breaks one of the rules of this module.
    """

    path: Path
    overwrite: bool = False
    inputs: Sequence[str | Path] = ()
    option: str = "--out"
    replaces: Callable[[Path], bool] | None = None
    stdout: bool = False

    def __post_init__(self) -> None:
        target = self.target
        if not self._is_special() and not target.parent.is_dir():
            self._refuse(f"there is no folder {target.parent}; create it first")
        for source in self.inputs:
            self._refuse_input(Path(source))

    @property
    def is_stdout(self) -> bool:
        """Whether the output is standard output."""
        return self.stdout and str(self.path) == STREAM

    @property
    def target(self) -> Path:
        """The path after all symbolic links."""
        return Path(os.path.realpath(self.path))

    def check_file(self) -> "Output":
        """Raise :class:`InputError` unless the path can take one file; return self."""
        if self._is_special():
            return self
        target = self.target
        if target.is_dir():
            self._refuse("it is a folder; give the name of a file")
        if target.exists() and not self._may_replace():
            self._refuse("it exists; give another name, or --overwrite")
        if target.exists() and not os.access(target, os.W_OK):
            self._refuse("it is read-only; give another name")
        self._require_writable(target.parent)
        return self

    def check_folder(self) -> "Output":
        """Raise :class:`InputError` unless the path can become a new folder; return self."""
        if self.is_stdout:
            self._refuse("standard output takes one file, and this is a folder; give a new folder")
        target = self.target
        if Path.cwd().is_relative_to(target):
            self._refuse("it is the folder you are in, or one above it; give a new folder")
        if target.exists() and not target.is_dir():
            self._refuse("it exists and is no folder; give a new or empty folder")
        if target.exists() and not all(map(is_temporary, target.iterdir())):
            self._refuse("it holds other files; give a new or empty folder")
        self._require_writable(target if target.exists() else target.parent)
        return self

    @contextmanager
    def file(self) -> Iterator[Path]:
        """Yield a temporary file that becomes the output when the block ends.

        It is deleted if the block raises.
        """
        self.check_file()
        if self._is_special():
            with temporary_file() as temporary:
                yield temporary
                self._copy(temporary)
            return

        mode = self.target.stat().st_mode if self.target.exists() else None
        with replacing_file(self.target) as temporary:
            yield temporary
            self.check_file()  # another process may have created the file during the block
        if mode is not None:
            self.target.chmod(stat.S_IMODE(mode))  # replacing a file drops its permissions

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """Yield an empty folder that becomes the output when the block ends.

        It is deleted if the block raises.
        """
        self.check_folder()
        target = self.target
        exists = target.exists()
        # A mount point cannot be renamed over: the temporary folder then lies inside it, on the
        # same file system, and its entries are moved up.
        is_inside = exists and (os.path.ismount(target) or not os.access(target.parent, os.W_OK))
        place = target / target.name if is_inside else target
        temporary = temporary_beside(place)
        remove_dead_beside(place)
        # A killed process had the same number, as the first process of a container does.
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            with naming(self.path, temporary):
                temporary.mkdir()
                yield temporary
                sync_tree(temporary)
                self._publish(temporary, is_inside=is_inside)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _publish(self, temporary: Path, *, is_inside: bool) -> None:
        """Let a finished folder be the output, which is missing or empty."""
        target = self.target
        if is_inside:
            for path in sorted(temporary.iterdir()):
                path.rename(target / path.name)
            sync(target)
            return
        self.check_folder()  # another process may have filled it meanwhile
        if target.exists():
            temporary.chmod(stat.S_IMODE(target.stat().st_mode))
        temporary.replace(target)  # also an empty folder
        sync(target.parent)

    def write_bytes(self, content: bytes) -> None:
        """Write the output as one file of these bytes."""
        with self.file() as temporary:
            temporary.write_bytes(content)

    def write_text(self, text: str) -> None:
        """Write the output as one file of UTF-8 text, without changing its line ends."""
        self.write_bytes(text.encode("utf-8"))

    def beside(self, suffix: str) -> "Output":
        """Return an output of the same name with another suffix, under the same rules."""
        return Output(
            self.path.with_suffix(suffix), self.overwrite, self.inputs, self.option, self.replaces
        )

    def _copy(self, file: Path) -> None:
        """Write the bytes of a file to standard output, or to the device or pipe."""
        if self.is_stdout:
            write_stdout(file)
            return
        with file.open("rb") as source, self.path.open("wb") as sink:
            shutil.copyfileobj(source, sink)

    def _may_replace(self) -> bool:
        return self.overwrite or (self.replaces is not None and self.replaces(self.target))

    def _is_special(self) -> bool:
        # The path is tested, not its target: /dev/stdout may link to a pipe without a path.
        if self.is_stdout:
            return True
        return self.path.exists() and not self.path.is_file() and not self.path.is_dir()

    def _require_writable(self, folder: Path) -> None:
        if not os.access(folder, os.W_OK):
            self._refuse(f"the folder {folder} cannot be written to; give another")

    def _refuse_input(self, source: Path) -> None:
        if not source.exists() or self._is_special():
            return
        target = self.target
        if target.exists() and os.path.samefile(target, source):
            self._refuse(f"it is the input {source}; give another name")
        if not source.is_dir() or not target.is_relative_to(source.resolve()):
            return
        # All files of a folder of images are inputs, and a new one would become an input. In a run
        # folder only RUN_FILES are; all other files there are results of commands, which may be
        # replaced.
        is_run = (source / "config.json").exists()
        entry = target.relative_to(source.resolve()).parts[0]
        if entry in RUN_FILES if is_run else target.exists():
            self._refuse(f"it is a part of the input {source}; give another name")
        if not is_run:
            self._refuse(f"it would become a part of the input {source}; give a name outside of it")

    def _refuse(self, rule: str) -> None:
        raise InputError(f"{self.option} {self.path}: {rule}")


def output_file(
    path: Path | None, overwrite: bool, inputs: Sequence[str | Path], option: str = "--out"
) -> Output | None:
    """Return a checked :class:`Output` for one file; ``None`` without a path."""
    if path is None:
        return None
    return Output(path, overwrite, inputs, option).check_file()
