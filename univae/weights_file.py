"""Weights as safetensors: written, compared with a module, and loaded into it.

A file from elsewhere may not fit the configuration beside it, or hold numbers that are not finite:
both are refused before a module of it takes memory or is used.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from univae.atomic_files import replacing_file
from univae.errors import InputError, brief_list
from univae.rules import reading

__all__ = [
    "COPY_AGAIN",
    "fill_weights",
    "first_line",
    "load_weights",
    "read_module",
    "read_weights",
    "require_weights",
    "save_weights",
    "stored_shapes",
]

Module = TypeVar("Module", bound=nn.Module)
Shapes: TypeAlias = Mapping[str, tuple[int, ...]]  # of weights by their names

COPY_AGAIN = "it may be truncated or of another kind: copy it again"
DRAWS = ("normal_", "uniform_", "trunc_normal_", "bernoulli_")  # methods, and those of nn.init
DIFFERENCES_SHOWN = 3  # weights named in a message
# Exceptions of safetensors for damaged files: of types that PyTorch lacks, too.
DAMAGED_WEIGHTS = (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError)


def save_weights(module: nn.Module | Mapping[str, Tensor], path: str | Path) -> None:
    """Write the module's ``state_dict``, or one that is given, as safetensors.

    Tensors that share memory are written once per name.
    """
    with replacing_file(Path(path)) as temporary:
        weights = module.state_dict() if isinstance(module, nn.Module) else module
        save_file(_unshared(weights), temporary)


def read_module(build: Callable[[], Module], weights: str | Path, config: str | Path) -> Module:
    """Return the module of ``build`` with the weights in the file ``weights``.

    Names and shapes are compared with the file before the module takes memory: it is first built
    without memory, on PyTorch's ``meta`` device.

    Args:
        build: a function that returns the module of the configuration in the file ``config``.
        weights: the safetensors file.
        config: the name of the file that messages on the configuration name.

    Raises:
        InputError: a value of the configuration is damaged; or as :func:`load_weights`.
    """
    with reading(config), torch.device("meta"), _WithoutDraws():
        expected = build().state_dict()
    _require_same_weights(_shapes(expected), stored_shapes(weights), weights)
    with reading(config):
        module = build()
    load_weights(module, weights)
    return module


def load_weights(module: nn.Module, path: str | Path) -> None:
    """Fill ``module`` with the weights in the file ``path``.

    Raises:
        InputError: the file is not safetensors, its names and shapes are not exactly those of
            the module, or a weight is not finite; the module is then unchanged.
    """
    fill_weights(module, read_weights(path), path)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Return the weights in the file ``path`` by name.

    Raises:
        InputError: the file is not safetensors.
    """
    try:
        return load_file(path)
    except DAMAGED_WEIGHTS as error:
        raise _unreadable_weights(path, error) from error


def fill_weights(module: nn.Module, weights: object, path: str | Path) -> None:
    """Fill ``module`` with ``weights``, a mapping read from the file ``path``.

    Raises:
        InputError: as :func:`load_weights`.
    """
    fitting = require_weights(module, weights, path)
    module.load_state_dict(fitting)

    # If the file has two values for two names of one tensor, the second overwrites the first.
    overwritten = [name for name, x in module.state_dict().items() if not _equal(x, fitting[name])]
    if overwritten:
        raise InputError(
            f"{path}: {', '.join(overwritten[:DIFFERENCES_SHOWN])} shares memory with another "
            "weight, which the file contradicts"
        )


def require_weights(module: nn.Module, weights: object, path: str | Path) -> Mapping[str, Tensor]:
    """Return ``weights``, read from the file ``path``, if they are those of ``module``.

    Raises:
        InputError: their names and shapes are not exactly those of the module, or one is not
            finite.
    """
    if not isinstance(weights, Mapping) or not all(isinstance(x, Tensor) for x in weights.values()):
        raise InputError(f"{path}: holds no weights; {COPY_AGAIN}")
    _require_same_weights(_shapes(module.state_dict()), _shapes(weights), path)
    infinite = [name for name, x in weights.items() if not bool(torch.isfinite(x).all())]
    if infinite:
        raise InputError(
            f"{path}: {brief_list(infinite, DIFFERENCES_SHOWN)} holds NaN or infinity; {COPY_AGAIN}"
        )
    return weights


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's text, or its type where it has none."""
    message = str(error).strip() or type(error).__name__
    return message.splitlines()[0]


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return contiguous tensors without shared memory, as safetensors requires."""
    storages: set[int] = set()
    unshared = {}
    for name, x in tensors.items():
        storage = x.untyped_storage().data_ptr()
        if storage in storages:
            unshared[name] = x.detach().clone(memory_format=torch.contiguous_format)
        else:
            unshared[name] = x.detach().contiguous()
        storages.add(storage)
    return unshared


class _WithoutDraws(TorchFunctionMode):
    """Leave weights as they are where a module draws them.

    Of tensors without memory nothing is drawn, but PyTorch would import its compiler to do so.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        """Return the tensor of a method that draws; call any other function."""
        named = dict(kwargs or {})
        if getattr(func, "__name__", "") in DRAWS:
            return args[0] if args else named["tensor"]
        return func(*args, **named)


def _shapes(weights: Mapping[str, Tensor]) -> Shapes:
    return {name: tuple(x.shape) for name, x in weights.items()}


def stored_shapes(path: str | Path) -> Shapes:
    """Return the shapes in the header of a safetensors file.

    Raises:
        InputError: the file is not safetensors.
    """
    try:
        with safe_open(path, "pt") as file:
            names = list(file.keys())
            return {name: tuple(file.get_slice(name).get_shape()) for name in names}
    except DAMAGED_WEIGHTS as error:
        raise _unreadable_weights(path, error) from error


def _require_same_weights(expected: Shapes, found: Shapes, path: str | Path) -> None:
    """Raise InputError unless the weights in a file have the names and shapes of a module."""
    differences = _differences(expected, found)
    if differences:
        raise InputError(
            f"{path}: weights of another model: {'; '.join(differences[:DIFFERENCES_SHOWN])}"
            f"{_more(len(differences) - DIFFERENCES_SHOWN)}; "
            "build the model from the config.json of the same run"
        )


def _differences(expected: Shapes, found: Shapes) -> list[str]:
    shapes = []
    for name, shape in expected.items():
        if name in found and found[name] != shape:
            shapes.append(f"{name} is {found[name]} in the file, {shape} in the model")
    missing = [f"{name} is missing" for name in expected if name not in found]
    unexpected = [f"{name} is not in the model" for name in found if name not in expected]
    return shapes + missing + unexpected


def _more(count: int) -> str:
    return f"; and {count} more" if count > 0 else ""


def _unreadable_weights(path: str | Path, error: Exception) -> InputError:
    reason = first_line(error)
    return InputError(f"{path}: not a readable safetensors file ({reason}); {COPY_AGAIN}")


def _equal(x: Tensor, y: Tensor) -> bool:
    return torch.allclose(x, y.to(x), rtol=0, atol=0, equal_nan=True)
