"""``univae similar``: texts similar to one, generated and ranked by a RoFormer-Sim."""

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
    """Generates texts similar to a text, and ranks them by the model's own cosine."""

    run: tyro.conf.Positional[Path]  # the run folder of train-similar
    text: tyro.conf.Positional[str]  # the source text
    count: int = 10  # number of results, at most
    samples: int = 100  # texts drawn, of which the results are the best
    keep: tuple[str, ...] = ()  # words that every result has
    # words of the text that the generator does not see, so that they change
    mask: tuple[str, ...] = ()
    # in [0, 1): how much a result's cosine to those before it counts against it
    diversity: float = 0.0
    # 1 draws from the model itself, 0 takes the most probable token each time
    temperature: float = 1.0
    top_k: int = 0  # only the k most probable tokens; 0: all
    top_p: float = 0.95  # only the smallest set of tokens with so much probability
    seed: int = 0  # of the random draws
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
    """Return ``results``: [text, cosine], best first; fewer than asked for where draws repeat.

    ``cut`` is 1 where the text has more than ``max_length`` tokens and the model read its
    beginning.
    """
    run = open_run(TrainedSimilar, config.run, config.device)
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
