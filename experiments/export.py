"""``univae export``: write the part of a run that using its model needs, as one file."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from experiments.cli.commands import run
from experiments.data.notes import print_notes, with_notes
from experiments.data.outputs import Output
from experiments.evaluation.exports import write_files
from experiments.kinds import exportable
from univae.checkpoint import JsonObject
from univae.exported import write_export
from univae.rules import check

__all__ = ["Config", "main"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Writes configuration, tokenizer and weights of a run to one file, without training state.

    Commands that use a model take the file in place of the run folder: decompress, compress,
    likelihood, sample, encode. Its bytes depend on the run alone. It is a .zip of JSON and
    safetensors; opening it executes no code.
    """

    run: tyro.conf.Positional[Path]  # the run folder
    out: tyro.conf.Positional[Path]  # the file to write, such as key.univae
    overwrite: bool = False  # replace an existing output file

    def __post_init__(self) -> None:
        check(self)


def main(config: Config) -> JsonObject:
    """Return the names of the files in the export, and its bytes.

    For the files see :func:`experiments.evaluation.exports.write_files`.

    Raises:
        InputError: a file has changed since its checkpoint was saved; ``out`` is not written.
    """
    folder = exportable(config.run, "export")
    out = Output(config.out, config.overwrite, (config.run,), "OUT").check_file()
    with out.file() as temporary:
        files = write_files(folder, lambda files: write_export(files, temporary))
    result = {
        "run": str(config.run),
        "out": str(config.out),
        "bytes_out": config.out.stat().st_size,
        "files": list(files),
    }
    print_notes(folder.notes)
    return with_notes(result, folder.notes)


if __name__ == "__main__":
    run(Config, main)
