"""Run the blocks of Markdown pages as a reader would: ``python -m tests.documentation PAGE...``.

Each page has a temporary folder, in which its blocks run in their order: those of ``sh`` in bash,
which stops at the first error, those of ``python`` in one process. The exit code is 1 where a block
fails, or prints something else than the page shows; the differences are printed.

``--write`` rewrites the outputs on the pages, their processor time behind ``<!-- seconds -->``, and
the images behind ``<!-- figure: FILE -->``. What comments on a page mean stands in
:mod:`tests.documentation.pages`, what is compared and how in :mod:`tests.documentation.outputs`.
"""

import argparse
import re
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from tests.documentation.outputs import cleaned, difference, elided
from tests.documentation.pages import Block, blocks, figures, left_out
from tests.documentation.session import Session, processor_seconds, session

__all__ = ["Report", "check", "main", "rewritten"]

SECONDS = re.compile(r"(<!-- seconds -->)\d*")
LARGEST_FIGURE = 60_000  # bytes

# Blocks in the order in which they ran, with what they printed.
Outputs: TypeAlias = list[tuple[Block, str]]


@dataclass
class Report:
    """What running a page found.

    Args:
        faults: what is wrong, a paragraph each.
        ran: number of blocks that were run.
        seconds: wall time.
        processor: processor time of its blocks, in seconds.
    """

    faults: list[str] = field(default_factory=list)
    ran: int = 0
    seconds: float = 0.0
    processor: float = 0.0


def check(page: Path, *, write: bool = False) -> Report:
    """Run the blocks of a page and compare what they print with what it shows.

    Args:
        page: a Markdown file.
        write: rewrite the page's outputs, times and figures; then only failing blocks are faults.
    """
    text = page.read_text(encoding="utf-8")
    report = Report()
    if left_out(text):
        return report
    start = time.perf_counter()
    used = processor_seconds()
    with session() as reader:
        outputs = _run(reader, blocks(text), report)
        if not report.faults:
            report.faults += _figures(text, page, reader.folder, write=write)
    report.seconds = time.perf_counter() - start
    report.processor = processor_seconds() - used
    if page.read_text(encoding="utf-8") != text:
        report.faults.append("the page has changed while its blocks ran")
    if write and not report.faults:
        written = SECONDS.sub(rf"\g<1>{report.processor:.0f}", rewritten(text, outputs))
        page.write_text(written, encoding="utf-8")
    if not write:
        report.faults += _differences(outputs)
    return report


def rewritten(text: str, outputs: Outputs) -> str:
    """Return a page with the outputs that its blocks printed."""
    lines = text.splitlines()
    for block, printed in reversed(outputs):  # from the end: earlier lines keep their numbers
        if block.output is not None:
            shown = elided(printed, block.output.code)
            content = [f"{block.output.indent}{line}".rstrip() for line in shown.splitlines()]
            lines[block.output.first + 1 : block.output.last] = content
    return "".join(f"{line}\n" for line in lines)


def _run(reader: Session, page: Sequence[Block], report: Report) -> Outputs:
    """Run blocks up to the first that fails; return them with what they printed."""
    outputs = []
    for block in page:
        if not block.runs:
            continue
        code, printed = reader.run(block)
        report.ran += 1
        output = cleaned(printed, str(reader.folder))
        outputs.append((block, output))
        if code != block.exit_code:
            report.faults.append(
                f"line {block.first + 1}: exit code {code} instead of {block.exit_code}\n"
                f"{block.code}{output}"
            )
            break
    return outputs


def _differences(outputs: Outputs) -> list[str]:
    """Return the differences between shown and printed outputs, a unified diff each."""
    faults = []
    for block, printed in outputs:
        if block.output is not None and block.is_compared:
            diff = difference(block.output.code, printed, block.tolerance)
            if diff:
                faults.append(f"line {block.first + 1}: another output\n{diff}")
    return faults


def _figures(text: str, page: Path, folder: Path, *, write: bool) -> list[str]:
    """Copy the figures that the blocks of a page wrote; return the faults of those."""
    faults = []
    for figure in figures(text):
        source = folder / figure.file
        if not source.exists():
            faults.append(f"no block wrote the figure {figure.file}")
        elif source.stat().st_size > LARGEST_FIGURE:
            faults.append(f"{figure.file} has {source.stat().st_size} bytes")
        elif write:
            target = page.parent / figure.link
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    return faults


def main(argv: Sequence[str] | None = None) -> int:
    """Run pages; return 1 where one has a fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.documentation", description=__doc__)
    parser.add_argument("pages", nargs="+", type=Path, metavar="PAGE")
    parser.add_argument("--write", action="store_true", help="rewrite outputs, times and figures")
    options = parser.parse_args(argv)
    is_right = True
    for page in options.pages:
        report = check(page, write=options.write)
        is_right = is_right and not report.faults
        verdict = "FAULTS" if report.faults else "as shown"
        print(
            f"{page}: {report.ran} blocks, {report.seconds:.0f} s, "
            f"{report.processor:.0f} s of processors: {verdict}",
            flush=True,
        )
        for fault in report.faults:
            print(fault, flush=True)
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
