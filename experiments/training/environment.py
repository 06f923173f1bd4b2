"""The environment of a run: versions, machine, commit and command line."""

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import torch

from experiments.training.processes import process_count
from experiments.version import version
from univae.checkpoint import JsonObject, read_json
from univae.errors import InputError
from univae.rules import OTHER_VERSION

__all__ = ["LENGTHS", "RESUMED", "environment", "stored_environment"]

# Keys of lists of objects in environment.json: one entry per resume, and per length of training.
RESUMED = "resumed"
LENGTHS = "lengths"


def environment(config: Mapping[str, object]) -> JsonObject:
    """Return everything but the configuration that a result may depend on.

    The keys are those of ``environment.json``.
    """
    may_use_gpu = config.get("device") != "cpu"
    cuda = torch.cuda.is_available() and may_use_gpu
    return {
        "univae": version(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "threads": config.get("threads") or torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "processes": process_count(),
        "git": _commit(),
        "command": shlex.join(sys.argv),
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def stored_environment(run: Path) -> JsonObject:
    """Return the content of ``environment.json`` of a run; empty where there is no such file.

    Raises:
        InputError: it is no JSON object, or its lists are none of objects.
    """
    path = run / "environment.json"
    if not path.exists():
        return {}
    stored = read_json(path)
    if not isinstance(stored, dict):
        raise InputError(f"{path}: not a JSON object; {OTHER_VERSION}")
    for name in (RESUMED, LENGTHS):
        entries = stored.get(name, [])
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise InputError(f"{path}: {name} must be a list of JSON objects; {OTHER_VERSION}")
    return stored


def _processor() -> str:
    """Return the model name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(errors="replace").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _commit() -> str | None:
    """Return the commit of the checkout that this module lies in; None if it is installed."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():  # installed somewhere inside another project's repository
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    command += ["--abbrev=40", "--exclude=*"]
    try:
        description = subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return description.stdout.strip()
