"""Re-exports of a package that are imported on first access (PEP 562)."""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module

__all__ = ["lazy_exports"]


def lazy_exports(
    package: str, exports: Mapping[str, Sequence[str]], submodules: Sequence[str] = ()
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return the ``__getattr__`` and the ``__dir__`` of a package that only re-exports.

    Args:
        package: the package's ``__name__``.
        exports: submodule -> the names it defines; ``"gather as gather_rows"`` exports a name under
            another one.
        submodules: submodules that can be read as attributes without an import statement.
    """
    sources: dict[str, tuple[str, str]] = {}
    for submodule, exported in exports.items():
        for name in exported:
            original, _, alias = name.partition(" as ")
            sources[alias or original] = (submodule, original)

    def load(name: str) -> object:
        value: object
        if name in sources:
            submodule, original = sources[name]
            value = getattr(import_module(f"{package}.{submodule}"), original)
        elif name in submodules:
            value = import_module(f"{package}.{name}")
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(sys.modules[package], name, value)  # later reads do not call this function
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *sources, *submodules})

    return load, names
