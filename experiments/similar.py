"""``univae similar``: texts similar to a text, generated and ranked by a RoFormer-Sim."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import tyro

from experiments.cli.commands import run
from experiments.data.notes import print_notes, with_notes
from experiments.data.outputs import output_file
from experiments.data.texts import Texts, read_texts
from experiments.evaluation.open_run import open_run
from experiments.sentences.answers import require_jsonl, write_jsonl
from experiments.sentences.notes import sentence_notes
from experiments.sentences.standard_input import answer_lines, is_stream, require_no_file
from experiments.training.settings import SEED
from experiments.training.task import reseed
from univae.checkpoint import JsonObject
from univae.decoding.sampling import Sampling
from univae.errors import InputError
from univae.rules import Rule, at_least, check, within
from univae.sentence.trained import Generated, TrainedSimilar
from univae.text.lines import Removed
from univae.text.tally import Tally

__all__ = ["Config", "main"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Generates texts similar to a text, and ranks them by the cosine of the same model."""

    run: tyro.conf.Positional[Path]  # the run folder of train-similar
    text: tyro.conf.Positional[str] = ""  # the source text; none: those of --texts
    # a file of source texts, one a line, or .csv, .tsv, .jsonl (FILE:COLUMN), instead of TEXT; -:
    # lines of standard input, each answered by a line of JSON on standard output before the next
    texts: Path | None = None
    out: Path | None = None  # .jsonl file to write: source, rank, text and score of each result
    overwrite: bool = False  # replace an existing output file
    count: int = 10  # most results
    samples: int = 100  # texts to generate, of which the best are the results; more take time
    keep: tuple[str, ...] = ()  # words that every result must contain
    mask: tuple[str, ...] = ()  # words of the text to hide from the generator, so that they change
    # in [0, 1): weight of a result's cosine to earlier results, which lowers its rank
    diversity: float = 0.0
    # 1 samples from the model; lower: more probable texts; 0: the most probable token
    temperature: float = 1.0
    top_k: int = 0  # sample among the k most probable tokens; 0: all
    top_p: float = 0.95  # sample among the fewest tokens of this total probability
    seed: int = 0  # seed of the samples
    device: str = "auto"  # auto (the GPU if there is one), cpu, cuda, cuda:1, ...

    RULES: ClassVar[Mapping[str, Rule]] = {
        "count": at_least(1, 10**6),
        "samples": at_least(1, 10**6),
        "diversity": within("[0, 1)"),
        **Sampling.RULES,
        "seed": SEED,
    }

    def __post_init__(self) -> None:
        check(self)
        if self.texts is None and not self.text.strip():
            raise InputError("the text is empty; give a sentence, or --texts FILE")
        if self.texts is not None and self.text:
            raise InputError("TEXT and --texts: give one of them")
        require_no_file("--texts", self.texts, self.out)

    @property
    def data_on_stdout(self) -> bool:
        """Whether standard output carries the answers, so that the result goes to stderr."""
        return is_stream(self.texts)


def main(config: Config) -> JsonObject:
    """Return ``results`` as [text, cosine], the best first; fewer than --count if samples repeat.

    With ``--texts``, ``results`` are a source and its results for each, or with ``--out`` in the
    file alone; with ``--texts -`` they are lines of standard output, and each line has the answer
    that it has alone. ``cut`` counts the sources of more than ``max_length`` tokens, of which the
    model reads the first.
    """
    if is_stream(config.texts):
        return _answered_stream(config)
    inputs = (config.run,) if config.texts is None else (config.run, config.texts)
    out = output_file(config.out, config.overwrite, inputs)
    require_jsonl(out)
    sources, reading_notes = _sources(config)
    run = open_run(TrainedSimilar, config.run, config.device, command="similar")
    generated = _generated(config, run, sources)
    tally = Tally()
    run.text.counting(tally).encode_batch(sources)
    source = "the text" if config.texts is None else f"--texts {config.texts}"
    notes = [*reading_notes, *sentence_notes(run, source, tally)]
    notes += draw_notes(config, generated, len(sources))
    print_notes(notes)
    if out is not None:
        write_jsonl(out, _records(sources, generated))
    result = {
        "run": str(config.run),
        **({"text": config.text} if config.texts is None else {"texts": len(sources)}),
        "cut": tally.cut,
        **_shown(config, sources, generated),
    }
    return with_notes(result, [*run.notes, *notes])


