"""The options every training command has."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from typing_extensions import Doc

from experiments.training.optimizers import OPTIMIZERS, OptimizerName
from experiments.training.schedules import SCHEDULES, ScheduleName
from experiments.training.step_sizes import STEP_SIZES, StepSizeName
from univae.errors import InputError
from univae.optim.second_moments import SECOND_MOMENTS, SecondMoment
from univae.registry import choices_help
from univae.rules import COUNT, Rule, above, at_least, check, within

__all__ = ["LIMIT", "MINUTES", "SEED", "THREADS", "Settings"]

MINUTES = 1e7  # 19 years
LIMIT = at_least(0, COUNT, "0 (all) or more")  # of --limit
SEED = at_least(0, 2**63 - 1)  # what NumPy's and PyTorch's generators both take
# OpenMP ends the process where more threads are asked for than it can start.
THREADS = at_least(0, 1024, "0 (PyTorch's choice) or more")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The length of training, the optimizer, and what is saved: the same for every command."""

    steps: int = 1000  # optimizer steps
    # wall-clock budget in minutes, the last validation included; 0: train for --steps (results then
    # repeat bit for bit)
    minutes: float = 0.0
    # what --minutes counts; processor: the time of all threads of this process
    clock: Literal["wall", "processor"] = "wall"
    seed: int = 0  # of the first weights, the order of the data and all noise
    lr: float = 1e-3  # the highest learning rate
    schedule: Annotated[
        ScheduleName, Doc(choices_help("course of the learning rate", SCHEDULES))
    ] = "cosine"
    # fraction of training over which the learning rate rises to --lr, of cosine
    warmup: float = 0.05
    lr_floor: float = 0.05  # fraction of --lr to which it falls by the end, of cosine
    weight_decay: float = 0.01  # of matrices only: not of biases, norms and embeddings
    optimizer: Annotated[OptimizerName, Doc(choices_help("rule of the updates", OPTIMIZERS))] = (
        "adamw"
    )
    beta1: float = 0.9  # decay of the mean gradient: the momentum of every optimizer
    beta2: float = 0.98  # decay of AdamW's mean squared gradient
    eps: float = 1e-8  # of AdamW: added to the root of the mean squared gradient
    # largest norm of the gradient, of every micro-step with --window; 0: no limit
    clip: float = 1.0
    # micro-steps per update, accumulated in the momentum; with --clip 0 --accumulate 1 gradients
    # are not stored
    window: int = 1
    second_moment: Annotated[
        SecondMoment,
        Doc(choices_help("mean squared gradient of adamw with --window", SECOND_MOMENTS)),
    ] = "corrected"
    adapt_step_size: Annotated[
        StepSizeName, Doc(choices_help("learn step sizes around the optimizer", STEP_SIZES))
    ] = "no"
    # measure step sizes on half-batches that did not make the step; --accumulate even
    adapt_halves: bool = False
    scale_lr: float = 1e-3  # rate at which scales adapt, of egdd and --adapt-step-size
    gain_lr: float = 1e-2  # rate at which gains adapt, of egdd and --adapt-step-size gain
    # decay of the moving average of the weights that is evaluated and saved, 0.999 say; 0: no
    # average
    ema: float = 0.0
    # batches per process and micro-step, their gradients added up before the optimizer sees them
    accumulate: int = 1
    # auto: bf16 autocast on a GPU that has it, else fp32
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    checkpoint_every: int = 500  # steps between checkpoints; 0: only at the end
    validate_every: int = 500  # steps between validations; 0: only at the end
    log_every: int = 20  # steps between rows in metrics.jsonl
    threads: int = 0  # processor threads; 0: PyTorch's choice
    device: str = "auto"  # auto: the GPU if there is one; cpu, cuda, cuda:1, mps
    resume: bool = False  # continue the run in --out, to the same weights as if it had not stopped

    RULES: ClassVar[Mapping[str, Rule]] = {
        "steps": at_least(1),
        "minutes": at_least(0, MINUTES, "0 (no time limit) or more"),
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
        OPTIMIZERS[self.optimizer].check(self)
        adapts = STEP_SIZES[self.adapt_step_size].adapts
        if self.adapt_halves and (not adapts or self.accumulate % 2):
            names = " or ".join(name for name, row in STEP_SIZES.items() if row.adapts)
            raise InputError(
                f"adapt_halves needs adapt_step_size={names} and an even accumulate, to have two "
                f"halves; got adapt_step_size={self.adapt_step_size}, "
                f"accumulate={self.accumulate}"
            )
