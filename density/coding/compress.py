r"""Lossless compression by a model: :func:`compress` writes data in about :math:`-\log_2 p(x)` bits, and back.

Models are copied to float64 on the CPU and evaluated by one thread on tiles of one shape, so that
neither the size of a batch nor the threads nor the process that reads move an integer of a table.
The processor may: the version of torch and a checksum of the data are in the file, so that another
arithmetic is noticed and never returns other data.
"""

import copy
import hashlib
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from density.coding.bits_back import BitsBack, Coded
from density.coding.container import Block, Header, pack, to_bytes, to_words, unpack
from density.coding.data_code import Coding
from density.coding.pixels import PixelCode, shape_and_levels
from density.model import LatentModel
from univae.checkpoint import to_json
from univae.errors import InputError

__all__ = [
    "Account",
    "compress",
    "decode",
    "decompress",
    "encode",
    "exactly",
    "fingerprint",
    "pixel_code",
    "prepared",
    "same_bits",
]

# data that are read together: the price of random access is initial bits for every block
BLOCK = 4096
Progress = Callable[[int], object]
Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class Account:
    """What the bits of a file are of."""

    count: int  # data
    plain: int  # data coded without latents
    initial_bits: int  # that these take
    net_bits: int  # that the others take

    @property
    def bits(self) -> int:
        return self.initial_bits + self.net_bits


def compress(
    model: LatentModel,
    x: Tensor | np.ndarray,
    *,
    particles: int = 1,
    tile: int = 1,
    swap: bool = True,
    block: int = BLOCK,
    verify: bool = True,
) -> bytes:
    r"""Compress whole numbers x (N, \*shape) of any dtype; :func:`decompress` gives them back, bit for bit.

    ``particles`` turn time into fewer bits; a ``tile`` of data coded together turns initial bits
    into less time; ``swap`` is Bit-Swap, where the model is a chain of layers. Every ``block`` of
    data can be read alone. With ``verify`` the result is decoded and compared before it is
    returned. :class:`InputError` for no data, for values that the model's law does not know, for
    densities, and for latents that are not Gaussian.

    >>> from density.images.mlp import MLPVAE
    >>> from density.likelihoods.head import Pixels
    >>> model, x = MLPVAE(Pixels((4,)), (1,), ((4,),)), torch.tensor([[0, 1, 1, 0]] * 9)
    >>> decompress(model, compress(model, x)).equal(x)
    True
    """
    owned = prepared(model)
    kind = str(x.dtype) if isinstance(x, Tensor) else x.dtype.str
    values = _array(x)
    header = Header(
        fingerprint(model), Coding(particles, tile, swap), torch.__version__, kind, tuple(x.shape)
    )
    with exactly():
        code = pixel_code(owned, tuple(values.shape[1:]), tile)
        content, _ = encode(
            BitsBack(owned, code, header.coding), levels_of(values, code.levels), header, block
        )
    if verify:
        again = decompress(model, content)
        if not same_bits(_array(again), values):
            raise InputError(
                "compress: the data did not come back; a bug or a faulty machine; try tile=1"
            )
    return content


def decompress(model: LatentModel, data: bytes, *, block: int | None = None) -> Any:
    """Return back what :func:`compress` took, of its type, dtype and shape; or the data of one block.

    :class:`InputError` for a damaged or foreign file, one of another model, and a machine that
    computes otherwise.
    """
    header, payloads = unpack(data)
    header.check(fingerprint(model))
    owned = prepared(model)
    with exactly():
        code = pixel_code(owned, header.shape[1:], header.coding.tile)
        values = decode(BitsBack(owned, code, header.coding), header, payloads, block)
    if header.dtype.startswith("torch."):
        return torch.from_numpy(values).to(getattr(torch, header.dtype.removeprefix("torch.")))
    return values.astype(header.dtype)


def encode(
    coder: BitsBack,
    data: Any,
    header: Header,
    block: int = BLOCK,
    progress: Progress = lambda count: None,
) -> tuple[bytes, Account]:
    """Compress data, as the coder's emission takes them, into the bytes of a file.

    Call it within :func:`exactly`.
    """
    if not len(data):
        raise InputError("compress: needs at least one datum; got none; there is nothing to write")
    if block < 1:
        raise InputError(f"compress: block must be at least 1; got block={block}")
    blocks = []
    payloads = []
    coded = list[Coded]()
    for start in range(0, len(data), block):
        part = data[start : start + block]
        found = coder.push(part, progress)
        coded.append(found)
        payloads.append(to_bytes(found.words))
        sums = zlib.crc32(payloads[-1]), zlib.crc32(coder.emission.content(part))
        blocks.append(Block(found.data, found.plain, len(payloads[-1]), *sums))
    totals = (
        sum(getattr(each, name) for each in coded)
        for name in ("data", "plain", "initial_bits", "net_bits")
    )
    return pack(replace(header, blocks=tuple(blocks)), payloads), Account(*totals)


