r"""Gradient accumulation hidden in the averages an optimizer keeps anyway: no buffer for the sum of a window.

With :math:`t` counting micro-steps, a window of :math:`k` of them, and :math:`\chi_a = 1` where
:math:`k` divides :math:`a`, an average with decay :math:`\beta` and the parameters move as

.. math::
    m_t = \left[(\beta - 1) \chi_{t-1} + 1\right] m_{t-1} + \frac{1 - \beta}{k} g_t, \qquad
    \theta_t = \theta_{t-1} - \chi_t\, \alpha\, d(m_t)

in words: decay once, at the first micro-step of a window; add a share of every gradient; move at
the last. Whatever does not depend on the gradient (weight decay, bias correction, the learning
rate) counts windows, not micro-steps.

References:
    Gradient accumulation hidden in momentum (Su, 2021), https://kexue.fm/archives/8634
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, SupportsIndex

import torch
import torch.distributed as dist
from torch import Tensor

from univae.errors import InputError
from univae.optim.base import Base, Scratch, cached, gradient, whole_number, with_grad, zeros

__all__ = ["Folding", "Windowed", "accumulate_in_backward"]


class Windowed(Base):
    """What the optimizers with a window share; a subclass says how gradients fold in and how parameters move.

    :meth:`step` is a micro-step: it folds the gradients in, and moves the parameters when it is a
    window's last. Step schedules where :attr:`moved` is true. Gradients are read, never written;
    averages are float32 at least.

    A gradient whose norm is not finite - the norm is read back from the device - is left out,
    parameter by parameter, and the mean is over the others: the averages stay what they were. A
    parameter that got no gradient in a whole window is left alone, as in torch. Sparse gradients
    are made dense, one parameter at a time.
    """

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        window = self._whole(defaults["window"])
        self.processes = 1  # whose averages are averaged before a move, see accumulate_in_backward
        super().__init__(params, defaults | {"window": window, "position": 0, "opened": window})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, whose ``window`` may be its own."""
        own = {"window": self._whole(param_group["window"])} if "window" in param_group else {}
        super().add_param_group(param_group | own)

    def _whole(self, window: Any) -> int:
        return whole_number(self, "window", window)

    @property
    def moved(self) -> bool:
        """Whether no window is open: true after a step that moved the parameters."""
        return all(group["position"] == 0 for group in self.param_groups)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Fold in the gradients that are there, and moves the parameters at the end of a window."""
        loss = with_grad(closure)
        scratch = Scratch()
        for group in self.param_groups:
            last = group["position"] + 1 == group["window"]
            for run in cached(group["params"]):
                self.fold(group, [p for p in run if p.grad is not None])
                if (
                    last and self.processes == 1
                ):  # while what belongs to the run is still in the cache
                    self._update(group, run, group["window"], scratch)
            group["position"] = 0 if last else group["position"] + 1
            if last and self.processes > 1:
                self._close(group, group["window"])
        return loss

    @torch.no_grad()
    def finish(self) -> None:
        r"""Move on the micro-steps of a window that has come to an early end; does nothing where none is open.

        Over :math:`n < k` gradients the average is rescaled to the total weight it would have after
        :math:`k`,

        .. math:: m \gets m\, \frac{1 - \beta^s}{\beta (1 - \beta^{s-1}) + (1 - \beta)\, n / k},

        :math:`s` counting updates: every gradient keeps the weight it would have in a full window.
        At :math:`\beta = 0` that is the plain mean of the :math:`n`.
        """
        for group in self.param_groups:
            if group["position"] > 0:
                self._close(group, group["position"])

    def fold(self, group: dict[str, Any], params: Sequence[Tensor]) -> None:
        """Add the share of each parameter's gradient to its averages, which decay first where a window opens."""
        if group["position"] == 0:
            group["opened"] = group["window"]
        elif group["opened"] != group["window"]:
            who = type(self).__name__
            rule = "the window can change only between two windows"
            was = group["opened"]
            now = group["window"]
            raise InputError(
                f"{who}: {rule}; got window={now} inside one of {was}; call finish() first"
            )
        if not params:
            return
        grads = [gradient(p, group["maximize"]) for p in params]
        finite = torch.stack(torch._foreach_norm(grads)).isfinite().tolist()
        opening, opened = ([], []), ([], [])  # type: tuple[list[Tensor], list[Tensor]], tuple[list[Tensor], list[Tensor]]
        for p, g, ok in zip(params, grads, finite, strict=True):
            state = self.begin(group, p)
            if ok:
                chosen = opened if state["open"] else opening
                chosen[0].append(p)
                chosen[1].append(g)
                state["open"] = True
            else:
                state["skipped"] += 1
        for (some, theirs), first in ((opening, True), (opened, False)):
            if some:
                self._fold(group, some, theirs, first)

    def decays(self, group: dict[str, Any]) -> dict[str, float]:
        """The averages kept for every parameter, by name, with the decay of each."""
        raise NotImplementedError

    def slots(self, group: Mapping[str, Any]) -> set[str]:
        return set(self.decays(dict(group)))

    def numbers(self, group: Mapping[str, Any]) -> set[str]:
        return {"step", "open", "skipped"}

    def _fold(
        self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], first: bool
    ) -> None:
        """Add gradients to the averages; ``first``: of a window, so that they decay."""
        raise NotImplementedError

    def _move(
        self, group: dict[str, Any], params: list[Tensor], step: int, count: int, scratch: Scratch
    ) -> None:
        """Move parameters for the ``step``-th time, on the mean of ``count`` gradients."""
        raise NotImplementedError

    def _with_windows(
        self, state: Mapping[str, Any], states: Mapping[Any, Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Return the saved state of an optimizer without windows as one between two windows of this optimizer."""
        groups = []
        for saved, own in zip(state["param_groups"], self.param_groups, strict=False):
            taken = {name: saved[name] for name in (*own, "initial_lr") if name in saved}
            taken["lr"] = float(taken["lr"])  # torch takes a tensor as well
            groups.append({**own, **taken, "position": 0, "opened": own["window"]})
        groups += state["param_groups"][len(groups) :]
        closed = {"open": False, "skipped": 0}
        return {
            "param_groups": groups,
            "state": {index: {**one, **closed} for index, one in states.items()},
        }

    def _slots(self, params: Sequence[Tensor], name: str) -> list[Tensor]:
        return [self.state[p][name] for p in params]

    def begin(self, group: dict[str, Any], p: Tensor) -> dict[str, Any]:
        """The state of a parameter, which starts here if it has none."""
        state = self.state[p]
        if not state:
            state.update(
                step=0, open=False, skipped=0, **{name: zeros(p) for name in self.decays(group)}
            )
        return state

    def _close(self, group: dict[str, Any], length: int) -> None:
        # Ends a window after ``length`` micro-steps.
        if self.processes > 1:
            self._average(group)
        scratch = Scratch()
        for run in cached(group["params"]):
            self._update(group, run, length, scratch)
        group["position"] = 0

    def _update(
        self, group: dict[str, Any], run: list[Tensor], length: int, scratch: Scratch
    ) -> None:
        alike: dict[tuple[int, int], list[Tensor]] = {}
        for p in run:
            state = self.state.get(p)
            if not state:  # it never had a gradient
                continue
            if state["open"]:
                state["step"] += 1
                alike.setdefault(
                    (state["step"], self.processes * length - state["skipped"]), []
                ).append(p)
            state.update(open=False, skipped=0)
        full = self.processes * group["window"]
        for (step, count), params in alike.items():
            if count != full:
                self._rescale(group, params, step, count / full)
            self._move(group, params, step, count, scratch)

    def _rescale(
        self, group: dict[str, Any], params: list[Tensor], step: int, share: float
    ) -> None:
        for name, beta in self.decays(group).items():
            weight = beta * (1 - beta ** (step - 1)) + (1 - beta) * share
            torch._foreach_mul_(self._slots(params, name), (1 - beta**step) / weight)

    def _average(self, group: dict[str, Any]) -> None:
        # Every process speaks of every parameter, in the same order, whether it had a gradient for
        # it or not.
        params = group["params"]
        states = [self.begin(group, p) for p in params]
        own = [[float(state["open"]), float(state["skipped"])] for state in states]
        flags = torch.tensor(own, device=params[0].device)
        dist.all_reduce(flags)
        for state, (opened, skipped) in zip(states, flags.tolist(), strict=True):
            for name, beta in self.decays(group).items() if opened else ():
                if not state["open"]:
                    state[name].mul_(beta)
                dist.all_reduce(state[name])
                state[name].div_(self.processes)
            state.update(open=opened > 0, skipped=int(skipped))


class Folding:
    """Gradients fold into the optimizer during the backward pass until :meth:`remove` is called."""

    def __init__(self, optimizer: Windowed) -> None:
        self._optimizer = optimizer
        for group in optimizer.param_groups:
            for p in group[
                "params"
            ]:  # now, for a heap is left full of holes when it comes between gradients
                optimizer.begin(group, p)
        self._handles = [
            p.register_post_accumulate_grad_hook(self._hook(group))
            for group in optimizer.param_groups
            for p in group["params"]
            if p.requires_grad
        ]

    def remove(self) -> None:
        """From now on gradients stay in ``.grad`` until :meth:`Windowed.step`."""
        self._optimizer.processes = 1
        for handle in self._handles:
            handle.remove()

    def _hook(self, group: dict[str, Any]) -> Callable[[Tensor], None]:
        @torch.no_grad()
        def fold(p: Tensor) -> None:
            self._optimizer.fold(group, [p])
            p.grad = None

        return fold


def accumulate_in_backward(optimizer: Windowed, processes: SupportsIndex = 1) -> Folding:
    r"""Fold every gradient into the optimizer as soon as it is whole, and frees it: there is no copy of them all.

    Run one backward pass a micro-step, then :meth:`Windowed.step`. Clip gradients before, per
    parameter, or not at all: their global norm is known only when most are gone. With ``processes``
    > 1, each folds its own gradients and the averages are averaged over torch's default process
    group once a window; if the model is wrapped for distributed training, stay inside its
    ``no_sync()``. First moments are then exactly those of one process with the window :math:`k W`,
    and second moments are means of :math:`k W` squares.

    References:
        AdamA: Adam Accumulation to Reduce Memory Footprints (Zhang et al., 2023),
            https://arxiv.org/abs/2305.19982
    """
    optimizer.processes = whole_number(optimizer, "processes", processes)
    return Folding(optimizer)
