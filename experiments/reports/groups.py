"""Runs in groups whose configurations differ in the seed alone, named by what sets them apart."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from experiments.reports.options import changed_options
from experiments.reports.values import brief, flat
from experiments.training.comparison import UNCOMPARED
from experiments.training.environment import stored_environment
from univae.checkpoint import JsonObject
from univae.run_folder import RunFolder

__all__ = ["Groups", "group_runs", "settings"]

SEED = "seed"
MOST_NAMED = 3  # options in the name of a group
ALL = "all runs"  # the name of the only group
BETWEEN = " · "


@dataclass(frozen=True)
class Groups:
    """Runs by the name of their group, and the options that differ between groups."""

    runs_of: Mapping[str, Sequence[RunFolder]]
    options: Mapping[str, Mapping[str, object]]  # option -> group -> value; None where it is unset

    @property
    def runs(self) -> list[RunFolder]:
        """All runs."""
        return [run for members in self.runs_of.values() for run in members]


def group_runs(runs: Iterable[RunFolder]) -> Groups:
    """Return runs by group, in the order of their first runs.

    A group is named by its options that differ between groups, such as ``lr 0.001``. Where these
    are more than three, options that a preset sets count as one; where they are still more, it has
    the name of its first run's folder.
    """
    members_of: dict[str, list[RunFolder]] = {}
    for run in runs:
        key = json.dumps(settings(run), sort_keys=True)
        members_of.setdefault(key, []).append(run)
    members = list(members_of.values())
    firsts = [group[0] for group in members]
    names = _distinct(_names(firsts))
    differing = _differing([settings(run) for run in firsts])
    options = {
        option: {name: settings(run).get(option) for name, run in zip(names, firsts, strict=True)}
        for option in differing
    }
    return Groups(dict(zip(names, members, strict=True)), options)


def settings(run: RunFolder) -> JsonObject:
    """Return the configuration of a run without seed and folder."""
    uncompared = (SEED, *UNCOMPARED)
    return {name: value for name, value in flat(run.config).items() if name not in uncompared}


def _names(runs: Sequence[RunFolder]) -> list[str]:
    """Return a name for each run, the first of its group."""
    if len(runs) == 1:
        return [ALL]
    for described in (list(map(settings, runs)), _with_presets(runs)):
        options = _differing(described)
        if len(options) <= MOST_NAMED:
            return [_name(values, options) for values in described]
    return [run.path.resolve().name for run in runs]


def _with_presets(runs: Sequence[RunFolder]) -> list[JsonObject]:
    """Return the preset of each run, and its options that differ from the preset of any run."""
    named: dict[str, None] = {}
    presets = []
    for run in runs:
        command_line = str(stored_environment(run.path).get("command", ""))
        changed = changed_options(run, command_line)
        presets.append("none" if changed is None else changed.preset or "none")
        if changed is None:
            named |= dict.fromkeys(settings(run))
        else:
            named |= dict.fromkeys(name.lstrip("-").replace("-", "_") for name in changed.values)
    described = []
    for run, preset in zip(runs, presets, strict=True):
        values = settings(run)
        described.append({"preset": preset, **{name: values.get(name) for name in named}})
    return described


def _name(values: Mapping[str, object], options: Sequence[str]) -> str:
    """Return the options that are set, or all of them where none is."""
    is_set = [option for option in options if values.get(option) not in (None, "")]
    return BETWEEN.join(_setting(option, values.get(option)) for option in is_set or options)


def _setting(option: str, value: object) -> str:
    """Return an option with its value.

    >>> _setting("lr", 0.001), _setting("flip", False), _setting("validation", "")
    ('lr 0.001', 'no flip', 'validation unset')
    """
    words = option.replace("_", " ")
    if isinstance(value, bool):
        return words if value else f"no {words}"
    return f"{words} {'unset' if value in (None, '') else brief(value)}"


def _distinct(names: Sequence[str]) -> list[str]:
    """Return names that all differ: equal ones are numbered."""
    distinct: list[str] = []
    for name in names:
        number = 2
        other = name
        while other in distinct:
            other = f"{name} ({number})"
            number += 1
        distinct.append(other)
    return distinct


def _differing(options: Sequence[Mapping[str, object]]) -> list[str]:
    """Return the names of the options with more than one value."""
    names = dict.fromkeys(name for values in options for name in values)
    return [name for name in names if len({brief(values.get(name)) for values in options}) > 1]
