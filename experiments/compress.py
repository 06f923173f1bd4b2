"""``univae compress``: data as a file of about as many bits as the model's bound says."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import tyro
from tqdm import tqdm

from density.coding.compress import BLOCK, Account, decode, encode, exactly, same_bits
from density.coding.container import unpack
from density.coding.data_code import Coding
from density.estimation.importance import estimate
from experiments.cli.commands import run
from experiments.data.notes import print_notes, with_notes
from experiments.data.outputs import Output
from experiments.evaluation.archivers import array_sizes, image_sizes, text_sizes
from experiments.evaluation.file_codec import CodecInput
from experiments.images.codec import Arrays
from experiments.kinds import open_coder
from experiments.text.codec import Texts
from experiments.training.task import reseed
from univae.errors import InputError
from univae.rules import Rule, at_least, check
from univae.text.tokenizers import pad

__all__ = ["Config", "main"]

# data scored at once
IMAGES = 100
TEXTS = 16
TOKENS = 16_384  # positions decoded at once
MANY = 4000  # images of which the bits that a tile of four needs at the start are a small part


@dataclass(frozen=True, kw_only=True)
class Config:
    """Compresses images, a table of whole numbers or the lines of a text without loss, by bits-back coding.

    A run of black and white images takes zeros and ones, however it was trained; grey levels are
    refused, because drawing them black or white would lose them.
    """

    run: tyro.conf.Positional[Path]  # the run folder
    # a UTF-8 text, or what train-density takes: .npy, .npz, IDX, a folder, a name
    data: tyro.conf.Positional[str]
    out: tyro.conf.Positional[Path]  # the file to write
    overwrite: bool = False  # replace an existing output file
    particles: int = 1  # importance samples of a datum: more take time and save bits
    # data coded together: more take bits at the start and save time; 0: 1, of 4000 and more 4, 16
    # texts
    tile: int = 0
    block: int = BLOCK  # data that are read together
    swap: bool = True  # Bit-Swap, for layers that are a chain
    verify: bool = True  # decode the file and compare before it gets its name
    # importance samples of the bounds it is compared with; 0: do not compare
    ideal_samples: int = 16

    RULES: ClassVar[Mapping[str, Rule]] = {
        "particles": at_least(1, 4096),
        "tile": at_least(0, 4096, "0 (chosen by the data) or more"),
        "block": at_least(1, 10**9),
        "ideal_samples": at_least(0, 10**8, "0 (do not compare) or more"),
    }

    def __post_init__(self) -> None:
        check(self)


def main(config: Config) -> dict[str, Any]:
    """Return sizes in bytes and bits.

    ``bytes_out`` is the file; of its bits ``initial_bits`` are those of the first ``plain`` data,
    coded without latents, and ``net_bits`` those of the rest. ``ideal_bits`` is the negative ELBO
    of all data, ``ideal_iw_bits`` the importance-weighted bound. ``bits_per_dim``, or
    ``bits_per_char`` without line ends, is of the whole file, ``net_bits_per_dim`` of ``net_bits``
    alone. ``archivers`` are the bytes of others for the same data.
    """
    out = Output(config.out, config.overwrite, (config.run, config.data), "OUT").check_file()
    opened = open_coder(config.run)
    texts = isinstance(opened, Texts)
    given = opened.read(config.data, Coding(config.particles, config.tile or 1, config.swap))
    notes = (*given.notes, *opened.opened.run.notes)
    print_notes(given.notes)
    if not config.tile:
        tile = TEXTS if texts else 1 if len(given.values) < MANY else 4
        given = replace(
            given, header=replace(given.header, coding=replace(given.header.coding, tile=tile))
        )
    passes = 2 if config.verify else 1
    with (
        exactly(),
        tqdm(
            total=passes * len(given.values), desc="compressing", disable=None, leave=False
        ) as bar,
    ):
        coder = opened.coder(given.header)
        content, account = encode(coder, given.values, given.header, config.block, bar.update)

        def check(written: bytes) -> None:
            header, payloads = unpack(written)
            again = opened.restore(decode(coder, header, payloads, progress=bar.update), header)
            if not _same(again, given.exact):
                raise InputError(
                    "compress: the data did not come back; a bug or a faulty machine; try --tile 1"
                )

        with out.file() as temporary:
            temporary.write_bytes(content)
            if config.verify:
                check(temporary.read_bytes())
    ideal = _ideal(opened, given, config.ideal_samples) if config.ideal_samples else {}
    result = (
        {"run": str(config.run), "out": str(config.out)}
        | _told(opened, given, account, len(content))
        | ideal
    )
    return with_notes(result, notes)


def _told(opened: Arrays | Texts, given: CodecInput, account: Account, size: int) -> dict[str, Any]:
    rest = account.count - account.plain
    if isinstance(opened, Texts):
        lines = given.exact.split("\n")
        characters = sum(map(len, lines))
        dims = characters
        name = "bits_per_char"
        sizes = text_sizes(given.exact.encode())
        per_net = {"net_bits_per_text": account.net_bits / rest if rest else None}
    else:
        pictures = len(opened.pixels.shape) == 3
        values = given.values
        each = opened.pixels.dims
        dims = values.size
        name = "bits_per_dim"
        small = (
            given.exact
            if not pictures
            else values.astype(np.uint8)
            if opened.pixels.levels <= 256
            else values
        )
        sizes = image_sizes(small, opened.pixels.levels) if pictures else array_sizes(small)
        per_net = {"net_bits_per_dim": account.net_bits / rest / each if rest else None}
    return {
        "count": account.count,
        "bytes_in": given.size,
        "bytes_out": size,
        "net_bits": account.net_bits,
        "initial_bits": account.initial_bits,
        "plain": account.plain,
        name: 8 * size / dims if dims else None,
        **per_net,
        "archivers": sizes,
        f"archivers_{name}": {key: 8 * value / dims for key, value in sizes.items()}
        if dims
        else None,
    }


@torch.no_grad()
def _ideal(opened: Arrays | Texts, given: CodecInput, samples: int) -> dict[str, Any]:
    """The bounds of all data, in bits."""
    reseed(0, "compress")
    model = opened.opened.model
    elbo = 0.0
    weighted = 0.0
    size = TEXTS if isinstance(opened, Texts) else IMAGES
    for start in tqdm(range(0, len(given.values), size), desc="scoring", disable=None, leave=False):
        part = given.values[start : start + size]
        x = (
            pad(part)
            if isinstance(opened, Texts)
            else torch.from_numpy(part).to(torch.get_default_dtype())
        )
        chunk = max(1, TOKENS // x.numel()) if isinstance(opened, Texts) else None
        found = estimate(model, x, samples, chunk=chunk)
        elbo += found.elbo.double().sum().item()
        weighted += found.log_likelihood.double().sum().item()
    bits = {
        "ideal_bits": -elbo / math.log(2),
        "ideal_iw_bits": -weighted / math.log(2),
        "ideal_samples": samples,
    }
    if isinstance(opened, Arrays):
        bits["ideal_bits_per_dim"] = bits["ideal_bits"] / given.values.size
    return bits


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, str):
        return a == b
    return same_bits(a, b)


if __name__ == "__main__":
    run(Config, main)
