"""Rank and number of the processes that ``torchrun`` started, without importing PyTorch."""

import os

__all__ = ["is_first_process", "local_process_count", "process_count", "process_rank"]


def process_rank() -> int:
    """Return the number of this process among those that ``torchrun`` started; 0 if it did not."""
    return int(os.environ.get("RANK", "0"))


def process_count() -> int:
    """Return how many processes ``torchrun`` started; 1 if it did not."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_process_count() -> int:
    """Return how many processes ``torchrun`` started on this machine; 1 if it did not."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def is_first_process() -> bool:
    """Return whether this process writes and prints for all."""
    return process_rank() == 0
