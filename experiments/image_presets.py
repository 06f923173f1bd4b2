"""Named shapes of image and table models and how each is trained; ``train-density --preset`` starts from one."""

from typing import Any

__all__ = ["PRESETS"]

# Burda et al. (2015): 3280 epochs of 60,000 images in batches of 20.
_IWAE: dict[str, Any] = {
    "binarisation": "dynamic",
    "batch_size": 20,
    "steps": 9_840_000,
    "lr": 1e-3,
    "schedule": "tripling",
    "weight_decay": 0.0,
    "beta2": 0.999,
    "eps": 1e-4,
    "clip": 0.0,
}

PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"latents": (16,), "hidden": (128, 128), "binarisation": "dynamic", "batch_size": 50, "lr": 2e-3},
    "iwae-1": {"latents": (50,), "hidden": (200, 200), **_IWAE},
    "iwae-2": {"latents": (100, 50), "hidden": (200, 200), "hidden_above": (100, 100), **_IWAE},
    "conv": {"model": "conv", "latents": (32,), "width": 32, "lr": 1e-3},
    "ladder": {"model": "ladder", "latents": (1, 4), "width": 32, "lr": 1e-3},
}
