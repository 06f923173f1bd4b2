"""``univae likelihood``: the importance-sampled log-likelihood of every datum, with its evidence."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
import tyro
from tqdm import tqdm
from typing_extensions import Doc

from density.estimation.registry import PROPOSALS
from density.likelihoods.bits import bits_per_dim
from experiments.cli.commands import run
from experiments.data.notes import print_notes, with_notes
from experiments.data.outputs import Output, output_file
from experiments.data.readers import read
from experiments.data.text_notes import longer_notes, unknown_notes
from experiments.data.texts import texts_of
from experiments.evaluation.memory import rows_at_once, samples_at_once
from experiments.evaluation.proposals import ProposalName
from experiments.evaluation.score_table import Table
from experiments.evaluation.scores import (
    finite,
    perplexity,
    report_item,
    rows_of,
    totals,
    worst,
)
from experiments.images.run import ImageRun
from experiments.reports.image_grid import write_grid
from experiments.reports.page import update
from experiments.text.run import TextRun
from experiments.training.run_folder import Run
from experiments.training.settings import LIMIT, SEED
from experiments.training.task import reseed
from univae.checkpoint import write_json
from univae.registry import choices_help
from univae.rules import Rule, at_least, check
from univae.text.corpus import Removed
from univae.text.special import PAD

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
    proposal: Annotated[
        ProposalName, Doc(choices_help("distribution of the samples", PROPOSALS))
    ] = "posterior"
    out: Path | None = None  # a .csv file with a row per datum
    overwrite: bool = False  # replace an existing output file
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
    """Return means per datum in nats, and the totals they are made of.

    ``log_likelihood_nats`` is an estimate (in expectation a lower bound), ``elbo_nats`` the mean
    log-weight, which with the posterior as proposal is the bound at one sample. A text has its
    tokens plus one end token, and its words plus one end for ``perplexity_per_word``;
    ``bits_per_char`` divides by characters without line ends. Where words are unknown to the
    vocabulary, the likelihood is of words and <unk>, and ``bits_per_char`` is null.
    """
    out = output_file(config.out, config.overwrite, (config.run, config.data))
    kind = Run.open(config.run).config.get("command")
    reseed(config.seed, "likelihood")
    score = _images if kind == "train-density" else _texts
    return score(
        config,
        out,
        {"run": str(config.run), "samples": config.samples, "proposal": config.proposal},
    )


def _images(config: Config, out: Output | None, said: dict[str, Any]) -> dict[str, Any]:
    opened = ImageRun(config.run, config.device)
    data = opened.fit_to(read(config.data))
    count = min(len(data), config.limit or len(data))
    rows: list[dict[str, Any]] = []
    with (
        Table.open(out, ()) as table,
        tqdm(total=count, desc="scoring", disable=None, leave=False) as bar,
    ):
        size = rows_at_once(opened.model, IMAGES)
        for start in range(0, count, size):
            x = data.batch(slice(start, min(count, start + size))).to(opened.device)
            chunk = samples_at_once(opened.model, len(x))
            for row in rows_of(opened.model, x, config.samples, config.proposal, chunk):
                table.add(row)
                rows.append(row)
            bar.update(len(x))
    found = totals(rows, config.samples)
    pixels = opened.model.output.pixels
    log_likelihood = torch.tensor(_number(found["log_likelihood_nats"]), dtype=torch.float64)
    bits = bits_per_dim(log_likelihood, pixels.dims, pixels.nats)
    found |= {
        "bits_per_dim": finite(bits.value.item()),
        "convention": bits.convention,
        "data": data.name,
    }

    def write_worst() -> None:
        title = f"The least likely of {data.name}, the lowest first"
        if len(pixels.shape) == 3:
            write_grid(opened.run, "worst", title, data.batch(worst(rows)), pixels.levels)

    return _reported(opened.run, rows, said | found, data.notes, write_worst)


def _texts(config: Config, out: Output | None, said: dict[str, Any]) -> dict[str, Any]:
    opened = TextRun(config.run, config.device)
    rows: list[dict[str, Any]] = []
    removed = Removed()
    with Table.open(out, (*SIZES, "text")) as table:
        for row in _score(opened, texts_of(config.data, config.limit, removed), config):
            table.add(row)
            rows.append(row)
    found = totals(rows, config.samples)
    count = len(rows)
    total = _number(found["log_likelihood_nats"]) * count
    sizes = {name: sum(row[name] for row in rows) for name in SIZES}
    bits = -total / math.log(2)
    found |= {
        "bits_per_token": finite(bits / sizes["tokens"]),
        # A code for <unk> does not name the characters of the word.
        "bits_per_char": None if sizes["unknown_words"] else finite(bits / sizes["characters"]),
        "perplexity_per_word": perplexity(-total, sizes["words"] + count),
        **sizes,
        "data": config.data,
    }
    notes = [*removed.notes(config.data), *_text_notes(opened, rows, sizes, config.data)]
    if found["perplexity_per_word"] is None and found["log_likelihood_nats"] is not None:
        nats = -total / (sizes["words"] + count)
        notes.append(
            f"perplexity_per_word is null: exp({nats:.0f} nats a word) is beyond the range of a float"
        )

    def write_worst() -> None:
        lowest = [
            [rows[i]["text"], f"{rows[i]['log_likelihood']:.2f}", f"{rows[i]['khat']:.2f}"]
            for i in worst(rows)
        ]
        columns = ["text", "log-likelihood, nats", "k-hat"]
        described = {"kind": "texts", "title": "The least likely texts, the lowest first"}
        path = opened.run.subfolder("samples") / "worst.json"
        write_json(path, described | {"columns": columns, "rows": lowest})

    return _reported(opened.run, rows, said | found, notes, write_worst)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _text_notes(
    opened: TextRun, rows: list[dict[str, Any]], sizes: dict[str, int], source: str
) -> list[str]:
    """Say what of the texts the tokens do not hold, and how many are longer than the model's."""
    longest = opened.model.config.max_length
    longer = sum(row["tokens"] > longest for row in rows)
    meaning = (
        "; perplexity_per_word is of words and <unk>, and bits_per_char is null, because a code "
        "for <unk> does not name the characters"
    )
    notes = longer_notes(source, longer, len(rows), longest)
    notes += unknown_notes(source, sizes["unknown_words"], sizes["words"], meaning=meaning)
    respaced = 0
    if not opened.tokenizer.lossless:
        respaced = sum(" ".join(row["text"].split()) != row["text"] for row in rows)
    if respaced:
        notes.append(
            f"{source}: in {respaced} of {len(rows)} texts white space is more than single spaces "
            "between words; the vocabulary reads single spaces, and bits_per_char leaves out the rest"
        )
    return notes


