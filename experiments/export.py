"""``univae export``: write the part of a run that using its model needs, in some format."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from typing_extensions import Doc

from experiments.cli.commands import run
from experiments.data.notes import print_notes, with_notes
from experiments.data.outputs import Output
from experiments.evaluation.abilities import refusal
from experiments.exports.formats import FORMATS, Format, FormatName
from experiments.kinds import EXPORTED
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.registry import choices_help
from univae.rules import check
from univae.run_folder import RunFolder

__all__ = ["Config", "main"]

DEFAULT = "univae"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Writes what using the model of a run needs, without training state.

    By default that is one file of configuration, tokenizer and weights. Commands that use a model
    take it in place of the run folder: decompress, compress, likelihood, sample, encode. Its bytes
    depend on the run alone. It is a .zip of JSON and safetensors; opening it executes no code.

    The other formats are folders for other libraries, which need no univae.
    """

    run: tyro.conf.Positional[Path]  # the run folder
    out: tyro.conf.Positional[Path]  # the file to write, such as key.univae, or the new folder
    format: Annotated[FormatName, Doc(choices_help("format of the export", FORMATS))] = DEFAULT
    overwrite: bool = False  # replace an existing output file

    def __post_init__(self) -> None:
        check(self)


def main(config: Config) -> JsonObject:
    """Return the names of the files in the export, their bytes, and what its format reports.

    Raises:
        InputError: the format is not for this kind of run, or a file has changed since its
            checkpoint was saved; ``out`` is not written.
    """
    folder = RunFolder.open(config.run)
    form = FORMATS[config.format]
    _require_kind(config, folder, form)
    output = Output(config.out, config.overwrite, (config.run,), "OUT")
    if form.is_folder:
        with output.folder() as temporary:
            facts = form.write(folder, temporary)
        files = (path for path in config.out.rglob("*") if path.is_file())
        size = sum(path.stat().st_size for path in files)
    else:
        with output.check_file().file() as temporary:
            facts = form.write(folder, temporary)
        size = config.out.stat().st_size
    result = {"run": str(config.run), "out": str(config.out), "bytes_out": size, **facts}
    print_notes(folder.notes)
    return with_notes(result, folder.notes)


def _require_kind(config: Config, folder: RunFolder, form: Format) -> None:
    """Raise InputError unless the format is for this kind of run."""
    if any(kind.opens(folder) for kind in form.kinds):
        return
    formats = []
    for name, other in FORMATS.items():
        if any(kind.opens(folder) for kind in other.kinds):
            formats.append(name)
    if config.format == DEFAULT or not formats:
        raise refusal(config.run, EXPORTED[-1], "export")
    takes = " or ".join(kind.description for kind in form.kinds)
    raise InputError(
        f"--format {config.format} takes the run of {takes}; {config.run} is of another kind, for "
        f"which there is --format {' or '.join(formats)}"
    )


if __name__ == "__main__":
    run(Config, main)
