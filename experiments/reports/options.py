"""The options of a run beside those of its command: the defaults, or a preset."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from experiments.reports.values import flat
from univae.checkpoint import JsonObject, to_json
from univae.entry_points import TRAINERS, points
from univae.run_folder import RunFolder

__all__ = ["Changed", "changed_options"]

PRESET = "--preset"
# Options of one run alone: its folder and what it is called with.
UNCOMPARED = frozenset(["out", "command", "resume"])


@dataclass(frozen=True)
class Changed:
    """The options of a run that differ from a base, with the values of both."""

    preset: str  # empty: the defaults of the command
    values: Mapping[str, tuple[object, object]]  # option -> value of the run, value of the base


def changed_options(run: RunFolder, command_line: str = "") -> Changed | None:
    """Return what differs from the preset that the command line names, or from the closest one.

    The defaults count as a preset; an option without default, such as ``--data``, differs from it.
    None for a run whose command is unknown.
    """
    trainer = points(TRAINERS).get(str(run.kind))
    if trainer is None:
        return None
    command = trainer.load()
    bases = {"": command.defaults}
    for preset, values in command.presets.items():
        bases[preset] = {**command.defaults, **to_json(values)}

    named = _named_preset(command_line)
    if named in bases:
        bases = {named: bases[named]}
    changes = [Changed(preset, _differences(run.config, base)) for preset, base in bases.items()]
    fewest = min(changes, key=lambda changed: len(changed.values))
    spelled = {command.spelled(name): values for name, values in fewest.values.items()}
    return Changed(fewest.preset, spelled)


def _named_preset(command_line: str) -> str | None:
    """Return the preset of a command line, the last one; None without one."""
    try:
        words = shlex.split(command_line)
    except ValueError:  # a quotation is not closed
        return None
    preset = None
    for word, following in zip(words, [*words, ""][1:], strict=True):
        if word == PRESET:
            preset = following
        elif word.startswith(f"{PRESET}="):
            preset = word.removeprefix(f"{PRESET}=")
    return preset


def _differences(
    config: Mapping[str, object], base: JsonObject
) -> dict[str, tuple[object, object]]:
    differing = {}
    for name, value in flat(config).items():
        if name not in UNCOMPARED and value != base.get(name):
            differing[name] = (value, base.get(name))
    return differing
