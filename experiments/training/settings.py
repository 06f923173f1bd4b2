"""The options that all training commands have."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from typing_extensions import Doc

from experiments.training.budget import Clock
from experiments.training.optimizers import OPTIMIZERS, OptimizerName
from experiments.training.precision import PRECISIONS, PrecisionName
from experiments.training.schedules import SCHEDULES, ScheduleName
from experiments.training.step_sizes import STEP_SIZES, StepSizeName
from experiments.training.threads import THREADS
from experiments.training.tracking import TRACKERS, TrackerName
from univae.errors import InputError
from univae.optim.second_moments import SECOND_MOMENTS, SecondMoment
from univae.registry import choices_help
from univae.rules import COUNT, Rule, above, at_least, check, within

__all__ = ["LIMIT", "MINUTES", "SEED", "Settings"]

MINUTES = 1e7  # 19 years
LIMIT = at_least(0, COUNT, "0 (all) or more")  # of --limit
SEED = at_least(0, 2**63 - 1)  # accepted by NumPy's and PyTorch's generators alike


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The length of training, the optimizer, validations and checkpoints."""

    steps: int = 1000  # number of optimizer steps, unless --minutes limits training
    # time budget in minutes, of which validations take a tenth, so that they may be fewer and of
    # fewer data than asked for; 0: train for --steps (results then repeat bit for bit)
    minutes: float = 0.0
    # most minutes for --steps, the last validation included; 0: no limit. Weights do not depend on
    # the clock unless steps are late in the second half of it: then the schedule is hurried to its
    # end, and fewer steps are taken. Nor do validations, unless one takes a tenth of the limit or
    # all of them half of it: then they are of fewer data, or fewer
    time_limit: float = 0.0
    # time that --minutes and --time-limit limit; wall: elapsed time; processor: the time of all
    # threads of this process, for runs side by side
    clock: Clock = "wall"
    seed: int = 0  # seed of the initial weights, the order of the data and all noise
    lr: float = 1e-3  # highest learning rate; lower it if the loss is not finite
    schedule: Annotated[
        ScheduleName, Doc(choices_help("course of the learning rate", SCHEDULES))
    ] = "cosine"
    # with --schedule cosine: fraction of training over which the learning rate rises to --lr
    warmup: float = 0.05
    lr_floor: float = 0.05  # with --schedule cosine: last learning rate, as a fraction of --lr
    # decay of weight matrices per unit of learning rate; biases, norms and embeddings have none
    weight_decay: float = 0.01
    optimizer: Annotated[OptimizerName, Doc(choices_help("rule of the updates", OPTIMIZERS))] = (
        "adamw"
    )
    beta1: float = 0.9  # decay of the mean gradient per step: the momentum of every optimizer
    beta2: float = 0.98  # with --optimizer adamw: decay of the mean squared gradient per step
    # with --optimizer adamw: added to the root of the mean squared gradient
    eps: float = 1e-8
    # largest norm of the gradient, which is scaled down to it; with --window of every micro-step;
    # 0: no limit
    clip: float = 1.0
    # micro-steps per update, accumulated in the momentum, for large batches in little memory; with
    # --clip 0 --accumulate 1 gradients are not stored
    window: int = 1
    second_moment: Annotated[
        SecondMoment,
        Doc(choices_help("with --optimizer adamw --window: mean square", SECOND_MOMENTS)),
    ] = "corrected"
    adapt_step_size: Annotated[
        StepSizeName,
        Doc(choices_help("factors of step sizes that are learned in training", STEP_SIZES)),
    ] = "no"
    # with --adapt-step-size: compare each step with the gradient of the other half of its batch;
    # needs an even --accumulate
    adapt_halves: bool = False
    # with --optimizer egdd or --adapt-step-size: learning rate of the factors per tensor
    scale_lr: float = 1e-3
    # with --optimizer egdd or --adapt-step-size gain: learning rate of those per coordinate
    gain_lr: float = 1e-2
    # decay per step of a moving average of the weights, which is validated and saved; 0.999 is
    # usual; 0: no average
    ema: float = 0.0
    # batches per process and micro-step whose gradients are added up; raise it where a large batch
    # does not fit into memory
    accumulate: int = 1
    # compute the activations of Transformer blocks again in the backward pass instead of keeping
    # them: less memory for about a third more time, and the same weights
    recompute: bool = False
    # compute training steps by compiled code, which takes up to a minute to generate before the
    # first step; for GPUs: on a CPU it hardly pays. Needs a C++ compiler, on a GPU triton
    compile: bool = False
    precision: Annotated[
        PrecisionName, Doc(choices_help("number format of forward passes", PRECISIONS))
    ] = "auto"
    checkpoint_every: int = 500  # steps between checkpoints; 0: only at the end
    validate_every: int = 500  # steps between validations; 0: only at the end
    log_every: int = 20  # steps between rows in metrics.jsonl
    track: Annotated[
        TrackerName, Doc(choices_help("program that shows the metrics during training", TRACKERS))
    ] = "no"
    # processor threads; 0: the free cores of this machine, or as the run was started (univae doctor
    # shows the number)
    threads: int = 0
    # under torchrun: divide weights, gradients and the optimizer's state over the processes, for
    # models that one device cannot hold; of a GAN the optimizer's state only
    shard: bool = False
    device: str = "auto"  # auto (the GPU if there is one), cpu, cuda, cuda:1, ...
    # continue the run in --out, bit for bit, or start it where --out is new or empty; with more
    # --steps or --minutes than before train on, by the schedule of the new length
    resume: bool = False

    RULES: ClassVar[Mapping[str, Rule]] = {
        "steps": at_least(1),
        **dict.fromkeys(
            ("minutes", "time_limit"), at_least(0, MINUTES, "0 (no time limit) or more")
        ),
        "seed": SEED,
        "lr": above(0, 1e6),
        "warmup": within("[0, 1]", "a fraction of training"),
        "lr_floor": within("[0, 1]", "a fraction of lr"),
        "weight_decay": at_least(0, 1e6, "0 or more"),
        "beta1": within("[0, 1)"),
        "beta2": within("[0, 1)"),
        "eps": at_least(1e-30, 1e6, "at least 1e-30, or float32 loses it"),
        "clip": at_least(0, 1e30, "0 (no limit) or more"),
        "window": at_least(1, 10**6),
        "scale_lr": at_least(0, 1e6, "0 or more"),
        "gain_lr": at_least(0, 1e6, "0 or more"),
        "ema": within("[0, 1)", "0 for no average"),
        "accumulate": at_least(1, 10**6),
        "checkpoint_every": at_least(0, COUNT, "0 (only at the end) or more"),
        "validate_every": at_least(0, COUNT, "0 (only at the end) or more"),
        "log_every": at_least(1),
        "threads": THREADS,
    }

    def __post_init__(self) -> None:
        check(self)
        self._require_combination()

    def _require_combination(self) -> None:
        if self.minutes and self.time_limit:
            raise InputError(
                "time_limit is one of steps, and minutes replaces them; got "
                f"minutes={self.minutes:g}, time_limit={self.time_limit:g}; leave one of them out"
            )
        OPTIMIZERS[self.optimizer].check(self)
        self._require_dividable()
        adapts = STEP_SIZES[self.adapt_step_size].adapts
        if self.adapt_halves and (not adapts or self.accumulate % 2):
            names = " or ".join(name for name, row in STEP_SIZES.items() if row.adapts)
            raise InputError(
                f"adapt_halves needs adapt_step_size={names} and an even accumulate, to have two "
                f"halves; got adapt_step_size={self.adapt_step_size}, "
                f"accumulate={self.accumulate}"
            )

    def _require_dividable(self) -> None:
        """Raise InputError for options whose computations need whole weights, with ``shard``."""
        if not self.shard:
            return
        wanted = {"optimizer": "adamw", "window": 1, "adapt_step_size": "no"}
        for name, value in wanted.items():
            if getattr(self, name) != value:
                raise InputError(
                    f"shard needs {name}={value}, whose state can be divided over processes; "
                    f"got {name}={getattr(self, name)}"
                )
