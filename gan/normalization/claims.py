r"""What a module's type says about its forward: torch's own classes, and declarations of others.

A class says nothing about modules with hooks or with a forward of their own, nor about subclasses
that replace a part of it.
"""

from collections.abc import Iterator

from torch import nn
from torch.nn.utils import parametrize

__all__ = ["declares", "is_modified", "plain_type", "submodules_of_input"]

# Names in the body of a class that no forward depends on. The constructor chooses submodules, whose
# types are read one by one.
NEUTRAL = frozenset(
    {
        "__annotations__",
        "__dict__",
        "__doc__",
        "__firstlineno__",
        "__init__",
        "__module__",
        "__static_attributes__",
        "__weakref__",
    }
)


def plain_type(module: nn.Module) -> type[nn.Module]:
    """Return the class of a module, without the subclass that a reparametrisation adds."""
    return type(module).__bases__[0] if parametrize.is_parametrized(module) else type(module)


def is_modified(module: nn.Module) -> bool:
    """Return whether the module has forward hooks, or a ``forward`` set on the instance."""
    if "forward" in vars(module):
        return True
    return bool(module._forward_hooks or module._forward_pre_hooks)


def declares(module: nn.Module, attribute: str) -> bool:
    """Return whether a class of the module declares ``attribute = True`` for the module's forward.

    A class declares it in its body for the ``forward`` that it defines or inherits. A subclass that
    overrides ``forward`` or any other attribute of that class but ``__init__`` does not inherit the
    declaration, because its forward may compute something else; it can repeat it. A modified module
    (:func:`is_modified`) declares nothing.
    """
    if is_modified(module):
        return False
    kind = plain_type(module)
    subclasses: list[type] = []
    for base in kind.__mro__:
        if attribute in vars(base):
            has_this_forward = getattr(base, "forward", None) is kind.forward
            is_declared = has_this_forward and vars(base)[attribute] is True
            return is_declared and not any(_overrides(subclass, base) for subclass in subclasses)
        subclasses.append(base)
    return False


def submodules_of_input(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the module and all submodules, except those that reparametrise weights."""
    yield module
    for name, child in module.named_children():
        if name != "parametrizations":
            yield from submodules_of_input(child)


def _overrides(subclass: type, owner: type) -> bool:
    """Return whether the body of ``subclass`` replaces an attribute of ``owner``."""
    for name, value in vars(subclass).items():
        if name in NEUTRAL or not hasattr(owner, name):
            continue
        if value is not getattr(owner, name):
            return True
    return False
