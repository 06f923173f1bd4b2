"""``univae decompress``: restore the data of a file that ``univae compress`` wrote."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from density.coding.exact import exactly
from experiments.cli.commands import run
from experiments.data.outputs import Output
from experiments.data.standard_streams import STREAM
from experiments.data.trees import write_tree
from experiments.evaluation.compressed_file import Opened
from experiments.evaluation.file_codec import AnyFileCodec
from experiments.evaluation.folder_content import member_rows
from experiments.kinds import CODECS, open_codec, row_of_kind
from experiments.training.distributed import join
from experiments.training.progress_bar import RowBar
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.rules import check

__all__ = ["Config", "main"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Restores the data of a compressed file exactly, with the run that compressed it.

    A folder comes back as a folder, or the images in it that the model codes as .npy or .npz. With
    - as OUT a text, or an array as .npy, goes to standard output, and the result, a line of
    JSON, to stderr. Under torchrun the first process does all the work, and the others wait for it.
    """

    run: tyro.conf.Positional[Path]  # the run folder that univae compress used, or its export
    data: tyro.conf.Positional[Path]  # the compressed file; -: standard input
    out: tyro.conf.Positional[Path]  # .npy, .npz, .txt or a new folder; -: standard output
    overwrite: bool = False  # replace an existing output file

    def __post_init__(self) -> None:
        check(self)

    @property
    def data_on_stdout(self) -> bool:
        """Whether standard output carries the data, so that the result goes to stderr."""
        return str(self.out) == STREAM


def main(config: Config) -> JsonObject:
    """Return the facts in the file's header, its bytes and the number of its data."""
    with join("cpu") as world:
        return _decompress(config) if world.first else {}


def _decompress(config: Config) -> JsonObject:
    row_of_kind(config.run, CODECS, "decompress")
    packed = _packed(config.data)
    opened = Opened(packed)
    codec = open_codec(config.run, opened.header.fingerprint if opened.header else None)
    if opened.header:
        opened.header.check(codec.fingerprint)
    out = _checked_output(config, opened, codec)

    with exactly(), RowBar(opened.count, "decompressing") as bar:
        values = opened.values(codec, bar.add)
    _write(codec, opened, opened.content(codec, values), out)
    result = {
        "run": str(config.run),
        "out": str(config.out),
        "bytes_in": len(packed),
        "count": opened.count,
    }
    return result | opened.facts


def _write(codec: AnyFileCodec, opened: Opened, content: Any, out: Output) -> None:
    """Write the members of a folder, or one content."""
    if not opened.is_folder:
        codec.write(content, out)
    elif codec.is_file_name(out.path):
        codec.write(codec.as_file(member_rows(codec, content)), out)
    else:
        with out.folder() as folder:
            write_tree(content, folder)


def _packed(path: Path) -> bytes:
    """Return the bytes of the compressed file."""
    if str(path) == STREAM:
        if sys.stdin.isatty():
            raise InputError("standard input is a terminal; give a file, or pipe data into -")
        return sys.stdin.buffer.read()
    if not path.is_file():
        raise InputError(f"decompress: {path} is no file; give one that univae compress wrote")
    return path.read_bytes()


def _checked_output(config: Config, opened: Opened, codec: AnyFileCodec) -> Output:
    """Return the output, after checks of its name and its place."""
    inputs = (config.run, config.data)
    out = Output(config.out, config.overwrite, inputs, "OUT", stdout=True)
    if out.is_stdout and not opened.is_folder:
        return out
    if opened.is_folder:
        is_file = codec.is_file_name(config.out)
    else:
        codec.check_name(config.out)
        is_file = bool(config.out.suffix)
    return out.check_file() if is_file else out.check_folder()


if __name__ == "__main__":
    run(Config, main)
