"""``univae compare``: several runs side by side, grouped by configuration minus seed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from experiments.cli import run
from experiments.report import compare

__all__ = ["Config", "main"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Writes one page that compares runs."""

    runs: tyro.conf.Positional[tuple[Path, ...]]  # run folders
    out: Path = Path("compare.html")


def main(config: Config) -> dict[str, Any]:
    """Returns the ``path`` of the page."""
    return {"path": str(compare(list(config.runs), config.out))}


if __name__ == "__main__":
    run(Config, main)
