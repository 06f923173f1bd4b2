"""The registry of sources of texts, ``TEXT_SOURCES``: what a name of ``--text`` stands for.

To add a source is to write one class and to list it before ``lines``, which takes every other file.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from experiments.data.remote import is_remote, local_copy, open_remote, remote_files, url_of
from experiments.data.sources import HUB
from experiments.data.text_columns import column_texts
from univae.errors import InputError
from univae.text.lines import Removed, all_lines, inner_suffix, read_lines

__all__ = ["BUILT_IN", "TEXT_SOURCES", "TextSource", "is_lines", "texts_of_source"]

BUILT_IN = "python-docs"  # the corpus that needs no file
TEXT_SUFFIX = ".txt"  # of the files of a folder
COLUMN_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")


@runtime_checkable
class TextSource(Protocol):
    """Where texts come from."""

    @property
    def summary(self) -> str:
        """The source in a few words."""
        ...

    def recognises(self, source: str) -> bool:
        """Return whether a name is of this source."""
        ...

    def texts(self, source: str, column: str, removed: Removed) -> Iterator[str]:
        """Yield the texts of a source; ``removed`` counts what is left out.

        ``column`` is the name or the number, from 1, of the column of texts; empty: the only one.

        Raises:
            InputError: while reading: the source cannot be read, or the column not be found.
        """
        ...


class BuiltIn:
    """The sentences of Python's documentation."""

    summary = BUILT_IN

    def recognises(self, source: str) -> bool:
        """Return whether the source is the built-in corpus."""
        return source == BUILT_IN

    def texts(self, source: str, column: str, removed: Removed) -> Iterator[str]:
        """Yield the sentences."""
        from experiments.data.python_docs import sentences

        _refuse_column(source, column)
        yield from sentences()


class Hub:
    """A column of a data set of the Hugging Face hub."""

    summary = "hub:NAME[:SPLIT[:COLUMN]], a data set of the Hugging Face hub"

    def recognises(self, source: str) -> bool:
        """Return whether the source begins with hub: and is no file."""
        return source.startswith(HUB) and not Path(source).exists()

    def texts(self, source: str, column: str, removed: Removed) -> Iterator[str]:
        """Yield the texts of a split."""
        from experiments.data.hub_texts import hub_texts

        return hub_texts(source, column, removed)


class Remote:
    """Files of an object store: of lines, which are streamed, or of columns."""

    summary = "PROTOCOL://..., a file of an object store, or several with *, but no folder"

    def recognises(self, source: str) -> bool:
        """Return whether the source has a protocol."""
        return is_remote(source)

    def texts(self, source: str, column: str, removed: Removed) -> Iterator[str]:
        """Yield the texts of the files, by their names in order."""
        name, _, named = source.rpartition(":")
        if inner_suffix(Path(name)) not in COLUMN_SUFFIXES or "/" in named:
            name = source
            named = ""
        _refuse_two_columns(source, named, column)
        for url in remote_files(url_of(name)):
            path = Path(url)
            if inner_suffix(path) in COLUMN_SUFFIXES:
                with local_copy(url) as copy:
                    yield from column_texts(copy, named or column, removed)
                continue
            _refuse_column(url, column)
            with open_remote(url) as file:
                yield from read_lines(path, removed, file)


class Folder:
    """All .txt files of a folder and of the folders in it, by their paths in order."""

    summary = "a folder of .txt files"

    def recognises(self, source: str) -> bool:
        """Return whether the source is a folder."""
        return Path(source).is_dir()

    def texts(self, source: str, column: str, removed: Removed) -> Iterator[str]:
        """Yield the lines of the files; files without a text and other files are counted."""
        _refuse_column(source, column)
        files = sorted(path for path in Path(source).rglob("*") if path.is_file())
        texts = [path for path in files if inner_suffix(path) == TEXT_SUFFIX]
        removed.other_files += len(files) - len(texts)
        count = 0
        for path in texts:
            lines = 0
            for line in all_lines(path, removed):
                if line.strip():
                    lines += 1
                    yield line
                else:
                    removed.blank_lines += 1
            if not lines:
                removed.empty_files += 1
            count += lines
        if not count:
            number = f"{len(texts)} of its {len(files)} files" if texts else "none of its files"
            raise InputError(
                f"{source}: no text: {number} end in {TEXT_SUFFIX}; give a folder of UTF-8 files "
                "with one text per line"
            )


class Columns:
    """A column of a CSV, TSV, JSONL or JSON file: FILE with ``--column``, or FILE:COLUMN."""

    summary = ".csv, .tsv, .jsonl or .json, maybe FILE:COLUMN"

    def recognises(self, source: str) -> bool:
        """Return whether the file's name ends in a suffix of a file of columns."""
        return inner_suffix(self._parts(source)[0]) in COLUMN_SUFFIXES

    def texts(self, source: str, column: str, removed: Removed) -> Iterator[str]:
        """Yield the texts of the column."""
        path, named = self._parts(source)
        _refuse_two_columns(source, named, column)
        return column_texts(path, named or column, removed)

    def _parts(self, source: str) -> tuple[Path, str]:
        """Return the file and the column that FILE:COLUMN names; no column of any other source."""
        file, _, column = source.rpartition(":")
        if Path(source).exists() or not Path(file).is_file():
            return Path(source), ""
        return Path(file), column


class Lines:
    """A UTF-8 file of one text per line."""

    summary = "a UTF-8 file of one text per line (.gz, .bz2, .xz too)"

    def recognises(self, source: str) -> bool:
        """Return True: every other name is a file of lines."""
        return True

    def texts(self, source: str, column: str, removed: Removed) -> Iterator[str]:
        """Yield the lines with a text."""
        _refuse_column(source, column)
        return read_lines(Path(source), removed)


LINES = "lines"
# The first source that recognises a name reads it.
TEXT_SOURCES: Mapping[str, TextSource] = {
    "built-in": BuiltIn(),
    "hub": Hub(),
    "remote": Remote(),
    "folder": Folder(),
    "columns": Columns(),
    LINES: Lines(),
}


def texts_of_source(source: str, column: str, removed: Removed) -> Iterator[str]:
    """Yield the texts of the first of :data:`TEXT_SOURCES` that recognises a name."""
    return TEXT_SOURCES[_row_of(source)].texts(source, column, removed)


def is_lines(source: str) -> bool:
    """Return whether a name is that of one file of lines."""
    return _row_of(source) == LINES


def _row_of(source: str) -> str:
    return next(name for name, row in TEXT_SOURCES.items() if row.recognises(source))


def _refuse_two_columns(source: str, named: str, column: str) -> None:
    if named and column and named != column:
        raise InputError(f"--column {column}: {source} names another column; leave one out")


def _refuse_column(source: str, column: str) -> None:
    if column:
        raise InputError(
            f"--column {column}: {source} has no columns; name a column as FILE:COLUMN"
        )
