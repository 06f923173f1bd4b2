"""Where the time of a profiled step goes: the kinds of work, and how an operator gets its kind.

A profile is a set of spans, nested by their times. Each span gives its own time, without that of
the spans inside it, to one kind of work:

``data``        everything within the range :data:`DATA`, Python included
``optimizer``   everything within ``Optimizer.step``, ``Optimizer.zero_grad``, the range
                :data:`AVERAGE`, or an operator on lists of tensors, which only optimizers, the
                clipping of gradients and moving averages use
``products``    matrix products and convolutions, with all that is inside them
``attention``   ``scaled_dot_product_attention``, and softmaxes of attention that is written out,
                whose matrix products count as products
``head``        matrix products of the output head
``loss``        log-softmax, cross-entropy, and the other operators of the output head
``operators``   all other operators: elementwise functions, norms, copies, reductions
``python``      time of the step in no operator: Python, and PyTorch's automatic differentiation

The output head is the range :data:`HEAD` around a forward pass, and the backward passes of what was
computed there. PyTorch numbers the nodes of its graph in the order of the forward pass, and both
passes of a node have its number in a profile: the head's are those from the first number within the
range to the first one after it.

On a GPU a span's own time is that of the kernels which it started, so that ``python`` is the time
in which the device computes nothing.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

__all__ = ["AVERAGE", "DATA", "HEAD", "KINDS", "STEP", "Shares", "Span", "shares"]

STEP = "roofline: step"
DATA = "roofline: data"
AVERAGE = "roofline: moving average"
HEAD = "roofline: head"

KINDS = ("products", "attention", "head", "loss", "operators", "optimizer", "data", "python")

ENGINE = "autograd::engine::evaluate_function: "  # the backward pass of a node
OPTIMIZER = ("Optimizer.", AVERAGE, "aten::_foreach_")
ATTENTION = (
    "aten::scaled_dot_product",
    "aten::_scaled_dot_product",
    "aten::softmax",
    "aten::_softmax",
)
LOSSES = (
    "aten::cross_entropy",
    "aten::log_softmax",
    "aten::_log_softmax",
    "aten::logsumexp",
    "aten::nll_loss",
    "aten::binary_cross_entropy",
)
PRODUCTS = (
    "aten::linear",
    "aten::matmul",
    "aten::mm",
    "aten::mv",
    "aten::dot",
    "aten::addmm",
    "aten::addmv",
    "aten::bmm",
    "aten::baddbmm",
    "aten::conv",
    "aten::_conv",
    "aten::mkldnn_conv",
    "aten::cudnn_conv",
    "aten::thnn_conv",
    "aten::slow_conv",
    "aten::_slow_conv",
)


@dataclass(frozen=True)
class Span:
    """A range or an operator of a profile, with its times in microseconds."""

    name: str
    start: float
    end: float
    thread: int = 0
    sequence: int = -1  # of the node of the graph that it creates or evaluates; -1: none
    device_time: float = 0.0  # of the kernels that it started itself


@dataclass(frozen=True)
class Shares:
    """The shares of the time of the steps of a profile."""

    microseconds: float  # of a step
    kinds: dict[str, float]  # by kind; they sum to 1
    # by kind and operator: the outermost in a forward pass, the node in a backward pass
    operators: dict[tuple[str, str], float]


def shares(spans: Iterable[Span], *, on_device: bool = False) -> Shares:
    """Return the shares of a profile whose steps are the spans :data:`STEP`.

    They are those of the faster half of the steps: in others the machine may have done other work,
    whose time a profile gives to the operator that it interrupted.

    Args:
        spans: all spans of the profile, in any order.
        on_device: whether the time of an operator is that of its kernels on a GPU.
    """
    steps = [_times(step, on_device=on_device) for step in _steps(spans)]
    steps.sort(key=lambda step: step.microseconds)
    fast = steps[: (len(steps) + 1) // 2]
    total = sum(step.microseconds for step in fast)
    operators: dict[tuple[str, str], float] = defaultdict(float)
    for step in fast:
        for key, microseconds in step.operators.items():
            operators[key] += microseconds / total

    kinds = dict.fromkeys(KINDS, 0.0)
    for (kind, _), share in operators.items():
        kinds[kind] += share
    kinds["python"] = 1 - sum(kinds.values())
    return Shares(total / len(fast), kinds, dict(operators))


@dataclass(frozen=True)
class _StepTimes:
    """The time of a step, and of its operators by kind, in microseconds."""

    microseconds: float
    operators: dict[tuple[str, str], float]


def _steps(spans: Iterable[Span]) -> list[list[Span]]:
    """Return the spans that begin within each step, of all threads, the step first."""
    steps: list[list[Span]] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        if span.name == STEP:
            steps.append([span])
        elif steps and span.start < steps[-1][0].end:
            steps[-1].append(span)
    return steps


def _times(step: Sequence[Span], *, on_device: bool) -> _StepTimes:
    """Return the times of a step from its spans, in the order of their starts."""
    roots = _nested(step)
    head = _head_nodes(roots)
    operators: dict[tuple[str, str], float] = defaultdict(float)
    for node, place in _places(roots, head):
        if place.kind != "python":
            operators[place.kind, place.operator] += node.own_time(on_device=on_device)
    return _StepTimes(step[0].end - step[0].start, operators)


@dataclass
class _Node:
    """A span with the spans directly inside it."""

    span: Span
    inside: list["_Node"] = field(default_factory=list)

    def own_time(self, *, on_device: bool) -> float:
        if on_device:
            return self.span.device_time
        times = [node.span.end - node.span.start for node in self.inside]
        return self.span.end - self.span.start - sum(times)


@dataclass(frozen=True)
class _Place:
    """What the spans around a span say of it."""

    kind: str = "python"
    operator: str = ""
    in_head: bool = False

    def inside(self, span: Span, head: set[int]) -> "_Place":
        """Return the place of the inside of a span at this place."""
        if self.kind not in ("python", "operators"):
            return self
        is_backward = span.name.startswith(ENGINE)
        in_head = self.in_head or span.name == HEAD or (is_backward and span.sequence in head)
        operator = self.operator
        if not operator and "::" in span.name:
            operator = span.name.removeprefix(ENGINE).removeprefix("aten::")
        kind = _kind(span.name, in_head=in_head)
        if kind in ("data", "optimizer"):
            operator = kind
        if kind == "python" and self.kind == "operators":
            kind = "operators"
        return replace(self, kind=kind, operator=operator, in_head=in_head)


def _kind(name: str, *, in_head: bool) -> str:
    """Return the kind of a span by its name."""
    if name == DATA:
        return "data"
    if name.startswith(OPTIMIZER):
        return "optimizer"
    if name.startswith(PRODUCTS):
        return "head" if in_head else "products"
    if name.startswith(ATTENTION):
        return "attention"
    if name.startswith(LOSSES):
        return "loss"
    if name.startswith("aten::"):
        return "loss" if in_head else "operators"
    return "python"


def _nested(spans: Sequence[Span]) -> list[_Node]:
    """Return the outermost spans of all threads, with the others inside them.

    Spans are in the order of their starts, the longer of two first.
    """
    roots: list[_Node] = []
    open_nodes: dict[int, list[_Node]] = defaultdict(list)
    for span in spans:
        around = open_nodes[span.thread]
        while around and around[-1].span.end <= span.start:
            around.pop()
        node = _Node(span)
        (around[-1].inside if around else roots).append(node)
        around.append(node)
    return roots


def _places(roots: Sequence[_Node], head: set[int]) -> Iterator[tuple[_Node, _Place]]:
    """Yield all spans with their places."""
    waiting = [(node, _Place()) for node in roots]
    while waiting:
        node, around = waiting.pop()
        place = around.inside(node.span, head)
        yield node, place
        waiting += [(inner, place) for inner in node.inside]


def _head_nodes(roots: Sequence[_Node]) -> set[int]:
    """Return the numbers of the nodes of the graph that the ranges of the head created."""
    numbers: set[int] = set()
    first = None  # the first number within the last range
    end = 0.0  # of the last range
    for span in _forward(roots):
        if span.name == HEAD:
            end = span.end
            first = None
        elif span.sequence >= 0 and span.start < end:
            first = span.sequence if first is None else first
        elif span.sequence >= 0 and first is not None:
            numbers.update(range(first, span.sequence))
            first = None
    return numbers


def _forward(roots: Sequence[_Node]) -> Iterator[Span]:
    """Yield the spans of forward passes, in the order of their starts."""
    waiting = list(reversed(roots))
    while waiting:
        node = waiting.pop()
        if not node.span.name.startswith(ENGINE):
            yield node.span
            waiting += reversed(node.inside)
