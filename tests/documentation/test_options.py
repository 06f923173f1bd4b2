"""Every option that a page names in its text exists."""

import re
from pathlib import Path

import pytest

from experiments.cli.commands import COMMANDS
from experiments.cli.help_pages import stored_page

ROOT = Path(__file__).parents[2]
CODE = re.compile(r"`([^`\n]+)`")
BLOCKS = re.compile(r"```.*?```", re.DOTALL)
OPTION = re.compile(r"(?<![\w-])--([a-z][\w-]*)")
# Of every command, of torchrun and Slurm, and of studies.
OTHERS = {"quiet", "help", "help-all", "no-python", "nproc-per-node", "nnodes", "max-restarts"}
OTHERS |= {"shutdown-timeout", "signal", "requeue", "toys", "arms"}


def options() -> set[str]:
    """Return the options of all commands."""
    found = set(OTHERS)
    for command in COMMANDS:
        page = stored_page(command)
        if page is not None:
            found |= {option.name.replace("_", "-") for option in page.options}
    return found


@pytest.mark.parametrize(
    "page",
    sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")),
)
def test_every_option_in_the_text_of_a_page_exists(page: str) -> None:
    text = BLOCKS.sub("", (ROOT / page).read_text(encoding="utf-8"))
    named = {name for code in CODE.findall(text) for name in OPTION.findall(code)}
    assert named <= options()
