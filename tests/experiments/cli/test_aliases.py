"""Options in the spelling of other programs are understood where exact, and pointed to otherwise."""

import importlib
from pathlib import Path

import pytest

from experiments.cli.aliases import ALIASES, HINTS, hint, translate
from experiments.cli.commands import COMMANDS, parse
from experiments.cli.spellings import spellings
from experiments.likelihood import Config as Likelihood
from experiments.train_text import PRESETS
from experiments.train_text import Config as TrainText
from univae.errors import InputError

REQUIRED = ["--text", "texts.txt", "--out", "run"]
EVERY = {
    command: spellings(module.Config, getattr(module, "PRESETS", {}))
    for command, module in (
        (command, importlib.import_module(row[0])) for command, row in COMMANDS.items()
    )
}


def test_every_alias_and_every_hint_is_of_use() -> None:
    known = set().union(*EVERY.values())
    for name, options in ALIASES.items():
        assert set(options) <= known
        assert [names for names in EVERY.values() if name not in names and {*options} & names], name
    for name, row in HINTS.items():
        assert row.needs in known
        assert [names for names in EVERY.values() if name not in names and row.needs in names], name


def test_other_spellings_give_the_same_configuration() -> None:
    own = parse(
        TrainText,
        [*REQUIRED, "--lr", "0.5", "--steps=3", "--threads", "2", "--accumulate", "4"],
    )
    others = ["--dataset", "texts.txt", "--output_dir=run", "--learning_rate", "0.5"]
    translated = parse(
        TrainText,
        [*others, "--max-steps=3", "--num-threads", "2", "--gradient_accumulation_steps", "4"],
    )
    assert own == translated
    assert own.training.lr == 0.5
    assert own.out == Path("run")


def test_a_spelling_stands_for_the_option_that_the_command_has() -> None:
    scored = parse(Likelihood, ["run", "--text", "a.txt", "--num-samples", "5", "--force"])
    assert (scored.data, scored.samples, scored.overwrite) == ("a.txt", 5, True)
    assert translate(["--num-samples", "5"], EVERY["sample"]) == ["--count", "5"]
    assert translate(["--data", "a"], EVERY["train-similar"]) == ["--pairs", "a"]


@pytest.mark.parametrize("command", COMMANDS)
def test_an_option_of_the_command_is_never_another(command: str) -> None:
    own = sorted(name for name in EVERY[command] if name.startswith("--"))
    assert translate(own, EVERY[command]) == own
    assert not [name for name in own if name in HINTS and hint(name, set())]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--epochs", "3"], "there is no option --epochs: give --steps or --minutes; one epoch"),
        (["--batch_size=32"], "there is no option --batch_size: give --batch-tokens"),
        (["--fp16"], "there is no option --fp16: give --precision bf16"),
        (["--gpu", "1"], "there is no option --gpu: give --device cuda"),
    ],
)
def test_options_without_a_counterpart_are_pointed_to(argv: list[str], message: str) -> None:
    with pytest.raises(InputError) as refused:
        parse(TrainText, [*REQUIRED, *argv])
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


def test_advice_names_only_options_that_the_command_has() -> None:
    assert hint("--epochs", EVERY["likelihood"]) == ""
    assert "argument" in hint("--model-path", EVERY["likelihood"])
    assert hint("--model-path", EVERY["train-text"]) == ""


def test_the_kind_of_a_run_is_still_accepted_as_an_option() -> None:
    assert PRESETS
    assert parse(TrainText, [*REQUIRED, "--command", "train-text"]).command == "train-text"
