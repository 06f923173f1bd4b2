"""A compressed file: the model's code of a content, or the content without the model if shorter.

A file of :mod:`density.coding.container` holds rows alone, one of :mod:`density.coding.archive`
a folder, or a content without the model.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from density.coding.archive import Archive, is_archive, pack_archive, unpack_archive
from density.coding.blocks import Account, decode, encode
from density.coding.container import Header, unpack
from density.coding.data_code import Rows
from density.coding.fields import damaged
from experiments.evaluation.file_codec import DAMAGE, Content, Exact, FileCodec, header_facts
from experiments.evaluation.folder_content import is_folder, restore_folder
from univae.checkpoint import JsonObject
from univae.errors import InputError

__all__ = ["Compressed", "Opened", "compressed", "is_restored"]

BYTE = 8  # bits

Progress = Callable[[int], object]  # receives the number of rows done since the last call


@dataclass(frozen=True)
class Compressed:
    """The bytes of a file, and how they were chosen."""

    packed: bytes
    account: Account
    model_bytes: int | None  # of the file with the model's code; None: the model codes nothing
    row_bytes: int  # of the rows in the file; 0: it is stored without the model


def compressed(
    codec: FileCodec[Exact, Rows],
    content: Content[Exact, Rows],
    block: int,
    progress: Progress,
    *,
    store: bool,
) -> Compressed:
    """Return the file of a content, the shorter of the model's and that without the model.

    Args:
        codec: the codec of the run.
        content: the content.
        block: the rows of a block.
        progress: receives the number of rows done since the last call.
        store: whether blocks, and the whole content, may be stored without the model.
    """
    coded = None
    if len(content.values):
        coder = codec.coder(content.header)
        rows, account = encode(coder, content.values, content.header, block, progress, store=store)
        packed = rows
        if content.beside is not None:
            packed = pack_archive(replace(content.beside, rows=rows))
        coded = Compressed(packed, account, len(packed), len(rows))
    if coded is not None and not store:
        return coded

    packed = pack_archive(content.stored)
    if coded is not None and len(coded.packed) <= len(packed):
        return coded
    count = len(content.values)
    account = Account(count, count, BYTE * len(packed), 0, blocks=1, stored_blocks=1)
    return Compressed(packed, account, coded.model_bytes if coded else None, 0)


class Opened:
    """A compressed file that was read: its parts, and its content once the codec is known.

    Raises:
        InputError: the bytes are no compressed file, or damaged.
    """

    def __init__(self, packed: bytes) -> None:
        self.archive: Archive | None = None
        self.header: Header | None = None
        self.payloads: list[bytes] = []
        rows = packed
        if is_archive(packed):
            self.archive = unpack_archive(packed)
            rows = self.archive.rows
        if rows:
            self.header, self.payloads = unpack(rows)

    @property
    def is_folder(self) -> bool:
        """Whether the content is a folder."""
        return self.archive is not None and is_folder(self.archive)

    @property
    def facts(self) -> JsonObject:
        """The facts in the file's header, for a result; null where no model codes rows."""
        if self.header is not None:
            return header_facts(self.header)
        assert self.archive is not None
        unknown = dict.fromkeys(("fingerprint", "particles", "tile"))
        facts = self.archive.facts
        dtype = facts.get("dtype", next(iter(facts), None))
        shape = facts.get("shape")
        return {**unknown, "blocks": 1, "stored_blocks": 1, "dtype": dtype, "shape": shape}

    @property
    def count(self) -> int:
        """The number of rows; of a folder or text without the model, of members or lines."""
        if self.header is not None:
            return self.header.count
        assert self.archive is not None
        facts = self.archive.facts
        shape = facts.get("shape")
        numbers = shape if isinstance(shape, list) and shape else list(facts.values())
        return numbers[0] if numbers and type(numbers[0]) is int else 0

    def values(self, codec: FileCodec[Any, Any], progress: Progress) -> Any:
        """Return the rows that the model codes; there may be none.

        Call it within :func:`density.coding.exact.exactly`.

        Raises:
            InputError: another model wrote the file, or the rows do not match their checksum.
        """
        if self.header is None:
            return codec.join_rows([])
        self.header.check(codec.fingerprint)
        return decode(codec.coder(self.header), self.header, self.payloads, progress=progress)

    def content(self, codec: FileCodec[Any, Any], values: Any) -> Any:
        """Return the content: an array, a text, or the members of a folder.

        Raises:
            InputError: the file is damaged, or its content is of another kind of run.
        """
        if self.archive is not None and self.is_folder:
            return restore_folder(codec, self.archive, values)
        try:
            if self.archive is not None:
                return codec.restore_stored(self.archive)
            assert self.header is not None
            return codec.restore(values, self.header)
        except InputError:
            raise
        except DAMAGE as error:
            raise damaged("what it says of its content is invalid") from error


def is_restored(
    packed: bytes, codec: FileCodec[Exact, Rows], content: Content[Exact, Rows], progress: Progress
) -> bool:
    """Return whether a file decodes to a content.

    Of a folder the rows and the stored bytes are compared, from which its files are restored.
    """
    opened = Opened(packed)
    values = opened.values(codec, progress)
    if content.beside is None:
        return codec.equal(opened.content(codec, values), content.exact)

    assert opened.archive is not None
    opened.content(codec, values)
    if opened.header is None:
        return opened.archive.stored == content.stored.stored
    emission = codec.coder(content.header).emission
    same_rows = emission.content(values) == emission.content(content.values)
    return same_rows and opened.archive.stored == content.beside.stored
