"""Numbers out of any range are refused by the rule of every numeric option of every command."""

import importlib
import math
from typing import get_args, get_type_hints

import pytest

from experiments.cli.commands import COMMANDS
from experiments.training.configuration import Option, options_of
from univae.rules import broken

NUMBERS = (int, float)


def _numeric_options() -> dict[str, Option]:
    """Return the options of numbers by the dataclass that declares them and their name."""
    found = {}
    for module, _ in COMMANDS.values():
        for name, option in options_of(importlib.import_module(module).Config).items():
            hint = get_type_hints(option.owner)[name]
            if {hint, *get_args(hint)} & set(NUMBERS):
                found[f"{option.owner.__module__}.{option.owner.__name__}.{name}"] = option
    return found


OPTIONS = _numeric_options()


def test_every_command_has_options_of_numbers() -> None:
    assert len(OPTIONS) > 100


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_no_option_takes_what_no_computation_reaches(name: str) -> None:
    option = OPTIONS[name]
    for value in (math.nan, math.inf, -math.inf, 1e300, -1e300, 10**400, -(10**400), 10**31):
        assert broken(option.owner, option.name, value), f"{name} takes {value}"


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_what_is_no_number_is_none(name: str) -> None:
    option = OPTIONS[name]
    for value in (True, {}, ["1"]):
        assert broken(option.owner, option.name, value), f"{name} takes {value!r}"
