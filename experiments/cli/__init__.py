"""The command line: the table of commands, and options from dataclasses."""

from experiments.cli.commands import COMMANDS, main, parse, run

__all__ = ["COMMANDS", "main", "parse", "run"]
