"""``univae audit``: gradients, slopes and layer norms of a trained critic, with a verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import tyro
from torch import Tensor

from experiments import train_gan
from experiments.cli.commands import run
from experiments.cli.options import stored
from experiments.data.arrays import Data
from experiments.data.notes import print_notes, with_notes
from experiments.evaluation.open_run import open_run
from experiments.gans.features import class_labels
from experiments.gans.scaling import gan_rows
from experiments.reports.page import update
from experiments.training.settings import SEED
from experiments.training.task import reseed
from gan.audit import audit
from gan.trained import TrainedGan
from univae.checkpoint import JsonObject, to_json, write_json
from univae.rules import Rule, at_least, check

__all__ = ["Config", "main"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Audits the critic of a trained GAN on real data, and between real and generated data."""

    run: tyro.conf.Positional[Path]  # the run folder
    # number of real data, and of generated data; the time of exact transport grows with its cube
    count: int = 500
    checkpoint: str = "last"  # last (weights of the last step) or best
    seed: int = 0  # seed of the choice of real data, and of the generated data
    device: str = "auto"  # auto (the GPU if there is one), cpu, cuda, cuda:1, ...

    RULES: ClassVar[Mapping[str, Rule]] = {
        "count": at_least(2, 10**6),
        "seed": SEED,
    }

    def __post_init__(self) -> None:
        check(self)


def main(config: Config) -> JsonObject:
    """Return the facts of :func:`gan.audit` and its verdict, and add them to the report."""
    run = open_run(TrainedGan, config.run, config.device, config.checkpoint, "audit")
    settings = stored(train_gan.Config, run.folder, out=config.run, resume=False)
    data, rows, _ = settings.rows(run.folder)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(config.seed))
    chosen = rows[order[: config.count]]
    real = gan_rows(data, chosen).float().to(run.device)
    facts = _facts(run, settings, real, _labels(run, data, chosen), config.seed)

    def write_facts() -> None:
        write_json(run.folder.subfolder("samples") / "audit.json", _table(facts))

    report, problems = update(config.run, write_facts)
    print_notes([*data.notes, *problems])
    result = {"run": str(config.run), "step": run.step, "count": len(real)}
    result |= {**facts, "report": report}
    return with_notes(result, [*run.notes, *data.notes, *problems])


def _facts(
    run: TrainedGan,
    settings: train_gan.Config,
    real: Tensor,
    labels: Tensor | None,
    seed: int,
) -> JsonObject:
    """Return the audit of the critic on real rows and as many generated ones."""
    reseed(seed, "audit")
    fake = run.draw(len(real)).to(run.device)
    facts = audit(
        run.players.critic,
        real,
        fake,
        normalization=settings.players.normalization,
        labels=labels,
        eps=settings.players.gran_eps,
        K=settings.players.gradient_bound,
    )
    return to_json(facts)


def _labels(run: TrainedGan, data: Data, rows: Sequence[int] | np.ndarray) -> Tensor | None:
    """Return the classes of some rows; None for a GAN without classes."""
    labels = class_labels(data) if run.classes else None
    return None if labels is None else labels[rows].to(run.device)


def _table(facts: JsonObject) -> JsonObject:
    """Return the table of the facts in the report."""
    rows = [
        ["gradient of the score: 5 %, median, 95 %, largest", _numbers(facts["gradient_norms"])],
        ["gradient of the critic before normalisation", _numbers(facts["raw_norms"])],
    ]
    for slope in facts["slopes"]:
        title = f"largest slopes over {slope['length']:g} of a typical distance"
        values = (
            f"within a cell {_number(slope['within'])}, "
            f"across cells {_number(slope['across'])}, "
            f"{_number(slope['crossing'])} of them leave their cell"
        )
        rows.append([title, values])
    for layer in facts["layers"]:
        reshaped = f"(of its reshaped weight: {_number(layer['reshaped'])})"
        rows.append([f"norm of {layer['name']}", f"{_number(layer['operator'])} {reshaped}"])
    rows.append(["proven Lipschitz constant", _number(facts["certificate"])])
    return {
        "kind": "texts",
        "title": "Audit of the critic",
        "note": facts["verdict"],
        "columns": ["fact", "value"],
        "rows": rows,
    }


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(map(_number, values))


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"


if __name__ == "__main__":
    run(Config, main)
