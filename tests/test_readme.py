"""The README's examples run, and what it says of commands is so."""

import re
from pathlib import Path

import pytest
import torch

from experiments.cli.commands import COMMANDS

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_runs(example: str, capsys: pytest.CaptureFixture[str]) -> None:
    torch.set_default_dtype(torch.float32)
    scope: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), scope)
    assert capsys.readouterr().out.strip()


def test_there_is_an_example_and_every_command_it_names_exists() -> None:
    assert EXAMPLES
    named = set(re.findall(r"^univae ([a-z-]+)", README, re.MULTILINE))
    assert named
    assert named <= COMMANDS.keys()


def test_no_line_is_left_to_be_filled_in() -> None:
    assert not re.search(r"^[A-Z]+$", README, re.MULTILINE)
