"""Saved states of optimizers of ``torch.optim`` as states of optimizers with windows."""

from collections.abc import Hashable, Mapping, Sequence

from univae.optim.base import Group, State, StateDict

__all__ = ["is_torch_state", "windowed_state"]

SCHEDULER_OPTION = "initial_lr"  # added to a group by torch's learning-rate schedulers


def is_torch_state(state: StateDict, option: str) -> bool:
    """Return whether a state is that of the torch optimizer which has this ``option``."""
    return all(option in group and "window" not in group for group in state["param_groups"])


def windowed_state(
    state: StateDict, parameter_states: Mapping[Hashable, State], groups: Sequence[Group]
) -> StateDict:
    """Return the state of a torch optimizer as one between two windows.

    Args:
        state: the state dict that torch saved.
        parameter_states: the state of each parameter, by its index.
        groups: the groups of the loading optimizer, whose window and other additional options
            stay.
    """
    saved_groups = state["param_groups"]
    windowed_groups: list[Group] = []
    for saved, group in zip(saved_groups, groups, strict=False):
        options = {name: saved[name] for name in (*group, SCHEDULER_OPTION) if name in saved}
        options["lr"] = float(options["lr"])  # torch allows a tensor
        windowed_groups.append({**group, **options, "position": 0, "opened": group["window"]})
    windowed_groups += saved_groups[len(windowed_groups) :]  # refused by load_state_dict

    windowed_states = {}
    for index, parameter_state in parameter_states.items():
        windowed_states[index] = {**parameter_state, "open": False, "skipped": 0}
    return {"param_groups": windowed_groups, "state": windowed_states}
