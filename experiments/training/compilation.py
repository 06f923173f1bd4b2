"""Training steps by generated code: ``--compile``.

Of a model with Transformer blocks, what a block computes before and after its attention is compiled
by :func:`torch.compile`: two functions of the rows of a batch, which all blocks share. The
attention itself is a fused kernel already. Of other models the loss is compiled as a whole.

Sizes of batches are variables of the code, which is generated for the first batch of the data and
used for all: texts of other lengths compile nothing. Validations compute without it.

Draws are those of PyTorch's generator, as without compilation. A resumed run generates its code for
the same first batch, and not from a cache of code for other batches, so that it continues bit for
bit.
"""

import os
import shutil
import sys
import sysconfig
import warnings
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from torch import nn

from experiments.training.blocks import blocks_of
from experiments.training.task import Batch, Item, Loss, Task
from univae.devices import is_cuda
from univae.errors import InputError

__all__ = ["compiled_loss", "require_compiler"]

HALVES = ("before", "after")  # methods of a block that are compiled
# draws by PyTorch's generator, and no code that was generated for another batch
OPTIONS: Mapping[str, bool] = {"fallback_random": True, "fx_graph_cache": False}


def require_compiler(device: torch.device) -> None:
    """Check that code for a device can be compiled here.

    Raises:
        InputError: there is no compiler, or it lacks a part.
    """
    if is_cuda(device):
        if find_spec("triton") is None:
            _refuse("the package triton", "install it (pip install triton)")
        return
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler) is None:
        _refuse(f"a C++ compiler ({compiler})", "install one (apt install g++), or set CXX")
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.exists():
        _refuse(f"{header}", "install the headers of Python (apt install python3-dev)")
    libraries = torch.__path__[0]
    if any(character.isspace() for character in libraries):  # which it passes on without quotes
        _refuse(
            f"a PyTorch in a folder without spaces (it is in {libraries!r})",
            "install it in another folder",
        )


def compiled_loss(task: Task[Item, Batch]) -> Loss[Batch]:
    """Return the loss of a task by compiled code, which is generated when it is first called.

    Names of weights do not change.
    """
    # of the phases of rotations, which are read as pairs of numbers
    warnings.filterwarnings("ignore", "Torchinductor does not support code generation for complex")
    blocks = blocks_of(task.module)
    if not blocks:
        return _compiled(task.loss)
    for block in blocks:
        for name in HALVES:
            function = MethodType(getattr(type(block), name), block)
            setattr(block, name, _in_training(block, function))
    return task.loss


def _in_training(block: nn.Module, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of a block that is compiled in training steps alone."""
    compiled = _compiled(function)

    def call(*args: object) -> object:
        if block.training and torch.is_grad_enabled():
            return compiled(*args)
        return function(*args)

    return call


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=True, options=dict(OPTIONS))


def _refuse(missing: str, remedy: str) -> None:
    raise InputError(
        f"--compile needs {missing}, which is not here; {remedy}, or leave out --compile"
    )
