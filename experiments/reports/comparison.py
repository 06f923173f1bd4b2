"""The metrics of groups of runs: mean and spread over the runs of each, and the best of them."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import mean, stdev

from experiments.reports.groups import Groups
from experiments.reports.validations import best_validation
from experiments.reports.values import NO_DATA, spread_text
from experiments.training.metric_names import METRICS, Metric, number_text
from univae.checkpoint import JsonObject
from univae.run_folder import RunFolder

__all__ = ["Compared", "compared", "data_sets", "feature_spaces"]

UNRECORDED = "data that the run has no record of"


@dataclass(frozen=True)
class Compared:
    """A metric of a group of runs."""

    metric: str  # its key
    unit: str
    group: str
    mean: float
    spread: float | None  # standard deviation over the runs; None of a single run
    count: int  # runs that have the metric
    best: bool  # whether the mean is the best of all groups

    def to_json(self) -> JsonObject:
        """Return the fields in their order."""
        return asdict(self)

    @property
    def row(self) -> Metric:
        """The metric in words."""
        return METRICS[self.metric]

    @property
    def text(self) -> str:
        """Mean and spread, such as ``2.385 ± 0.21``."""
        whole = int(self.mean) if self.mean.is_integer() else self.mean
        spread = "" if self.spread is None else f" ± {spread_text(self.spread)}"
        return number_text(whole) + spread


def compared(groups: Groups, within: float = math.inf) -> list[Compared]:
    """Return the metrics that any run has, in the order of the registry, a row a group.

    A run counts with its best validation within ``within`` seconds of training. No mean is marked
    as the best where the groups have other data, or none on record; none of distances where these
    are of several feature spaces, and none per token where tokenizers differ.
    """
    best_of = {
        group: [best_validation(run, within) for run in runs]
        for group, runs in groups.runs_of.items()
    }
    unmarked = _unmarked(groups.runs)
    values = []
    for key, metric in METRICS.items():
        numbers_of = {group: _numbers(rows, key) for group, rows in best_of.items()}
        numbers_of = {group: numbers for group, numbers in numbers_of.items() if numbers}
        means = {group: mean(numbers) for group, numbers in numbers_of.items()}
        best = None
        if len(means) > 1 and metric.best is not None and key not in unmarked:
            best = metric.best(list(means.values()))
        for group, numbers in numbers_of.items():
            spread = stdev(numbers) if len(numbers) > 1 else None
            is_best = best is not None and means[group] == best
            values.append(
                Compared(key, metric.unit, group, means[group], spread, len(numbers), is_best)
            )
    return values


def feature_spaces(runs: Iterable[RunFolder]) -> list[str]:
    """Return the feature spaces of the distances of runs, sorted."""
    names = set()
    for run in runs:
        for row in run.rows("validation"):
            if row.get("feature_space"):
                names.add(str(row["feature_space"]))
    return sorted(names)


def data_sets(runs: Iterable[RunFolder]) -> list[str]:
    """Return the data of runs, each once: the sources of equal fingerprints count as one."""
    by_fingerprint: dict[str, str] = {}
    for run in runs:
        record = run.data_record()
        entries = [entry for role, entry in record.items() if role not in NO_DATA]
        fingerprint = " ".join(str(entry.get("fingerprint")) for entry in entries)
        sources = ", ".join(str(entry.get("source")) for entry in entries)
        by_fingerprint.setdefault(fingerprint, sources or UNRECORDED)
    return list(by_fingerprint.values())


def _unmarked(runs: Sequence[RunFolder]) -> Collection[str]:
    """Return the metrics that cannot be compared between these runs."""
    data = data_sets(runs)
    if len(data) > 1 or UNRECORDED in data or len({str(run.kind) for run in runs}) > 1:
        return METRICS.keys()
    differing = set()
    if len(feature_spaces(runs)) > 1:
        differing.add("feature space")
    if len({str(run.data_record().get("tokenizer")) for run in runs}) > 1:
        differing.add("tokenizer")
    return [key for key, metric in METRICS.items() if metric.within in differing]


def _numbers(rows: Sequence[Mapping[str, object]], key: str) -> list[float]:
    numbers = [row.get(key) for row in rows]
    return [float(x) for x in numbers if isinstance(x, int | float) and math.isfinite(x)]
