"""A GAN as a task of the training loop: batches, alternating steps, and validation."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, NoReturn, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from experiments.data.arrays import Data
from experiments.gans.config import GanOptions
from experiments.gans.scaling import gan_rows
from experiments.training.distributed import World
from experiments.training.division import divided_anew
from experiments.training.optimizer_state import restore
from experiments.training.optimizers import OPTIMIZERS, build
from experiments.training.settings import Settings
from experiments.training.sharding import divided_state, whole_state
from experiments.training.step import Stepped, rate_factor, uses_bf16
from experiments.training.step_sizes import STEP_SIZES
from experiments.training.stopping import TrainingFailed
from experiments.training.task import Progress, reseed, seed_of
from experiments.training.units import Units
from gan.players import Players
from gan.wgan import WGAN, NotFinite
from univae.checkpoint import JsonObject
from univae.errors import InputError

__all__ = ["GanTask", "PlayerSteps", "Validate", "require_settings"]

# Returns the metrics of a number of generated rows at a point of training.
Validate: TypeAlias = Callable[[Players, Progress, int], JsonObject]


FEWEST_GENERATED = 100  # rows of a validation that is cut: distances of fewer are mostly bias

FLIP_PROBABILITY = 0.5  # that --flip mirrors a real image


class GanTask:
    """The batches and the validation of a generator and its critic.

    Args:
        players: the generator and its critic.
        options: batch size, losses and constraints.
        seed: of the order of the rows.
        train: the data, and the indices of the rows to train on.
        validate: returns the metrics of a number of generated rows.
        validation_rows: number of generated rows in a validation.
    """

    def __init__(
        self,
        players: Players,
        options: GanOptions,
        seed: int,
        train: tuple[Data, np.ndarray],
        validate: Validate,
        validation_rows: int,
    ) -> None:
        self.module = players
        self.options = options
        self.seed = seed
        self.data, self.train = train
        self.validation_rows = validation_rows
        self._validate = validate
        self.labels = self.data.labels if players.critic.classes > 0 else None

    @property
    def units(self) -> Units:
        """The words for its data."""
        return Units("image", "images") if self.data.is_images else Units("row", "rows")

    def batches(self, epoch: int) -> Sequence[np.ndarray]:
        """Return the indices of shuffled batches of equal size; a remainder is dropped."""
        order = np.random.default_rng([self.seed, epoch]).permutation(self.train)
        size = self.options.batch_size
        return [order[i : i + size] for i in range(0, len(order) - size + 1, size)]

    def load(self, item: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """Return the real rows of a batch, and their labels for conditional networks."""
        x = gan_rows(self.data, item)
        if self.options.flip:
            is_mirrored = torch.rand(len(x)) < FLIP_PROBABILITY
            x = torch.where(is_mirrored.view(-1, 1, 1, 1), x.flip(-1), x)
        if self.labels is None:
            return x, None
        return x, torch.as_tensor(self.labels[item]).long()

    def weight(self, batch: tuple[Tensor, Tensor | None]) -> int:
        """Return the number of real rows in a batch."""
        return len(batch[0])

    def validate(self, progress: Progress) -> JsonObject:
        """Return the metrics of the generator."""
        return self.validate_rows(progress, self.validation_rows)

    def validate_rows(self, progress: Progress, rows: int) -> JsonObject:
        """Return the metrics of ``rows`` generated rows."""
        return self._validate(self.module, progress, rows)

    @property
    def fewest_rows(self) -> int:
        """The fewest generated rows of a validation."""
        return min(FEWEST_GENERATED, self.validation_rows)


class PlayerSteps:
    """Steps of two players: ``n_critic`` critic steps on one batch each, then a generator step."""

    def __init__(self, task: GanTask, settings: Settings, world: World) -> None:
        require_settings(settings)
        self.task = task
        self.settings = settings
        self.world = world
        self.parts = world.size  # micro-batches that are one batch of a critic step
        self.rates = (settings.lr, task.options.generator_lr or settings.lr)
        players = task.module.to(world.device)
        self.saves_together = settings.shard and world.size > 1
        optimizers = (
            self._optimizer(players.critic, settings),
            self._optimizer(players.generator, replace(settings, lr=self.rates[1])),
        )
        bf16 = uses_bf16(settings.precision, world.device)
        self.wgan = WGAN(
            players.generator,
            players.critic,
            task.options.recipe(bf16=bf16, clip=settings.clip),
            optimizers=optimizers,
            parallel=world.average_gradients if world.size > 1 else None,
        )

    @property
    def averaged(self) -> nn.Module:
        """The generator, whose moving average is validated and saved."""
        return self.task.module.generator

    sharded = False
    optimized: Sequence[Tensor] = ()  # checkpoints have the whole state of the optimizers

    def whole_weights(self) -> AbstractContextManager[object]:
        """Do nothing: every process has all weights."""
        return nullcontext()

    @property
    def batches(self) -> int:
        """Micro-batches in a step, over all processes."""
        return self.parts * self.task.options.n_critic

    def keep_batches(self, processes: int) -> None:
        """Keep the rows of a critic step of a run that ``processes`` processes began.

        Raises:
            InputError: this number of processes cannot share them equally.
        """
        rows = processes * self.task.options.batch_size
        if rows % self.world.size:
            raise InputError(
                f"--batch-size {self.task.options.batch_size}: {self.world.size} processes cannot "
                f"share the {rows} rows of a step equally; resume with another number of processes,"
                f" such as {processes}"
            )
        self.parts = processes

    def step(self, items: Sequence[Any], progress: Progress) -> Stepped:
        """Take one step on ``items``; each process computes every ``world.size``-th of them.

        Raises:
            TrainingFailed: a loss or a gradient is not finite.
        """
        factor = rate_factor(self.settings, progress.fraction)
        for optimizer, rate in zip(self.wgan.optimizers, self.rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = factor * rate
        # The same seed on all processes: each draws all latents and uses its slice.
        self.wgan.noise.manual_seed(seed_of(self.settings.seed, progress.step, "noise"))

        sums: dict[str, float] = {}
        rows = self.task.options.batch_size * len(items)
        items = divided_anew(items, self.parts, self.world.size)
        for index in range(self.world.rank, len(items), self.world.size):
            reseed(self.settings.seed, progress.step, index, "load")
            x, labels = self.task.load(items[index])
            for name, value in self._wgan_step(x, labels, progress).items():
                sums[name] = sums.get(name, 0.0) + len(x) * value

        totals = dict(zip(sums, self.world.total(list(sums.values())), strict=True))
        # One generator step per ``n_critic`` batches: its values are weighted for all of them.
        for name in totals:
            if name.startswith("generator"):
                totals[name] *= self.task.options.n_critic
        gradient_norm = totals.pop("critic_gradient") / rows
        totals = {**totals, "weight": rows, "loss": totals.pop("critic_loss")}
        return Stepped(totals, factor * self.rates[0], gradient_norm)

    def step_sizes(self) -> dict[str, float]:
        """Return an empty dictionary: step sizes are not adapted."""
        return {}

    def state_dict(self) -> JsonObject:
        """Return the state of both optimizers and the number of the critic's steps.

        Where it is divided, a collective operation, and complete in the first process alone.
        """
        state_of = whole_state if self.saves_together else Optimizer.state_dict
        critic_optimizer, generator_optimizer = self.wgan.optimizers
        return {
            "critic": state_of(critic_optimizer),
            "generator": state_of(generator_optimizer),
            "critic_steps": self.wgan.steps,
        }

    def load_state_dict(self, state: Mapping[str, Any], step: int) -> None:
        """Load the state saved after ``step`` steps.

        Raises:
            InputError: the state is damaged, or of another optimizer or network.
        """
        for optimizer, name in zip(self.wgan.optimizers, ("critic", "generator"), strict=True):
            restore(optimizer, state.get(name), step)
        steps = state.get("critic_steps")
        if type(steps) is not int:
            raise InputError(
                f"optimizer.pt: critic_steps must be a whole number; got {steps!r}; restore the "
                "file from a copy, or train anew"
            )
        self.wgan.steps = steps

    def _optimizer(self, player: nn.Module, settings: Settings) -> Optimizer:
        optimizer = build(player, settings, self.world.device)
        return divided_state(optimizer) if self.saves_together else optimizer

    def _wgan_step(self, x: Tensor, labels: Tensor | None, progress: Progress) -> dict[str, float]:
        """Take a critic step, and a generator step after every ``n_critic``; return its log."""
        try:
            logged = self.wgan.step(x, labels)
        except NotFinite as error:
            advice = ["a lower --lr", "--precision fp32", "--clip 1", "a look at this batch"]
            raise TrainingFailed(
                f"training stopped in step {progress.step + 1}: {error}; "
                f"try {advice[0]} or {advice[1]}, and see ERROR.json in the run folder",
                **error.report,
                advice=advice,
            ) from error
        values = torch.stack([value.double() for value in logged.values()]).tolist()
        return dict(zip(logged, values, strict=True))


def require_settings(settings: Settings) -> None:
    """Raise :class:`InputError` for settings that alternating steps of two players do not support.

    These are the accumulation of gradients over micro-steps, adapted step sizes, and what changes
    how backward passes are computed.
    """
    if settings.accumulate != 1:
        _refuse("accumulate", "1", settings.accumulate)
    if settings.recompute:
        _refuse("recompute", "False", settings.recompute)
    if settings.compile:
        raise InputError(
            "compile must be False: a critic's gradient is differentiated again, which compiled "
            "code cannot be; got compile=True"
        )
    if settings.window != 1:
        _refuse("window", "1", settings.window)
    if STEP_SIZES[settings.adapt_step_size].adapts:
        allowed = [name for name, row in STEP_SIZES.items() if not row.adapts]
        _refuse("adapt_step_size", " or ".join(allowed), settings.adapt_step_size)
    if OPTIMIZERS[settings.optimizer].is_adaptive:
        allowed = [name for name, row in OPTIMIZERS.items() if not row.is_adaptive]
        _refuse("optimizer", " or ".join(allowed), settings.optimizer)


def _refuse(option: str, allowed: str, value: object) -> NoReturn:
    raise InputError(
        f"{option} must be {allowed}: a GAN alternates the steps of two players; "
        f"got {option}={value}"
    )
