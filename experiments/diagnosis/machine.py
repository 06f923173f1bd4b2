"""The machine: devices, cores, threads and how they wait, memory and disk."""

import os
import re
import shutil
import tempfile
from pathlib import Path

import torch

from experiments.diagnosis.findings import Finding
from experiments.training.cgroups import cpu_quota, memory_limit, read_text
from experiments.training.cores import allowed_cores, busy_cores, lasting_load, usable_cores
from experiments.training.process_environment import COMMAND, POLICY, policy_origin, waiting_policy
from experiments.training.threads import choose_threads

__all__ = ["cores", "devices", "disk", "existing", "memory", "openmp", "threads", "waiting"]

GIGABYTE = 1e9
LITTLE_DISK = 2.0  # gigabytes: a run of the preset base has 1.5
LITTLE_MEMORY = 2.0  # gigabytes: what PyTorch, a small model and its data take
RUNTIMES = re.compile(r"/(?:lib)?(gomp|iomp5|omp)[^/]*\.(?:so|dylib|dll)", re.IGNORECASE)
NAMES = {"gomp": "GNU", "iomp5": "Intel", "omp": "LLVM"}


def devices() -> Finding:
    """Find the GPUs that PyTorch can use."""
    if not torch.cuda.is_available():
        advice = ""
        if Path("/dev/nvidia0").exists() or Path("/dev/kfd").exists():
            advice = "this machine has a GPU that PyTorch cannot use: see pytorch.org for a build "
            advice += "that fits the driver, and nvidia-smi for the driver"
        value = "no GPU that PyTorch can use: models run on the CPU"
        return Finding(value, advice, {"gpus": [], "bf16": None})
    gpus = []
    words = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        gpus.append({"name": name, "memory_bytes": total, "free_bytes": free})
        words.append(f"{name} ({_gigabytes(free)} free)")
    bf16 = torch.cuda.is_bf16_supported()
    value = f"{', '.join(words)}; bf16: {'yes' if bf16 else 'no'}"
    return Finding(value, numbers={"gpus": gpus, "bf16": bf16})


def cores() -> Finding:
    """Find the cores of the machine, those that this process may use, and how busy they are."""
    logical = os.cpu_count() or 1
    quota = cpu_quota()
    busy = busy_cores()
    load = lasting_load()
    value = f"{logical} logical, {allowed_cores()} physical allowed, "
    value += "no quota" if quota is None else f"quota {quota:g}"
    value += f"; {busy:.1f} busy now, load {load:.1f} over five minutes"
    advice = ""
    if busy >= usable_cores() / 2:
        advice = "other programs take a good part of the cores: expect a share of the usual speed"
    numbers = {"cores": logical, "usable_cores": usable_cores(), "cpu_quota": quota}
    return Finding(value, advice, {**numbers, "busy_cores": busy, "load": load})


def threads() -> Finding:
    """Find the number of threads that a training is started with, and why."""
    choice = choose_threads()
    value = f"{choice.threads} ({choice.reason})"
    advice = "--threads sets another number; give it where runs shall repeat bit for bit"
    return Finding(
        value,
        advice if choice.is_reduced else "",
        {"threads": choice.threads, "threads_reason": choice.reason},
    )


def waiting() -> Finding:
    """Find how threads wait for each other, and who chose it."""
    origin = policy_origin()
    variables = waiting_policy()
    value = " ".join(f"{name}={text}" for name, text in variables.items()) or "the runtime's own"
    ours = " ".join(f"{name}={text}" for name, text in POLICY.items())
    if origin == COMMAND:
        value += " (set by this command, as by every one; a program of your own that trains has it "
        value += f"when it is started as {ours} python program.py)"
        advice = ""
    elif origin == "user":
        value += " (set by the user)"
        advice = "unset these variables, and the commands choose"
    else:
        advice = f"PyTorch was loaded first: start this program with {ours}"
    return Finding(value, advice, {"waiting_policy": variables, "waiting_policy_origin": origin})


def openmp() -> Finding:
    """Find the OpenMP runtimes that this process has loaded, and what PyTorch was built with."""
    maps = read_text(Path("/proc/self/maps"))
    loaded = sorted({NAMES[name.lower()] for name in RUNTIMES.findall(maps)})
    built = [line for line in torch.__config__.parallel_info().splitlines() if "OpenMP" in line]
    value = ", ".join(loaded) or "not listed by this system"
    value += f"; {built[0].strip()}" if built else "; PyTorch was built without"
    advice = ""
    if len(loaded) > 1:
        advice = "several runtimes in one process start threads of their own each: install PyTorch "
        advice += "and the packages beside it from one source"
    return Finding(value, advice, {"openmp": loaded})


def memory() -> Finding:
    """Find the memory that is free, within the limit of the control groups."""
    free = _available_memory()
    limit = memory_limit()
    known = [number for number in (free, limit) if number is not None]
    if not known:
        return Finding("not listed by this system", numbers={"free_memory_bytes": None})
    least = min(known)
    value = f"{_gigabytes(least)} free"
    if limit is not None:
        value += f" ({_gigabytes(limit)} within the limit of the control group)"
    little = least < LITTLE_MEMORY * GIGABYTE
    advice = "a smaller batch and --accumulate take less memory" if little else ""
    return Finding(value, advice, {"free_memory_bytes": least})


def disk(out: Path) -> Finding:
    """Find the free disk where runs are written, and whether they can be."""
    folder = existing(out)
    free = shutil.disk_usage(folder).free
    writable = _is_writable(folder)
    value = f"{_gigabytes(free)} free for {out.absolute()}"
    advice = ""
    if free < LITTLE_DISK * GIGABYTE:
        advice = "a run has up to three checkpoints: give an --out on a larger disk"
    if not writable:
        value += ", where nothing can be written"
        advice = "give an --out where you may write"
    return Finding(value, advice, {"free_disk_bytes": free, "writable": writable})


def existing(path: Path) -> Path:
    """Return the folder at ``path``, or the nearest one around it that exists."""
    folder = path.absolute()
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder


def _is_writable(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _available_memory() -> int | None:
    """Return the bytes of memory that new programs can have; None where the system is silent."""
    for line in read_text(Path("/proc/meminfo")).splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _gigabytes(count: int) -> str:
    return f"{count / GIGABYTE:.1f} GB"
