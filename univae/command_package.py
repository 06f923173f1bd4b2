"""The library's own package of commands, also where a user has a package of the same name.

The commands lie in a package called ``experiments`` beside this one. A folder of that name in the
working directory comes first on the path of ``python -m`` and of a notebook, so the package is
imported from its place and not by a search.
"""

import sys
from importlib import import_module
from importlib.metadata import EntryPoint
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from univae.errors import InputError

__all__ = ["command_module", "load_point"]

PACKAGE = "experiments"

Loaded: TypeAlias = Any  # an object of an entry point


def command_module(name: str) -> ModuleType:
    """Import a module of the package of commands, such as ``experiments.cli.commands``.

    From then on ``import experiments`` is the library's package in this process.

    Raises:
        InputError: another package of that name is imported already, or the library's is missing.
    """
    folder = Path(__file__).resolve().parents[1] / PACKAGE
    file = folder / "__init__.py"
    imported = sys.modules.get(PACKAGE)
    if imported is None:
        _import_from(file)
    elif _file_of(imported) != file:
        place = _file_of(imported) or "a folder without __init__.py"
        raise InputError(
            f"univae: this process has imported another package {PACKAGE!r} ({place}), and the "
            "commands of the library lie in one of that name; train before importing yours, in a "
            "process of its own, or with the command univae"
        )
    return import_module(name)


def load_point(point: EntryPoint) -> Loaded:
    """Return the object of an entry point; one among the commands is the library's own.

    Raises:
        InputError: see :func:`command_module`.
    """
    is_command = point.module.partition(".")[0] == PACKAGE
    module = command_module(point.module) if is_command else import_module(point.module)
    return getattr(module, point.attr)


def _import_from(file: Path) -> None:
    spec = spec_from_file_location(PACKAGE, file, submodule_search_locations=[str(file.parent)])
    if not file.is_file() or spec is None or spec.loader is None:
        raise InputError(f"univae: the package of commands, {file.parent}, is missing; reinstall")
    module = module_from_spec(spec)
    sys.modules[PACKAGE] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[PACKAGE]
        raise


def _file_of(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return None if file is None else Path(file).resolve()