def decode(
    coder: BitsBack,
    header: Header,
    payloads: list[bytes],
    block: int | None = None,
    progress: Progress = lambda count: None,
) -> Any:
    """The data of a file, or of one of its blocks; call it within :func:`exactly`."""
    if block is not None and not 0 <= block < len(payloads):
        raise InputError(f"decompress: block must lie in 0..{len(payloads) - 1}; got block={block}")
    parts = []
    for i in range(len(payloads)) if block is None else [block]:
        told = header.blocks[i]
        try:
            part = coder.pop(to_words(payloads[i]), told.count, told.plain, progress)
            same = zlib.crc32(coder.emission.content(part)) == told.sum_data
        except (ValueError, IndexError) as error:  # what a law makes of symbols that nobody wrote
            raise _other_arithmetic(header) from error
        if not same:
            raise _other_arithmetic(header)
        parts.append(part)
    return coder.emission.join(parts)


def _other_arithmetic(header: Header) -> InputError:
    return InputError(
        f"decompress: this machine's arithmetic differs from the writer's (torch {header.torch} there, "
        f"{torch.__version__} here), so the data cannot be read; use a machine and a version like those that wrote it"
    )


def fingerprint(model: Any, more: Mapping[str, Any] | None = None) -> bytes:
    """SHA-256 of a model's class, configuration and weights, and of ``more``."""
    if not isinstance(model, nn.Module):
        raise InputError(
            f"compress: needs a torch module, whose weights name it; got {type(model).__name__}; wrap it"
        )
    described = {
        "model": type(model).__name__,
        "config": to_json(getattr(model, "config", None)),
        "more": to_json(more),
    }
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name, weight in sorted(model.state_dict().items()):
        array = weight.detach().cpu().contiguous()
        digest.update(f"{name} {array.dtype} {tuple(array.shape)}".encode())
        digest.update(array.flatten().view(torch.uint8).numpy().tobytes())
    return digest.digest()


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Return whether two arrays have one dtype, one shape and the same bytes: 0.0 and -0.0 are equal and do not."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def _array(x: Tensor | np.ndarray) -> np.ndarray:
    if not isinstance(x, Tensor):
        return x
    try:
        return x.detach().cpu().numpy()
    except TypeError as error:
        raise InputError(
            f"compress: NumPy has no {x.dtype}; convert the data to float32 or integers"
        ) from error


def prepared(model: Any) -> Any:
    """A copy of the model that evaluates in float64 on the CPU."""
    if not isinstance(model, nn.Module):
        raise InputError(
            f"compress: needs a torch module, whose weights name it; got {type(model).__name__}; wrap it"
        )
    return copy.deepcopy(model).to("cpu", torch.float64).eval()


@contextmanager
def exactly() -> Iterator[None]:
    """One thread and no gradients: sums are split in one way only."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(threads)


def pixel_code(model: LatentModel, shape: tuple[int, ...], tile: int) -> PixelCode:
    """The code of a model's whole-number data; :class:`InputError` unless a datum has ``shape``."""
    with torch.random.fork_rng(devices=[]):
        found, levels = shape_and_levels(model.likelihood(model.prior().sample(torch.Size((1,)))))
    if found != tuple(shape):
        raise InputError(
            f"compress: the model's data are {found} each; got {tuple(shape)}; reshape them"
        )
    return PixelCode(model, shape, levels, tile)


def levels_of(values: np.ndarray, levels: int) -> np.ndarray:
    """The values as whole numbers below ``levels``; :class:`InputError` for others."""
    if values.dtype.kind not in "buif":
        raise InputError(
            f"compress: data must be whole numbers; got dtype {values.dtype}; convert them"
        )
    wrong = ~((values >= 0) & (values < levels) & (values == np.floor(values)))
    if values.dtype.kind == "f":
        negative = (values == 0) & np.signbit(values)
        if negative.any():
            count = int(negative.sum())
            raise InputError(
                f"compress: the sign of -0.0 would be lost; got {count} of them; add 0.0 to the data"
            )
    if wrong.any():
        way = (
            "binarise the data first, or train on them as they are"
            if levels == 2
            else "use a model of these data"
        )
        raise InputError(
            f"compress: the model codes whole numbers 0..{levels - 1}; got {values[wrong][0]!s}; {way}"
        )
    return values.astype(np.int64)
