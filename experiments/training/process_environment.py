"""How the threads of PyTorch wait for each other: variables that are set before PyTorch loads.

PyTorch's OpenMP runtime starts one thread a core, and a thread that has finished its part of an
operation spins until the others have, for milliseconds. Where other programs use the cores, the
spinning thread occupies the core that the awaited one needs. The commands therefore let threads
spin for a few microseconds only, and then sleep.

Runtimes read their variables once, when they are loaded. A program that imports PyTorch itself
chooses for itself: ``import univae`` and the functions of the library change no variable.
"""

import os
import sys
from collections.abc import Mapping, MutableMapping

__all__ = ["POLICY", "is_module_of", "policy_origin", "set_waiting_policy", "waiting_policy"]

# Variables of all OpenMP runtimes, of GNU's (Linux) and of LLVM's and Intel's (macOS, Windows, some
# conda packages). A runtime ignores those of the others.
POLICY: Mapping[str, str] = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "1000",  # iterations before a thread sleeps, about 10 microseconds
    "KMP_BLOCKTIME": "1",  # milliseconds before a thread sleeps; 200 unless set
}

_MARK = "UNIVAE_WAIT_POLICY"  # set to COMMAND beside POLICY, also for processes that are started
COMMAND = "command"


def set_waiting_policy(environ: MutableMapping[str, str] = os.environ) -> bool:
    """Set the variables of :data:`POLICY`, and return whether they were set.

    Nothing is set where the user has set one of them, or where PyTorch is loaded already.
    """
    if "torch" in sys.modules or any(name in environ for name in POLICY):
        return False
    environ.update(POLICY)
    environ[_MARK] = COMMAND
    return True


def waiting_policy(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables of :data:`POLICY` that are set."""
    return {name: environ[name] for name in POLICY if name in environ}


def policy_origin(environ: Mapping[str, str] = os.environ) -> str:
    """Return who chose the waiting policy: the ``command``, the ``user``, or the ``runtime``."""
    if not waiting_policy(environ):
        return "runtime"
    return COMMAND if environ.get(_MARK) == COMMAND else "user"


def is_module_of(package: str) -> bool:
    """Return whether Python was started with ``-m`` and a module of a package.

    It holds while the package is imported, before the module itself: until then the first entry of
    ``sys.argv`` is ``-m``, and in ``sys.orig_argv`` the module stands before its arguments.
    """
    if sys.argv[:1] != ["-m"]:
        return False
    module = sys.orig_argv[-len(sys.argv)].removeprefix("-m")
    return module.partition(".")[0] == package
