"""The position of a parameter group in its window, so that groups move at the same micro-steps."""

from collections.abc import Sequence

from univae.optim.base import Options

__all__ = ["joining_position"]


def joining_position(groups: Sequence[Options], window: int) -> int:
    """Return the position at which a new group's first window ends with an open one of ``groups``.

    That is the open window of a group with the same ``window``, or else with the longest. A new
    window that is shorter than what is left of it ends before, too. The position is 0 if there is
    no group, or if that group's window is not open.
    """
    if not groups:
        return 0
    leader = max(groups, key=lambda group: (group["window"] == window, group["window"]))
    if leader["position"] == 0:
        return 0
    remaining = leader["window"] - leader["position"]
    return int(-remaining % window)
