"""``univae evaluate-gan``: metrics of a GAN in a feature space, with a floor and known faults."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
import tyro

from experiments import train_gan
from experiments.cli.commands import run
from experiments.cli.options import stored
from experiments.data.image_files import ImageFiles
from experiments.data.notes import print_notes, with_notes
from experiments.data.readers import read
from experiments.data.sources import names_code
from experiments.evaluation.open_run import open_run
from experiments.gans import fid, validation
from experiments.gans.evaluation import Reference, table
from experiments.gans.features import AUTO
from experiments.gans.inception import (
    INCEPTION,
    Extractor,
    open_extractor,
    require_rgb,
    rgb_images,
)
from experiments.gans.ladder import FLOOR, ladder
from experiments.gans.samples import batches
from experiments.gans.training_data import TrainingRows, other_rows
from experiments.gans.units import units_of
from experiments.images.run import as_training_set
from experiments.reports.page import update
from experiments.training.settings import SEED
from experiments.training.task import reseed
from gan.trained import TrainedGan
from univae.checkpoint import JsonObject, write_json
from univae.errors import InputError
from univae.rules import Rule, at_least, check

__all__ = ["Config", "count_rule", "main"]

AVERAGE = "moving average"
RAW = "raw weights"
COUNT = 5000  # generated rows
FEWEST = 10  # of --count


def count_rule(count: int) -> str:
    """Return the rule of ``--count``."""
    return at_least(FEWEST, 10**8, f"0 (the default), or at least {FEWEST}")(count) if count else ""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Measures a trained GAN: its moving average and its raw weights."""

    run: tyro.conf.Positional[Path]  # the run folder
    data: str = ""  # other real data to compare with, test data say; empty: the training data
    # number of generated data, at most half of the real ones, whose other half is the reference; 0:
    # 5000, and 50,000 for --features inception, whose reference is all of the real ones
    count: int = 0
    # feature space, see train-gan --features; empty: that of the run; inception: FID and KID as
    # published, which needs univae[fid]
    features: str = ""
    # for --features inception: file of its weights; without one they are downloaded
    inception_weights: Path | None = None
    # for --features inception: .npz with mu and sigma of real images, in place of the training data
    reference_statistics: Path | None = None
    checkpoint: str = "best"  # best (weights of the best validation) or last
    seed: int = 0  # seed of the generated data
    device: str = "auto"  # auto (the GPU if there is one), cpu, cuda, cuda:1, ...

    RULES: ClassVar[Mapping[str, Rule]] = {
        "count": count_rule,
        "seed": SEED,
    }

    def __post_init__(self) -> None:
        check(self)
        for name in ("inception_weights", "reference_statistics"):
            if getattr(self, name) is not None and self.features != INCEPTION:
                raise InputError(
                    f"{name} is for --features {INCEPTION}; got --features {self.features or AUTO}"
                )
        if self.reference_statistics is not None and self.data:
            raise InputError("give --data or --reference-statistics as the reference, not both")


@torch.no_grad()
def main(config: Config) -> JsonObject:
    """Return the metrics of the moving average, or of the raw weights where there is none.

    They come with the floor, the metrics of other real data, and with those of real data with known
    faults: blur, noise, a dropped class, 50 data repeated. The report has a table of all. Of the
    features ``inception`` there are the metrics of :mod:`experiments.gans.fid` alone.
    """
    run = open_run(TrainedGan, config.run, config.device, config.checkpoint, "evaluate-gan")
    if config.features == INCEPTION:
        return _published_metrics(config, run)
    settings = _settings(config, run)
    rows = _rows(config, settings, run)
    print_notes(rows.data.notes)
    reference = validation.reference(
        settings.data, settings.training, config.run, rows, config.count or COUNT
    )
    measured = {}
    if run.has_average:
        measured[AVERAGE] = _measure(run, reference, config.seed)
    measured[RAW] = _measure(run.raw(), reference, config.seed)
    rungs = ladder(reference)

    report, problems = _report(run, reference, {**measured, **rungs})
    result = {"run": str(config.run), "step": run.step, "count": reference.count}
    result |= _metrics(reference, measured, rungs)
    result |= {"report": report}
    notes = [*rows.data.notes, *run.notes, *problems]
    if config.data:
        result |= {"data": config.data}
        notes.append(f"memorisation_ratio and copies are of {config.data}, not of the training set")
    return with_notes(result, notes)


def _published_metrics(config: Config, run: TrainedGan) -> JsonObject:
    """Return FID and KID of the images that ``univae sample`` draws."""
    units = units_of(run)
    require_rgb(units, config.run)
    extractor = open_extractor(config.inception_weights, run.device)
    real, notes = _real_features(config, run, extractor)
    count = config.count or fid.COUNT
    reseed(config.seed, "evaluate")
    images = (rgb_images(x, units) for x in batches(run, count))
    generated = extractor.features(images, count, "features of generated images")
    measured = fid.distances(generated, real, extractor)
    notes += measured.pop("notes")

    content = fid.report_item(measured, f"{count} generated images against {real.source}.", notes)
    report, problems = _add_to_report(run, "inception", content)
    result = {
        "run": str(config.run),
        "step": run.step,
        "count": count,
        "feature_space": extractor.name,
        **measured,
        "reference": real.source,
        "average": run.has_average,
        "report": report,
    }
    print_notes(notes)
    return with_notes(result, [*run.notes, *notes, *problems])


