"""The validation of a GAN: metrics of the generator, an audit of the critic, a grid of images."""

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

AUDITED_ROWS = 128  # real rows at which the critic is audited
SEGMENT_LENGTH = 1e-2  # of measured slopes, in units of the median distance between rows
ROWS_PER_BLOCK = 256  # generated at once: bounds the memory
GREY_LEVELS = 256


def reference(
    source: GanData, settings: Settings, out: Path, rows: TrainingRows, count: int = 0
) -> Reference:
    """Return the reference for ``count`` generated rows, by default ``--validation-data``.

    Trains the classifier of ``--features auto`` where the run folder ``out`` has none.
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
    """Metrics of the generator, an audit of the critic, and a grid from fixed latents.

    Args:
        reference: the real rows to compare generated rows with.
        options: the normalisation of the critic, among others.
        run: the run folder, in which grids are written.
        conditional: whether the networks take labels.
    """

    def __init__(
        self, reference: Reference, options: GanOptions, run: Run, *, conditional: bool
    ) -> None:
        self.reference = reference
        self.options = options
        self.run = run
        self.labels = class_labels(reference.data) if conditional else None
        self.real = reference.real[:AUDITED_ROWS]
        self.real_labels: Tensor | None = None
        if self.labels is not None:
            self.real_labels = self.labels[reference.order[: len(self.real)]]

    def __call__(self, players: Players, progress: Progress, rows: int) -> JsonObject:
        """Return the numbers of a validation of ``rows`` rows; write the grid of images."""
        reference = self.reference.first(rows)
        z = torch.randn(reference.count, players.generator.latent)
        labels = None
        if self.labels is not None:
            labels = self.labels[torch.randint(len(self.labels), (len(z),))]
        metrics = reference.measure(_generate(players, z, labels))
        if self.reference.data.is_images:
            self._write_grid(players, progress.step)
        return {
            "selection": metrics["frechet_distance"],
            **reference.space.headlines(metrics),
            **reference.space.note(),
            "data": reference.count,
            "feature_space": reference.space.name,
            **self._audit(players),
        }

    def _write_grid(self, players: Players, step: int) -> None:
        z = fixed_latents(players.generator.latent)
        labels = None
        if players.generator.classes:
            labels = torch.arange(len(z)) % players.generator.classes
        grid = to_grey_levels(_generate(players, z, labels))
        write_picture(self.run.path / "samples" / f"step_{step:06d}.png", grid, GREY_LEVELS)

    def _audit(self, players: Players) -> JsonObject:
        device = next(players.parameters()).device
        facts = audit(
            players.critic,
            self.real.to(device),
            labels=self.real_labels.to(device) if self.real_labels is not None else None,
            normalization=self.options.normalization,
            eps=self.options.gran_eps,
            K=self.options.gradient_bound,
            lengths=(SEGMENT_LENGTH,),
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
    blocks = []
    for start in range(0, len(z), ROWS_PER_BLOCK):
        block = slice(start, start + ROWS_PER_BLOCK)
        inputs = [z[block].to(device)]
        if labels is not None:
            inputs.append(labels[block].to(device))
        blocks.append(players.generator(*inputs))
    return torch.cat(blocks).float().cpu()
