"""``--from``: training that starts from the best weights of another run, at step 0.

The optimizer is new. What gives the weights their meaning is that of the other run: the options of
the model, which the new run inherits, and the tokenizer or the units of the data, which each
command takes from there. ``data.json`` holds the fingerprint of the weights under ``from``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from experiments.data.sources import resolved
from experiments.training.comparison import ORIGIN, differences
from experiments.training.configuration import Configuration, Inherited, from_json, options_of
from univae.checkpoint import JsonObject, existing_folder, read_json, to_json
from univae.errors import InputError
from univae.rules import broken
from univae.run_folder import LAST, RunFolder

__all__ = [
    "DIGEST_BYTES",
    "Origin",
    "fingerprint_file",
    "has_weights",
    "inherit",
    "inherited_options",
    "origin_record",
    "require_inherited",
    "require_model_of",
    "units_of",
    "weights_record",
]

Config = TypeVar("Config", bound=Configuration)

WEIGHTS = "model.safetensors"

HASH_BLOCK = 2**20  # bytes that are hashed at once
DIGEST_BYTES = 16


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The run whose weights training starts from."""

    # run folder of the same command: start from its best weights, with its model and its tokenizer
    # or units of the data
    from_run: Annotated[Path | None, tyro.conf.arg(name="from")] = None

    def __post_init__(self) -> None:
        if self.from_run is not None:  # config.json holds a string
            object.__setattr__(self, "from_run", Path(self.from_run))


def inherit(config: Config, inherited: Inherited) -> Config:
    """Return a configuration with an absolute ``from_run`` and the options inherited from there.

    An option that has its default takes the value of the run. A resumed run that has weights of its
    own may outlive the one that it started from: ``config.json`` holds what it inherited.

    Raises:
        InputError: the run of ``--from`` is missing, of another kind or nested with ``--out``; or
            one of ``inherited.fixed`` has a value that is neither the run's nor the default.
    """
    values = config.flat()
    source = values["from_run"]
    if source is None:
        return config
    config = config.change(from_run=Path(resolved(str(source))))
    if has_weights(values["out"], resumed=values["resume"]) and not source.exists():
        return config
    stored = inherited_options(type(config), _open(source, values), inherited)
    options = options_of(type(config))
    initial = {name: stored[name] for name in stored if values[name] == options[name].default}
    config = config.change(**initial)
    require_inherited(config, stored, inherited)
    return config


def inherited_options(
    config_type: type[Configuration], run: RunFolder, inherited: Inherited
) -> JsonObject:
    """Return the values of inherited options in ``config.json`` of a run; none of another kind.

    Options that are newer than the run have their defaults.

    Raises:
        InputError: a value is of another type than its option, or breaks the option's rule.
    """
    options = options_of(config_type)
    values: JsonObject = {}
    if run.kind != options["command"].default:
        return values
    for name in (*inherited.fixed, *inherited.defaults):
        option = options[name]
        value = run.config.get(name, option.default)
        words = broken(option.owner, name, value)
        if words:
            file = run.path / "config.json"
            raise InputError(f"{file}: {name} must be {words}; the run folder is damaged")
        values[name] = from_json(value, option.hint)
    return values


def require_inherited(
    config: Configuration, stored: Mapping[str, object], inherited: Inherited
) -> None:
    """Raise InputError for an option of ``inherited.fixed`` that differs from the stored one."""
    values = config.flat()
    source = f"--from {values['from_run']}"
    for name in inherited.fixed:
        if name in stored and values[name] != stored[name]:
            raise InputError(
                f"{name}={to_json(values[name])}: {source} has {name}={to_json(stored[name])}; "
                "leave it out"
            )


def require_model_of(source: Path, model: Mapping[str, object]) -> None:
    """Compare the configuration of a model, which depends on the data, with that of ``--from``.

    Raises:
        InputError: they differ; the message has the first difference.
    """
    changes = differences(read_json(RunFolder.open(source).path / "model.json"), to_json(model))
    if changes:
        raise InputError(
            f"--from {source} has another model than these data and options give: {changes[0]}; "
            "give data and options like those of its training"
        )


def units_of(source: Path | None, *, resumed: bool) -> RunFolder | None:
    """Return the run whose data record has the units of the data: that of ``--from``, if any.

    A resumed run has the units in a record of its own.
    """
    if source is None or resumed:
        return None
    return RunFolder.open(source)


def origin_record(source: Path | None, out: Path, *, resumed: bool) -> dict[str, JsonObject]:
    """Return the entry of ``data.json`` with the fingerprint of the initial weights, if any.

    Once a run has weights of its own, it keeps its entry, for these are no longer read.
    """
    if source is None:
        return {}
    return weights_record(
        str(source),
        out,
        lambda: fingerprint_file(RunFolder.open(source).checkpoint() / WEIGHTS),
        resumed=resumed,
    )


def weights_record(
    source: str, out: Path, fingerprint: Callable[[], str], *, resumed: bool
) -> dict[str, JsonObject]:
    """Return the entry of :func:`origin_record` for weights with a fingerprint."""
    if has_weights(out, resumed=resumed):
        stored = RunFolder.open(out).data_record()
        return {ORIGIN: stored[ORIGIN]} if ORIGIN in stored else {}
    return {ORIGIN: {"source": source, "fingerprint": fingerprint(), "count": 1}}


def has_weights(out: Path, *, resumed: bool) -> bool:
    """Return whether a resumed run has weights in its folder, so that it needs no initial ones."""
    return resumed and existing_folder(out / "checkpoints" / LAST) is not None


def fingerprint_file(path: Path) -> str:
    """Return a fingerprint of a file's bytes."""
    digest = blake2b(digest_size=DIGEST_BYTES)
    with path.open("rb") as file:
        while chunk := file.read(HASH_BLOCK):
            digest.update(chunk)
    return digest.hexdigest()


def _open(source: Path, values: Mapping[str, Any]) -> RunFolder:
    """Open the run of ``--from`` for a command, and check that it can be started from."""
    option = f"--from {source}"
    out = Path(values["out"]).resolve()
    folder = source.resolve()
    if folder == out or folder in out.parents or out in folder.parents:
        raise InputError(f"{option}: --out must lie outside of it; give another --out")
    run = RunFolder.open(source)
    command = values["command"]
    if run.kind != command:
        raise InputError(
            f"{option} is a run of {run.kind}; {command} starts from one of its own; give the "
            f"--out of {command}"
        )
    run.checkpoint()  # raises where it has no weights
    return run
