"""The help of every command: one line for every option, the common ones first, printed at once."""

import importlib
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from experiments.cli import commands as cli
from experiments.cli.commands import COMMANDS
from experiments.cli.help_pages import SHORT, Page, page_path, render, stored_page
from experiments.cli.help_sources import help_text, page_of
from experiments.cli.jobs import JOBS
from experiments.cli.spellings import is_hidden
from experiments.cli.write_help import content_of
from experiments.cli.write_help import main as write_help
from experiments.training.configuration import options_of

ROOT = Path(__file__).parents[3]
SHORTEST = 8  # characters: "text", say, explains nothing
FRAGMENTS = ("of ", "the same", "that ", "what ")  # beginnings that lack the thing they describe
STALE = "the help of {} has changed; run python -m experiments.cli.write_help"
SECONDS = 0.7  # of processor time of a --help


def page(command: str) -> Page:
    stored = stored_page(command)
    assert stored is not None
    return stored


def printed(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        cli.main(argv)
    assert stopped.value.code == 0
    said = capsys.readouterr()
    assert said.err == ""
    return said.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_a_help_text(command: str) -> None:
    config_type = importlib.import_module(COMMANDS[command][0]).Config
    helps = {name: help_text(option) for name, option in options_of(config_type).items()}
    assert helps
    unhelpful = {name: text for name, text in helps.items() if len(text) < SHORTEST}
    fragments = {name: text for name, text in helps.items() if text.startswith(FRAGMENTS)}
    assert not unhelpful
    assert not fragments


@pytest.mark.parametrize("command", COMMANDS)
def test_the_stored_help_is_that_of_the_configuration(command: str) -> None:
    stored = json.loads(page_path(command).read_text(encoding="utf-8"))
    assert stored == json.loads(json.dumps(content_of(command))), STALE.format(command)
    module = importlib.import_module(COMMANDS[command][0])
    assert page(command) == page_of(module.Config, getattr(module, "PRESETS", {}))


def test_every_stored_help_belongs_to_a_command_and_is_written_by_the_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {path.stem for path in page_path("any").parent.glob("*.json")} == COMMANDS.keys()
    monkeypatch.setattr("experiments.cli.write_help.COMMANDS", {"audit": COMMANDS["audit"]})
    write_help(tmp_path)
    assert (tmp_path / "audit.json").read_bytes() == page_path("audit").read_bytes()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_all_shows_every_option_with_its_text_and_default(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = printed(capsys, command, "--help-all")
    config_type = importlib.import_module(COMMANDS[command][0]).Config
    words = " ".join(text.split())
    shown = {option.name: option for option in page(command).options}
    for name, option in options_of(config_type).items():
        if is_hidden(option):
            assert name not in shown
            assert f"--{name}" not in text
            continue
        assert help_text(option) in words, name
    for option in shown.values():
        assert option.usage in words
        assert (f"(default: {option.default})" in words) != option.required


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_required_and_common_options_and_counts_the_others(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(capsys, command, "--help")
    options = page(command).options
    common = page(command).common
    assert printed(capsys, "help", command) == text
    assert {option.name for option in options if option.required} <= {o.name for o in common}
    assert len(common) in (SHORT, len(options))
    for option in options:
        assert (f"\n  {option.usage}" in text) == (option in common)
    counted = re.findall(r"--help-all shows (\d+) more options", text)
    rest = len(options) - len(common)
    assert counted == ([str(rest)] if rest else [])


def test_help_has_the_options_that_people_look_for() -> None:
    text = render(page("train-text"), "univae train-text")
    names = ["--text", "--out", "--preset", "--steps", "--minutes", "--batch-tokens", "--lr"]
    for name in [*names, "--seed", "--resume"]:
        assert f"\n  {name}" in text
    everything = render(page("train-text"), "univae train-text", ["--help-all"])
    assert "time budget in minutes" in everything
    assert "micro-steps per update" in everything
    assert "\ntraining: The length of training, the optimizer" in everything
    assert "--width 128, --heads 4" in " ".join(everything.split())


@pytest.mark.parametrize("columns", [20, 80, 300])
def test_help_fits_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = render(page("train-gan"), "univae train-gan", ["--help-all"]).splitlines()
    prose = [line for line in lines if not line.startswith("  --")]
    assert max(map(len, prose)) <= min(max(columns, 60), 100)


def test_commands_say_how_several_processes_share_their_work() -> None:
    trainers = [command for command in COMMANDS if command.startswith("train-")]
    assert trainers
    several = [*trainers, "calibrate", "likelihood"]
    for command in COMMANDS:
        note = f"torchrun --no-python --nproc-per-node 2 univae {command}"
        assert (note in cli.note_of(command)) == (command in several)


def test_options_of_one_name_are_worded_the_same() -> None:
    texts: dict[str, set[str]] = {}
    for command in COMMANDS:
        for option in page(command).options:
            texts.setdefault(option.name, set()).add(option.help)
    assert len(texts["device"]) == 1
    assert len(texts["threads"]) == 1
    assert all(text.startswith("replace ") for text in texts["overwrite"])
    seeds = texts["seed"]
    assert all(text.startswith("seed of the ") for text in seeds)


def test_help_of_a_command_imports_neither_the_command_nor_pytorch() -> None:
    heavy = {"torch", "numpy", "tyro", "experiments.train_gan", "univae.errors"}
    code = (
        f"import sys, atexit; atexit.register(lambda: print(*({heavy!r} & sys.modules.keys()), "
        "file=sys.stderr)); from experiments.cli.commands import main; main(['train-gan', '-h'])"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env={**os.environ}
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (done.returncode, done.stderr) == (0, "\n")
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < SECONDS


def test_every_command_has_one_job(capsys: pytest.CaptureFixture[str]) -> None:
    listed = [command for job in JOBS for command in job.commands]
    assert sorted(listed) == sorted(COMMANDS)
    text = printed(capsys, "--help")
    for job in JOBS:
        assert f"\n{job.title}:\n" in text
        assert f"$ {job.example}\n" in text
        words: list[Any] = job.example.split()
        assert words[1] in job.commands
        known = {f"--{option.name.replace('_', '-')}" for option in page(words[1]).options}
        assert {word for word in words if word.startswith("--")} <= known


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("train", ["train-text", "train-density", "train-gan", "train-similar"]),
        ("text", ["train-text"]),
        ("gan", ["train-gan", "evaluate-gan"]),
        ("images", ["train-density", "train-gan"]),
    ],
)
def test_a_word_is_answered_with_the_commands_that_it_may_mean(
    word: str, meant: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([word])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    choices = ", ".join(f"{command} ({COMMANDS[command][1]})" for command in meant)
    assert said == f"univae: there is no command {word}; it may be {choices}; see univae --help\n"
