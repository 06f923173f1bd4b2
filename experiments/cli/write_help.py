"""Write the stored help of every command; see :mod:`experiments.cli.help_pages`.

``python -m experiments.cli.write_help``, after an option, its help or its default has changed.
"""

import dataclasses
import importlib
from pathlib import Path

from experiments.cli.commands import COMMANDS
from experiments.cli.help_pages import page_path
from experiments.cli.help_sources import page_of
from univae.checkpoint import JsonObject, write_json

__all__ = ["content_of", "main"]


def main(folder: Path | None = None) -> None:
    """Write a JSON file for every command, into the package or into ``folder``."""
    for command in COMMANDS:
        path = page_path(command)
        if folder is not None:
            path = folder / path.name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, content_of(command))


def content_of(command: str) -> JsonObject:
    """Return the content of the stored help of a command."""
    module = importlib.import_module(COMMANDS[command][0])
    page = page_of(module.Config, getattr(module, "PRESETS", {}))
    return dataclasses.asdict(page)


if __name__ == "__main__":
    main()
