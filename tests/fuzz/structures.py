"""Mutations that keep a file well formed: values of JSON, cells, headers of .npy, entries of .zip.

Random bytes are refused by the first check of a parser; these reach the checks behind it.
"""

import json
import random
import warnings
import zipfile
from collections.abc import Callable
from io import BytesIO
from typing import Any

__all__ = ["WILD", "mutate_cells", "mutate_json", "mutate_lines", "mutate_npy", "mutate_zip"]

DEEP = "@deep@"  # stands for a nesting that no encoder writes
DIGITS = "@digits@"  # for an integer of more digits than Python converts
TOKENS = {
    json.dumps(DEEP): "[" * 100_000 + "]" * 100_000,
    json.dumps(DIGITS): "7" * 5000,
}

# Values of JSON that a reader may not expect.
WILD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 2**31, 2**53 + 1, 2**63, 10**400, 1e308, -1e308, 1e-320, 0.5,
    float("nan"), float("inf"), float("-inf"), "", " ", "a", "-", "nan", "\0", "\ud800", "\u2028",
    "../x", "/dev/zero", "a" * 100_000, [], [[]], {}, [None], [1, "a"], {"a": 1}, {"": None},
    [0] * 1000, DEEP, DIGITS,
)  # fmt: skip
CELLS = (
    "", " ", "0", "-1", "nan", "inf", "-inf", "1e400", "9" * 400, "1,5", "1.000,5", "NA", "?",
    '"', '""', '"a', 'a"b', "'", "\0", "\ufeff", "=1+1", "a" * 100_000, "1e-320", "True", "\x85",
)  # fmt: skip
DTYPES = (
    "'|O'", "'<U5'", "'|S3'", "'<M8[s]'", "'<f16'", "'<c8'", "'|V8'", "'<f2'", "'>f4'", "'|b1'",
    "[('a', '<i4')]", "''", "1", "None", "'<i8'", "'<U0'", "'|V0'",
)  # fmt: skip
SHAPES = (
    "()", "(0,)", "(-1,)", "(True, 8, 8)", "(2**60,)", "(1.5,)", "(None,)", "3", "'a'", "(3, 0)",
    "(1,) * 70", "(9223372036854775807, 9)", "(" + "1, " * 100 + ")", "((",
    "(1000000, 28, 28)", "(50000000, 28, 28)", "(4, 1)", "(1, 1, 1, 1, 1)",
)  # fmt: skip
HEADERS = ("{", "{}", "[", "None", "(" * 500, "'", "{'descr': '<f4'}", "{" * 50, "\\x", "lambda: 0")

Draw = random.Random


def mutate_json(content: bytes, draw: Draw) -> bytes:
    """Return JSON with one to three values replaced, removed, doubled, or under another key."""
    value = json.loads(content)
    for _ in range(draw.randint(1, 3)):
        value = _changed(value, draw)
    return _dumped(value, draw)


def mutate_lines(content: bytes, draw: Draw) -> bytes:
    """Return lines of JSON, of which one to three are mutated."""
    lines = content.splitlines()
    for _ in range(draw.randint(1, 3)):
        row = draw.randrange(len(lines))
        try:
            lines[row] = mutate_json(lines[row], draw)
        except (ValueError, RecursionError):  # mutated before
            lines[row] = b""
    return b"\n".join(lines) + b"\n"


def mutate_cells(content: bytes, draw: Draw) -> bytes:
    """Return lines of cells, of which some cells and lines are replaced, removed or doubled."""
    separator = draw.choice((",", ";", "\t", "|")) if draw.random() < 0.1 else _separator(content)
    rows = [line.split(separator) for line in content.decode(errors="replace").split("\n")]
    for _ in range(draw.randint(1, 3)):
        row = rows[draw.randrange(len(rows))]
        column = draw.randrange(len(row))
        change = draw.randrange(5)
        if change == 0:
            rows.append(list(row))
        elif change == 1 and len(row) > 1:
            row.pop(column)
        elif change == 2:
            row.insert(column, draw.choice(CELLS))
        elif change == 3:
            wild = draw.choice(CELLS)
            for other in rows:
                other[min(column, len(other) - 1)] = wild
        else:
            row[column] = draw.choice(CELLS)
    text = draw.choice(("\n", "\n", "\n", "\r\n", "\r")).join(separator.join(row) for row in rows)
    return text.encode("utf-8", errors="replace")


