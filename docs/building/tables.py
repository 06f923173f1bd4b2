"""Parts of pages that are written from the library itself: commands, and files of results.

The list of commands is written while the site is built. The others are kept in the pages, between
two comments, so that they can be read without the site: ``python docs/building/tables.py`` writes
them again, and a test compares them.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from experiments.benchmarks.table import RESULTS, date_of_commit, markdown, result_files, rows_of
from experiments.cli.commands import COMMANDS
from experiments.cli.help_pages import Page, stored_page
from experiments.studies import (
    iwae_mnist,
    lengths,
    longer_texts,
    multi_scale_tables,
    ptb_table,
    similar_en_table,
    step_size,
    wgan_ranking,
    window,
)
from univae.checkpoint import JsonObject

__all__ = [
    "PAGES",
    "STUDIES",
    "benchmarks",
    "commands",
    "of_study",
    "results",
    "with_commands",
    "with_tables",
]

PAGES = Path(__file__).parents[1]


def with_commands(page: str) -> str:
    """Return a page of Markdown with the list of commands, if its comment asks for it."""
    mark = "<!-- commands -->"
    return page.replace(mark, "\n".join(commands())) if mark in page else page


def with_tables(page: str) -> str:
    """Return a page of Markdown whose tables are written again."""
    for name, write in TABLES.items():
        start = f"<!-- {name} -->\n"
        end = f"<!-- end of {name} -->"
        if start in page:
            before, _, rest = page.partition(start)
            after = rest.partition(end)[2]
            page = f"{before}{start}\n{chr(10).join(write()).strip()}\n\n{end}{after}"
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


def of_study(name: str) -> Iterator[str]:
    """Yield the tables of a study, if its file of results is there."""
    path = RESULTS / f"{name}.json"
    if path.exists():
        yield STUDIES[name](json.loads(path.read_text(encoding="utf-8"))["results"])


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
        title = group.title or "options"
        mark = "???+" if group is page.groups[0] else "???"
        yield f'\n{mark} note "{title}"\n'
        for option in group.options:
            default = "required" if option.required else f"default: {option.default}"
            usage = " ".join(option.usage.split())
            yield f"    - `{usage}`: {_plain(option.help)} ({_plain(default)})"
    if page.presets:
        yield '\n??? note "presets"\n'
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


# File of results of a study, and comment on a page -> its tables in Markdown.
STUDIES: Mapping[str, Callable[[JsonObject], str]] = {
    "distillation": similar_en_table.markdown,
    "lengths": lengths.markdown,
    "lengths_chinese": lengths.markdown,
    "longer_texts": longer_texts.markdown,
    "mnist_density": iwae_mnist.markdown,
    "multi_scale": multi_scale_tables.markdown,
    "ptb": ptb_table.markdown,
    "step_size": step_size.markdown,
    "wgan_images_mnist": wgan_ranking.markdown,
    "window": window.markdown,
}
# Comment on a page -> what stands between it and its end.
TABLES: Mapping[str, Callable[[], Iterator[str]]] = {
    "benchmarks": benchmarks,
    "results": results,
    **{name: partial(of_study, name) for name in STUDIES},
}

if __name__ == "__main__":
    for path in sorted(PAGES.rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        path.write_text(with_tables(text), encoding="utf-8")
