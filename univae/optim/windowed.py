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

from collections.abc import Callable, Sequence
from typing import overload

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
from univae.optim.cache_chunks import Scratch, cache_chunks
from univae.optim.process_averages import average_states
from univae.optim.window_phase import joining_position

__all__ = ["Windowed"]


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
    Sparse gradients are made dense, one parameter at a time.
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
            is_last = group["position"] + 1 == group["window"]
            for chunk in cache_chunks(group["params"]):
                self.fold(group, [p for p in chunk if p.grad is not None])
                if is_last and self.processes == 1:  # while the state of the chunk is in the cache
                    self._update(group, chunk, group["window"], scratch)
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
        """
        for group in self.param_groups:
            if group["position"] > 0:
                self._close(group, group["position"])

    def fold(self, group: Group, params: Sequence[Tensor]) -> None:
        """Add each gradient's share to its averages, which decay first where a window opens.

        Raises:
            InputError: ``window`` was changed inside a window.
        """
        self._require_same_window(group)
        if not params:
            return
        grads = [gradient(p, maximize=group["maximize"]) for p in params]
        finite = torch.stack(torch._foreach_norm(grads)).isfinite().tolist()
        opening: list[tuple[Tensor, Tensor]] = []  # parameter and gradient, first of a window
        following: list[tuple[Tensor, Tensor]] = []
        for p, g, is_finite in zip(params, grads, finite, strict=True):
            state = self.begin(group, p)
            if not is_finite:
                state["skipped"] += 1
                continue
            pairs = following if state["open"] else opening
            pairs.append((p, g))
            state["open"] = True
        self._fold_pairs(group, opening, is_first=True)
        self._fold_pairs(group, following, is_first=False)

    def decays(self, group: Group) -> dict[str, float]:
        """Return the decay of every average in a parameter's state, by name."""
        raise NotImplementedError

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

    def _fold(
        self, group: Group, params: list[Tensor], grads: list[Tensor], *, is_first: bool
    ) -> None:
        """Add gradients to the averages, which decay before the first of a window."""
        raise NotImplementedError

    def _move(
        self, group: Group, params: list[Tensor], step: int, count: int, scratch: Scratch
    ) -> None:
        """Move parameters for the ``step``-th time, on the mean of ``count`` gradients."""
        raise NotImplementedError

    def _fold_pairs(
        self, group: Group, pairs: Sequence[tuple[Tensor, Tensor]], *, is_first: bool
    ) -> None:
        if pairs:
            self._fold(group, [p for p, _ in pairs], [g for _, g in pairs], is_first=is_first)

    def _require_same_window(self, group: Group) -> None:
        window = group["window"]
        opened = group["opened"]
        if group["position"] == 0:
            group["opened"] = window
        elif opened != window:
            raise InputError(
                f"{type(self).__name__}: the window can change only between two windows; "
                f"got window={window} inside one of {opened}; call finish() first"
            )

    def _slots(self, params: Sequence[Tensor], name: str) -> list[Tensor]:
        return [self.state[p][name] for p in params]

    def _close(self, group: Group, length: int) -> None:
        """End a window after ``length`` micro-steps."""
        if self.processes > 1:
            states = [self.begin(group, p) for p in group["params"]]
            average_states(states, self.decays(group), self.processes)
        scratch = Scratch()
        for chunk in cache_chunks(group["params"]):
            self._update(group, chunk, length, scratch)
        group["position"] = 0

    def _update(self, group: Group, chunk: list[Tensor], length: int, scratch: Scratch) -> None:
        """Move the parameters of a chunk; those of equal step and gradient count together."""
        batches: dict[tuple[int, int], list[Tensor]] = {}
        for p in chunk:
            state = self.state.get(p)
            if not state:  # no gradient so far
                continue
            if state["open"]:
                state["step"] += 1
                count = self.processes * length - state["skipped"]
                batches.setdefault((state["step"], count), []).append(p)
            state.update(open=False, skipped=0)
        window = group["window"]
        for (step, count), params in batches.items():
            for name, beta in self.decays(group).items():
                has_past = step > 1 and beta > 0  # which a factor for skipped gradients would scale
                share = length / window if has_past else count / (self.processes * window)
                if share != 1:
                    weight = beta * (1 - beta ** (step - 1)) + (1 - beta) * share
                    torch._foreach_mul_(self._slots(params, name), (1 - beta**step) / weight)
            self._move(group, params, step, count, scratch)
