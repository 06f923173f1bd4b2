"""Sizes of a compressed file: bytes, bits and rates, the model's bounds, and general formats."""

import math
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from density.coding.data_code import Rows
from density.estimation.importance import estimate
from experiments.evaluation.compressed_file import BYTE, Compressed
from experiments.evaluation.file_codec import Content, Exact, FileCodec
from univae.checkpoint import JsonObject

__all__ = ["ideal_sizes", "key_words", "print_summary", "sizes"]

SHORT = 16  # digits of a fingerprint in a message


def sizes(
    codec: FileCodec[Exact, Rows], content: Content[Exact, Rows], file: Compressed
) -> JsonObject:
    """Return bytes, bits and rates of a file, and sizes in general formats."""
    account = file.account
    archivers = content.archiver_sizes()
    units = content.units
    rate_bytes = len(file.packed) if content.beside is None else file.row_bytes
    archiver_rates = None
    if units and content.beside is None:
        archiver_rates = {name: BYTE * archived / units for name, archived in archivers.items()}
    return {
        "count": account.count,
        "bytes_in": content.size,
        **_facts(content, file),
        "bytes_out": len(file.packed),
        "share": len(file.packed) / content.size if content.size else None,
        "model_bytes": file.model_bytes,
        "net_bits": account.net_bits,
        "initial_bits": account.initial_bits,
        "plain": account.plain,
        "blocks": account.blocks,
        "stored_blocks": account.stored_blocks,
        codec.rate: BYTE * rate_bytes / units if units and rate_bytes else None,
        **codec.net_rate(account),
        "archivers": archivers,
        f"archivers_{codec.rate}": archiver_rates,
        "fingerprint": codec.fingerprint.hex() if file.row_bytes else None,
    }


@torch.no_grad()
def ideal_sizes(
    codec: FileCodec[Exact, Rows],
    content: Content[Exact, Rows],
    samples: int,
    progress: Callable[[int], object],
) -> JsonObject:
    """Return the bounds of all rows, in bits, by ``samples`` importance samples each."""
    elbo = 0.0
    log_likelihood = 0.0
    for start in range(0, len(content.values), codec.batch_size):
        rows = content.values[start : start + codec.batch_size]
        x, chunk = codec.batch(rows)
        bounds = estimate(codec.scored_model, x, samples, chunk=chunk)
        elbo += bounds.elbo.double().sum().item()
        log_likelihood += bounds.log_likelihood.double().sum().item()
        progress(len(rows))
    bits = -elbo / math.log(2)
    return {
        "ideal_bits": bits,
        "ideal_iw_bits": -log_likelihood / math.log(2),
        "ideal_samples": samples,
        **codec.ideal_rate(bits, content.values),
    }


def key_words(run: Path, fingerprint: str | None) -> str:
    """Return what opens a file, which the weights of a run coded, or no weights."""
    if fingerprint is None:
        return "no weights are needed to open it: any run of this kind does"
    return (
        f"it opens only with the weights of {run} (fingerprint {fingerprint[:SHORT]}): "
        f"keep the run, or a file of univae export {run} FILE"
    )


def _facts(content: Content[Exact, Rows], file: Compressed) -> JsonObject:
    """Return the facts of a content; every file of a folder without the model is exact."""
    if content.beside is None or file.row_bytes:
        return content.facts
    exact = {"pixels_exact": 0, "bytes_exact": content.facts["files"], "coded_files": 0}
    return {**content.facts, **exact}


def print_summary(run: Path, source: str, result: JsonObject) -> None:
    """Print on stderr what a result of :func:`sizes` says, in three lines or four."""
    smaller = "" if result["bytes_out"] < result["bytes_in"] else ": the input was smaller"
    share = "" if result["share"] is None else f", {result['share']:.0%} of the original{smaller}"
    lines = [
        f"{source}: {result['bytes_in']:,} bytes; {result['out']}: {result['bytes_out']:,} bytes"
        f"{share}; xz: {result['archivers']['xz']:,} bytes"
    ]
    if "files" in result:
        pictures = result["pixels_exact"]
        as_png = f"{pictures} come back as PNG of the same pixels, " if pictures else ""
        lines.append(
            f"{result['files']} files in {result['folders']} folders: the model codes "
            f"{result['coded_files']}; {as_png}{result['bytes_exact']} come back byte for byte"
        )
    if result["stored_blocks"]:
        lines.append(
            f"stored as xz does, which is shorter than the model's code: "
            f"{result['stored_blocks']} of {result['blocks']} blocks"
        )
    lines.append(key_words(run, result["fingerprint"]))
    print("\n".join(lines), file=sys.stderr)
