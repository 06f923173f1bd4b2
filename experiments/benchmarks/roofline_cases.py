"""The training steps of the benchmark ``roofline``, each prepared as its command prepares it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from torch import Tensor
from torch.profiler import record_function

from experiments.benchmarks.operations import CPU_ATTENTION, OperationCounter
from experiments.benchmarks.roofline_shares import AVERAGE, DATA, HEAD, STEP
from experiments.cli.commands import COMMANDS
from experiments.cli.options import parse
from experiments.data.text_sources import BUILT_IN
from experiments.data.texts import texts_of
from experiments.gans.task import GanTask
from experiments.training.command import Training
from experiments.training.distributed import World
from experiments.training.step import Stream
from experiments.training.task import Progress, Task
from univae.checkpoint import JsonObject
from univae.optim.ema import EMA
from univae.text.special import PAD

__all__ = ["CASES", "Case", "Sources", "TrainingStep", "prepare"]

HALFWAY = 0.5  # of a training: past the warm-up of rates, with gradients of all terms of the loss

Options = Mapping[str, object]


@dataclass(frozen=True)
class Sources:
    """The texts of the cases: files, or built-in ones."""

    captions: str = BUILT_IN
    ptb: str = BUILT_IN

    def of(self, name: str, folder: Path) -> JsonObject:
        """Return the options that name the texts of a case; pairs are written to ``folder``.

        Pairs are consecutive captions: the time of a step depends on their lengths alone.
        """
        if name == "pairs":
            texts = [text.replace("\t", " ") for text in texts_of(self.captions)]
            lines = [f"{a}\t{b}\n" for a, b in zip(texts[::2], texts[1::2], strict=False)]
            path = folder / "pairs.tsv"
            path.write_text("".join(lines), encoding="utf-8")
            return {"pairs": path}
        return {"text": getattr(self, name)} if name else {}


@dataclass(frozen=True)
class Case:
    """A training of a command."""

    command: str
    options: Options
    # rows and columns of the matrix product beside which a step is measured: tokens of a batch, or
    # images or their positions, and the width of the model; its other factor is square
    product: tuple[int, int]
    texts: str = ""  # captions, ptb or pairs
    head: str = ""  # path of the module that is the output head
    methods: Sequence[str] = ("forward",)  # of the head, that compute
    # operations of the head in a step over those of the methods: the gradients of a matrix product
    # in its two factors are two products of the same size
    passes: int = 3


# The head of a text computes its gradients in its forward pass.
BLOCKED_HEAD: Mapping[str, Any] = {"head": "head", "methods": ("target_log_prob",), "passes": 1}


def _text(preset: str, texts: str, product: tuple[int, int], **options: object) -> Case:
    defaults = {"preset": preset, "calibration": 0}
    return Case("train-text", {**defaults, **options}, product, texts, **BLOCKED_HEAD)


def _gan(product: tuple[int, int], **options: object) -> Case:
    # the features of validations, which are not measured, are hardly trained
    validation = {"feature-steps": 5, "validation-data": 100}
    return Case(
        "train-gan", {"preset": "mnist", "data": "glyphs", **validation, **options}, product
    )


WORDS = {"tokenizer": "words", "vocab-size": 10_000}
ADAPTIVE = {**WORDS, "softmax": "adaptive"}

CASES: Mapping[str, Case] = {
    "text tiny, captions": _text("tiny", "captions", (1024, 128)),
    "text small, captions": _text("small", "captions", (4096, 256)),
    "text tiny, PTB words": _text("tiny", "ptb", (1024, 128), **WORDS),
    "text small, PTB words": _text("small", "ptb", (4096, 256), **WORDS),
    "text tiny, PTB words, adaptive": _text("tiny", "ptb", (1024, 128), **ADAPTIVE),
    "text small, PTB words, adaptive": _text("small", "ptb", (4096, 256), **ADAPTIVE),
    "images, mlp": Case(
        "train-density", {"preset": "tiny", "data": "glyphs"}, (50, 128), head="last"
    ),
    "images, conv": Case("train-density", {"preset": "conv", "data": "glyphs"}, (19600, 32)),
    "images, neighbours": Case(
        "train-density",
        {"preset": "neighbours", "data": "glyphs"},
        (50, 200),
        head="output.causal",
        methods=("context", "numbers"),
    ),
    "GAN, conv": _gan((6272, 16)),
    "GAN, attention": _gan((1568, 32), network="attention", width=32),
    "similar tiny, captions": Case(
        "train-similar", {"preset": "tiny"}, (1024, 128), "pairs", **BLOCKED_HEAD
    ),
}


class TrainingStep:
    """The steps of a training: the same batches again after every :meth:`restart`.

    A step has the ranges of :mod:`experiments.benchmarks.roofline_shares`.
    """

    def __init__(self, training: Training, case: Case, world: World) -> None:
        self.steps = training.steps(world)
        self.task = self.steps.task
        self.module = self.task.module.train()
        self.average: EMA | None = None
        if training.settings.ema:
            self.average = EMA(self.steps.averaged, training.settings.ema)
        self.stream = Stream(self.task)
        self.passes = case.passes
        self.head_operations = 0.0
        self._counter: OperationCounter | None = None
        self._mark(self.task, "load", lambda: record_function(DATA))
        if case.head:
            head = self.module.get_submodule(case.head)
            for method in case.methods:
                self._mark(head, method, self._in_head)
        self.restart()

    def restart(self) -> None:
        """Continue with the first batch of the first epoch."""
        self.count = 0
        self._epoch = 0
        self._offset = 0

    def __call__(self) -> None:
        """Take a step."""
        with record_function(STEP):
            with record_function(DATA):
                items, self._epoch, self._offset = self.stream.take(
                    self._epoch, self._offset, self.steps.batches
                )
            self.steps.step(items, Progress(self.count, HALFWAY))
            if self.average is not None:
                with record_function(AVERAGE):
                    self.average.update()
        self.count += 1

    def operations(self, steps: int) -> tuple[float, float]:
        """Return the floating-point operations of a step, and those of its output head.

        They are means over ``steps`` steps.
        """
        self.head_operations = 0.0
        with OperationCounter(CPU_ATTENTION) as counter:
            self._counter = counter
            for _ in range(steps):
                self()
        self._counter = None
        return counter.total / steps, self.passes * self.head_operations / steps

    def padded_share(self) -> float | None:
        """Return the share of padding in all positions of the batches of an epoch; None: no texts.

        Sources and targets of pairs both count.
        """
        padding = 0
        positions = 0
        load = cast("Task[Any, Any] | GanTask", self.task).load
        for item in self.task.batches(0):
            for ids in _token_ids(load(item)):
                padding += int((ids == PAD).sum())
                positions += ids.numel()
        return padding / positions if positions else None

    @contextmanager
    def _in_head(self) -> Iterator[None]:
        before = self._counter.total if self._counter else 0
        with record_function(HEAD):
            yield
        if self._counter:
            self.head_operations += self._counter.total - before

    def _mark(self, owner: object, method: str, around: Callable[[], Any]) -> None:
        """Compute a method of an object within a context from now on."""
        plain = getattr(owner, method)

        @wraps(plain)
        def marked(*args: Any, **kwargs: Any) -> Any:
            with around():
                return plain(*args, **kwargs)

        setattr(owner, method, marked)


def prepare(case: Case, sources: Sources, folder: Path, world: World) -> TrainingStep:
    """Return the steps of a case, whose run folder is written into ``folder``."""
    module = import_module(COMMANDS[case.command][0])
    options = {**case.options, **sources.of(case.texts, folder), "out": folder / "run"}
    arguments = [f"--{name}={value}" for name, value in options.items()]
    config = parse(module.Config, arguments, module.PRESETS, f"univae {case.command}")
    return TrainingStep(module.prepare(config, world), case, world)


def _token_ids(batch: object) -> list[Tensor]:
    """Return the tensors of padded token ids of a batch."""
    if isinstance(batch, Tensor):
        return [] if batch.is_floating_point() else [batch]
    names = ("source", "target")
    return [getattr(batch, name) for name in names if hasattr(batch, name)]
