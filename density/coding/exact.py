"""Evaluation independent of batch, thread and process, and fingerprints of models.

Models are copied to float64 on the CPU and evaluated by one thread on tiles of one shape, so that
the integers of a frequency table are the same for writer and reader. The processor may differ: a
file holds the version of torch, a checksum of the arithmetic and one of its rows, so that other
arithmetic raises an error instead of returning wrong rows.
"""

import copy
import dataclasses
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import nn
from torch.distributions import Distribution

from univae.checkpoint import JsonObject, to_json
from univae.errors import InputError

__all__ = ["exactly", "fingerprint", "prepared", "same_bits"]

Model = TypeVar("Model")


@contextmanager
def exactly() -> Iterator[None]:
    """Use one thread, so that the order of sums is fixed, without gradients.

    Arguments of distributions are not checked: coders name what is not finite with its row.

    Raises:
        InputError: a constant that a model made in float32 meets its weights in float64.
    """
    threads = torch.get_num_threads()
    checks_arguments = Distribution._validate_args
    torch.set_num_threads(1)
    Distribution.set_default_validate_args(False)
    try:
        with torch.inference_mode():
            yield
    except RuntimeError as error:
        if not _mixes_precisions(error):
            raise
        reason = str(error).splitlines()[0]
        raise InputError(
            "compress: a constant of the model stays float32 where the model is evaluated in "
            f"float64 ({reason}); create it with z.new_zeros(...), or keep it by register_buffer"
        ) from error
    finally:
        torch.set_num_threads(threads)
        Distribution.set_default_validate_args(checks_arguments)


def prepared(model: Model) -> Model:
    """Return a copy of the model in float64 on the CPU, in evaluation mode.

    Raises:
        InputError: the model is not a torch module, or a weight is not a number.
    """
    _require_numbers(_require_module(model))
    exact_model = copy.deepcopy(model)
    _require_module(exact_model).to("cpu", torch.float64).eval()
    return exact_model


def fingerprint(model: object, extra: JsonObject | None = None) -> bytes:
    """Return the SHA-256 of a model's class, configuration and weights, and of ``extra``.

    Fields of the configuration that are named in its ``NEWER`` are left out where they have their
    defaults, so that files of versions without these fields are read.

    Raises:
        InputError: the model is not a torch module.
    """
    module = _require_module(model)
    description = {
        "model": type(model).__name__,
        "config": _configuration(getattr(model, "config", None)),
        "more": to_json(extra),
    }
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for name, weight in sorted(module.state_dict().items()):
        array = weight.detach().cpu().contiguous()
        digest.update(f"{name} {array.dtype} {tuple(array.shape)}".encode())
        digest.update(array.flatten().view(torch.uint8).numpy().tobytes())
    return digest.digest()


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Return whether two arrays have one dtype, shape and the same bytes: 0.0 and -0.0 differ."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def _configuration(config: object) -> object:
    values = to_json(config)
    newer: frozenset[str] = getattr(config, "NEWER", frozenset())
    if newer:
        for field in dataclasses.fields(cast("Any", config)):
            if field.name in newer and values[field.name] == field.default:
                del values[field.name]
    return values


def _mixes_precisions(error: RuntimeError) -> bool:
    """Return whether an error of PyTorch says that an operation got float32 and float64."""
    message = str(error).lower()
    return "float" in message and "double" in message


def _require_numbers(model: nn.Module) -> None:
    for name, weight in model.named_parameters():
        if weight.isnan().any():
            raise InputError(
                f"compress: the weight {name} holds nan, which is not finite; train or restore "
                "the model again"
            )


def _require_module(model: object) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise InputError(
            "compress: needs a torch module, for a fingerprint of its weights; "
            f"got {type(model).__name__}; wrap it"
        )
    return model
