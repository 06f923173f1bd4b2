"""The options every training command has."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from univae.errors import InputError

__all__ = ["Settings", "require"]

OPTIMIZERS = ("adamw", "sgd", "tiger", "egdd")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Options common to every training command; a command's ``Config`` inherits them."""

    steps: int = 1000  # optimizer steps
    minutes: float = (
        0.0  # train for so long, the last validation included, and ignore --steps; not reproducible exactly
    )
    clock: Literal["wall", "processor"] = "wall"  # of --minutes; processor: the time of all threads of this process
    seed: int = 0  # decides the weights one starts from, the order of the data and all noise
    lr: float = 1e-3  # the highest learning rate
    schedule: Literal["cosine", "tripling"] = "cosine"  # of the rate; tripling: that of Burda et al., down to a tenth
    warmup: float = 0.05  # fraction of training over which the learning rate rises to --lr, of cosine
    lr_floor: float = 0.05  # fraction of --lr to which it falls by the end, of cosine
    weight_decay: float = 0.01  # of matrices only: not of biases, norms and embeddings
    optimizer: Literal["adamw", "sgd", "tiger", "egdd"] = "adamw"
    beta1: float = 0.9  # decay of the mean gradient: the momentum of every optimizer
    beta2: float = 0.98  # decay of AdamW's mean squared gradient
    eps: float = 1e-8  # of AdamW: added to the root of the mean squared gradient
    clip: float = 1.0  # largest norm of the gradient, of every micro-step with --window; 0: no limit
    window: int = (
        1  # micro-steps per update, accumulated in the momentum; with --clip 0 and --accumulate 1 no gradients are kept
    )
    second_moment: Literal["corrected", "plain"] = "corrected"  # of AdamW with --window; plain: the published rule
    adapt_step_size: Literal["no", "scale", "gain"] = "no"  # learn a factor per tensor; gain: also per coordinate
    adapt_halves: bool = False  # measure step sizes on half-batches that did not make the step; --accumulate even
    scale_lr: float = 1e-3  # rate at which scales adapt, of egdd and --adapt-step-size
    gain_lr: float = 1e-2  # rate at which gains adapt, of egdd and --adapt-step-size gain
    ema: float = 0.0  # decay of the moving average of the weights that is evaluated and saved, 0.999 say; 0: no average
    accumulate: int = 1  # batches per process and micro-step, their gradients added up before the optimizer sees them
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: bf16 autocast on a GPU that has it, else fp32
    checkpoint_every: int = 500  # steps between checkpoints; 0: only at the end
    validate_every: int = 500  # steps between validations; 0: only at the end
    log_every: int = 20  # steps between rows in metrics.jsonl
    threads: int = 0  # processor threads; 0: PyTorch's choice
    device: str = "auto"  # auto: the GPU if there is one; cpu, cuda, cuda:1, mps
    resume: bool = False  # continue the run in --out, to the same weights as if it had not stopped

    def __post_init__(self) -> None:
        rules = {
            "steps": (self.steps >= 1, "at least 1"),
            "minutes": (0 <= self.minutes < math.inf, "0 (no time limit) or more"),
            "clock": (self.clock in ("wall", "processor"), "wall or processor"),
            "schedule": (self.schedule in ("cosine", "tripling"), "cosine or tripling"),
            "eps": (0 < self.eps < math.inf, "above 0"),
            "lr": (0 < self.lr < math.inf, "above 0"),
            "warmup": (0 <= self.warmup <= 1, "in [0, 1], a fraction of training"),
            "lr_floor": (0 <= self.lr_floor <= 1, "in [0, 1], a fraction of lr"),
            "weight_decay": (0 <= self.weight_decay < math.inf, "0 or more"),
            "beta1": (0 <= self.beta1 < 1, "in [0, 1)"),
            "beta2": (0 <= self.beta2 < 1, "in [0, 1)"),
            "optimizer": (self.optimizer in OPTIMIZERS, ", ".join(OPTIMIZERS)),
            "clip": (self.clip >= 0, "0 (no limit) or more"),
            "window": (self.window >= 1, "at least 1"),
            "second_moment": (self.second_moment in ("corrected", "plain"), "corrected or plain"),
            "adapt_step_size": (self.adapt_step_size in ("no", "scale", "gain"), "no, scale or gain"),
            "scale_lr": (0 <= self.scale_lr < math.inf, "0 or more"),
            "gain_lr": (0 <= self.gain_lr < math.inf, "0 or more"),
            "ema": (0 <= self.ema < 1, "in [0, 1); 0 is no average"),
            "accumulate": (self.accumulate >= 1, "at least 1"),
            "precision": (self.precision in ("auto", "fp32", "bf16"), "auto, fp32 or bf16"),
            "checkpoint_every": (self.checkpoint_every >= 0, "0 (only at the end) or more"),
            "validate_every": (self.validate_every >= 0, "0 (only at the end) or more"),
            "log_every": (self.log_every >= 1, "at least 1"),
            "threads": (self.threads >= 0, "0 (PyTorch's choice) or more"),
        }
        require(self, rules)
        self._require_combination()

    def _require_combination(self) -> None:
        if self.optimizer == "egdd" and self.window > 1:
            raise InputError(f"window must be 1 with optimizer=egdd, which keeps none; got window={self.window}")
        if self.optimizer == "egdd" and self.adapt_step_size != "no":
            raise InputError("adapt_step_size must be no with optimizer=egdd, which adapts by itself; drop one")
        if self.adapt_halves and (self.adapt_step_size == "no" or self.accumulate % 2):
            needs = "adapt_halves needs adapt_step_size=scale or gain and an even accumulate, to have two halves"
            raise InputError(f"{needs}; got adapt_step_size={self.adapt_step_size}, accumulate={self.accumulate}")


def require(config: object, rules: Mapping[str, tuple[bool, str]]) -> None:
    """Refuses the first field whose rule does not hold; ``rules`` are fields with whether it holds, and in words."""
    for name, (holds, rule) in rules.items():
        if not holds:
            raise InputError(f"{name} must be {rule}; got {name}={getattr(config, name)}")