def mutate_npy(content: bytes, draw: Draw) -> bytes:
    """Return an .npy whose header has another dtype, shape or order, or is no Python literal."""
    start, size = 10, int.from_bytes(content[8:10], "little")
    header = content[start : start + size].decode("latin1")
    data = content[start + size :]
    change = draw.randrange(5)
    if change == 0:
        header = draw.choice(HEADERS)
    elif change == 1:
        header = header.replace("False", draw.choice(("True", "None", "1", "'C'", "[")))
    elif change == 2:
        position = draw.randrange(len(header))
        header = header[:position] + draw.choice("([{'\"\\,#x") + header[position + 1 :]
    else:
        shape = header[header.index("(") : header.index(")") + 1]
        descr = header[header.index(":") + 2 : header.index(",")]
        if change == 3 or draw.random() < 0.5:
            header = header.replace(shape, draw.choice(SHAPES))
        if change == 4:
            header = header.replace(descr, draw.choice(DTYPES))
    encoded = header.rstrip().encode("latin1", errors="replace") + b"\n"
    version = draw.choice((b"\1\0", b"\1\0", b"\2\0", b"\3\0", b"\x09\0"))
    width = 2 if version[0] == 1 else 4
    return b"\x93NUMPY" + version + len(encoded).to_bytes(width, "little") + encoded + data


def mutate_zip(content: bytes, part: Callable[[bytes, str], bytes], draw: Draw) -> bytes:
    """Return a .zip of the same entries, of which one is changed by ``part``, or renamed."""
    with zipfile.ZipFile(BytesIO(content)) as archive:
        entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    row = draw.randrange(len(entries))
    name, data = entries[row]
    change = draw.randrange(6)
    if change == 0:
        name = draw.choice(("", "../" + name, "/" + name, "a\0b", "x" * 300, "\ud800", name + "/"))
    elif change == 1:
        entries.append(entries[draw.randrange(len(entries))])
    elif change == 2:
        data = bytes(2**24)  # zeros, a thousandth of which is stored
    else:
        data = part(data, name)
    entries[row] = (name.encode("utf-8", errors="replace").decode(), data)
    out = BytesIO()
    method = draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", method) as archive:
        warnings.simplefilter("ignore")  # of a name that is written twice
        for name, data in entries:
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            archive.writestr(info, data)
    return out.getvalue()


def _changed(value: Any, draw: Draw) -> Any:
    """Return a value with one change somewhere in it."""
    is_container = isinstance(value, dict | list) and value
    if not is_container or draw.random() < 0.1:
        return draw.choice(WILD)
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = draw.choice(keys)
    change = draw.randrange(8)
    if change == 0:
        return (
            {k: v for k, v in value.items() if k != key} if isinstance(value, dict) else value[:key]
        )
    if change == 1 and isinstance(value, list):
        return [*value, *value[key:]]
    if change == 1:
        return {draw.choice(("", "x", key * 2, "\ud800")): value[key], **value}
    if change == 2:
        return {**value, key: draw.choice(WILD)} if isinstance(value, dict) else [draw.choice(WILD)]
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[key] = _changed(copy[key], draw)
    return copy


def _dumped(value: Any, draw: Draw) -> bytes:
    text = json.dumps(value, ensure_ascii=draw.random() < 0.5)
    for token, wild in TOKENS.items():
        text = text.replace(token, wild)
    return text.encode("utf-8", errors="surrogatepass")


def _separator(content: bytes) -> str:
    return max((",", ";", "\t"), key=lambda separator: content.count(separator.encode()))
