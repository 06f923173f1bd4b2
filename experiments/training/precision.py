"""The registry of number formats of forward passes, for ``--precision``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch

from univae.devices import is_cuda

__all__ = ["PRECISIONS", "Precision", "PrecisionName"]


@dataclass(frozen=True)
class Precision:
    """A row of :data:`PRECISIONS`; ``uses_bf16(device)``: whether autocast to bfloat16 is on."""

    summary: str
    uses_bf16: Callable[[torch.device], bool]


def _has_bf16(device: torch.device) -> bool:
    return is_cuda(device) and torch.cuda.is_bf16_supported(including_emulation=False)


PRECISIONS: Mapping[str, Precision] = {
    "auto": Precision("bf16 on a GPU that computes with it, else fp32", _has_bf16),
    "fp32": Precision("32 bits", lambda device: False),
    "bf16": Precision("autocast to bfloat16, faster and less exact", lambda device: True),
}

if TYPE_CHECKING:
    PrecisionName: TypeAlias = str
else:
    PrecisionName = Literal[tuple(PRECISIONS)]