def _reported(
    folder: Run,
    rows: list[dict[str, Any]],
    found: dict[str, Any],
    notes: Sequence[str],
    write_worst: Callable[[], None],
) -> dict[str, Any]:
    """Put the scores into the report and return the result with all notes."""
    notes = [*notes, *found.get("notes", [])]
    title = f"Log-likelihood of {found['data']}, {found['samples']} importance samples ({found['proposal']})"
    shown = report_item(rows, found, title)
    shown["note"] = " ".join((shown["note"], *(f"{note}." for note in notes)))

    def write_scores() -> None:
        write_json(folder.subfolder("samples") / "likelihood.json", shown)

    report, problems = update(folder.path, write_worst, write_scores)
    print_notes([*notes, *problems])
    return with_notes(found | {"report": report}, [*folder.notes, *notes, *problems])


def _score(opened: TextRun, texts: Iterator[str], config: Config) -> Iterator[dict[str, Any]]:
    """Return every text's row, in order; reads and sorts a block of texts at a time."""
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
    rows = rows_of(
        opened.model, ids, config.samples, config.proposal, chunk=max(1, TOKENS // ids.numel())
    )
    return [
        row
        | {"tokens": tokens[i], "characters": len(text), "words": len(text.split())}
        | {"unknown_words": opened.tokenizer.unknown(text), "text": text}
        for i, (row, text) in enumerate(zip(rows, texts, strict=True))
    ]


if __name__ == "__main__":
    run(Config, main)
