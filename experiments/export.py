"""``univae export``: write the part of a run that using its model needs, as one file."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from experiments.cli.commands import run
from experiments.data.notes import print_notes, with_notes
from experiments.data.outputs import Output
from experiments.evaluation.abilities import refusal
from experiments.kinds import EXPORTED
from univae.checkpoint import JsonObject
from univae.checksums import read_unchanged
from univae.exported import exported_files, write_export
from univae.rules import check
from univae.run_folder import BEST, LAST, RunFolder

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

    It holds the weights of the best validation, those of the last step where no validation was
    finite, and those from before a calibration, which files compressed before it need.

    Raises:
        InputError: a file has changed since its checkpoint was saved; ``out`` is not written.
    """
    folder = RunFolder.open(config.run)
    if not any(kind.opens(folder) for kind in EXPORTED):
        raise refusal(config.run, EXPORTED[-1], "export")
    out = Output(config.out, config.overwrite, (config.run,), "OUT").check_file()
    names = [BEST if folder.has_checkpoint(BEST) else LAST, *folder.uncalibrated()]

    def checkpoints() -> dict[str, Path]:
        return {name: folder.checkpoint(name) for name in names}

    def write(path: Path) -> dict[str, Path]:
        files = exported_files(folder.path, checkpoints())
        write_export(files, path)
        return files

    with out.file() as temporary:
        files = read_unchanged(
            lambda: [*checkpoints().values()], folder.path, lambda: write(temporary)
        )
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
