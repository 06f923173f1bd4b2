"""``univae compress``: write data to a file of about as many bits as the negative ELBO."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import torch
import tyro
from tqdm import tqdm
from typing_extensions import Doc

from density.coding.bits_back import BitsBack
from density.coding.blocks import BLOCK, Account, decode, encode
from density.coding.container import unpack
from density.coding.data_code import Coding, Rows
from density.coding.exact import exactly
from density.estimation.importance import estimate
from experiments.cli.commands import run
from experiments.data.notes import print_notes, with_notes
from experiments.data.outputs import Output
from experiments.data.readers import SOURCES
from experiments.evaluation.file_codec import Content, Exact, FileCodec
from experiments.kinds import open_codec
from experiments.training.task import reseed
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.rules import Rule, at_least, check

__all__ = ["Config", "main"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Compresses images, a table of whole numbers or lines of text without loss (bits-back coding).

    A run of black and white images codes zeros and ones, also if it was trained on binarised grey
    levels; grey levels are refused, because binarisation would lose them.
    """

    run: tyro.conf.Positional[Path]  # the run folder
    data: Annotated[tyro.conf.Positional[str], Doc(f"a UTF-8 text; or {SOURCES}")]
    out: tyro.conf.Positional[Path]  # the file to write
    overwrite: bool = False  # replace an existing output file
    particles: int = 1  # importance samples per datum; more save bits and take time
    # data coded together; more save time and cost initial bits; 0: 16 texts, or 1 image or row
    # (4 of 4000 and more)
    tile: int = 0
    block: int = BLOCK  # data per block, which can be decoded alone; fewer cost bits
    swap: bool = True  # Bit-Swap, for latent layers that form a chain: fewer initial bits
    verify: bool = True  # decode the file and compare it with the data before it is renamed to OUT
    # importance samples of the bounds that the size is compared with; 0: no comparison
    ideal_samples: int = 16

    RULES: ClassVar[Mapping[str, Rule]] = {
        "particles": at_least(1, 4096),
        "tile": at_least(0, 4096, "0 (chosen by the data) or more"),
        "block": at_least(1, 10**9),
        "ideal_samples": at_least(0, 10**8, "0 (do not compare) or more"),
    }

    def __post_init__(self) -> None:
        check(self)


def main(config: Config) -> JsonObject:
    """Return sizes in bytes and bits.

    ``bytes_out`` is the size of the file: ``initial_bits`` for the first ``plain`` data, coded
    without latents, and ``net_bits`` for the rest. ``ideal_bits`` is the negative ELBO of all data,
    ``ideal_iw_bits`` the importance-weighted bound. ``bits_per_dim``, or ``bits_per_char`` without
    line ends, is the rate of the file, ``net_bits_per_dim`` that of ``net_bits``. ``archivers``
    holds the bytes of the same data in general formats.
    """
    out = Output(config.out, config.overwrite, (config.run, config.data), "OUT").check_file()
    codec = open_codec(config.run)
    content = codec.read(config.data, Coding(config.particles, config.tile or 1, config.swap))
    print_notes(content.notes)
    if not config.tile:
        content = content.with_tile(codec.default_tile(len(content.values)))
    account, size = _write(config, codec, content, out)

    result = {"run": str(config.run), "out": str(config.out)}
    result |= _sizes(codec, content, account, size)
    if config.ideal_samples:
        result |= _ideal(codec, content, config.ideal_samples)
    return with_notes(result, [*content.notes, *codec.run_notes])


def _write(
    config: Config, codec: FileCodec[Exact, Rows], content: Content[Exact, Rows], out: Output
) -> tuple[Account, int]:
    """Write the file; return the account of its bits, and its bytes.

    With --verify it is decoded and compared before it replaces ``out``.
    """
    count = len(content.values)
    total = 2 * count if config.verify else count
    with exactly(), tqdm(total=total, desc="compressing", disable=None, leave=False) as bar:
        coder = codec.coder(content.header)
        packed, account = encode(coder, content.values, content.header, config.block, bar.update)
        with out.file() as temporary:
            temporary.write_bytes(packed)
            if config.verify:
                _verify(codec, coder, temporary.read_bytes(), content, bar.update)
    return account, len(packed)


def _verify(
    codec: FileCodec[Exact, Rows],
    coder: BitsBack[Rows],
    packed: bytes,
    content: Content[Exact, Rows],
    progress: Callable[[int], object],
) -> None:
    """Raise InputError where the file does not decode to ``content``."""
    header, payloads = unpack(packed)
    values = decode(coder, header, payloads, progress=progress)
    if not codec.equal(codec.restore(values, header), content.exact):
        raise InputError(
            "compress: the decoded data differ; a bug or a faulty machine; try --tile 1"
        )


def _sizes(
    codec: FileCodec[Exact, Rows], content: Content[Exact, Rows], account: Account, size: int
) -> JsonObject:
    """Return bytes, bits and rates of a file of ``size`` bytes, and sizes in general formats."""
    units = codec.count_units(content)
    archivers = codec.archiver_sizes(content)
    archiver_rates = None
    if units:
        archiver_rates = {name: 8 * archived / units for name, archived in archivers.items()}
    return {
        "count": account.count,
        "bytes_in": content.size,
        "bytes_out": size,
        "net_bits": account.net_bits,
        "initial_bits": account.initial_bits,
        "plain": account.plain,
        codec.rate: 8 * size / units if units else None,
        **codec.net_rate(account),
        "archivers": archivers,
        f"archivers_{codec.rate}": archiver_rates,
    }


@torch.no_grad()
def _ideal(
    codec: FileCodec[Exact, Rows], content: Content[Exact, Rows], samples: int
) -> JsonObject:
    """Return the bounds of all data, in bits."""
    reseed(0, "compress")
    elbo = 0.0
    log_likelihood = 0.0
    starts = range(0, len(content.values), codec.batch_size)
    for start in tqdm(starts, desc="scoring", disable=None, leave=False):
        x, chunk = codec.batch(content.values[start : start + codec.batch_size])
        bounds = estimate(codec.scored_model, x, samples, chunk=chunk)
        elbo += bounds.elbo.double().sum().item()
        log_likelihood += bounds.log_likelihood.double().sum().item()
    bits = -elbo / math.log(2)
    return {
        "ideal_bits": bits,
        "ideal_iw_bits": -log_likelihood / math.log(2),
        "ideal_samples": samples,
        **codec.ideal_rate(bits, content),
    }


if __name__ == "__main__":
    run(Config, main)
