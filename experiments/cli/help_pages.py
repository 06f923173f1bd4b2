"""The help of a command: a page of options, stored as JSON and printed without PyTorch.

The options of a command are the fields of its ``Config``, whose module imports PyTorch, which takes
seconds. ``python -m experiments.cli.write_help`` therefore writes what
:func:`experiments.cli.help_sources.page_of` reads from every ``Config`` into
``experiments/cli/help/COMMAND.json``, and a test compares these files with the configurations.

``--help`` prints the most common options, ``--help-all`` all of them by group.
"""

import json
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

__all__ = ["SHORT", "Group", "HelpOption", "Page", "is_asked", "page_path", "render", "stored_page"]

ASKED = ("-h", "--help", "--help-all")
EVERYTHING = "--help-all"
SHORT = 12  # options that --help shows
SLACK = 4  # a command with as many more options shows all of them
WIDTHS = (60, 100)  # columns of the printed page, at least and at most
INDENT = 2  # columns before an option
HELP_COLUMN = 24  # where the help texts begin

# Options that --help shows, the most common first; required ones come before them.
COMMON = (
    *("data", "text", "pairs", "out", "preset", "steps", "minutes", "batch_size", "batch_tokens"),
    *("lr", "seed", "resume", "from", "threads", "device", "count", "samples", "method"),
    *("proposal", "limit", "standard_error", "overwrite", "checkpoint", "validation", "tokenizer"),
)

# Options that every command has.
GLOBAL = (
    ("--quiet", "print neither progress nor tables nor notes; errors and the result remain"),
    ("--help, --help-all", "the most common options; all options"),
)


@dataclass(frozen=True, kw_only=True)
class HelpOption:
    """An option or argument of a command."""

    name: str  # as it is typed, without dashes in front, with underscores
    usage: str  # spelling and metavariable
    help: str
    default: str  # in words; empty if required
    required: bool
    positional: bool

    @property
    def text(self) -> str:
        """The help with the default."""
        ending = "(required)" if self.required else f"(default: {self.default})"
        return f"{self.help} {ending}"


@dataclass(frozen=True, kw_only=True)
class Group:
    """The options of a part of a configuration."""

    title: str
    description: str
    options: Sequence[HelpOption]


@dataclass(frozen=True, kw_only=True)
class Page:
    """All that the help of a command says."""

    description: str
    groups: Sequence[Group]
    presets: dict[str, str]  # name -> options and values

    @property
    def options(self) -> list[HelpOption]:
        """All options, group by group."""
        return [option for group in self.groups for option in group.options]

    @property
    def common(self) -> list[HelpOption]:
        """The options that ``--help`` shows: required ones, then the most common, then others."""
        options = self.options
        if len(options) <= SHORT + SLACK:
            return options
        required = [option for option in options if option.required]
        by_name = {option.name: option for option in options if not option.required}
        common = [by_name.pop(name) for name in COMMON if name in by_name]
        return [*required, *common, *by_name.values()][: max(SHORT, len(required))]


def is_asked(arguments: Sequence[str]) -> bool:
    """Return whether the arguments of a command ask for its help."""
    return any(argument in ASKED for argument in arguments)


def render(page: Page, name: str, arguments: Sequence[str] = (), note: str = "") -> str:
    """Return the help as text for the terminal's width.

    Args:
        page: the options.
        name: the command, for the usage line.
        arguments: those of the command: ``--help-all`` asks for all options.
        note: a last paragraph.
    """
    width = min(max(shutil.get_terminal_size().columns, WIDTHS[0]), WIDTHS[1])
    lines = [*_paragraph(_usage(page, name), width), "", *_paragraph(page.description, width)]
    common = page.common
    hidden = len(page.options) - len(common)
    if EVERYTHING in arguments or not hidden:
        lines += _all_groups(page, width)
    else:
        lines += ["", "common options:", *_options(common, width)]
    lines += ["", "of every command:"]
    for usage, text in GLOBAL:
        lines += _entry(usage, text, width)
    if hidden and EVERYTHING not in arguments:
        lines += ["", f"{name} --help-all shows {hidden} more options."]
    if note:
        lines += ["", *_paragraph(note, width)]
    return "\n".join(lines)


def page_path(command: str) -> Path:
    """Return the file of a command's stored help."""
    return Path(__file__).parent / "help" / f"{command}.json"


def stored_page(command: str) -> Page | None:
    """Return the stored help of a command; None if it has none."""
    path = page_path(command)
    if not path.exists():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    groups = []
    for group in content["groups"]:
        options = [HelpOption(**option) for option in group["options"]]
        groups.append(Group(**{**group, "options": options}))
    values = {field.name: content[field.name] for field in fields(Page)}
    return Page(**{**values, "groups": groups})


def _usage(page: Page, name: str) -> str:
    words = [option.usage for option in page.options if option.required]
    return " ".join([f"usage: {name}", *words, "[OPTIONS]"])


def _all_groups(page: Page, width: int) -> Iterator[str]:
    for group in page.groups:
        yield ""
        if group.description:
            yield from _paragraph(f"{group.title}: {group.description}", width)
        else:
            yield f"{group.title}:"
        yield from _options(group.options, width)
    if page.presets:
        yield from ("", "presets, which options on the command line change:")
        for name, values in page.presets.items():
            yield from _entry(name, values, width)


def _options(options: Sequence[HelpOption], width: int) -> Iterator[str]:
    for option in options:
        yield from _entry(option.usage, option.text, width)


def _entry(usage: str, text: str, width: int) -> list[str]:
    """Return the lines of an option: its usage, and beside or below it the text."""
    lines = textwrap.wrap(text, width - HELP_COLUMN, break_on_hyphens=False)
    head = " " * INDENT + usage
    if len(head) < HELP_COLUMN - 1 and lines:
        return [
            head.ljust(HELP_COLUMN) + lines[0],
            *textwrap.indent("\n".join(lines[1:]), " " * HELP_COLUMN).splitlines(),
        ]
    return [head, *textwrap.indent("\n".join(lines), " " * HELP_COLUMN).splitlines()]


def _paragraph(text: str, width: int) -> list[str]:
    """Return wrapped lines; paragraphs stay apart."""
    lines: list[str] = []
    for paragraph in text.split("\n\n"):
        lines += ["", *textwrap.wrap(paragraph, width, break_on_hyphens=False)]
    return lines[1:]
