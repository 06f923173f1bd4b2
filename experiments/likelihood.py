"""``univae likelihood``: the importance-sampled log-likelihood of every text, with its evidence."""

import csv
import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import tyro
from tqdm import tqdm

from density.importance import Estimate, estimate
from experiments.cli import run
from experiments.task import reseed
from experiments.text_run import TextRun, texts_of
from univae.checkpoint import replacing_file
from univae.errors import InputError
from univae.text import PAD

__all__ = ["Config", "main", "score"]

BLOCK = 2048  # texts read and sorted by length together
TEXTS = 16  # texts in a batch
TOKENS = 16_384  # positions decoded at once: bounds the memory, whatever the number of samples

COLUMNS = ("log_likelihood", "standard_error", "elbo", "effective_samples", "khat")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Estimates log p(x) of every text by importance sampling from the posterior."""

    run: tyro.conf.Positional[Path]  # the run folder
    data: str  # a file of one text per line, or python-docs
    samples: int = 128  # importance samples per text
    out: Path | None = None  # a .csv file with a row per text
    limit: int = 0  # only the first so many texts; 0: all
    seed: int = 0
    device: str = "auto"


def main(config: Config) -> dict[str, Any]:
    """Returns means per text in nats, and the totals they are made of.

    ``log_likelihood_nats`` is an estimate (in expectation a lower bound), ``elbo_nats`` the bound at one sample.
    ``standard_error_nats`` is that of the mean by importance sampling alone; ``standard_error_over_texts_nats`` that
    of the mean as an estimate for texts of this kind. A text has its tokens plus one end token, and its words plus one
    end for ``perplexity_per_word``; ``bits_per_char`` divides by characters without line ends.
    """
    if config.samples < 1:
        raise InputError(f"likelihood: samples must be at least 1; got samples={config.samples}")
    opened = TextRun(config.run, config.device)
    reseed(config.seed, "likelihood")
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        writer = None
        if config.out is not None:
            path = stack.enter_context(replacing_file(config.out))
            writer = csv.writer(stack.enter_context(path.open("w", newline="", encoding="utf-8")))
            writer.writerow(("index", *(f"{c}_nats" if c in COLUMNS[:3] else c for c in COLUMNS), *_SIZES, "text"))
        for text, row in score(opened, texts_of(config.data, config.limit), config.samples):
            if writer:
                writer.writerow((len(rows), *(row[name] for name in (*COLUMNS, *_SIZES)), text))
            rows.append(row)

    return {"run": str(config.run), "samples": config.samples, **_totals(rows)}


_SIZES = ("tokens", "characters", "words", "unknown_words")


def score(run: TextRun, texts: Iterator[str], samples: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Gives every text with its estimate and sizes, in order; reads and sorts a block of texts at a time."""
    with tqdm(desc="scoring", unit=" texts", disable=None, leave=False) as bar:
        while block := list(islice(texts, BLOCK)):
            order = sorted(range(len(block)), key=lambda i: len(block[i]))
            rows: dict[int, dict[str, Any]] = {}
            for start in range(0, len(order), TEXTS):
                picked = order[start : start + TEXTS]
                rows |= zip(picked, _batch(run, [block[i] for i in picked], samples), strict=True)
                bar.update(len(picked))
            yield from ((text, rows[i]) for i, text in enumerate(block))


def _batch(run: TextRun, texts: list[str], samples: int) -> list[dict[str, Any]]:
    ids = run.encode(texts)
    found: Estimate = estimate(run.model, ids, samples, chunk=max(1, TOKENS // ids.numel()))
    tokens = (ids != PAD).sum(1).tolist()
    columns = {name: getattr(found, name).tolist() for name in COLUMNS}
    return [
        {name: values[i] for name, values in columns.items()}
        | {"tokens": tokens[i], "characters": len(text), "words": len(text.split())}
        | {"unknown_words": run.tokenizer.unknown(text)}
        for i, text in enumerate(texts)
    ]


def _totals(rows: list[dict[str, Any]]) -> dict[str, Any]:
    count = len(rows)
    column = {name: torch.tensor([row[name] for row in rows], dtype=torch.float64) for name in (*COLUMNS, *_SIZES)}
    total = column["log_likelihood"].sum().item()
    tokens, characters, words, unknown = (int(column[name].sum()) for name in _SIZES)
    spread = column["log_likelihood"].std().item() / math.sqrt(count) if count > 1 else None
    return {
        "count": count,
        "log_likelihood_nats": total / count,
        "standard_error_nats": column["standard_error"].square().sum().sqrt().item() / count,
        "standard_error_over_texts_nats": spread,
        "elbo_nats": column["elbo"].mean().item(),
        "bits_per_token": -total / tokens / math.log(2),
        "bits_per_char": -total / characters / math.log(2),
        "perplexity_per_word": math.exp(-total / (words + count)),
        "tokens": tokens,
        "characters": characters,
        "words": words,
        "unknown_words": unknown,
        "effective_samples_median": column["effective_samples"].median().item(),
        "khat_above_0.7": (column["khat"] > 0.7).double().mean().item(),
    }


if __name__ == "__main__":
    run(Config, main)
