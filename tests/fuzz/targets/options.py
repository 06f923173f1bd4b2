"""Options: a value of one option at a time, of every command, read and checked."""

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.cli.commands import COMMANDS
from experiments.cli.options import parse
from experiments.training.configuration import options_of
from tests.fuzz.target import Target

# Arguments that a command needs; the others need none.
NEEDED: Mapping[str, Sequence[str]] = {
    "train-text": ("--out", "out", "--text", "texts.txt"),
    "train-density": ("--out", "out", "--data", "digits"),
    "train-gan": ("--out", "out", "--data", "digits"),
    "train-similar": ("--out", "out", "--pairs", "pairs.jsonl"),
}
PLAIN = (bool, int, float, str)
CONFIGS: Mapping[str, Any] = {
    command: importlib.import_module(COMMANDS[command][0]) for command in NEEDED
}


def make(folder: Path) -> Sequence[Path]:
    """Write ``COMMAND.OPTION.json`` with the option's default."""
    paths = []
    for command, module in CONFIGS.items():
        for name, option in options_of(module.Config).items():
            if isinstance(option.default, PLAIN) and name not in ("out", "resume"):
                path = folder / f"{command}.{name}.json"
                path.write_text(json.dumps({name: option.default}))
                paths.append(path)
    return paths


def read(path: Path) -> None:
    """Read the options of a file; one that is no object of options is no input."""
    command = path.name.partition(".")[0]
    try:
        values = json.loads(path.read_bytes().decode("utf-8", errors="surrogateescape"))
    except (ValueError, RecursionError):
        return
    words = list(NEEDED[command])
    for name, value in values.items() if isinstance(values, dict) else ():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words.append(f"--{flag}={json.dumps(value) if value is None else value}")
    parse(CONFIGS[command].Config, words, {}, command)


TARGETS: list[Target] = [Target("options", make, read)]
