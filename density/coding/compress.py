r"""Lossless compression: arrays in about :math:`-\log_2 p(x)` bits of a model, and back."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from density.coding.bits_back import BitsBack
from density.coding.blocks import BLOCK, Account, decode, encode
from density.coding.container import Header, unpack
from density.coding.data_code import Coding
from density.coding.exact import exactly, fingerprint, prepared, same_bits
from density.coding.fields import damaged
from density.coding.levels import levels_of
from density.coding.pixel_codes import pixel_code, with_waves
from density.model import LatentModel, number_array
from univae.dtypes import is_number_dtype
from univae.errors import InputError

__all__ = [
    "BLOCK",
    "Account",
    "compress",
    "decode",
    "decompress",
    "encode",
    "exactly",
    "fingerprint",
    "levels_of",
    "pixel_code",
    "prepared",
    "same_bits",
    "with_waves",
]

ArrayLike: TypeAlias = Any  # a tensor, an array, a list of numbers or a DataFrame

TORCH = "torch."  # prefix of the dtype of a tensor in a header


@runtime_checkable
class HasCodable(Protocol):
    """A model that has another form for codecs, as that of :func:`density.from_pyro`."""

    def codable(self, shape: Sequence[int]) -> LatentModel:
        """Return a torch module with the same distributions, for rows of one shape."""
        ...


def compress(
    model: LatentModel,
    x: ArrayLike,
    *,
    particles: int = 1,
    tile: int = 1,
    swap: bool = True,
    block: int = BLOCK,
    verify: bool = True,
) -> bytes:
    r"""Compress whole numbers x (N, \*shape) of any dtype; :func:`decompress` returns them.

    >>> from density.images.mlp import MLPVAE
    >>> from density.likelihoods.head import Pixels
    >>> model = MLPVAE(Pixels((4,)), (1,), ((4,),))
    >>> x = torch.tensor([[0, 1, 1, 0]] * 9)
    >>> decompress(model, compress(model, x)).equal(x)
    True

    Args:
        model: a torch module with Gaussian latents and a distribution of whole numbers
            (Bernoulli, Categorical, or one of this library), or such a pair of
            :func:`density.from_pyro`.
        x: the rows: a tensor, or an array, a list or a DataFrame, which come back as an array.
        particles: importance samples per row; more take time and save bits.
        tile: rows coded together; more save time and cost initial bits.
        swap: use Bit-Swap, where the model is a chain of layers.
        block: rows that can be decoded without the others, at most 65,536: more are written as
            several blocks.
        verify: decode the result and compare before it is returned.

    Raises:
        InputError: there are no rows, a value is not a level of the model's law, the law is a
            density, or the latents are not Gaussian.
    """
    if not isinstance(x, Tensor | np.ndarray):
        x = number_array(x, "compress")
    values = _array(x)
    module = _module(model, values.shape[1:])
    exact_model = prepared(module)
    dtype = str(x.dtype) if isinstance(x, Tensor) else x.dtype.str
    shape = tuple(values.shape[1:])
    with exactly():
        coding = with_waves(Coding(particles, tile, swap), exact_model)
        header = Header(fingerprint(module), coding, torch.__version__, dtype, tuple(x.shape))
        code = pixel_code(exact_model, shape, tile, waves=coding.waves)
        coder = BitsBack(exact_model, code, coding)
        content, _ = encode(coder, levels_of(values, code.levels), header, block)
    if verify and not same_bits(_array(decompress(model, content)), values):
        raise InputError(
            "compress: the decoded data differ, by a bug or a faulty machine; try tile=1"
        )
    return content


def decompress(model: LatentModel, data: bytes, *, block: int | None = None) -> Tensor | np.ndarray:
    """Return the rows passed to :func:`compress`, or those of one block, of their type and dtype.

    Raises:
        InputError: the file is damaged, of another model or another program, or was written by a
            machine with another arithmetic.
    """
    header, payloads = unpack(data)
    _require_array(header)
    module = _module(model, header.shape[1:])
    header.check(fingerprint(module))
    exact_model = prepared(module)
    with exactly():
        coding = header.coding
        code = pixel_code(exact_model, header.shape[1:], coding.tile, waves=coding.waves)
        coder = BitsBack(exact_model, code, coding)
        values = decode(coder, header, payloads, block)
    if header.dtype.startswith(TORCH):
        dtype = getattr(torch, header.dtype.removeprefix(TORCH))
        return torch.from_numpy(values).to(dtype)
    return values.astype(header.dtype)


def _require_array(header: Header) -> None:
    """Raise :class:`InputError` unless a header is that of an array of numbers, row by row."""
    name = header.dtype.removeprefix(TORCH)
    is_tensor = header.dtype.startswith(TORCH)
    is_known = isinstance(getattr(torch, name, None), torch.dtype) if is_tensor else _is_dtype(name)
    if not is_known or header.shape[:1] != (header.count,):
        raise damaged(f"it declares {header.count} rows of {header.dtype} of shape {header.shape}")


def _is_dtype(name: str) -> bool:
    """Return whether a name is that of a dtype of numbers of NumPy."""
    try:
        return is_number_dtype(np.dtype(name))
    except (TypeError, ValueError, SyntaxError):
        return False


def _module(model: LatentModel, shape: Sequence[int]) -> LatentModel:
    """Return the form of a model that codecs use."""
    return model.codable(shape) if isinstance(model, HasCodable) else model


def _array(x: Tensor | np.ndarray) -> np.ndarray:
    if not isinstance(x, Tensor):
        return x
    try:
        return x.detach().cpu().numpy()
    except TypeError as error:
        raise InputError(
            f"compress: NumPy has no {x.dtype}; convert the data to float32 or integers"
        ) from error
