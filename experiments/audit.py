"""``univae audit``: what holds of a trained critic - gradients, slopes, norms of its layers - in numbers and words."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import tyro

from experiments import train_gan
from experiments.cli.commands import run
from experiments.cli.options import stored
from experiments.data.notes import print_notes, with_notes
from experiments.gans.features import class_labels
from experiments.gans.run import GanRun
from experiments.gans.scaling import gan_rows
from experiments.reports.page import update
from experiments.training.settings import SEED
from experiments.training.task import reseed
from gan.audit import audit
from univae.checkpoint import to_json, write_json
from univae.rules import Rule, at_least, check

__all__ = ["Config", "main"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Audits the critic of a trained GAN on real data, and between real and generated data."""

    run: tyro.conf.Positional[Path]  # the run folder
    # real data, and as many generated ones; exact transport between them costs the cube
    count: int = 500
    checkpoint: str = "last"  # or best
    seed: int = 0
    device: str = "auto"

    RULES: ClassVar[Mapping[str, Rule]] = {
        "count": at_least(2, 10**6),
        "seed": SEED,
    }

    def __post_init__(self) -> None:
        check(self)


def main(config: Config) -> dict[str, Any]:
    """Return the facts of :func:`gan.audit`, its verdict in plain words among them."""
    opened = GanRun(config.run, config.device, config.checkpoint)
    settings = stored(train_gan.Config, opened.run, out=config.run, resume=False)
    data, rows, _ = settings.rows(opened.run)
    picked = rows[
        torch.randperm(len(rows), generator=torch.Generator().manual_seed(config.seed))[
            : config.count
        ]
    ]
    x = gan_rows(data, picked).float().to(opened.device)
    reseed(config.seed, "audit")
    fake = opened.sample(torch.randn(len(x), opened.players.generator.latent)).to(opened.device)
    known = class_labels(data)
    labels = known[picked].to(opened.device) if opened.classes and known is not None else None
    given: dict[str, Any] = {
        "labels": labels,
        "eps": settings.players.gran_eps,
        "K": settings.players.gradient_bound,
    }
    facts = to_json(
        audit(opened.players.critic, x, fake, normalization=settings.players.normalization, **given)
    )

    def write_facts() -> None:
        write_json(opened.run.subfolder("samples") / "audit.json", _page(facts))

    report, problems = update(config.run, write_facts)
    print_notes([*data.notes, *problems])
    print(facts["verdict"], file=sys.stderr)
    place = {"run": str(config.run), "step": opened.step, "count": len(x)}
    return with_notes(
        {**place, **facts, "report": report}, [*opened.run.notes, *data.notes, *problems]
    )


def _page(facts: dict[str, Any]) -> dict[str, Any]:
    rows = [
        ["gradient of the score: 5 %, median, 95 %, largest", _numbers(facts["gradient_norms"])]
    ]
    rows.append(["gradient of the critic before normalisation", _numbers(facts["raw_norms"])])
    for s in facts["slopes"]:
        told = [f"within a cell {_number(s['within'])}", f"across cells {_number(s['across'])}"]
        told.append(f"{_number(s['crossing'])} of them leave their cell")
        rows.append([f"largest slopes over {s['length']:g} of a typical distance", ", ".join(told)])
    for layer in facts["layers"]:
        both = (
            f"{_number(layer['operator'])} (of its reshaped weight: {_number(layer['reshaped'])})"
        )
        rows.append([f"norm of {layer['name']}", both])
    rows.append(["proven Lipschitz constant", _number(facts["certificate"])])
    said = {"kind": "texts", "title": "Audit of the critic", "note": facts["verdict"]}
    return said | {"columns": ["fact", "value"], "rows": rows}


def _numbers(values: list[float]) -> str:
    return ", ".join(map(_number, values))


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"


if __name__ == "__main__":
    run(Config, main)
