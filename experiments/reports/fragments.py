"""Blocks as a part of a page that is not a report, such as an answer of the explorer."""

from experiments.reports.blocks import Block
from experiments.reports.templating import render

__all__ = ["fragment"]


def fragment(*blocks: Block) -> str:
    """Return blocks as HTML, in which every value is escaped."""
    return "".join(render(f"blocks/{block.template}", block=block) for block in blocks)
