"""Presets of GANs with one option changed, for :mod:`experiments.studies.wgan_images`.

Each asks what the Fréchet distance of gradient normalisation, or of the gradient penalty, depends
on: the bound of the critic's slope, the rate and the number of its steps, the size of the networks,
the batch, the average of the weights, random changes of the images, the labels.
"""

from collections.abc import Mapping

from experiments.gans.presets import PRESETS
from univae.checkpoint import JsonObject

__all__ = ["VARIANTS"]

# Name -> the method it changes, and the changed options.
_CHANGES: Mapping[str, tuple[str, JsonObject]] = {
    "gn-bound-4": ("mnist", {"gradient_bound": 4.0}),
    "gn-bound-16": ("mnist", {"gradient_bound": 16.0}),
    "gn-rate-5e-4": ("mnist", {"lr": 5e-4}),
    "gn-two-steps": ("mnist", {"n_critic": 2}),
    "gn-wide": ("mnist", {"width": 24}),
    "gn-translation": ("mnist", {"augment": ("translation",)}),
    "gn-average-80k": ("mnist", {"ema_images": 80_000.0}),
    "gn-labels": ("mnist", {"conditional": True}),
    "gp-weight-1": ("wgan-gp", {"gp": 1.0}),
    "gp-two-steps": ("wgan-gp", {"n_critic": 2}),
    "gp-wide": ("wgan-gp", {"width": 24}),
    "gp-batch-16": ("wgan-gp", {"batch_size": 16}),
    "gp-translation": ("wgan-gp", {"augment": ("translation",)}),
    "gp-average-80k": ("wgan-gp", {"ema_images": 80_000.0}),
    "gp-labels": ("wgan-gp", {"conditional": True}),
}

VARIANTS: Mapping[str, JsonObject] = {
    name: {**PRESETS[preset], **options} for name, (preset, options) in _CHANGES.items()
}
