"""The speed of this machine, in a few seconds: matrix products, a small training, the disk."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from experiments.diagnosis.findings import Finding
from experiments.diagnosis.small_training import SmallTraining

__all__ = ["disk_speed", "matrix_speed", "training_speed"]

SIDE = 1024  # rows and columns of the matrices
BLOCK = bytes(2**20)  # written to the disk at once
SLOW_DISK = 0.1  # seconds of one write: a checkpoint takes several
BETTER = 1.1  # ratio of speeds above which another number of threads is advised


def matrix_speed(seconds: float, threads: int) -> Finding:
    """Measure products of two float32 matrices, in 10^9 operations a second."""
    torch.set_num_threads(threads)
    matrix = torch.rand(SIDE, SIDE)
    median = statistics.median(_times(lambda: matrix @ matrix, seconds))
    speed = 2 * SIDE**3 / median / 1e9
    value = f"{speed:.0f} GFLOP/s, float32, threads: {threads}"
    return Finding(value, numbers={"gigaflops": speed})


def training_speed(seconds: float, threads: int) -> Finding:
    """Measure the steps a second of a small training, with one thread and with ``threads``."""
    training = SmallTraining()
    counts = sorted({1, threads})
    speeds = {n: training.steps_per_second(seconds / len(counts), n) for n in counts}
    words = [f"{speed:.1f} with {n}" for n, speed in speeds.items()]
    advice = ""
    if speeds[1] > BETTER * speeds[threads]:
        advice = "small models train faster with --threads 1 here, at this moment"
    return Finding(
        f"steps a second of a small text VAE, by threads: {', '.join(words)}",
        advice,
        {"steps_per_second": {str(n): speed for n, speed in speeds.items()}},
    )


def disk_speed(seconds: float, folder: Path) -> Finding:
    """Measure writing 1 MiB so that it outlives a power cut, as every checkpoint is written."""
    with tempfile.TemporaryFile(dir=folder) as file:

        def write() -> None:
            file.seek(0)
            file.write(BLOCK)
            file.flush()
            os.fsync(file.fileno())

        median = statistics.median(_times(write, seconds))
    advice = "checkpoints wait for this disk: raise --checkpoint-every, or give an --out on another"
    return Finding(
        f"{1e3 * median:.1f} ms to write 1 MiB for good",
        advice if median > SLOW_DISK else "",
        {"fsync_seconds": median},
    )


def _times(action: Callable[[], object], seconds: float) -> list[float]:
    """Return the durations of repeated calls, for that many seconds, after one to warm up."""
    action()
    end = time.perf_counter() + seconds
    times: list[float] = []
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return times
