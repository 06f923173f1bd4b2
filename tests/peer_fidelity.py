"""torch-fidelity as a peer of tests, without torchvision.

torch-fidelity imports torchvision for networks and data sets that no test uses. On a CPU, PyPI's
torchvision cannot be imported beside PyTorch's CPU build, so that empty modules stand in for it
while torch-fidelity is imported.
"""

import importlib
import importlib.util
import sys
import warnings
from types import ModuleType
from typing import Any
from unittest import mock

import pytest

# What torch-fidelity imports of torchvision, and the names that it reads while it is imported.
STAND_INS = {
    "torchvision": (),
    "torchvision.datasets": ("CIFAR10", "CIFAR100", "STL10"),
    "torchvision.transforms": (),
    "torchvision.transforms.functional": (),
}


def fidelity(module: str) -> Any:
    """Return a module of torch-fidelity; skip the test where it is not installed."""
    name = f"torch_fidelity.{module}"
    if name not in sys.modules:
        if importlib.util.find_spec("torch_fidelity") is None:
            pytest.skip("torch-fidelity is not installed")
        sys.modules.update(_imported(name))
    return sys.modules[name]


def _imported(name: str) -> dict[str, ModuleType]:
    """Import a module of torch-fidelity, and return all of its modules."""
    stand_ins = {place: ModuleType(place) for place in STAND_INS}
    for place, names in STAND_INS.items():
        for attribute in names:
            setattr(stand_ins[place], attribute, type(attribute, (), {}))
        parent, _, child = place.rpartition(".")
        if parent:
            setattr(stand_ins[parent], child, stand_ins[place])
    with mock.patch.dict(sys.modules, stand_ins), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module(name)
        return {key: value for key, value in sys.modules.items() if "torch_fidelity" in key}
