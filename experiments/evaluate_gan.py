"""``univae evaluate-gan``: metrics of a GAN in a named feature space, beside the floor and known faults."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import tyro
from torch import Tensor

from experiments import train_gan
from experiments.cli.commands import run
from experiments.cli.options import stored
from experiments.data.notes import print_notes, with_notes
from experiments.data.sources import names_code
from experiments.gans import validation
from experiments.gans.evaluation import table
from experiments.gans.ladder import FLOOR, ladder
from experiments.gans.run import GanRun
from experiments.reports.page import update
from experiments.training.settings import SEED
from experiments.training.task import reseed
from univae.checkpoint import write_json
from univae.errors import InputError
from univae.rules import Rule, at_least, check

__all__ = ["Config", "main"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Measures a trained GAN: its moving average and its raw weights."""

    run: tyro.conf.Positional[Path]  # the run folder
    # generated data; no more than half of the real ones, for the reference has as many
    count: int = 5000
    features: str = ""  # another feature space than the run's, see train-gan --features
    checkpoint: str = "best"  # or last
    seed: int = 0
    device: str = "auto"

    RULES: ClassVar[Mapping[str, Rule]] = {
        "count": at_least(10, 10**8),
        "seed": SEED,
    }

    def __post_init__(self) -> None:
        check(self)


@torch.no_grad()
def main(config: Config) -> dict[str, Any]:
    """Return the metrics of the average, or of the weights without one; the table with the faults is in the report.

    A number is compared with the floor, real data against other real data, and with what the faults
    of the ladder do to it: blur, noise, a dropped class, 50 data repeated. The feature space stands
    in the name of a distance.
    """
    opened = GanRun(config.run, config.device, config.checkpoint)
    settings = _settings(config, opened)
    rows = settings.rows(opened.run)
    data = rows.data
    print_notes(data.notes)
    found = validation.reference(settings.data, settings.training, config.run, rows, config.count)
    measured: dict[str, dict[str, Any]] = {}
    for name, average in (("moving average", True), ("raw weights", False)):
        if average and not opened.has_average:
            continue
        own = (
            opened
            if average
            else GanRun(config.run, config.device, config.checkpoint, average=False)
        )
        reseed(config.seed, "evaluate")
        measured[name] = found.measure(
            own.sample(torch.randn(found.count, own.players.generator.latent))
        )
        if found.rows_for_modes:
            measured[name] |= found.modes(_parts(own, found.rows_for_modes))
    rungs = ladder(found)
    columns, cells = table({**measured, **rungs}, found.space.name)
    note = (
        f"{found.count} generated data against {found.count} real ones; distances in the feature space "
        f"{found.space.name}, standardised. The floor is what real data score against other real data."
    )
    if found.space.accuracy is not None:
        note += f" Its classifier is right on {100 * found.space.accuracy:.1f} % of data it did not see."
    if found.rows_for_modes:
        note += (
            f" Modes are counted among {found.rows_for_modes} data by its classes of the channels."
        )
    described = {"kind": "texts", "title": "Metrics, floor and known faults", "note": note}

    def write_table() -> None:
        path = opened.run.subfolder("samples") / "metrics.json"
        write_json(path, described | {"columns": columns, "rows": cells})

    report, problems = update(config.run, write_table)
    print_notes(problems)
    print("\n".join(" | ".join(row) for row in [columns, *cells]), file=sys.stderr)
    first = next(iter(measured.values()))
    floor = rungs[FLOOR]
    result = {
        "run": str(config.run),
        "step": opened.step,
        "count": found.count,
        "feature_space": found.space.name,
        **first,
        f"frechet[{found.space.name}]": first["frechet_distance"],
        f"kernel[{found.space.name}]": first["kernel_distance"],
        "floor": floor,
        "raw": measured["raw weights"],
        "ladder": rungs,
        "report": report,
    }
    return with_notes(result, [*data.notes, *opened.run.notes, *problems])


def _settings(config: Config, opened: GanRun) -> train_gan.Config:
    """Return the run's configuration with the feature space to measure in.

    Raises:
        InputError: the run names a feature space that is code, and this call does not.
    """
    space = config.features or opened.run.config.get("features", "auto")
    if not config.features and names_code(space):
        raise InputError(
            f"{config.run}: its feature space {space} is code, which a run folder must not start; "
            f"give --features {space} to run it"
        )
    return stored(train_gan.Config, opened.run, out=config.run, resume=False, features=space)


def _parts(opened: GanRun, count: int) -> Iterator[Tensor]:
    for rows in torch.arange(count).split(256):
        labels = rows % opened.classes if opened.classes else None
        yield opened.sample(torch.randn(len(rows), opened.players.generator.latent), labels)


if __name__ == "__main__":
    run(Config, main)
