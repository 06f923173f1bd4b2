"""The calls of a critic's modules in one pass: which modules, on which shapes, in which order."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gan.audit_constants import CONSTANTS, Call
from gan.normalization.claims import plain_type, submodules_of_input

__all__ = ["Recording", "record_calls"]

ROWS = 2  # of the pass


class Recording:
    """The calls of one pass of a critic.

    Attributes:
        calls: those of modules whose type has a row in :data:`gan.audit_constants.CONSTANTS`.
        is_composition: whether the score is the calls in turn: the first one takes the rows, each
            other one the result of the one before, and the last result is the score.
    """

    def __init__(self, x: Tensor) -> None:
        self.calls: list[Call] = []
        self.is_composition = True
        self._result = x
        self._version = x._version  # grows with operations in place

    def start(
        self, module: nn.Module, inputs: tuple[object, ...], named: Mapping[str, object]
    ) -> None:
        """Compare the input of a call with the last result; a forward pre-hook."""
        value = _input(inputs, named)
        if value is not self._result or value._version != self._version:
            self.is_composition = False

    def end(
        self,
        module: nn.Module,
        inputs: tuple[object, ...],
        named: Mapping[str, object],
        output: object,
    ) -> None:
        """Add a call; a forward hook."""
        if not isinstance(output, Tensor):  # a pool that returns indices too
            self.is_composition = False
            return
        self.calls.append(Call(module, tuple(_input(inputs, named).shape), tuple(output.shape)))
        self._result = output
        self._version = output._version

    def finish(self, score: Tensor) -> None:
        """Compare the score with the last result, of which it may be a view."""
        last = self._result.data_ptr(), self._result.numel(), self._version
        if (score.data_ptr(), score.numel(), score._version) != last:
            self.is_composition = False


@torch.no_grad()
def record_calls(critic: nn.Module, x: Tensor, labels: Tensor | None = None) -> Recording:
    """Return the calls of one pass of the first two rows of ``x``.

    Args:
        critic: the critic, in evaluation mode.
        x: rows of the shape of the data.
        labels: labels of the rows, for a conditional critic.
    """
    with torch.inference_mode(mode=False):
        rows = x[:ROWS].clone()
        recording = Recording(rows)
        hooks = []
        for module in submodules_of_input(critic):
            if plain_type(module) in CONSTANTS:
                start = module.register_forward_pre_hook(recording.start, with_kwargs=True)
                end = module.register_forward_hook(recording.end, with_kwargs=True)
                hooks += [start, end]
        try:
            score = critic(rows) if labels is None else critic(rows, labels[:ROWS].clone())
        finally:
            for hook in hooks:
                hook.remove()
        recording.finish(score)
    return recording


def _input(inputs: tuple[object, ...], named: Mapping[str, object]) -> Tensor:
    value = inputs[0] if inputs else next(iter(named.values()))
    assert isinstance(value, Tensor)
    return value
