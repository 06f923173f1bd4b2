"""``univae similar``: texts similar to a text, generated and ranked by a RoFormer-Sim."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import tyro

from experiments.cli.commands import run
from experiments.data.notes import print_notes, with_notes
from experiments.evaluation.open_run import open_run
from experiments.sentences.notes import sentence_notes
from experiments.training.settings import SEED
from experiments.training.task import reseed
from univae.checkpoint import JsonObject
from univae.decoding.sampling import Sampling
from univae.errors import InputError
from univae.rules import Rule, at_least, check, within
from univae.sentence.trained import TrainedSimilar
from univae.text.tally import Tally

__all__ = ["Config", "main"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Generates texts similar to a text, and ranks them by the cosine of the same model."""

    run: tyro.conf.Positional[Path]  # the run folder of train-similar
    text: tyro.conf.Positional[str]  # the source text
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
        if not self.text.strip():
            raise InputError("the text is empty; give a sentence")


def main(config: Config) -> JsonObject:
    """Return ``results`` as [text, cosine], the best first; fewer than --count if samples repeat.

    ``cut`` is 1 where the text has more than ``max_length`` tokens, of which the model reads the
    first.
    """
    run = open_run(TrainedSimilar, config.run, config.device, command="similar")
    reseed(config.seed, "similar")
    (ranked,) = run.similar(
        [config.text],
        config.count,
        config.samples,
        Sampling(config.temperature, config.top_k, config.top_p),
        keep=config.keep,
        mask=config.mask,
        diversity=config.diversity,
    )
    tally = Tally()
    run.text.counting(tally).encode_batch([config.text])
    notes = sentence_notes(run, "the text", tally)
    print_notes(notes)
    results = [list(pair) for pair in ranked]
    result = {"run": str(config.run), "text": config.text, "cut": tally.cut, "results": results}
    return with_notes(result, [*run.notes, *notes])


if __name__ == "__main__":
    run(Config, main)
