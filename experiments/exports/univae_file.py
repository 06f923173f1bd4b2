"""The format ``univae``: configuration, tokenizer and weights of a run in one file."""

from pathlib import Path

from experiments.evaluation.exports import write_files
from univae.checkpoint import JsonObject
from univae.exported import write_export
from univae.run_folder import RunFolder

__all__ = ["write_file"]


def write_file(folder: RunFolder, out: Path) -> JsonObject:
    """Write a run to one file, and return the names of the files in it.

    For the files see :func:`experiments.evaluation.exports.write_files`.

    Raises:
        InputError: a file has changed since its checkpoint was saved.
    """
    return {"files": list(write_files(folder, lambda files: write_export(files, out)))}
