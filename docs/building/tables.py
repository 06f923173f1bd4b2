"""Parts of pages that are written from the library itself: commands, and files of results."""

import json
from collections.abc import Iterator
from typing import Any

from experiments.benchmarks.table import RESULTS, date_of_commit, markdown, result_files, rows_of
from experiments.cli.commands import COMMANDS
from experiments.cli.help_pages import Page, stored_page
from experiments.studies.lengths import markdown as accuracies

__all__ = ["benchmarks", "commands", "lengths", "results", "with_tables"]


def with_tables(page: str) -> str:
    """Return a page of Markdown with the tables that its comments ask for."""
    for name, write in TABLES.items():
        mark = f"<!-- {name} -->"
        if mark in page:
            page = page.replace(mark, "\n".join(write()))
    return page


def commands() -> Iterator[str]:
    """Yield a section for each command, with its options and their defaults."""
    for name, (_, summary) in COMMANDS.items():
        page = stored_page(name)
        yield f"\n## {name}\n"
        yield f"{summary[0].upper()}{summary[1:]}.\n"
        if page is not None:
            yield from _options(page)


def benchmarks() -> Iterator[str]:
    """Yield the machines, and the table of ratios."""
    rows = [row for path in result_files() for row in rows_of(path)]
    machines = sorted({row.machine for row in rows})
    yield f"Measured on {'; '.join(machines)}.\n"
    yield markdown(rows, ("what", "against", "ratio", "script", "date"))


def lengths() -> Iterator[str]:
    """Yield the accuracies of the study of lengths, if its results are there."""
    path = RESULTS / "lengths.json"
    if path.exists():
        yield accuracies(json.loads(path.read_text(encoding="utf-8"))["results"]["table"])


def results() -> Iterator[str]:
    """Yield an entry for each file of results: its commands, its machine and its date."""
    for path in sorted(RESULTS.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        yield f"\n### {path.stem}\n"
        yield f"{_machine(content['machine'])}, {content.get('date') or date_of_commit(path)}.\n"
        yield "```text"
        yield from _commands(content)
        yield "```"


def _options(page: Page) -> Iterator[str]:
    """Yield the options of a command, each group in a box that opens."""
    for group in page.groups:
        yield f'\n??? note "{group.title or "Options"}"\n'
        for option in group.options:
            default = "required" if option.required else f"default: {option.default}"
            usage = " ".join(option.usage.split())
            yield f"    - `{usage}`: {_plain(option.help)} ({_plain(default)})"
    if page.presets:
        yield '\n??? note "Presets"\n'
        for name, values in page.presets.items():
            yield f"    - `{name}`: {_plain(values)}"


def _plain(text: str) -> str:
    """Return text in which Markdown sees no markup."""
    for sign in "\\`*_<>[]{}$":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


def _commands(content: dict[str, Any]) -> list[str]:
    """Return the command lines of a file of results; a study of several runs has one for each."""
    command = content.get("command")
    if command is None:
        return [run["command"] for run in content["runs"]]
    return [command] if isinstance(command, str) else command


def _machine(machine: dict[str, Any]) -> str:
    threads = machine.get("threads")
    shown = [f"{machine['cores']} cores of {machine['cpu']}"]
    if threads:
        shown.append(f"{threads} {'thread' if threads == 1 else 'threads'}")
    shown.append(f"torch {machine['torch']}, Python {machine['python']}")
    return ", ".join(shown)


# Comment on a page -> what stands in its place.
TABLES = {"benchmarks": benchmarks, "commands": commands, "lengths": lengths, "results": results}
