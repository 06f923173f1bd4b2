"""Every option of every command has a help text that says what it does."""

import importlib
from typing import get_args

import pytest
from typing_extensions import Doc
from tyro._docstrings import get_field_docstring

from experiments.cli.commands import COMMANDS
from experiments.training.configuration import Option, options_of

SHORTEST = 8  # characters: "text", say, explains nothing
FRAGMENTS = ("of ", "the same", "that ", "what ")  # beginnings that lack the thing they describe


def help_of(option: Option) -> str:
    """Return the help that tyro shows: the annotated one, or the comment beside the field."""
    texts = [mark.documentation for mark in get_args(option.hint)[1:] if isinstance(mark, Doc)]
    return texts[0] if texts else get_field_docstring(option.owner, option.name, ()) or ""


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_a_help_text(command: str) -> None:
    config_type = importlib.import_module(COMMANDS[command][0]).Config
    helps = {name: help_of(option) for name, option in options_of(config_type).items()}
    assert helps
    unhelpful = {name: text for name, text in helps.items() if len(text) < SHORTEST}
    fragments = {name: text for name, text in helps.items() if text.startswith(FRAGMENTS)}
    assert not unhelpful
    assert not fragments


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_the_text_of_every_option(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    module = importlib.import_module(COMMANDS[command][0])
    from experiments.cli.commands import parse

    with pytest.raises(SystemExit) as stopped:
        parse(module.Config, ["--help"], command)
    assert stopped.value.code == 0
    letters = "".join(filter(str.isalnum, capsys.readouterr().out))
    for name, option in options_of(module.Config).items():
        beginning = "".join(filter(str.isalnum, help_of(option)))[:20]
        assert beginning in letters, name
