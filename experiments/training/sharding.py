"""Weights, gradients and the optimizer's state divided over the processes (FSDP2).

Every block of a model is a unit of :func:`torch.distributed.fsdp.fully_shard`: its weights are
gathered when it computes, and freed after it. The loss is the outermost unit, which holds all other
weights, such as tied embeddings, from the forward to the backward pass.

Of a GAN only the optimizers' state is divided; see :func:`divided_state`.

A checkpoint holds the parts that each process writes, as safetensors files in ``shards/``, which
:mod:`torch.distributed.checkpoint` reads for any number of processes.

The modules of PyTorch that do it take most of a second to import, and are imported where they are
used: commands that divide nothing import this one, too.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from experiments.training.blocks import blocks_of
from univae.checkpoint import JsonObject
from univae.errors import InputError

if TYPE_CHECKING:
    from torch.distributed.optim import ZeroRedundancyOptimizer
    from torch.distributed.tensor import DTensor

__all__ = [
    "SHARDS",
    "Like",
    "divided_state",
    "full_weights",
    "shard",
    "unsharded",
    "whole_state",
    "whole_tensor",
    "whole_weights",
    "with_parts",
    "without_parts",
    "write_parts",
]

SHARDS = "shards"  # folder in a checkpoint
PART = "in shards/"  # in place of a tensor in optimizer.pt

# Returns the tensor that the one at a path of keys in a training state is divided like.
Like: TypeAlias = Callable[[tuple[object, ...]], Tensor | None]


def shard(loss: nn.Module, device: torch.device) -> None:
    """Divide the weights of a module, whose forward pass is the loss, over the processes.

    Raises:
        InputError: a weight is a single number, which cannot be divided.
    """
    numbers = [name for name, x in loss.named_parameters() if x.dim() == 0]
    if numbers:
        raise InputError(
            f"--shard: {', '.join(numbers)} is a single number, which cannot be divided; "
            "leave out --shard"
        )
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for block in blocks_of(loss):
        fully_shard(block, mesh=mesh)
    fully_shard(loss, mesh=mesh)
    # A validation may call blocks before the first loss: the first unit that is called would take
    # itself for the outermost one.
    loss._get_fsdp_state()._lazy_init()  # type: ignore[operator]


def divided_state(optimizer: Optimizer) -> "ZeroRedundancyOptimizer":
    """Return an AdamW of the same steps, of whose moments each process keeps its part; collective.

    Weights and gradients stay whole (stage 1 of ZeRO, https://arxiv.org/abs/1910.02054), as losses
    need them that contain gradients: the backward pass of a gradient uses all blocks at once.
    Their whole state is :func:`whole_state`.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".torch.jit", DeprecationWarning)  # PyTorch's own
        from torch.distributed.optim import ZeroRedundancyOptimizer

    # Loading a state leaves counts of steps on the CPU, where the fused kernel of a GPU reads none.
    on_cpu = all(p.is_cpu for group in optimizer.param_groups for p in group["params"])
    fused = optimizer.defaults["fused"] and on_cpu
    groups = [{**group, "fused": fused} for group in optimizer.param_groups]
    return ZeroRedundancyOptimizer(groups, optimizer_class=type(optimizer), fused=fused)


def whole_state(optimizer: Optimizer) -> JsonObject:
    """Return the state of a :func:`divided_state`; collective, and {} in all but the first."""
    divided = cast("ZeroRedundancyOptimizer", optimizer)
    divided.consolidate_state_dict()
    if dist.get_rank():
        return {}
    state: JsonObject = divided.state_dict()
    divided._all_state_dicts.clear()  # type: ignore[attr-defined] # which would stay in memory
    return state


@contextmanager
def unsharded(loss: nn.Module) -> Iterator[None]:
    """Let every process have all weights while a block runs, which computes no gradient."""
    from torch.distributed.fsdp import FSDPModule

    units = [unit for unit in loss.modules() if isinstance(unit, FSDPModule)]
    for unit in units:
        unit.set_reshard_after_forward(False, recurse=False)
        unit.unshard()
    try:
        yield
    finally:
        for unit in units:
            unit.set_reshard_after_forward(unit is not loss, recurse=False)
            unit.reshard()


