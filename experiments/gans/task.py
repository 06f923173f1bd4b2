"""A GAN as the training loop sees it: its batches, its own steps, and what a validation measures."""

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
from experiments.training.optimizers import build, restore
from experiments.training.settings import Settings
from experiments.training.step import Stepped, rate_factor, uses_bf16
from experiments.training.stopping import TrainingFailed
from experiments.training.task import Progress, reseed, seed_of
from gan.players import Players
from gan.wgan import WGAN, NotFinite
from univae.errors import InputError

__all__ = ["GanTask", "PlayersSteps", "Validate", "require_settings"]

# Measures the generator as it is, at a place in training.
Validate: TypeAlias = Callable[[Players, Progress], dict[str, Any]]


class GanTask:
    """Plays the two networks of ``module`` against each other on the data with the indices ``train``."""

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
        (self.data, self.train) = train
        self._validate = validate
        self.labelled = players.critic.classes > 0

    @property
    def averaged(self) -> nn.Module:
        return self.module.generator

    def stepper(self, settings: Settings, world: World) -> "PlayersSteps":
        return PlayersSteps(self, settings, world)

    def batches(self, epoch: int) -> Sequence[np.ndarray]:
        order = np.random.default_rng([self.seed, epoch]).permutation(self.train)
        size = self.options.batch_size
        # whole batches only
        return [order[i : i + size] for i in range(0, len(order) - size + 1, size)]

    def load(self, item: np.ndarray) -> tuple[Tensor, Tensor | None]:
        x = gan_rows(self.data, item)
        if self.options.flip:
            mirrored = torch.rand(len(x)) < 0.5
            x = torch.where(mirrored.view(-1, 1, 1, 1), x.flip(-1), x)
        labels = self.data.labels
        return x, torch.as_tensor(
            labels[item]
        ).long() if self.labelled and labels is not None else None

    def weight(self, batch: tuple[Tensor, Tensor | None]) -> int:
        return len(batch[0])

    def validate(self, progress: Progress) -> dict[str, Any]:
        return self._validate(self.module, progress)


class PlayersSteps:
    """A step of the loop: ``n_critic`` steps of the critic, each on a batch of its own, and one of the generator."""

    def __init__(self, task: GanTask, settings: Settings, world: World) -> None:
        require_settings(settings)
        self.task = task
        self.settings = settings
        self.world = world
        self.rates = (settings.lr, task.options.generator_lr or settings.lr)
        players = task.module
        device = world.device
        optimizers = (
            build(players.critic, settings, device),
            build(players.generator, replace(settings, lr=self.rates[1]), device),
        )
        recipe = task.options.recipe(uses_bf16(settings.precision, device), settings.clip)
        parallel = world.average_gradients if world.size > 1 else None
        self.wgan = WGAN(
            players.generator, players.critic, recipe, optimizers=optimizers, parallel=parallel
        )

    @property
    def batches(self) -> int:
        return self.world.size * self.task.options.n_critic

    def step(self, items: Sequence[Any], progress: Progress) -> Stepped:
        factor = rate_factor(self.settings, progress.fraction)
        for optimizer, rate in zip(self.wgan.optimizers, self.rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = factor * rate
        # The same for all processes: each takes its own share of what is drawn.
        self.wgan.noise.manual_seed(seed_of(self.settings.seed, progress.step, "noise"))
        sums: dict[str, float] = {}
        for index in range(self.world.rank, len(items), self.world.size):
            reseed(self.settings.seed, progress.step, index, "load")
            x, labels = self.task.load(items[index])
            for name, value in self._played(x, labels, progress).items():
                sums[name] = sums.get(name, 0.0) + len(x) * value
        totals = dict(zip(sums, self.world.total(list(sums.values())), strict=True))
        seen = self.task.options.batch_size * len(items)
        shares = {
            name: self.task.options.n_critic if name.startswith("generator") else 1
            for name in totals
        }
        totals = {name: shares[name] * value for name, value in totals.items()}
        totals |= {"weight": seen, "loss": totals.pop("critic_loss")}
        return Stepped(totals, factor * self.rates[0], totals.pop("critic_gradient") / seen)

    def step_sizes(self) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        critic, generator = (optimizer.state_dict() for optimizer in self.wgan.optimizers)
        return {"critic": critic, "generator": generator, "critic_steps": self.wgan.steps}

    def load_state_dict(self, state: Mapping[str, Any], step: int) -> None:
        for optimizer, name in zip(self.wgan.optimizers, ("critic", "generator"), strict=True):
            restore(optimizer, state.get(name), step)
        steps = state.get("critic_steps")
        if type(steps) is not int:
            raise InputError(
                f"optimizer.pt: critic_steps must be a whole number; got {steps!r}; copy it again"
            )
        self.wgan.steps = steps

    def _played(self, x: Tensor, labels: Tensor | None, progress: Progress) -> dict[str, float]:
        try:
            logged = self.wgan.step(x, labels)
        except NotFinite as error:
            advice = ["a lower --lr", "--precision fp32", "--clip 1", "a look at this batch"]
            said = f"training stopped in step {progress.step + 1}: {error}; try {advice[0]} or {advice[1]}"
            raise TrainingFailed(
                f"{said}, and see ERROR.json in the run folder", **error.report, advice=advice
            ) from error
        values = torch.stack([value.double() for value in logged.values()]).tolist()
        return dict(zip(logged, values, strict=True))


def require_settings(settings: Settings) -> None:
    """Refuse the options of the loop that two players have no use for."""
    wrong = {
        "accumulate": settings.accumulate != 1,
        "window": settings.window != 1,
        "adapt_step_size": settings.adapt_step_size != "no",
        "optimizer": settings.optimizer == "egdd",
    }
    for name, given in wrong.items():
        if given:
            usual = "adamw, sgd or tiger" if name == "optimizer" else "its default"
            raise InputError(
                f"{name} must be {usual}, for a GAN alternates two players; got {name}={getattr(settings, name)}"
            )
