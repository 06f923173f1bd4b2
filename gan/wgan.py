r"""The training step of a GAN: critic steps with their normalisation and penalties, generator steps, the average.

A critic step scores real and generated data in one pass and normalises inside the forward that a
distributed wrapper calls, so that the second-order backward pass reaches its reducer. A generator
step with a piecewise linear critic costs one plain pass
(:func:`gan.normalization.normalize_for_generator`).

Everything a step draws comes from :attr:`WGAN.noise`, whose state is saved: a loaded copy goes on
to the same bits.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.optim import Optimizer

from gan.augment import augment
from gan.config import Recipe
from gan.critic_loss import CriticLoss
from gan.losses import generator_loss
from gan.normalization.gradient import normalize_for_generator, normalize_gradient, scores
from gan.normalization.module_types import rescale
from gan.penalties import clip_weights
from univae.errors import InputError
from univae.optim.ema import EMA

__all__ = ["WGAN", "NotFinite"]

Optimizers: TypeAlias = tuple[Optimizer, Optimizer]  # of the critic, of the generator


class NotFinite(FloatingPointError):
    """A player's gradient is not finite.

    Nothing was updated with it. ``report`` has the numbers.
    """

    def __init__(self, player: str, report: Mapping[str, float]) -> None:
        shown = ", ".join(f"{name} {value:g}" for name, value in report.items())
        super().__init__(
            f"the gradient of the {player} is not finite ({shown}); nothing was updated with it"
        )
        self.report = {"player": player, **report}


class WGAN:
    """Trains a generator against a critic: :meth:`step` for each batch of real data.

    ``generator`` takes latents (B, generator.latent), and labels (B,) where the critic has them;
    images are in [-1, 1]. ``optimizers`` are (critic's, generator's), by default Adam(2e-4, betas
    (0, 0.9)) for both.

    Under ``torch.distributed``, ``parallel`` (``DistributedDataParallel``, say) wraps what each
    player's loss is computed with; every process gives its own real data, and all together step as
    one process would on all of them.
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
        latent = getattr(generator, "latent", None)
        if not isinstance(latent, int):
            raise InputError(
                "WGAN: the generator must have an attribute `latent`, the width of its input"
            )
        self.latent = latent
        self.device = next(generator.parameters()).device
        self.optimizers = optimizers or (_adam(critic), _adam(generator))
        self.noise = torch.Generator(self.device).manual_seed(seed)
        self.steps = 0  # of the critic
        self.ema = EMA(generator, 0.0) if self.recipe.half_life else None
        wrap = parallel or (lambda module: module)
        self._critic_loss = wrap(CriticLoss(critic, self.recipe))
        self._generator = wrap(generator)
        together = parallel is not None and dist.is_initialized()
        self._rank, self._size = (dist.get_rank(), dist.get_world_size()) if together else (0, 1)

    def step(
        self, real: Float[Tensor, "batch *shape"], labels: Int[Tensor, "batch"] | None = None
    ) -> dict[str, Tensor]:
        """One critic step, and after every ``n_critic``-th a generator step; returns numbers to log.

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
        average: bool = True,
    ) -> Tensor:
        """Generated data of the moving average, if there is one, or else of the weights as they are."""
        if average and self.ema is not None:
            with self.ema.swapped():
                return self.sample(z, labels, average=False)
        training = self.generator.training
        try:
            return _generate(self.generator.eval(), z, labels)
        finally:
            self.generator.train(training)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, in tensors and plain containers."""
        return {
            "generator": self.generator.state_dict(),
            "critic": self.critic.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "ema": self.ema.state_dict() if self.ema else None,
            "noise": self.noise.get_state(),
            "steps": self.steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state, to the same bits."""
        self.generator.load_state_dict(state["generator"])
        self.critic.load_state_dict(state["critic"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        if self.ema:
            self.ema.load_state_dict(state["ema"])
        self.noise.set_state(state["noise"])
        self.steps = state["steps"]

    def _critic_step(self, real: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
        self.critic.requires_grad_(True)
        z = self._latents(len(real), real.dtype)
        with torch.no_grad(), self._autocast():
            fake = _generate(self.generator, z, labels).to(real.dtype)
        noise = self._local()
        if self.recipe.augment:
            real, fake = augment(torch.cat((real, fake)), self.recipe.augment, noise).split(
                len(real)
            )
        regularized = self.steps % self.recipe.lazy == 0
        loss, logged = self._critic_loss(real, fake, labels, regularized, noise)
        logged["critic_gradient"] = self._descend(0, "critic", loss)
        if self.recipe.penalties.clip:
            clip_weights(self.critic, self.recipe.penalties.clip)
        if self.recipe.rescales(self.critic):
            rescale(self.critic)
        return {"critic_loss": loss.detach(), **logged}

    def _generator_step(self, real: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
        self.critic.requires_grad_(False)
        count = len(real) * self.recipe.generator_ratio
        labels_of_fake = labels.repeat(self.recipe.generator_ratio) if labels is not None else None
        z = self._latents(count, real.dtype)
        noise = self._local()
        with self._autocast():
            fake = _generate(self._generator, z, labels_of_fake).to(real.dtype)
        if self.recipe.augment:
            fake = augment(fake, self.recipe.augment, noise)
        score = self._score(fake, labels_of_fake)
        score_of_real = score.new_zeros(0)
        if self.recipe.loss == "relativistic":
            real = augment(real, self.recipe.augment, noise) if self.recipe.augment else real
            with torch.no_grad():
                score_of_real = self._score(real, labels)
        loss = generator_loss(self.recipe.loss, score_of_real, score)
        gradient = self._descend(1, "generator", loss)
        if self.ema:
            self.ema.decay = 0.5 ** (count * self._size / self.recipe.half_life)
            self.ema.update()
        return {"generator_loss": loss.detach(), "generator_gradient": gradient}

    def _score(self, x: Tensor, labels: Tensor | None) -> Tensor:
        rule = self.recipe.rule
        with self._autocast():
            if rule is None:
                return scores(self.critic, x, labels)
            if not x.requires_grad:
                return normalize_gradient(
                    self.critic, x, rule.method, False, labels=labels, eps=rule.eps, K=rule.K
                )
            return normalize_for_generator(
                self.critic, x, rule.method, labels=labels, eps=rule.eps, K=rule.K
            )

    def _descend(self, player: int, name: str, loss: Tensor) -> Tensor:
        optimizer = self.optimizers[player]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, self.recipe.clip or float("inf"))
        if not norm.isfinite():
            raise NotFinite(name, {"loss": loss.item(), "gradient norm": norm.item()})
        optimizer.step()
        return norm.detach()

    def _latents(self, count: int, dtype: torch.dtype) -> Tensor:
        # Drawn for all processes, of which each takes its own: together they see what one process
        # would.
        drawn = torch.randn(
            self._size * count, self.latent, generator=self.noise, device=self.device, dtype=dtype
        )
        return drawn[self._rank * count : (self._rank + 1) * count]

    def _local(self) -> torch.Generator:
        # For what need not be the same on another number of processes: each has its own.
        key = torch.randint(2**62, (1,), generator=self.noise, device=self.device).item()
        return torch.Generator(self.device).manual_seed(int(key) + self._rank)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.bf16)


def _generate(generator: Callable[..., Tensor], z: Tensor, labels: Tensor | None) -> Tensor:
    return generator(z) if labels is None else generator(z, labels)


def _adam(module: nn.Module) -> Optimizer:
    device = next(module.parameters()).device.type
    return torch.optim.Adam(
        module.parameters(), lr=2e-4, betas=(0.0, 0.9), fused=device in ("cpu", "cuda")
    )