def whole_tensor(x: Tensor) -> Tensor:
    """Return a tensor of all parts; collective where it is divided."""
    return x.full_tensor() if _is_divided(x) else x


def _is_divided(x: object) -> TypeGuard["DTensor"]:
    """Return whether a value is a tensor that is divided over the processes."""
    return isinstance(x, Tensor) and hasattr(x, "full_tensor")


def full_weights(module: nn.Module, *, keep: bool) -> dict[str, Tensor]:
    """Return the whole ``state_dict`` of a module, if ``keep``; a collective operation.

    One weight after the other is gathered, and only the process that keeps them holds all.
    """
    weights: dict[str, Tensor] = {}
    for name, x in module.state_dict().items():
        whole = whole_tensor(x)
        if keep:
            weights[name] = whole.cpu()
    return weights


@torch.no_grad()
def whole_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Fill a divided module with whole weights, of which each process keeps its part."""
    for name, x in module.state_dict().items():
        x.copy_(_part(weights[name], x))


def without_parts(state: JsonObject) -> tuple[JsonObject, dict[str, Tensor]]:
    """Return a training state with a mark in place of every divided tensor, and these by name."""
    parts: dict[str, Tensor] = {}

    def separate(path: tuple[object, ...], value: Any) -> Any:
        if not _is_divided(value):
            return value
        parts[_name(path)] = value
        return PART

    return _mapped((), state, separate), parts


def write_parts(parts: Mapping[str, Tensor], folder: Path) -> None:
    """Write the parts that this process has into a checkpoint; a collective operation."""
    if not parts:  # before the first step
        return
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

    writer = HuggingFaceStorageWriter(str(folder / SHARDS), save_distributed=True)
    dcp.save(dict(parts), storage_writer=writer)


def with_parts(state: JsonObject, folder: Path, like: Like) -> JsonObject:
    """Return a training state with its tensors, divided as those of the module are.

    Args:
        state: what :func:`without_parts` returned, or a state of whole tensors.
        folder: of the checkpoint.
        like: returns the tensor that the one at a path is divided like.

    Raises:
        InputError: the parts are damaged.
    """
    parts: dict[str, Tensor] = {}

    def restore(path: tuple[object, ...], value: Any) -> Any:
        template = like(path)
        if template is None:
            return value
        if isinstance(value, str) and value == PART:
            parts[_name(path)] = torch.empty_like(template.detach())
            return parts[_name(path)]
        if isinstance(value, Tensor) and value.shape == template.shape:
            return _part(value, template)
        return value

    restored = _mapped((), state, restore)
    if parts:
        _read_parts(parts, folder / SHARDS)
    return restored


def _read_parts(parts: dict[str, Tensor], folder: Path) -> None:
    """Fill tensors by their names from the files of a folder."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    reader = HuggingFaceStorageReader(str(folder))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")  # is meant
            dcp.load(parts, storage_reader=reader, no_dist=not dist.is_initialized())
    except CheckpointException as error:  # whatever a damaged file makes the reader raise
        cause, _ = next(iter(error.failures.values()))
        line = str(cause).strip().split("\n")[0]
        raise InputError(
            f"{folder}: not readable ({line}); it may be truncated: copy it again"
        ) from error


def _part(whole: Tensor, like: Tensor) -> Tensor:
    """Return this process's part of a whole tensor, divided as ``like`` is."""
    if not _is_divided(like) or _is_divided(whole):
        return whole
    from torch.distributed.tensor import distribute_tensor

    on_device = whole.to(like.device)
    return distribute_tensor(on_device, like.device_mesh, like.placements, src_data_rank=None)


def _mapped(path: tuple[object, ...], value: Any, function: Callable[..., Any]) -> Any:
    """Return nested dictionaries with ``function(path, value)`` in place of their values."""
    if isinstance(value, Mapping):
        return {key: _mapped((*path, key), entry, function) for key, entry in value.items()}
    return function(path, value)


def _name(path: tuple[object, ...]) -> str:
    return "/".join(map(str, path))
