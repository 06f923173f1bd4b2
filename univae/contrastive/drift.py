"""The distance between the representations of two passes, which rounding alone must explain."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from univae.dtypes import autocast_dtype
from univae.errors import InputError

__all__ = ["Drift", "precision"]

ROUNDINGS = 256  # machine epsilons: kernels that sum in another order, layer after layer
MAX_DRIFT = 0.01  # the most in half precision, whose epsilons are larger

TINY = 1e-300  # keeps a relative distance of zeros finite


@dataclass
class _Sums:
    """Squared norms over chunks, of one output of one column."""

    distance: float | Tensor = 0.0
    size: float | Tensor = 0.0  # of the outputs of the first pass
    epsilon: float = 0.0


class Drift:
    """The relative distances between two passes, of each output of each column by itself."""

    def __init__(self) -> None:
        self._sums: dict[tuple[int, int], _Sums] = {}

    @torch.no_grad()
    def add(
        self, column: int, first: Sequence[Tensor], second: Sequence[Tensor], epsilon: float
    ) -> None:
        """Add the outputs of a chunk in both passes, whose rounding is ``epsilon``."""
        for index, (a, b) in enumerate(zip(first, second, strict=True)):
            if not a.is_floating_point():
                continue
            sums = self._sums.setdefault((column, index), _Sums())
            sums.distance = sums.distance + (b - a).square().sum()
            sums.size = sums.size + a.square().sum()
            sums.epsilon = max(sums.epsilon, epsilon)

    def refuse(self) -> None:
        """Raise :class:`InputError` if an output differs by more than rounding."""
        for sums in self._sums.values():
            drift = math.sqrt(float(sums.distance) / max(float(sums.size), TINY))
            allowed = min(MAX_DRIFT, ROUNDINGS * sums.epsilon)
            if drift > allowed:
                raise InputError(
                    "cached_backward: the second pass of encode returned other representations, "
                    f"at a relative distance of {drift:.2g} where rounding explains {allowed:.2g}, "
                    "so the gradients in .grad are wrong; use torch's default generators alone in "
                    "encode, no state that it changes but buffers, and deterministic kernels"
                )


def precision(tensors: Iterable[Tensor]) -> float:
    """Return the machine epsilon of the lowest precision of tensors, or of an active autocast.

    It is 0 where no tensor has a floating-point dtype.
    """
    floats = [x for x in tensors if x.is_floating_point()]
    dtypes = {x.dtype for x in floats}
    for device in {x.device for x in floats}:
        dtype = autocast_dtype(device)
        if dtype is not None:
            dtypes.add(dtype)
    return max((torch.finfo(dtype).eps for dtype in dtypes), default=0.0)
