"""The parts of a report; a function returns none where the run has no data for them."""

from collections.abc import Mapping, Sequence
from statistics import median
from urllib.parse import quote

from experiments.reports import curves, metric_curves
from experiments.reports.blocks import (
    Block,
    Fact,
    Facts,
    Folded,
    Link,
    Links,
    Listing,
    Note,
    Part,
    Picture,
    Slider,
    facts,
    text_table,
)
from experiments.reports.content import Content, evenly
from experiments.reports.options import changed_options
from experiments.reports.run_kinds import kind_of
from experiments.reports.validations import best_validation
from experiments.reports.values import brief, flat
from experiments.training.metric_names import METRICS, number_text
from univae.checkpoint import JsonValue, read_json
from univae.errors import InputError

__all__ = [
    "configuration",
    "distances",
    "grids",
    "headline",
    "inner_runs",
    "latents",
    "notes",
    "players",
    "similarity",
    "training_curves",
]

# Keys of a validation that follow its numbers, with their labels.
WORDS = {"verdict": "use of the latents", "feature_space": "feature space", "step": "at step"}
# Parts that show what a GAN generates, and how it is measured.
GENERATED = ("Metrics, floor and known faults", "Images of the same latents by step")
# Parts with curves of the numbers of a validation.
CURVES = ("Curves", "Use of the latent variables", "Similarity", "Distance to real data")
MOST_GRIDS = 40  # of generated images by step, that a page embeds
MOST_GRID_BYTES = 2**23  # of all of them
GRIDS = "step_*.png"  # their files


def part(title: str, *blocks: Block, related: Sequence[str] = ()) -> list[Part]:
    """Return a part of these blocks, with links to related parts; none without a block."""
    return [Part(title, blocks, related)] if blocks else []


def headline(content: Content) -> list[Part]:
    """Return the best validation, and the speed of the training."""
    best = best_validation(content.run)
    lines = []
    for name, metric in METRICS.items():
        if isinstance(best.get(name), int | float):
            text = number_text(best[name])
            lines.append(Fact(metric.label, text, metric.unit, is_number=True))
    lines += [Fact(label, brief(best[name])) for name, label in WORDS.items() if name in best]
    speeds = [row["tokens_per_second"] for row in content.training if row.get("tokens_per_second")]
    if speeds:
        text = f"{median(speeds):,.0f}"
        unit = f"{kind_of(content.run).speed}/s"
        lines.append(Fact("training speed, median", text, unit, is_number=True))
    return part("Best validation", *([Facts(lines)] if lines else []), related=CURVES)


def notes(content: Content) -> list[Part]:
    """Return the notes of ``data.json`` and ``DONE``: what was left out, cut or assumed."""
    entries: list[JsonValue] = list(content.run.data_record().values())
    done = content.run.path / "DONE"
    if done.exists():
        entries.append(read_json(done))

    lines: list[JsonValue] = []
    for entry in entries:
        stored = entry.get("notes") if isinstance(entry, dict) else None
        if isinstance(stored, list):
            lines += stored
    distinct = list(dict.fromkeys(map(str, lines)))
    return part("Notes", *([Listing(distinct)] if distinct else []))


def inner_runs(content: Content) -> list[Part]:
    """Return links to the reports of runs inside this run's folder."""
    names = sorted(path.parent.name for path in content.run.path.glob("*/report.html"))
    links = [Link(f"{quote(name)}/report.html", name) for name in names]
    return part("Runs inside this run", *([Links(links)] if links else []))


def training_curves(content: Content) -> list[Part]:
    """Return the training loss and the validation's likelihood by step."""
    charts = [*curves.training(content.training), *curves.validation(content.validations)]
    return part("Curves", *content.charts(charts))


def latents(content: Content) -> list[Part]:
    """Return the KL per layer and measures of the use of the latents, by step."""
    rows = content.validations
    charts = [*curves.kl_layers(rows), *curves.latent_use(rows)]
    return part("Use of the latent variables", *content.charts(charts))


def similarity(content: Content) -> list[Part]:
    """Return rank correlation, recall and generation of a sentence model, by step."""
    charts = metric_curves.lines(content.validations, metric_curves.RANKS)
    return part("Similarity", *content.charts(charts))


def distances(content: Content) -> list[Part]:
    """Return the distance of generated rows to real ones by step, or why there is none."""
    charts = metric_curves.lines(content.validations, metric_curves.DISTANCES)
    last = content.validations[-1] if content.validations else {}
    reason = str(last.get("frechet_note") or "")
    warnings = [Note(reason, is_warning=True)] if reason else []
    blocks = [*warnings, *content.charts(charts)]
    return part("Distance to real data", *blocks, related=GENERATED)


def players(content: Content) -> list[Part]:
    """Return losses, scores, penalties and gradients of both players of a GAN, by step."""
    if not any("generator_loss" in row for row in content.training):
        return []
    charts = metric_curves.lines(content.training, metric_curves.PLAYERS)
    return part("Critic and generator", *content.charts(charts))


def grids(content: Content) -> list[Part]:
    """Return images that a GAN generated from the same latents, at steps across its training."""
    steps = {}
    sizes = {}
    for path in (content.run.path / "samples").glob(GRIDS):
        number = path.stem.removeprefix("step_")
        if number.isdecimal():
            steps[int(number)] = path.name
            sizes[int(number)] = path.lstat().st_size
    if not steps:
        return []
    most = MOST_GRID_BYTES // (max(sizes.values()) or 1)
    shown = evenly(sorted(steps), max(2, min(MOST_GRIDS, most)))
    pictures = [_grid(content, step, steps[step]) for step in shown]
    return part("Images of the same latents by step", Slider("Step of training", pictures))


def _grid(content: Content, step: int, name: str) -> Picture | Note:
    try:
        picture = content.picture(name)
    except InputError as error:
        return Note(f"Step {step}: cannot be shown: {error}", is_warning=True)
    return Picture(picture, f"Generated images, step {step}", f"Step {step}")


def configuration(content: Content) -> list[Part]:
    """Return the options that differ from the defaults, all options, and the environment."""
    blocks: list[Block] = []
    changed = changed_options(content.run, str(content.environment.get("command", "")))
    if changed is not None and changed.values:
        base = f"preset {changed.preset}" if changed.preset else "defaults"
        rows = [(name, *map(_value, values)) for name, values in changed.values.items()]
        blocks.append(Note(f"Options that differ from the {base}:"))
        blocks.append(text_table(["option", "this run", base], rows))
    elif changed is not None:
        base = f"those of the preset {changed.preset}" if changed.preset else "the defaults"
        blocks.append(Note(f"All options are {base}."))
    blocks += _folded("All options", flat(content.run.config))
    blocks += _folded("Environment", flat(content.environment))
    return part("Configuration", *blocks)


def _folded(summary: str, values: Mapping[str, object]) -> list[Block]:
    rows = [(name, brief(value)) for name, value in values.items()]
    return [Folded(f"{summary} ({len(rows)})", [facts(rows)])] if rows else []


def _value(value: object) -> str:
    """Return a value of an option for a cell; a missing one is empty, as an empty text is."""
    if isinstance(value, list):
        return ", ".join(map(brief, value))
    return "" if value is None else brief(value)
