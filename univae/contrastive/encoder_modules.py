"""The modules that an encoder calls, and a check that the caller lists those that matter.

The two passes over chunks treat some modules specially:

- a module under ``DistributedDataParallel`` must average its gradients in one backward pass only;
- a module that normalises with the statistics of its batch must not be applied to a chunk;
- dropout on an accelerator draws from the generator of the device of the weights;
- buffers that a pass changes, such as running statistics, must change once;
- the storage of weights does not count as memory of a graph.

A missing module of the first two kinds gives wrong gradients or a deadlock of the processes, so
they are checked: while the encoder runs on its first chunk, every module that it calls must be one
of these or inside one.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.nn.parallel import DistributedDataParallel

from univae.batch_statistics import batch_normalised
from univae.contrastive.encoder_state import Buffers
from univae.errors import InputError

__all__ = ["EncoderModules", "checked_calls", "encoder_modules", "refuse_batch_statistics"]


class EncoderModules(NamedTuple):
    """The modules of one encoder."""

    modules: list[nn.Module]
    wrapped: list[DistributedDataParallel]  # those among the modules and their submodules
    is_function: bool  # whether the modules are those that the caller listed


def encoder_modules(
    encode: Callable[..., object], modules: Sequence[nn.Module] = ()
) -> EncoderModules:
    """Return the modules of an encoder: itself, the one whose method it is, or else ``modules``.

    Raises:
        InputError: ``DistributedDataParallel`` with a static graph is among them.
    """
    owner = encode if isinstance(encode, nn.Module) else getattr(encode, "__self__", None)
    is_function = not isinstance(owner, nn.Module)
    roots = [owner] if isinstance(owner, nn.Module) else list(modules)
    wrapped = dict.fromkeys(
        module
        for root in roots
        for module in root.modules()
        if isinstance(module, DistributedDataParallel)
    )
    if any(module.static_graph for module in wrapped):
        raise InputError(
            "cached_backward: a static graph allows one backward pass a step, and every chunk "
            "needs one; wrap the module without static_graph=True"
        )
    return EncoderModules(roots, list(wrapped), is_function)


def refuse_batch_statistics(modules: Sequence[nn.Module]) -> None:
    """Raise :class:`InputError` if a module's output for a row depends on other rows."""
    mixing = batch_normalised(modules)
    if mixing is not None:
        raise InputError(
            "cached_backward: encode must compute each row from that row alone; "
            f"got {mixing}, which mixes the rows of a chunk, so that the gradient is not that of "
            "the whole batch; use LayerNorm or GroupNorm, or call .eval()"
        )


@contextmanager
def checked_calls(
    encoder: EncoderModules, buffers: Buffers | None, *, mixes_rows: bool
) -> Iterator[None]:
    """Check the modules that the encoder calls inside the block against the listed ones.

    Args:
        encoder: the listed modules.
        buffers: includes those of the called modules, and observes which of them change.
        mixes_rows: whether modules may normalise with the statistics of their batch.

    Raises:
        InputError: the encoder calls a module under ``DistributedDataParallel`` that is not listed,
            or one that normalises with its batch; or it is a function and does not call a module
            under ``DistributedDataParallel`` that the caller listed.
    """
    called: set[nn.Module] = set()
    checked: set[nn.Module] = set()

    def check(module: nn.Module, _: object) -> None:
        called.add(module)
        if module in checked:
            return
        submodules = list(module.modules())
        checked.update(submodules)
        if buffers is not None:
            buffers.include(submodules)
        _refuse_unlisted(submodules, encoder.wrapped)
        if not mixes_rows:
            refuse_batch_statistics([module])

    handle = register_module_forward_pre_hook(check)
    try:
        yield
    finally:
        handle.remove()
    if buffers is not None:
        buffers.observe()
    if encoder.is_function:
        _refuse_uncalled(encoder.wrapped, called)


def _refuse_unlisted(
    modules: Sequence[nn.Module], wrapped: Sequence[DistributedDataParallel]
) -> None:
    for module in modules:
        if isinstance(module, DistributedDataParallel) and module not in wrapped:
            raise InputError(
                "cached_backward: encode calls a module under DistributedDataParallel that is not "
                "in modules=; otherwise every chunk would average the gradients; list it in "
                "modules=, or pass it, or a method of it, as encode"
            )


def _refuse_uncalled(wrapped: Sequence[DistributedDataParallel], called: set[nn.Module]) -> None:
    for module in wrapped:
        if module not in called and module.module not in called:
            raise InputError(
                "cached_backward: a function among encode does not call a module under "
                "DistributedDataParallel that modules= lists, whose gradients would never be "
                "averaged; pass encoders that are modules, or methods of modules"
            )
