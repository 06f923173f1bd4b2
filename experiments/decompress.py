"""``univae decompress``: restore the data of a file that ``univae compress`` wrote."""

from dataclasses import dataclass
from pathlib import Path

import tyro
from tqdm import tqdm

from density.coding.compress import decode, exactly
from density.coding.container import unpack
from experiments.cli.commands import run
from experiments.data.outputs import Output
from experiments.evaluation.file_codec import header_facts
from experiments.kinds import CODECS, open_codec, row_of_kind
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.rules import check

__all__ = ["Config", "main"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Restores the data of a compressed file exactly, with the run that compressed it."""

    run: tyro.conf.Positional[Path]  # the run folder that univae compress used
    data: tyro.conf.Positional[Path]  # the compressed file
    out: tyro.conf.Positional[Path]  # .npy, .npz, a new folder for PNG images, or .txt to write
    overwrite: bool = False  # replace an existing output file

    def __post_init__(self) -> None:
        check(self)


def main(config: Config) -> JsonObject:
    """Return the facts in the file's header, its bytes and the number of its data."""
    row_of_kind(config.run, CODECS, "decompress")
    if not config.data.is_file():
        raise InputError(
            f"decompress: {config.data} is no file; give one that univae compress wrote"
        )
    packed = config.data.read_bytes()
    header, payloads = unpack(packed)
    codec = open_codec(config.run, header.fingerprint)
    header.check(codec.fingerprint)
    codec.check_name(config.out)
    out = Output(config.out, config.overwrite, (config.run, config.data), "OUT")
    out = out.check_file() if config.out.suffix else out.check_folder()

    bar = tqdm(total=header.count, desc="decompressing", disable=None, leave=False)
    with exactly(), bar:
        values = decode(codec.coder(header), header, payloads, progress=bar.update)
    codec.write(codec.restore(values, header), out)
    result = {
        "run": str(config.run),
        "out": str(config.out),
        "bytes_in": len(packed),
        "count": len(values),
    }
    return result | header_facts(header)


if __name__ == "__main__":
    run(Config, main)
