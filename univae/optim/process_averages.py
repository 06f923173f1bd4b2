"""Means over processes of the averages that each has folded its own gradients into."""

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist

from univae.optim.base import State

__all__ = ["average_states"]


def average_states(
    states: Sequence[State],
    names: Sequence[str],
    begin: Callable[[State], None],
    processes: int,
) -> None:
    """Replace the averages of a window by their means over processes, and sum the skipped counts.

    Collective operations must match, so every process reduces every state in the same order, with
    or without a gradient.

    Args:
        states: those of the parameters of a group.
        names: the averages.
        begin: begins a window of a state that has none open, without a gradient.
        processes: the size of torch's default process group.
    """
    device = next(states[0][name].device for name in names)
    local_flags = [[float(state["open"]), float(state["skipped"])] for state in states]
    flags = torch.tensor(local_flags, device=device)
    dist.all_reduce(flags)
    for state, (open_count, skipped) in zip(states, flags.tolist(), strict=True):
        state["skipped"] = int(skipped)
        if open_count == 0:
            continue
        if not state["open"]:
            begin(state)
        for name in names:
            dist.all_reduce(state[name])
            state[name].div_(processes)
        state["open"] = True
