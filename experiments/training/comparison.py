"""What a resumed run must share with the run as it was started: options, data and model.

Nothing is written here, so that a refusal leaves the run folder as it was.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict

from experiments.data.image_options import ImageReading
from experiments.training.length import LENGTH, is_longer
from experiments.training.threads import started_threads
from univae.attention.variant import PLAIN
from univae.checkpoint import read_json, to_json
from univae.errors import InputError
from univae.run_folder import RunFolder

__all__ = [
    "ORIGIN",
    "UNCOMPARED",
    "differences",
    "require_same_data",
    "require_same_model",
    "require_same_options",
    "require_same_reading",
]

# Options that a resumed run may change: a folder may have moved, and the interval of checkpoints
# leaves the result unchanged. The number of threads is no such option: sums are split among
# threads, and another split rounds differently. A cache of decoded images may have moved too. A
# checkpoint can be read by processes that divide the weights, and by others. Activations that are
# computed again are the same, and compiled steps round differently only.
UNCOMPARED = (
    "out",
    "resume",
    "checkpoint_every",
    "cache",
    "shard",
    "recompute",
    "compile",
    "track",
)

# Options that are newer than runs that can be resumed, and their values in those runs.
NEWER: Mapping[str, object] = {
    "calibration": 0.0,
    "fit": "posterior",
    "columns": [],
    "drop": [],
    "categorical": [],
    "count": [],
    "numeric": [],
    "column": "",
    **asdict(ImageReading()),
    "from_run": None,
    "init_from": None,
    "kl_weight": 1.0,
    "time_limit": 0.0,
    "softmax": "full",
    "contrasts": [],
    "token_start": "random",
    "distil_target": "cosines",
    **asdict(PLAIN),
}

# Options with a value that leaves the decision to the data, or to the machine. A run that was
# started with another value has decided; its model is compared, its number of threads kept.
UNDECIDED: Mapping[str, object] = {"network": "auto", "threads": 0}

ORIGIN = "from"  # entry of ``data.json``: the weights that training started from

# Options that name data. They are not compared where ``data.json`` holds the fingerprints: files
# may move.
SOURCES = (
    "data",
    "text",
    "pairs",
    "contrasts",
    "validation",
    "teacher",
    "column",
    "columns",
    "init_from",
)


def require_same_options(run: RunFolder, config: Mapping[str, object]) -> None:
    """Compare a configuration with the one in ``config.json`` of a run, whose length may grow.

    Raises:
        InputError: an option that matters for the result differs; the message lists all of them.
            Or the configuration asks for less training than the run was started with.
    """
    uncompared = UNCOMPARED + LENGTH + (SOURCES if run.data_record() else ())
    stored = {**{name: NEWER[name] for name in NEWER if name in config}, **run.config}
    if stored.get("threads") == 0:  # the machine has decided
        stored["threads"] = started_threads(run.path)
    undecided = {name for name, value in UNDECIDED.items() if config.get(name) == value}
    changes = differences(stored, config, (*uncompared, *undecided))
    if changes:
        raise InputError(
            f"{run.path} was started with another configuration: {', '.join(changes)}; "
            "leave these options as they were, or start a new run with another --out"
        )
    is_longer(run, config)  # raises where it is shorter


def require_same_data(run: RunFolder, record: Mapping[str, Mapping[str, object]]) -> None:
    """Compare a record of data with the fingerprints in ``data.json`` of a run.

    A run of version 0.1.0 has no ``data.json`` and is not checked. Nor are the weights that a run
    started from, where ``record`` is one of data alone.

    Raises:
        InputError: a fingerprint differs, or a role is in one of the records only.
    """
    stored = run.data_record()
    if not stored:
        return
    for role in dict.fromkeys((*stored, *record)):
        if role == ORIGIN and role not in record:
            continue
        old = stored.get(role, {})
        new = to_json(record.get(role, {}))
        if old.get("fingerprint") == new.get("fingerprint"):
            continue
        change = (
            f"{role} {old.get('source')}: {old.get('count', 0)} then, {new.get('count', 0)} now"
        )
        raise InputError(
            f"{run.path} was started with other data, which have changed since ({change}); "
            "restore them, or start a new run with another --out"
        )


def require_same_reading(run: RunFolder, reading: ImageReading) -> None:
    """Compare the options of image files with those in ``config.json`` of a run.

    It is called before the data are read, which other options would change.

    Raises:
        InputError: an option differs; the message lists all of them.
    """
    require_same_options(run, {**run.config, **asdict(reading)})


def require_same_model(run: RunFolder, model: Mapping[str, object]) -> None:
    """Compare a configuration of a model with ``model.json`` of a run, if there is one.

    Raises:
        InputError: the configurations differ; the message lists the differences.
    """
    path = run.path / "model.json"
    if not path.exists():
        return
    changes = differences(read_json(path), to_json(model))
    if changes:
        raise InputError(
            f"{run.path} holds another model: {', '.join(changes)}; restore the data and the "
            "options it was started with, or start a new run with another --out"
        )


def differences(
    old: Mapping[str, object],
    new: Mapping[str, object],
    uncompared: Collection[str] = (),
    prefix: str = "",
) -> list[str]:
    """Return the values that differ, as ``name: old -> new``; nested names are dotted."""
    changes = []
    for key in dict.fromkeys((*old, *new)):
        before = old.get(key)
        after = new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            changes += differences(before, after, uncompared, f"{prefix}{key}.")
        elif before != after and prefix + key not in uncompared:
            changes.append(f"{prefix}{key}: {_as_json(before)} -> {_as_json(after)}")
    return changes


def _as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
