"""The place of this process among those that ``torchrun`` started, from environment variables.

It imports no other module of the project, so that code which must start fast can ask before torch is loaded.
"""

import os

__all__ = ["is_first_process"]


def is_first_process() -> bool:
    """Return whether this process writes files and messages for all: rank 0, or the only one."""
    return int(os.environ.get("RANK", "0")) == 0
