"""``univae likelihood``: the importance-sampled log-likelihood of every datum, with its evidence."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import torch
import tyro
from tqdm import tqdm

from density.pixels import bits_per_dim
from experiments.cli import run
from experiments.data import read
from experiments.density_task import data_at_once, draws_at_once
from experiments.image_run import ImageRun
from experiments.image_samples import write_grid
from experiments.report import write as write_report
from experiments.run import Run
from experiments.score import ProposalName, Table, page, perplexity, rows_of, totals, worst
from experiments.settings import LIMIT, SEED
from experiments.task import reseed
from experiments.text_run import TextRun, texts_of
from univae.checkpoint import write_json
from univae.rules import Rule, at_least, check
from univae.text import PAD

__all__ = ["Config", "main"]

BLOCK = 2048  # texts read and sorted by length together
TEXTS = 16  # texts in a batch
TOKENS = 16_384  # positions decoded at once: bounds the memory, whatever the number of samples
IMAGES = 100  # images or rows in a batch

SIZES = ("tokens", "characters", "words", "unknown_words")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Estimates log p(x) of every text, image or row by importance sampling."""

    run: tyro.conf.Positional[Path]  # the run folder
    data: str  # texts: a file of one text per line, or python-docs; else what train-density takes
    samples: int = 128  # importance samples per datum
    proposal: ProposalName = "posterior"  # widened, sobol and refined need Gaussian latents
    out: Path | None = None  # a .csv file with a row per datum
    limit: int = 0  # only the first so many data; 0: all
    seed: int = 0
    device: str = "auto"

    RULES: ClassVar[Mapping[str, Rule]] = {
        "samples": at_least(1, 10**8),
        "limit": LIMIT,
        "seed": SEED,
    }

    def __post_init__(self) -> None:
        check(self)


@torch.no_grad()
def main(config: Config) -> dict[str, Any]:
    """Returns means per datum in nats, and the totals they are made of.

    ``log_likelihood_nats`` is an estimate (in expectation a lower bound), ``elbo_nats`` the mean log-weight, which with
    the posterior as proposal is the bound at one sample. A text has its tokens plus one end token, and its words plus
    one end for ``perplexity_per_word``; ``bits_per_char`` divides by characters without line ends.
    """
    kind = Run.open(config.run).config.get("command")
    reseed(config.seed, "likelihood")
    score = _images if kind == "train-density" else _texts
    return score(config, {"run": str(config.run), "samples": config.samples, "proposal": config.proposal})


def _images(config: Config, said: dict[str, Any]) -> dict[str, Any]:
    opened = ImageRun(config.run, config.device)
    data = opened.fit_to(read(config.data))
    count = min(len(data), config.limit or len(data))
    rows: list[dict[str, Any]] = []
    with Table.open(config.out, ()) as table, tqdm(total=count, desc="scoring", disable=None, leave=False) as bar:
        size = data_at_once(opened.model, IMAGES)
        for start in range(0, count, size):
            x = data.batch(slice(start, min(count, start + size))).to(opened.device)
            chunk = draws_at_once(opened.model, len(x))
            for row in rows_of(opened.model, x, config.samples, config.proposal, chunk):
                table.add(row)
                rows.append(row)
            bar.update(len(x))
    found, pixels = totals(rows), opened.model.output.pixels
    bits = bits_per_dim(torch.tensor(found["log_likelihood_nats"]), pixels.dims, pixels.nats)
    found |= {"bits_per_dim": bits.value.item(), "convention": bits.convention, "data": data.name}
    lowest = worst(rows)
    if len(pixels.shape) == 3:
        write_grid(
            opened.run, "worst", f"The least likely of {data.name}, the lowest first", data.batch(lowest), pixels.levels
        )
    return _reported(opened.run, rows, said | found)


def _texts(config: Config, said: dict[str, Any]) -> dict[str, Any]:
    opened = TextRun(config.run, config.device)
    rows: list[dict[str, Any]] = []
    with Table.open(config.out, (*SIZES, "text")) as table:
        for row in _score(opened, texts_of(config.data, config.limit), config):
            table.add(row)
            rows.append(row)
    found = totals(rows)
    total, count = found["log_likelihood_nats"] * len(rows), len(rows)
    sizes = {name: sum(row[name] for row in rows) for name in SIZES}
    found |= {
        "bits_per_token": -total / sizes["tokens"] / math.log(2),
        "bits_per_char": -total / sizes["characters"] / math.log(2),
        "perplexity_per_word": perplexity(-total, sizes["words"] + count),
        **sizes,
        "data": config.data,
    }
    lowest = [[rows[i]["text"], f"{rows[i]['log_likelihood']:.2f}", f"{rows[i]['khat']:.2f}"] for i in worst(rows)]
    columns = ["text", "log-likelihood, nats", "k-hat"]
    described = {"kind": "texts", "title": "The least likely texts, the lowest first"}
    write_json(opened.run.path / "samples" / "worst.json", described | {"columns": columns, "rows": lowest})
    return _reported(opened.run, rows, said | found)


def _reported(folder: Run, rows: list[dict[str, Any]], found: dict[str, Any]) -> dict[str, Any]:
    title = f"Log-likelihood of {found['data']}, {found['samples']} importance samples ({found['proposal']})"
    write_json(folder.path / "samples" / "likelihood.json", page(rows, found, title))
    return found | {"report": str(write_report(folder.path))}


def _score(opened: TextRun, texts: Iterator[str], config: Config) -> Iterator[dict[str, Any]]:
    """Gives every text's row, in order; reads and sorts a block of texts at a time."""
    with tqdm(desc="scoring", unit=" texts", disable=None, leave=False) as bar:
        while block := list(islice(texts, BLOCK)):
            order = sorted(range(len(block)), key=lambda i: len(block[i]))
            rows: dict[int, dict[str, Any]] = {}
            for start in range(0, len(order), TEXTS):
                picked = order[start : start + TEXTS]
                rows |= zip(picked, _batch(opened, [block[i] for i in picked], config), strict=True)
                bar.update(len(picked))
            yield from (rows[i] for i in range(len(block)))


def _batch(opened: TextRun, texts: list[str], config: Config) -> list[dict[str, Any]]:
    ids = opened.encode(texts)
    tokens = (ids != PAD).sum(1).tolist()
    rows = rows_of(opened.model, ids, config.samples, config.proposal, chunk=max(1, TOKENS // ids.numel()))
    return [
        row
        | {"tokens": tokens[i], "characters": len(text), "words": len(text.split())}
        | {"unknown_words": opened.tokenizer.unknown(text), "text": text}
        for i, (row, text) in enumerate(zip(rows, texts, strict=True))
    ]


if __name__ == "__main__":
    run(Config, main)
