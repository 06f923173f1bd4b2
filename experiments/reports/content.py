"""The content of a run folder for its report: metrics, items, images and charts."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from experiments.reports.blocks import Block, Charts
from experiments.reports.charts import Chart
from experiments.reports.svg import drawn_file
from experiments.training.environment import stored_environment
from univae.checkpoint import JsonObject, JsonValue, read_json, write_text_atomic
from univae.errors import InputError
from univae.run_folder import RunFolder

__all__ = ["LARGEST_PICTURE", "PNG", "Content", "evenly"]

Row = TypeVar("Row")

PNG = b"\x89PNG\r\n\x1a\n"  # the signature of the format
LARGEST_PICTURE = 2**26  # most bytes of an image that a report embeds
MOST_ROWS = 20_000  # rows of training in a report: no figure has more pixels, and memory is bounded
ITEM_KEYS = {"kind", "title"}


class Content:
    """The metrics of a run, the items of its ``samples/``, and its images.

    Of very many rows of training only every second, fourth, ... is kept.

    An item is a JSON object with a ``kind`` and a ``title``; other files are ignored.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.environment = stored_environment(run.path)
        self.validations = run.rows("validation")
        self.training = evenly(run.each_row("train"), MOST_ROWS)
        self.items: list[JsonObject] = []
        for path in sorted((run.path / "samples").glob("*.json")):
            item = read_json(path)
            if isinstance(item, dict) and item.keys() >= ITEM_KEYS:
                self.items.append(item)

    def picture(self, name: JsonValue) -> bytes:
        """Return a PNG of ``samples/``.

        Raises:
            InputError: the name is no plain name, or that of a link, or of a file that is too large
                or no PNG: a run folder may come from an untrusted source.
        """
        folder = self.run.path / "samples"
        if not isinstance(name, str) or not name.strip(".") or Path(name).name != name:
            raise InputError(f"file must be a plain name of a file in {folder}; got {name!r}")
        path = folder / name
        if path.is_symlink() or not path.is_file():
            raise InputError(f"{path} is no file of this folder")
        if path.stat().st_size > LARGEST_PICTURE:
            raise InputError(f"{path} is larger than {LARGEST_PICTURE} bytes")
        content = path.read_bytes()
        if not content.startswith(PNG):
            raise InputError(f"{path} is no PNG image")
        return content

    def charts(self, charts: Sequence[Chart]) -> list[Block]:
        """Write each chart to ``plots/NAME.svg`` and return them as a block; none without charts.

        Raises:
            InputError: ``plots`` is a link.
        """
        for chart in charts:
            path = self.run.subfolder("plots") / f"{chart.name}.svg"
            write_text_atomic(path, drawn_file(chart))
        return [Charts(charts)] if charts else []


def evenly(rows: Iterable[Row], most: int) -> list[Row]:
    """Return rows at equal distances, the first and the last among them, in bounded memory.

    All are returned where there are at most ``most``; otherwise at least half as many, and no more
    than one above ``most``.

    >>> evenly(range(8), 8), evenly(range(22), 8)
    ([0, 1, 2, 3, 4, 5, 6, 7], [0, 4, 8, 12, 16, 20, 21])
    """
    kept: list[Row] = []
    distance = 1
    last: list[Row] = []
    for number, row in enumerate(rows):
        last = [row]
        if number % distance:
            continue
        kept.append(row)
        if len(kept) > most:
            kept = kept[::2]
            distance *= 2
    if last and kept[-1] is not last[0]:
        kept += last
    return kept
