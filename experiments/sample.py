"""``univae sample``: texts from the prior of a trained model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from experiments.cli import run
from experiments.task import reseed
from experiments.text_run import TextRun
from experiments.text_use import sample
from univae.checkpoint import write_text_atomic
from univae.decoding import Sampling

__all__ = ["Config", "main"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Draws texts from a trained model."""

    run: tyro.conf.Positional[Path]  # the run folder
    count: int = 10
    out: Path | None = None  # a file for the texts, one a line
    temperature: float = 1.0  # 1 draws from the model itself, 0 takes the most probable token each time
    top_k: int = 0  # only the k most probable tokens; 0: all
    top_p: float = 1.0  # only the smallest set of tokens with so much probability
    seed: int = 0
    device: str = "auto"


def main(config: Config) -> dict[str, Any]:
    """Returns ``samples``, and writes them to ``out``."""
    opened = TextRun(config.run, config.device)
    reseed(config.seed, "sample")
    texts = sample(opened, config.count, Sampling(config.temperature, config.top_k, config.top_p))
    if config.out is not None:
        # A text is one line; a line end that a byte-level model drew is written as a space.
        write_text_atomic(config.out, "".join(" ".join(text.split("\n")) + "\n" for text in texts))

    return {"run": str(config.run), "count": len(texts), "samples": texts}


if __name__ == "__main__":
    run(Config, main)
