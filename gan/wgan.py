r"""The training step of a GAN: critic steps, generator steps, the average of the generator.

A critic step scores real and generated rows in one pass and normalises inside the forward that a
distributed wrapper calls, so that the second-order backward pass reaches its reducer. A generator
step with a piecewise linear critic costs one plain pass
(:meth:`gan.normalization.Score.for_generator`).

All random numbers come from :attr:`WGAN.noise`, whose state is saved: a loaded copy continues with
the same bits.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.optim import Optimizer

from gan.augment import augment
from gan.config import Recipe
from gan.critic_loss import CriticLoss
from gan.descent import NotFinite, default_optimizer, descend
from gan.losses import LOSSES, generator_loss
from gan.normalization.module_types import rescale
from gan.normalization.score import Score
from gan.penalties import PENALTIES
from univae.checkpoint import JsonObject
from univae.dtypes import autocast
from univae.errors import InputError
from univae.optim.ema import EMA

__all__ = ["WGAN", "NotFinite"]

Optimizers: TypeAlias = tuple[Optimizer, Optimizer]  # of the critic, of the generator


class WGAN:
    """A generator and a critic in training: call :meth:`step` with each batch of real rows.

    Under ``torch.distributed`` each process passes a different batch, and the step equals that of
    one process on all of them.

    Args:
        generator: maps latents (B, generator.latent), and labels (B,) if conditional, to rows;
            images in [-1, 1].
        critic: maps rows, and labels if conditional, to one score per row.
        recipe: the training step; by default gradient normalisation with the hinge loss.
        optimizers: of the critic and of the generator; by default Adam for both.
        seed: of all random draws of the steps.
        parallel: wraps what each player's loss is computed with, such as
            ``DistributedDataParallel``.
    """

    def __init__(
        self,
        generator: nn.Module,
        critic: nn.Module,
        recipe: Recipe | None = None,
        *,
        optimizers: Optimizers | None = None,
        seed: int = 0,
        parallel: Callable[[nn.Module], nn.Module] | None = None,
    ) -> None:
        self.generator = generator
        self.critic = critic
        self.recipe = recipe or Recipe()
        self.recipe.check(critic)
        self.score = Score(critic, self.recipe.rule)
        self.latent = _latent_width(generator)
        self.device = next(generator.parameters()).device
        self.optimizers = optimizers or (
            default_optimizer(critic),
            default_optimizer(generator),
        )
        self.noise = torch.Generator(self.device).manual_seed(seed)
        self.steps = 0  # of the critic
        self.ema = EMA(generator, 0.0) if self.recipe.half_life else None
        self._critic_loss: nn.Module = CriticLoss(critic, self.recipe)
        self._generator = generator
        self._rank = 0
        self._processes = 1
        if parallel is not None:
            self._distribute(parallel)

    def step(
        self, real: Float[Tensor, "batch *shape"], labels: Int[Tensor, "batch"] | None = None
    ) -> dict[str, Tensor]:
        """Take a critic step, and a generator step after every ``n_critic`` of them.

        Return numbers to log: losses, scores, penalties and gradient norms.

        Raises:
            NotFinite: a gradient is not finite; that player was not updated.
        """
        real = real.to(self.device)
        labels = labels.to(self.device) if labels is not None else None
        logged = self._critic_step(real, labels)
        self.steps += 1
        if self.steps % self.recipe.n_critic == 0:
            logged |= self._generator_step(real, labels)
        return logged

    @torch.no_grad()
    def sample(
        self,
        z: Float[Tensor, "batch latent"],
        labels: Int[Tensor, "batch"] | None = None,
        *,
        average: bool = True,
    ) -> Tensor:
        """Return generated rows of latents ``z``, in evaluation mode.

        ``average``: use the moving average of the weights, if there is one.
        """
        if average and self.ema is not None:
            with self.ema.swapped():
                return self.sample(z, labels, average=False)
        training = self.generator.training
        try:
            return _generate(self.generator.eval(), z, labels)
        finally:
            self.generator.train(training)

    def state_dict(self) -> JsonObject:
        """Return the state that the next step depends on, in tensors and plain containers."""
        return {
            "generator": self.generator.state_dict(),
            "critic": self.critic.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "ema": self.ema.state_dict() if self.ema else None,
            "noise": self.noise.get_state(),
            "steps": self.steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a saved state; the steps that follow have the same bits."""
        self.generator.load_state_dict(state["generator"])
        self.critic.load_state_dict(state["critic"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        if self.ema:
            self.ema.load_state_dict(state["ema"])
        self.noise.set_state(state["noise"])
        self.steps = state["steps"]

    def _distribute(self, parallel: Callable[[nn.Module], nn.Module]) -> None:
        self._critic_loss = parallel(self._critic_loss)
        self._generator = parallel(self.generator)
        if dist.is_initialized():
            self._rank = dist.get_rank()
            self._processes = dist.get_world_size()

    def _critic_step(self, real: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
        self.critic.requires_grad_(requires_grad=True)
        z = self._latents(len(real), real.dtype)
        with torch.no_grad(), self._autocast():
            fake = _generate(self.generator, z, labels).to(real.dtype)
        noise = self._process_noise()
        if self.recipe.augment:
            both = augment(torch.cat((real, fake)), self.recipe.augment, noise)
            real, fake = torch.split(both, len(real))

        regularized = self.steps % self.recipe.lazy == 0
        loss, logged = self._critic_loss(real, fake, labels, regularized=regularized, noise=noise)
        logged["critic_gradient"] = descend(self.optimizers[0], loss, "critic", self.recipe.clip)
        self._constrain_critic()
        return {"critic_loss": loss.detach(), **logged}

    def _constrain_critic(self) -> None:
        for name, bound in self.recipe.penalties.weights().items():
            project = PENALTIES[name].project
            if project is not None:
                project(self.critic, bound)
        if self.recipe.rescales(self.critic):
            rescale(self.critic)

    def _generator_step(self, real: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
        self.critic.requires_grad_(requires_grad=False)
        count = len(real) * self.recipe.generator_ratio
        fake_labels = labels.repeat(self.recipe.generator_ratio) if labels is not None else None
        z = self._latents(count, real.dtype)
        noise = self._process_noise()
        with self._autocast():
            fake = _generate(self._generator, z, fake_labels).to(real.dtype)
        if self.recipe.augment:
            fake = augment(fake, self.recipe.augment, noise)
        with self._autocast():
            fake_score = self.score.for_generator(fake, fake_labels)
        real_score = fake_score.new_zeros(0)
        if LOSSES[self.recipe.loss].pairs:
            real_score = self._score_of_real(real, labels, noise)

        loss = generator_loss(self.recipe.loss, real_score, fake_score)
        gradient_norm = descend(self.optimizers[1], loss, "generator", self.recipe.clip)
        if self.ema:
            images = count * self._processes
            self.ema.decay = 0.5 ** (images / self.recipe.half_life)
            self.ema.update()
        return {"generator_loss": loss.detach(), "generator_gradient": gradient_norm}

    @torch.no_grad()
    def _score_of_real(self, real: Tensor, labels: Tensor | None, noise: torch.Generator) -> Tensor:
        if self.recipe.augment:
            real = augment(real, self.recipe.augment, noise)
        with self._autocast():
            return self.score.value(real, labels)

    def _latents(self, count: int, dtype: torch.dtype) -> Tensor:
        # Every process draws the latents of all processes and uses its slice, so that together they
        # use the same latents as a single process.
        z = torch.randn(
            self._processes * count,
            self.latent,
            generator=self.noise,
            device=self.device,
            dtype=dtype,
        )
        return z[self._rank * count : (self._rank + 1) * count]

    def _process_noise(self) -> torch.Generator:
        # One generator per process, for draws that may depend on the number of processes.
        key = torch.randint(2**62, (1,), generator=self.noise, device=self.device).item()
        return torch.Generator(self.device).manual_seed(int(key) + self._rank)

    def _autocast(self) -> AbstractContextManager[object]:
        return autocast(self.device, torch.bfloat16, enabled=self.recipe.bf16)


def _generate(generator: Callable[..., Tensor], z: Tensor, labels: Tensor | None) -> Tensor:
    return generator(z) if labels is None else generator(z, labels)


def _latent_width(generator: nn.Module) -> int:
    latent = getattr(generator, "latent", None)
    if not isinstance(latent, int):
        raise InputError(
            "WGAN: the generator must have an attribute `latent`, the width of its input; got "
            f"latent={latent!r}"
        )
    return latent
