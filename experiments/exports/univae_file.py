"""The format ``univae``: configuration, tokenizer and weights of a run in one file."""

from pathlib import Path

from univae.checkpoint import JsonObject
from univae.checksums import read_unchanged
from univae.exported import exported_files, write_export
from univae.run_folder import BEST, LAST, RunFolder

__all__ = ["write_file"]


def write_file(folder: RunFolder, out: Path) -> JsonObject:
    """Write a run to one file, and return the names of the files in it.

    It holds the weights of the best validation, those of the last step where no validation was
    finite, and those from before a calibration, which files compressed before it need.

    Raises:
        InputError: a file has changed since its checkpoint was saved.
    """
    names = [BEST if folder.has_checkpoint(BEST) else LAST, *folder.uncalibrated()]

    def checkpoints() -> dict[str, Path]:
        return {name: folder.checkpoint(name) for name in names}

    def write() -> dict[str, Path]:
        files = exported_files(folder.path, checkpoints())
        write_export(files, out)
        return files

    files = read_unchanged(lambda: [*checkpoints().values()], folder.path, write)
    return {"files": list(files)}
