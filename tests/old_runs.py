"""Runs as earlier versions left them."""

from pathlib import Path

__all__ = ["without_checksums"]


def without_checksums(run: Path) -> None:
    """Remove the checksums of a run's checkpoints, which earlier versions did not write."""
    for path in run.glob("checkpoints/*/checksums.json"):
        path.unlink()
