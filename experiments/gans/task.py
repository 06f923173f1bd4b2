"""A GAN as the training loop sees it: its batches, the steps of two players, and its validation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from experiments.data.arrays import Data
from experiments.gans.config import GanOptions
from experiments.gans.scaling import gan_rows
from experiments.training.distributed import World
from experiments.training.optimizer_state import restore
from experiments.training.optimizers import OPTIMIZERS, build
from experiments.training.settings import Settings
from experiments.training.step import Stepped, rate_factor, uses_bf16
from experiments.training.step_sizes import STEP_SIZES
from experiments.training.stopping import TrainingFailed
from experiments.training.task import Progress, reseed, seed_of
from gan.players import Players
from gan.wgan import WGAN, NotFinite
from univae.checkpoint import JsonObject
from univae.errors import InputError

__all__ = ["GanTask", "PlayerSteps", "Validate", "require_settings"]

# Measures the generator as it is, at a point of training.
Validate: TypeAlias = Callable[[Players, Progress], JsonObject]


class GanTask:
    """Two networks, ``players``, that play against each other on rows ``train`` of the data.

    Args:
        players: the generator and its critic.
        options: how the two play.
        seed: of the order of the data.
        train: the data, and the indices to train on.
        validate: measures the generator.
    """

    def __init__(
        self,
        players: Players,
        options: GanOptions,
        seed: int,
        train: tuple[Data, np.ndarray],
        validate: Validate,
    ) -> None:
        self.module = players
        self.options = options
        self.seed = seed
        self.data, self.train = train
        self._validate = validate
        self.labels = self.data.labels if players.critic.classes > 0 else None

    def batches(self, epoch: int) -> Sequence[np.ndarray]:
        """Return shuffled batches of equal size; a remainder is left out."""
        order = np.random.default_rng([self.seed, epoch]).permutation(self.train)
        size = self.options.batch_size
        return [order[i : i + size] for i in range(0, len(order) - size + 1, size)]

    def load(self, item: np.ndarray) -> tuple[Tensor, Tensor | None]:
        x = gan_rows(self.data, item)
        if self.options.flip:
            mirrored = torch.rand(len(x)) < 0.5
            x = torch.where(mirrored.view(-1, 1, 1, 1), x.flip(-1), x)
        if self.labels is None:
            return x, None
        return x, torch.as_tensor(self.labels[item]).long()

    def weight(self, batch: tuple[Tensor, Tensor | None]) -> int:
        return len(batch[0])

    def validate(self, progress: Progress) -> JsonObject:
        return self._validate(self.module, progress)


class PlayerSteps:
    """``n_critic`` steps of the critic, each on a batch of its own, and one of the generator."""

    def __init__(self, task: GanTask, settings: Settings, world: World) -> None:
        require_settings(settings)
        self.task = task
        self.settings = settings
        self.world = world
        self.rates = (settings.lr, task.options.generator_lr or settings.lr)
        players = task.module.to(world.device)
        optimizers = (
            build(players.critic, settings, world.device),
            build(players.generator, replace(settings, lr=self.rates[1]), world.device),
        )
        bf16 = uses_bf16(settings.precision, world.device)
        self.wgan = WGAN(
            players.generator,
            players.critic,
            task.options.recipe(bf16, settings.clip),
            optimizers=optimizers,
            parallel=world.average_gradients if world.size > 1 else None,
        )

    @property
    def averaged(self) -> nn.Module:
        return self.task.module.generator

    @property
    def batches(self) -> int:
        """Micro-batches in a step, over all processes."""
        return self.world.size * self.task.options.n_critic

    def step(self, items: Sequence[Any], progress: Progress) -> Stepped:
        """Take one step on ``items``, of which this process computes every ``world.size``-th.

        Raises:
            TrainingFailed: a loss or a gradient is not finite.
        """
        factor = rate_factor(self.settings, progress.fraction)
        for optimizer, rate in zip(self.wgan.optimizers, self.rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = factor * rate
        # The same seed for all processes: each takes its share of what is drawn.
        self.wgan.noise.manual_seed(seed_of(self.settings.seed, progress.step, "noise"))

        sums: dict[str, float] = {}
        for index in range(self.world.rank, len(items), self.world.size):
            reseed(self.settings.seed, progress.step, index, "load")
            x, labels = self.task.load(items[index])
            for name, value in self._play(x, labels, progress).items():
                sums[name] = sums.get(name, 0.0) + len(x) * value

        totals = dict(zip(sums, self.world.total(list(sums.values())), strict=True))
        # The generator moves once for ``n_critic`` batches: its numbers count for all of them.
        for name in totals:
            if name.startswith("generator"):
                totals[name] *= self.task.options.n_critic
        rows = self.task.options.batch_size * len(items)
        gradient_norm = totals.pop("critic_gradient") / rows
        totals = {**totals, "weight": rows, "loss": totals.pop("critic_loss")}
        return Stepped(totals, factor * self.rates[0], gradient_norm)

    def step_sizes(self) -> dict[str, float]:
        """Return nothing: both players' step sizes are fixed."""
        return {}

    def state_dict(self) -> JsonObject:
        """Return the state of both optimizers and the number of the critic's steps."""
        critic, generator = (optimizer.state_dict() for optimizer in self.wgan.optimizers)
        return {"critic": critic, "generator": generator, "critic_steps": self.wgan.steps}

    def load_state_dict(self, state: Mapping[str, Any], step: int) -> None:
        """Continue from the state saved after ``step`` steps.

        Raises:
            InputError: the state does not fit.
        """
        for optimizer, name in zip(self.wgan.optimizers, ("critic", "generator"), strict=True):
            restore(optimizer, state.get(name), step)
        steps = state.get("critic_steps")
        if type(steps) is not int:
            raise InputError(
                f"optimizer.pt: critic_steps must be a whole number; got {steps!r}; copy it again"
            )
        self.wgan.steps = steps

    def _play(self, x: Tensor, labels: Tensor | None, progress: Progress) -> dict[str, float]:
        """Take a step of the critic, and of the generator where it is its turn; return its log."""
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
    """Refuse the options of the loop that two players have no use for.

    Raises:
        InputError: gradients are to be accumulated, or step sizes adapted.
    """
    refused = {
        "accumulate": settings.accumulate != 1,
        "window": settings.window != 1,
        "adapt_step_size": STEP_SIZES[settings.adapt_step_size].adapts,
        "optimizer": OPTIMIZERS[settings.optimizer].is_adaptive,
    }
    for name, is_refused in refused.items():
        if is_refused:
            allowed = "adamw, sgd or tiger" if name == "optimizer" else "its default"
            value = getattr(settings, name)
            raise InputError(
                f"{name} must be {allowed}, for a GAN alternates two players; got {name}={value}"
            )