def _real_features(
    config: Config, run: TrainedGan, extractor: Extractor
) -> tuple[fid.RealFeatures, list[str]]:
    """Return the reference of ``--reference-statistics``, of ``--data`` or of the training data.

    The notes are those of the data. Held-out images count: published references are whole sets.
    """
    if config.reference_statistics is not None:
        return fid.read_statistics(config.reference_statistics), []
    data = _rows(config, _settings(config, run), run).data
    real = fid.RealFeatures.of(data, extractor, is_training_set=not config.data)
    return real, [*data.notes]


def _rows(config: Config, settings: train_gan.Config, run: TrainedGan) -> TrainingRows:
    """Return the training data of the run, or those of ``--data`` in its units."""
    if not config.data:
        return settings.rows(run.folder)
    whose = f"the training set of {run.path}"
    other = read(config.data, ImageFiles.of_run(run.folder))
    data = as_training_set(other, units_of(run), f"--data {config.data}", whose)
    return other_rows(data, settings.data, settings.training.seed, run.folder)


def _report(
    run: TrainedGan, reference: Reference, measured: Mapping[str, JsonObject]
) -> tuple[str | None, list[str]]:
    """Add the table of metrics to the run's report.

    Returns:
        the path of the report, and notes; see :func:`experiments.reports.page.update`.
    """
    columns, cells = table(measured, reference.space.name)
    content = {
        "kind": "texts",
        "title": "Metrics, floor and known faults",
        "note": _note(reference),
        "columns": columns,
        "rows": cells,
    }

    return _add_to_report(run, "metrics", content)


def _add_to_report(run: TrainedGan, name: str, content: JsonObject) -> tuple[str | None, list[str]]:
    """Write an item of the run's report; see :func:`experiments.reports.page.update`."""

    def write_item() -> None:
        write_json(run.folder.subfolder("samples") / f"{name}.json", content)

    report, problems = update(run.path, write_item)
    print_notes(problems)
    return report, problems


def _measure(run: TrainedGan, reference: Reference, seed: int) -> JsonObject:
    """Return the metrics of the data that a GAN generates from a seed."""
    reseed(seed, "evaluate")
    metrics = reference.measure(run.draw(reference.count))
    if reference.rows_for_modes:
        metrics |= reference.modes(batches(run, reference.rows_for_modes))
    return metrics


def _metrics(
    reference: Reference,
    measured: Mapping[str, JsonObject],
    rungs: Mapping[str, JsonObject],
) -> JsonObject:
    """Return the metrics for the result: those of the average first, if there is one.

    Where the feature space is in doubt, distances are under its name alone.
    """
    space = reference.space
    first = next(iter(measured.values()))
    ladder_rows = {name: space.headlines(row) for name, row in rungs.items()}
    return {
        "feature_space": space.name,
        **space.headlines(first),
        **space.note(),
        f"frechet[{space.name}]": first["frechet_distance"],
        f"kernel[{space.name}]": first["kernel_distance"],
        "floor": ladder_rows[FLOOR],
        "raw": space.headlines(measured[RAW]),
        "ladder": ladder_rows,
    }


def _note(reference: Reference) -> str:
    """Return the note below the table in the report."""
    space = reference.space
    note = (
        f"{reference.count} generated data against {reference.count} real ones; distances in the "
        f"feature space {space.name}, standardised. "
        "The floor is the score of real data against other real data."
    )
    if space.accuracy is not None:
        share = 100 * space.accuracy
        note += f" Its classifier is right on {share:.1f} % of the held-out data."
    if space.doubt:
        note += f" Do not report these distances: {space.doubt}."
    if reference.rows_for_modes:
        count = reference.rows_for_modes
        note += f" Modes are counted among {count} data by its classes of the channels."
    return note


def _settings(config: Config, run: TrainedGan) -> train_gan.Config:
    """Return the run's configuration with the feature space to measure in.

    Raises:
        InputError: the run names a feature space that is code, and this call does not.
    """
    space = config.features or run.config.get("features", "auto")
    if config.data and space == AUTO and (run.path / "features").is_dir():
        space = str(run.path / "features")  # the classifier of the training set's labels
    if not config.features and names_code(space):
        raise InputError(
            f"{config.run}: its feature space {space} is code, which a run folder must not start; "
            f"give --features {space} to run it"
        )
    return stored(train_gan.Config, run.folder, out=config.run, resume=False, features=space)


if __name__ == "__main__":
    run(Config, main)
