r"""Gradient accumulation in the averages of an optimizer: no buffer for the sum of a window.

With :math:`t` counting micro-steps, a window of :math:`k` of them, and :math:`\chi_a = 1` where
:math:`k` divides :math:`a`, an average with decay :math:`\beta` and the parameters move as

.. math::
    m_t = \left[(\beta - 1) \chi_{t-1} + 1\right] m_{t-1} + \frac{1 - \beta}{k} g_t, \qquad
    \theta_t = \theta_{t-1} - \chi_t\, \alpha\, d(m_t)

in words: decay once, at the first micro-step of a window; add a share of every gradient; move at
the last. Terms that do not depend on the gradient (weight decay, bias correction, the learning
rate) count windows, not micro-steps.

References:
    Gradient accumulation hidden in momentum (Su, 2021), https://kexue.fm/archives/8634
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias, overload

import torch
from torch import Tensor

from univae.errors import InputError
from univae.optim.base import (
    Base,
    Group,
    Loss,
    Options,
    Parameters,
    State,
    evaluate,
    gradient,
    positive_integer,
    zero_state,
)
from univae.optim.cache_chunks import Scratch, cache_blocks, cache_chunks
from univae.optim.divided import local_rows, whole
from univae.optim.process_averages import average_states
from univae.optim.window_phase import joining_position

__all__ = ["Block", "Change", "Windowed"]

Row: TypeAlias = tuple[Tensor, State, Tensor | None]  # a parameter, its state, its gradient


class Block(NamedTuple):
    """Tensors that are updated together: one device, one dtype of parameters, one of averages."""

    params: list[Tensor]
    averages: Mapping[str, list[Tensor]]
    grads: list[Tensor]  # empty where none is folded


class Change(NamedTuple):
    """What a micro-step does to a parameter; those with equal changes are updated together."""

    folds: bool  # adds a gradient to the averages
    is_first: bool  # no window was open: the averages decay
    step: int  # the number of the move; 0: the window stays open
    gradients: int  # of the window, on whose mean it moves


class Windowed(Base):
    r"""The base class of optimizers with a window of gradients.

    A subclass implements :meth:`decays`, :meth:`_fold` and :meth:`_move`.

    :meth:`step` is a micro-step: it folds the gradients in, and moves the parameters when it is a
    window's last. Call ``scheduler.step()`` where :attr:`moved` is true. Gradients are read, never
    written; averages are in at least float32.

    A gradient whose norm is not finite is skipped, parameter by parameter, so the averages stay
    finite; this reads the norms back from the device. Update s, with the finite gradients
    :math:`g_i` of its window, makes

    .. math:: m_s = \beta\, m_{s-1} + \frac{1 - \beta}{k} \sum_i g_i

    so a skipped gradient counts as zero and the past keeps its weight :math:`\beta`. Where the past
    has none, at s = 1 or :math:`\beta = 0`, the sum is divided by the number of finite gradients
    instead of k. A parameter without a finite gradient in a whole window is not moved, as in torch.
    Sparse gradients are made dense, one parameter at a time. Parameters may be divided over
    processes (DTensors, as FSDP2 makes them), all of which then step together.
    """

    processes = 1  # more average their states before a move: accumulate_in_backward

    def __init__(self, params: Parameters, defaults: Group) -> None:
        window = positive_integer(self, "window", defaults["window"])
        super().__init__(params, defaults | {"window": window, "position": 0, "opened": window})

    def add_param_group(self, param_group: Group) -> None:
        """Add a group of parameters, which may have its own ``window``.

        Inside a window of the other groups it joins them: its first window ends with theirs
        (:func:`univae.optim.window_phase.joining_position`), and its first averages are over the
        gradients from now on.
        """
        given = param_group.get("window", self.defaults["window"])
        window = positive_integer(self, "window", given)
        position = joining_position(self.param_groups, window)
        phase = {"window": window, "position": position, "opened": window}
        super().add_param_group(param_group | phase)
        if position > 0:
            group = self.param_groups[-1]
            for p in group["params"]:
                self.begin(group, p)["skipped"] = position

    @property
    def moved(self) -> bool:
        """Whether no window is open: true after a step that moved the parameters."""
        return all(group["position"] == 0 for group in self.param_groups)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], Loss]) -> Loss: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], Loss] | None = None) -> Loss | None:
        """Fold the gradients in, and move the parameters at the end of a window.

        Returns the loss of ``closure``.
        """
        loss = evaluate(closure)
        scratch = Scratch()
        for group in self.param_groups:
            self._require_same_window(group)
            is_last = group["position"] + 1 == group["window"]
            moves = is_last and self.processes == 1
            for chunk in cache_chunks(group["params"]):
                grads = self._finite_gradients(group, chunk)
                self._update(group, chunk, grads, group["window"] if moves else 0, scratch)
            group["position"] = 0 if is_last else group["position"] + 1
            if is_last and self.processes > 1:
                self._close(group, group["window"])
        return loss

    @torch.no_grad()
    def finish(self) -> None:
        r"""Move on the micro-steps of an open window; do nothing where none is open.

        Over :math:`n < k` gradients the average is rescaled to the total weight it would have after
        :math:`k`,

        .. math:: m \gets m\, \frac{1 - \beta^s}{\beta (1 - \beta^{s-1}) + (1 - \beta)\, n / k},

        :math:`s` counting updates: every gradient keeps the weight it would have in a full window.
        At :math:`\beta = 0` that is the plain mean of the :math:`n`. Skipped gradients count among
        the n, as zeros.

        Raises:
            InputError: an option that must not change inside a window was changed.
        """
        for group in self.param_groups:
            if group["position"] > 0:
                self._require_same_window(group)
                self._close(group, group["position"])

    def fold(self, group: Group, params: Sequence[Tensor]) -> None:
        """Add each gradient's share to its averages, which decay first where a window opens.

        Raises:
            InputError: an option that must not change inside a window was changed.
        """
        self._require_same_window(group)
        scratch = Scratch()
        for chunk in cache_chunks(params):
            self._update(group, chunk, self._finite_gradients(group, chunk), 0, scratch)

    def decays(self, group: Group) -> dict[str, float]:
        """Return the decay of every average in a parameter's state, by name."""
        raise NotImplementedError

    def _reduced(self, group: Group) -> list[str]:
        """Return the averages that differ between processes inside a window."""
        return list(self.decays(group))

    def slots(self, group: Options) -> set[str]:
        """Return the names of the averages."""
        return set(self.decays(dict(group)))

    def numbers(self, group: Options) -> set[str]:
        """Return the names of the counts and flags in a parameter's state."""
        return {"step", "open", "skipped"}

    def begin(self, group: Group, p: Tensor) -> State:
        """Return the state of a parameter, initially with averages of zero."""
        state: State = self.state[p]
        if not state:
            averages = {name: zero_state(p) for name in self.decays(group)}
            state.update(step=0, open=False, skipped=0, **averages)
        return state

    def _open(self, group: Group, state: State) -> None:
        """Begin a window of a parameter without a gradient."""
        for name, beta in self.decays(group).items():
            state[name].mul_(beta)

    def _fold(self, group: Group, block: Block, *, is_first: bool) -> None:
        """Add gradients to the averages, which decay before the first of a window."""
        raise NotImplementedError

    def _move(self, group: Group, block: Block, step: int, count: int, scratch: Scratch) -> None:
        """Move parameters for the ``step``-th time, on the mean of ``count`` gradients."""
        raise NotImplementedError

    def _require_same_window(self, group: Group) -> None:
        window = group["window"]
        opened = group["opened"]
        if group["position"] == 0:
            group["opened"] = window
        elif opened != window:
            raise InputError(
                f"{type(self).__name__}: the window can change only between two windows; "
                f"got window={window} inside one of {opened}; call finish() before the change"
            )

    def _finite_gradients(self, group: Group, chunk: Sequence[Tensor]) -> dict[int, Tensor]:
        """Return the finite gradients of a chunk by index; count the others as skipped."""
        maximize = group["maximize"]
        grads = {}
        for i, p in enumerate(chunk):
            if p.grad is not None:
                grads[i] = gradient(p, maximize=maximize)
        if not grads:
            return grads
        norms = torch.stack(torch._foreach_norm(list(grads.values())))
        for i, norm in zip(list(grads), whole(norms).tolist(), strict=True):
            if not math.isfinite(norm):
                self.begin(group, chunk[i])["skipped"] += 1
                del grads[i]
        return grads

    def _close(self, group: Group, length: int) -> None:
        """End a window after ``length`` micro-steps."""
        if self.processes > 1:
            states = [self.begin(group, p) for p in group["params"]]
            opened = functools.partial(self._open, group)
            average_states(states, self._reduced(group), opened, self.processes)
        scratch = Scratch()
        for chunk in cache_chunks(group["params"]):
            self._update(group, chunk, {}, length, scratch)
        group["position"] = 0

    def _update(
        self,
        group: Group,
        chunk: Sequence[Tensor],
        grads: Mapping[int, Tensor],
        length: int,
        scratch: Scratch,
    ) -> None:
        """Fold the gradients of a chunk; with a ``length``, end the window after it and move."""
        batches: dict[Change, list[Row]] = {}
        for i, p in enumerate(chunk):
            g = grads.get(i)
            state = self.begin(group, p) if g is not None else self.state.get(p)
            if not state:  # no gradient so far
                continue
            was_open = state["open"]
            is_open = was_open or g is not None
            step = 0
            count = 0
            if length > 0:
                if is_open:
                    step = state["step"] + 1
                    count = self.processes * length - state["skipped"]
                    state["step"] = step
                state["open"] = False
                state["skipped"] = 0
            else:
                state["open"] = is_open
            if g is not None or step > 0:
                change = Change(g is not None, not was_open, step, count)
                batches.setdefault(change, []).append((p, state, g))

        for change, rows in batches.items():
            for block in self._blocks(group, rows):
                self._change(group, block, change, length, scratch)

    def _blocks(self, group: Group, rows: Sequence[Row]) -> Iterator[Block]:
        names = list(self.decays(group))
        columns = [[p for p, _, _ in rows]]
        for name in names:
            columns.append([state[name] for _, state, _ in rows])
        grads = [g for _, _, g in rows if g is not None]
        if grads:
            columns.append(grads)
        for params, *others in cache_blocks(local_rows(columns)):
            averages = dict(zip(names, others, strict=False))
            yield Block(params, averages, others[-1] if grads else [])

    def _change(
        self, group: Group, block: Block, change: Change, length: int, scratch: Scratch
    ) -> None:
        """Fold and move while the block is in the cache."""
        if change.folds:
            self._fold(group, block, is_first=change.is_first)
        if change.step > 0:
            self._rescale(group, block, change, length)
            self._move(group, block, change.step, change.gradients, scratch)

    def _rescale(self, group: Group, block: Block, change: Change, length: int) -> None:
        """Bring averages of fewer gradients to the weight of a full window."""
        step = change.step
        for name, beta in self.decays(group).items():
            share = self._share(group, change, length, has_past=step > 1 and beta > 0)
            if share != 1:
                weight = beta * (1 - beta ** (step - 1)) + (1 - beta) * share
                torch._foreach_mul_(block.averages[name], (1 - beta**step) / weight)

    def _share(self, group: Group, change: Change, length: int, *, has_past: bool) -> float:
        """Return the share of a full window that the mean gradient is of.

        Skipped gradients count as zeros beside a past, which a factor for them would scale.
        """
        window: int = group["window"]
        return length / window if has_past else change.gradients / (self.processes * window)
