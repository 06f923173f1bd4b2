"""``univae report``: write the report of each run folder."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from experiments.cli.commands import run
from experiments.reports.page import write
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.exported import require_folder
from univae.rules import check

__all__ = ["Config", "main"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Writes report.html into each run folder, with its curves, samples and configuration."""

    runs: tyro.conf.Positional[tuple[Path, ...]]  # run folders of any kind

    def __post_init__(self) -> None:
        check(self)
        if not self.runs:
            raise InputError("report: needs at least one run folder; got none")


def main(config: Config) -> JsonObject:
    """Return the ``path`` of the report, and the ``paths`` of all if there are several."""
    for path in config.runs:
        require_folder(path, "report")
    paths = [str(write(path)) for path in config.runs]
    result: JsonObject = {"path": paths[0]}
    if len(paths) > 1:
        result["paths"] = paths
    return result


if __name__ == "__main__":
    run(Config, main)
