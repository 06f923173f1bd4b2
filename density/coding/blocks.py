"""Rows as the bytes of a file, in blocks that can be decoded separately."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from density.coding.bits_back import BitsBack, Message, Progress, ignore_progress
from density.coding.container import Block, Header, pack, to_bytes, to_words
from density.coding.data_code import Rows
from density.coding.finite import naming_rows
from univae.errors import InputError

__all__ = ["BLOCK", "Account", "decode", "encode"]

# Rows of a block. Each block has its own initial bits, the cost of decoding it separately.
BLOCK = 4096


@dataclass(frozen=True)
class Account:
    """The rows and bits of a file."""

    count: int  # rows
    plain: int  # rows coded without latents
    initial_bits: int  # of these
    net_bits: int  # of the other rows

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
) -> tuple[bytes, Account]:
    """Return the bytes of a file of rows, and its numbers of rows and bits.

    Call it within :func:`density.coding.exact.exactly`.

    Args:
        coder: the coder of the model, with the options in ``header``.
        rows: the rows, in the type of the coder's emission.
        header: the header of the file, without blocks.
        block: the rows of a block.
        progress: receives the number of rows done since the last call.

    Raises:
        InputError: there are no rows, ``block`` is below 1, or the model gives a row a number that
            is not finite.
    """
    if not len(rows):
        raise InputError("compress: needs at least one row; got none; give more data")
    if block < 1:
        raise InputError(f"compress: block must be at least 1; got block={block}")
    blocks = []
    payloads = []
    messages = []
    for start in range(0, len(rows), block):
        block_rows = rows[start : start + block]
        with naming_rows(start):
            message = coder.push(block_rows, progress)
        payload = to_bytes(message.words)
        sum_rows = zlib.crc32(coder.emission.content(block_rows))
        blocks.append(
            Block(message.count, message.plain, len(payload), zlib.crc32(payload), sum_rows)
        )
        payloads.append(payload)
        messages.append(message)
    return pack(replace(header, blocks=tuple(blocks)), payloads), _account(messages)


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
        rows = coder.pop(to_words(payload), block.count, block.plain, progress)
        sum_rows = zlib.crc32(coder.emission.content(rows))
    except (ValueError, IndexError) as error:  # a model can fail on symbols that were not pushed
        raise _arithmetic_error(header) from error
    if sum_rows != block.sum_data:
        raise _arithmetic_error(header)
    return rows


def _account(messages: Sequence[Message]) -> Account:
    return Account(
        count=sum(message.count for message in messages),
        plain=sum(message.plain for message in messages),
        initial_bits=sum(message.initial_bits for message in messages),
        net_bits=sum(message.net_bits for message in messages),
    )


def _arithmetic_error(header: Header) -> InputError:
    return InputError(
        "decompress: this machine's arithmetic differs from the writer's "
        f"(torch {header.torch}; here {torch.__version__}), so the data cannot be read; "
        "use a machine and a version of torch like the writer's"
    )