def _answered_stream(config: Config) -> JsonObject:
    """Answer the lines of standard input, and return the result without the answers."""
    run = open_run(TrainedSimilar, config.run, config.device, command="similar")
    tally = Tally()

    fewer: list[Generated] = []

    def answer(text: str) -> JsonObject:
        run.text.counting(tally).encode_batch([text])
        (generated,) = _generated(config, run, [text])
        if len(generated.ranked) < config.count:
            fewer.append(generated)
        return _record(text, generated)

    removed = Removed()
    counts = answer_lines("text", answer, removed)
    notes = [*removed.notes("--texts -"), *sentence_notes(run, "--texts -", tally)]
    notes += draw_notes(config, fewer, counts.answered)
    print_notes(notes)
    result = {
        "run": str(config.run),
        "texts": counts.answered,
        "refused": counts.refused,
        "cut": tally.cut,
    }
    return with_notes(result, [*run.notes, *notes])


def _generated(config: Config, run: TrainedSimilar, sources: Sequence[str]) -> list[Generated]:
    reseed(config.seed, "similar")
    return run.generate(
        sources,
        config.count,
        config.samples,
        Sampling(config.temperature, config.top_k, config.top_p),
        keep=config.keep,
        mask=config.mask,
        diversity=config.diversity,
    )


def draw_notes(config: Config, generated: Sequence[Generated], texts: int) -> list[str]:
    """Return a note on why there are fewer results than asked for, if there are, of ``texts``."""
    fewer = [row for row in generated if len(row.ranked) < config.count]
    if not fewer:
        return []
    draws = [sum(counts) for counts in zip(*(row.draws for row in fewer), strict=True)]
    words = [
        "texts were generated",
        "without an end or empty",
        "equal to the source",
        "without a word of --keep",
        "duplicates",
    ]
    reasons = [f"{number} {word}" for number, word in zip(draws, words, strict=True) if number]
    asked = f"{sum(len(row.ranked) for row in fewer)} of {config.count * len(fewer)} asked"
    if texts > 1:
        asked += f", for {len(fewer)} of {texts} texts"
    return [f"{asked}: {', '.join(reasons)}; raise --samples or --temperature"]


def _sources(config: Config) -> Texts:
    """Return the source texts, and notes on those left out."""
    if config.texts is None:
        return Texts([config.text], [])
    texts, notes = read_texts(str(config.texts))
    return Texts(texts, [f"--texts {note}" for note in notes])


def _records(sources: Sequence[str], generated: Sequence[Generated]) -> Iterator[JsonObject]:
    """Yield source, rank from 1, text and score of every result."""
    for source, row in zip(sources, generated, strict=True):
        for rank, (text, score) in enumerate(row.ranked, start=1):
            yield {"source": source, "rank": rank, "text": text, "score": score}


def _shown(config: Config, sources: Sequence[str], generated: Sequence[Generated]) -> JsonObject:
    """Return the results, or the file that holds them, for the result."""
    file = {} if config.out is None else {"out": str(config.out)}
    records = [_record(text, row) for text, row in zip(sources, generated, strict=True)]
    if config.texts is None:
        return {**file, "results": records[0]["results"]}
    return file or {"results": records}


def _record(source: str, generated: Generated) -> JsonObject:
    return {"text": source, "results": [list(pair) for pair in generated.ranked]}


if __name__ == "__main__":
    run(Config, main)
