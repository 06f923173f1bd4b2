"""``univae compress``: write data to a file of about as many bits as the negative ELBO."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro
from typing_extensions import Doc

from density.coding.blocks import BLOCK
from density.coding.data_code import Coding, Rows
from density.coding.exact import exactly
from experiments.cli.commands import run
from experiments.data.notes import print_notes, with_notes
from experiments.data.outputs import Output
from experiments.data.readers import SOURCES
from experiments.data.standard_streams import STREAM, source_file
from experiments.evaluation.code_sizes import ideal_sizes, key_words, print_summary, sizes
from experiments.evaluation.compressed_file import Compressed, compressed, is_restored
from experiments.evaluation.file_codec import AnyFileCodec, Content, Exact, FileCodec
from experiments.evaluation.folder_content import read_folder
from experiments.kinds import open_codec
from experiments.training.distributed import join
from experiments.training.progress_bar import RowBar
from experiments.training.task import reseed
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.rules import Rule, at_least, check

__all__ = ["RESULTS", "Config", "main"]

RESULTS = ()  # keys of a table of the result: none, for the command prints a summary of its own


@dataclass(frozen=True, kw_only=True)
class Config:
    """Compresses images, a table of whole numbers, texts, or a folder of them, without loss.

    A text is coded line by line, an array row by row (bits-back coding). Of a folder every file
    comes back: a text run codes its UTF-8 files, an image run the pixels of its PNG files of the
    model's shape, which come back as PNG files of the same pixels and metadata; all other files are
    stored byte for byte. What xz makes smaller than the model does is stored that way.

    A run of black and white images codes zeros and ones, also if it was trained on binarised grey
    levels; grey levels are refused, because binarisation would lose them.

    With - as OUT the file goes to standard output, and the result, a line of JSON, to stderr.
    Under torchrun the first process does all the work, and the others wait for it.
    """

    run: tyro.conf.Positional[Path]  # the run folder, or a file of univae export
    data: Annotated[
        tyro.conf.Positional[str],
        Doc(f"a UTF-8 text; a folder of files; or {SOURCES}; or - (standard input)"),
    ]
    out: tyro.conf.Positional[Path]  # the file to write; -: standard output
    overwrite: bool = False  # replace an existing output file
    particles: int = 1  # importance samples per datum; more save bits and take time
    tile: int = 0  # data coded together; more save time and cost initial bits; 0: chosen by data
    # data per block, which can be decoded alone; fewer cost bits; at most 65,536
    block: int = BLOCK
    swap: bool = True  # Bit-Swap, for latent layers that form a chain: fewer initial bits
    store: bool = True  # store as xz does what the model's code would make longer
    verify: bool = True  # decode the file and compare it with the data before it is renamed to OUT
    ideal_samples: int = 16  # importance samples of the bounds the size is compared with; 0: none

    RULES: ClassVar[Mapping[str, Rule]] = {
        "particles": at_least(1, 4096),
        "tile": at_least(0, 4096, "0 (chosen by the data) or more"),
        "block": at_least(1, 10**9),
        "ideal_samples": at_least(0, 10**8, "0 (do not compare) or more"),
    }

    def __post_init__(self) -> None:
        check(self)

    @property
    def data_on_stdout(self) -> bool:
        """Whether standard output carries the file, so that the result goes to stderr."""
        return str(self.out) == STREAM


def main(config: Config) -> JsonObject:
    """Return sizes in bytes and bits.

    ``bytes_in`` is the size of the input, a file or all files of a folder, and ``bytes_out`` that
    of the file: ``initial_bits`` for the first ``plain`` data, coded without latents, and
    ``net_bits`` for the rest. ``stored_blocks`` of its ``blocks`` are stored without the model, and
    the model's file would have ``model_bytes``. ``ideal_bits`` is the negative ELBO of all data,
    ``ideal_iw_bits`` the importance-weighted bound. ``bits_per_dim``, or ``bits_per_char`` without
    line ends, is the rate of the file, of a folder that of the rows in it; ``net_bits_per_dim``
    that of ``net_bits``. ``archivers`` holds the bytes of the same data in general formats.
    """
    with join("cpu") as world:
        return _compress(config) if world.first else {}


def _compress(config: Config) -> JsonObject:
    if config.data_on_stdout and sys.stdout.isatty():
        raise InputError("compress: standard output is a terminal; give a file, or a pipe to -")
    out = Output(
        config.out, config.overwrite, (config.run, config.data), "OUT", stdout=True
    ).check_file()
    codec = open_codec(config.run)
    with source_file(config.data) as source:
        content = _read(config, codec, source)
    print_notes(content.notes)
    if not config.tile:
        content = content.with_tile(codec.default_tile(len(content.values), config.block))
    file = _write(config, codec, content, out)

    result = {"run": str(config.run), "out": str(config.out)}
    result |= sizes(codec, content, file)
    print_summary(config.run, config.data, result)
    result["key"] = key_words(config.run, result["fingerprint"])
    count = len(content.values)
    if config.ideal_samples and count:
        reseed(0, "compress")
        with RowBar(count, "scoring") as bar:
            result |= ideal_sizes(codec, content, config.ideal_samples, bar.add)
    return with_notes(result, [*content.notes, *codec.run_notes])


def _read(config: Config, codec: AnyFileCodec, source: str) -> Content[Any, Any]:
    """Return the content of a file, of a folder or of a built-in set."""
    coding = codec.new_coding(Coding(config.particles, config.tile or 1, config.swap))
    if Path(source).is_dir():
        return read_folder(codec, Path(source), coding)
    return codec.read(source, coding)


def _write(
    config: Config, codec: FileCodec[Exact, Rows], content: Content[Exact, Rows], out: Output
) -> Compressed:
    """Write the file; with --verify it is decoded and compared before it replaces ``out``."""
    count = len(content.values)
    total = 2 * count if config.verify else count
    with exactly(), RowBar(total, "compressing") as bar:
        file = compressed(codec, content, config.block, bar.add, store=config.store)
        with out.file() as temporary:
            temporary.write_bytes(file.packed)
            if config.verify and not is_restored(temporary.read_bytes(), codec, content, bar.add):
                raise InputError(
                    "compress: the decoded data differ; a bug or a faulty machine; try --tile 1"
                )
    return file


if __name__ == "__main__":
    run(Config, main)
