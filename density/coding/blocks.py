"""Rows as the bytes of a file, in blocks that can be decoded separately.

A block whose message is longer than the same rows under LZMA2 can be stored that way.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from density.coding.bits_back import BitsBack, Message, Progress, ignore_progress
from density.coding.container import (
    FREE_ROWS,
    PROBE,
    Block,
    Header,
    pack,
    to_bytes,
    to_words,
)
from density.coding.data_code import Rows
from density.coding.fields import damaged
from density.coding.finite import naming_rows
from density.coding.stored import expand, squeeze
from univae.errors import InputError

__all__ = ["BLOCK", "Account", "decode", "encode"]

# Rows of a block. Each block has its own initial bits, the cost of decoding it separately.
BLOCK = 4096
BYTE = 8  # bits
SIZE = 8  # bytes of the number of bytes of a stored block


@dataclass(frozen=True)
class Account:
    """The rows and bits of a file."""

    count: int  # rows
    plain: int  # rows coded without latents, or stored
    initial_bits: int  # of these
    net_bits: int  # of the other rows
    blocks: int = 1
    stored_blocks: int = 0  # of these, those without a message of the model

    @property
    def bits(self) -> int:
        """The bits of all messages."""
        return self.initial_bits + self.net_bits


def encode(
    coder: BitsBack[Rows],
    rows: Rows,
    header: Header,
    block: int = BLOCK,
    progress: Progress = ignore_progress,
    *,
    store: bool = False,
) -> tuple[bytes, Account]:
    """Return the bytes of a file of rows, and its numbers of rows and bits.

    Call it within :func:`density.coding.exact.exactly`.

    Args:
        coder: the coder of the model, with the options in ``header``.
        rows: the rows, in the type of the coder's emission.
        header: the header of the file, without blocks.
        block: the rows of a block, at most 65,536: more are written as several blocks.
        progress: receives the number of rows done since the last call.
        store: store a block without the model where that takes fewer bytes.

    Raises:
        InputError: there are no rows, ``block`` is below 1, or the model gives a row a number that
            is not finite.
    """
    if not len(rows):
        raise InputError("compress: needs at least one row; got none; give more data")
    if block < 1:
        raise InputError(f"compress: block must be at least 1; got block={block}")
    block = min(block, FREE_ROWS)
    blocks = []
    payloads = []
    messages = []
    for start in range(0, len(rows), block):
        with naming_rows(start):
            message = coder.push(rows[start : start + block], progress)
        encoded = _encode_block(coder, rows[start : start + block], message, store=store)
        blocks.append(encoded.block)
        payloads.append(encoded.payload)
        messages.append(encoded.message)
    notes = {**header.notes, PROBE: coder.probe()}
    full_header = replace(header, blocks=tuple(blocks), notes=notes)
    return pack(full_header, payloads), _account(messages, blocks)


class _Encoded(NamedTuple):
    """A block of a file, its bytes, and its numbers of rows and bits."""

    block: Block
    payload: bytes
    message: Message


def _encode_block(coder: BitsBack[Rows], rows: Rows, message: Message, *, store: bool) -> _Encoded:
    """Return the block of a message, or of its rows without the model where that is shorter."""
    payload = to_bytes(message.words)
    stored = _stored(coder, rows, len(payload)) if store else None
    if stored is not None:
        payload = stored
        bits = BYTE * len(stored)
        message = replace(message, plain=message.count, initial_bits=bits, net_bits=0)
    block = Block(
        message.count,
        message.plain,
        len(payload),
        zlib.crc32(payload),
        zlib.crc32(coder.emission.content(rows)),
        is_stored=stored is not None,
    )
    return _Encoded(block, payload, message)


def _stored(coder: BitsBack[Rows], rows: Rows, most: int) -> bytes | None:
    """Return rows under LZMA2, behind their number of bytes; None unless below ``most`` bytes."""
    content = coder.emission.compact(rows)
    stored = len(content).to_bytes(SIZE, "little") + squeeze(content)
    return stored if len(stored) < most else None


def decode(
    coder: BitsBack[Rows],
    header: Header,
    payloads: Sequence[bytes],
    block: int | None = None,
    progress: Progress = ignore_progress,
) -> Rows:
    """Return the rows of a file, or of one of its blocks.

    Call it within :func:`density.coding.exact.exactly`.

    Args:
        coder: the coder of the model, with the options in ``header``.
        header: the header of the file.
        payloads: the bytes of its blocks.
        block: the index of one block; None: all of them.
        progress: receives the number of rows done since the last call.

    Raises:
        InputError: the block does not exist, or the rows do not match their checksum.
    """
    if block is not None and not 0 <= block < len(payloads):
        raise InputError(f"decompress: block must lie in 0..{len(payloads) - 1}; got block={block}")
    indices = range(len(payloads)) if block is None else [block]
    decoded = [_decode_block(coder, header, payloads[i], i, progress) for i in indices]
    rows: Rows = coder.emission.join(decoded)
    return rows


def _decode_block(
    coder: BitsBack[Rows], header: Header, payload: bytes, index: int, progress: Progress
) -> Rows:
    block = header.blocks[index]
    try:
        if block.is_stored:
            content = expand(payload[SIZE:], int.from_bytes(payload[:SIZE], "little"))
            rows = coder.emission.from_compact(content, block.count)
            progress(block.count)
        else:
            rows = coder.pop(to_words(payload), block.count, block.plain, progress)
        sum_rows = zlib.crc32(coder.emission.content(rows))
    except MemoryError as error:
        problem = f"block {index} of {len(header.blocks)} declares {block.count} rows"
        raise damaged(f"{problem}, more than fit into memory") from error
    except (ValueError, IndexError) as error:  # a model can fail on symbols that were not pushed
        raise _mismatch(coder, header, index) from error
    if sum_rows != block.sum_data:
        raise _mismatch(coder, header, index)
    return rows


def _account(messages: Sequence[Message], blocks: Sequence[Block]) -> Account:
    return Account(
        count=sum(message.count for message in messages),
        plain=sum(message.plain for message in messages),
        initial_bits=sum(message.initial_bits for message in messages),
        net_bits=sum(message.net_bits for message in messages),
        blocks=len(blocks),
        stored_blocks=sum(block.is_stored for block in blocks),
    )


def _mismatch(coder: BitsBack[Rows], header: Header, index: int) -> InputError:
    """Return the error for rows that do not match their checksum, though their bytes do.

    The arithmetic is named as the reason only where its checksum differs, or is unknown.
    """
    if header.blocks[index].is_stored or header.probe == coder.probe():
        return damaged(f"the rows of block {index} do not match their checksum")
    versions = f"torch {header.torch}; here {torch.__version__}"
    way_out = "use a machine and versions of torch, NumPy and SciPy like the writer's"
    if header.probe is None:
        return InputError(
            f"decompress: the file is damaged, or this machine's arithmetic differs from the "
            f"writer's ({versions}); {way_out}"
        )
    return InputError(
        f"decompress: this machine's arithmetic differs from the writer's ({versions}), so the "
        f"data cannot be read; {way_out}"
    )
