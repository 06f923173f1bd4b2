"""Subfolders of a run that are written before it starts, told from folders of the user.

A run that does not start may delete them: the decoded images of a reader, and the data in memory
that a function was given. A folder of that name is one of them only where it holds the file
:data:`MARK`, which says so, and nothing but files of the names that are written there.
"""

import re
from pathlib import Path

from experiments.data.sources import INPUTS
from univae.checkpoint import is_temporary, write_text_atomic
from univae.run_folder import IN_MEMORY_DATA

__all__ = ["MARK", "is_own", "make_own"]

MARK = "README.txt"
CONTENT = (
    "A training of univae wrote this folder, and deletes it if the training does not start.\n"
    "Keep no files of your own here.\n"
)

# Names that are written, by the name of the folder.
NAMES = {
    INPUTS: re.compile(r"\.lock|\.?.+-[0-9a-f]{16}(\.new|\.old)?"),  # entries of an image cache
    IN_MEMORY_DATA: re.compile(r"[a-z]+(\.txt|\.jsonl|\.npy|\.frame\.json)"),
}


def make_own(folder: Path) -> None:
    """Create a folder; mark it as one that a training wrote, unless it holds files already."""
    folder.mkdir(parents=True, exist_ok=True)
    if all(map(is_temporary, folder.iterdir())):
        write_text_atomic(folder / MARK, CONTENT)


def is_own(folder: Path) -> bool:
    """Return whether a folder was written before the start of a run, and holds nothing else.

    One that is empty but for what a killed process was writing is so, too.
    """
    if folder.name not in NAMES or folder.is_symlink() or not folder.is_dir():
        return False
    others = [path for path in folder.iterdir() if not is_temporary(path)]
    if not others:
        return True
    return _is_marked(folder) and all(
        path.name == MARK or NAMES[folder.name].fullmatch(path.name) for path in others
    )


def _is_marked(folder: Path) -> bool:
    mark = folder / MARK
    if mark.is_symlink() or not mark.is_file():
        return False
    with mark.open("rb") as file:
        return file.read(len(CONTENT) + 1) == CONTENT.encode()
