"""The validation of a GAN: metrics of the generator, facts about the critic, and a grid of images."""

from pathlib import Path

import torch
from torch import Tensor

from experiments.gans.config import GanOptions
from experiments.gans.evaluation import Reference, compute_reference
from experiments.gans.features import class_labels, train_feature_space
from experiments.gans.samples import fixed_latents
from experiments.gans.scaling import to_grey_levels
from experiments.gans.training_data import GanData, TrainingRows
from experiments.reports.image_grid import write_picture
from experiments.training.run_folder import Run
from experiments.training.settings import Settings
from experiments.training.task import Progress
from gan.audit import audit
from gan.players import Players
from univae.checkpoint import JsonObject

__all__ = ["GeneratorValidation", "reference"]

AUDITED = 128  # real rows at which the critic is looked at
LENGTH = 1e-2  # of the segments whose slopes are measured, as a share of a typical distance
TOGETHER = 256  # rows generated at once
LEVELS = 256  # of the pixels of a grid


def reference(
    source: GanData, settings: Settings, out: Path, rows: TrainingRows, count: int = 0
) -> Reference:
    """Return what generated rows are compared with, ``count`` of them or ``--validation-data``.

    The classifier that ``--features auto`` means is trained where the run folder ``out`` has none.
    """
    space = train_feature_space(
        rows.data,
        out / "features",
        source.features,
        source.feature_steps,
        settings.threads,
        settings.device,
    )
    count = count or source.validation_data
    return compute_reference(rows.data, rows.rows, rows.held_out, space, count)


class GeneratorValidation:
    """Metrics of the generator and facts about the critic, and a grid of the same latents each time.

    Args:
        compared: the real rows to compare with.
        options: how the two networks play; the critic's normalisation among them.
        run: the folder of the grids.
        conditional: whether the networks see labels.
    """

    def __init__(
        self, compared: Reference, options: GanOptions, run: Run, conditional: bool
    ) -> None:
        self.compared = compared
        self.options = options
        self.run = run
        self.labels = class_labels(compared.data) if conditional else None
        self.real = compared.real[:AUDITED]
        self.real_labels: Tensor | None = None
        if self.labels is not None:
            self.real_labels = self.labels[compared.order[: len(self.real)]]

    def __call__(self, players: Players, progress: Progress) -> JsonObject:
        z = torch.randn(self.compared.count, players.generator.latent)
        labels = None
        if self.labels is not None:
            labels = self.labels[torch.randint(len(self.labels), (len(z),))]
        metrics = self.compared.measure(_generate(players, z, labels))
        if self.compared.data.is_images:
            self._write_grid(players, progress.step)
        return {
            "selection": metrics["frechet_distance"],
            **metrics,
            "feature_space": self.compared.space.name,
            **self._critic_facts(players),
        }

    def _write_grid(self, players: Players, step: int) -> None:
        z = fixed_latents(players.generator.latent)
        labels = None
        if players.generator.classes:
            labels = torch.arange(len(z)) % players.generator.classes
        grid = to_grey_levels(_generate(players, z, labels))
        write_picture(self.run.path / "samples" / f"step_{step:06d}.png", grid, LEVELS)

    def _critic_facts(self, players: Players) -> JsonObject:
        device = next(players.parameters()).device
        facts = audit(
            players.critic,
            self.real.to(device),
            labels=self.real_labels.to(device) if self.real_labels is not None else None,
            normalization=self.options.normalization,
            eps=self.options.gran_eps,
            K=self.options.gradient_bound,
            lengths=(LENGTH,),
        )
        (slopes,) = facts.slopes
        return {
            "score_gradient_median": facts.gradient_norms[1],
            "score_gradient_max": facts.gradient_norms[-1],
            "slope_within_max": slopes.within,
            "slope_across_max": slopes.across,
            "slopes_above_one": slopes.above_one,
        }


def _generate(players: Players, z: Tensor, labels: Tensor | None) -> Tensor:
    """Return generated rows on the CPU, in float32."""
    device = next(players.parameters()).device
    parts = []
    for start in range(0, len(z), TOGETHER):
        part = slice(start, start + TOGETHER)
        inputs = [z[part].to(device)]
        if labels is not None:
            inputs.append(labels[part].to(device))
        parts.append(players.generator(*inputs))
    return torch.cat(parts).float().cpu()
