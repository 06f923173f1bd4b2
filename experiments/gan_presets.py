"""Named GANs and how each is trained; ``train-gan --preset`` starts from one."""

from typing import Any

__all__ = ["PRESETS"]

# Wu et al. (2021), as in their configurations: Adam, betas (0, 0.9), no warm-up; EMA 0.9999 a step, in images here.
_PUBLISHED: dict[str, Any] = {
    "latent": 128,
    "steps": 200_000,
    "batch_size": 64,
    "generator_ratio": 2,
    "flip": True,
    "beta2": 0.9,
    "ema_images": 887_000.0,
}
_CNN: dict[str, Any] = {**_PUBLISHED, "network": "conv", "width": 64, "loss": "non-saturating", "lr": 2e-4}
_RESNET: dict[str, Any] = {
    **_PUBLISHED,
    "network": "resnet",
    "width": 128,
    "lr": 4e-4,
    "generator_lr": 2e-4,
    "n_critic": 5,
    "lr_floor": 0.0,
}

_RIVAL: dict[str, Any] = {"network": "conv", "width": 16, "normalization": "none"}

PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"network": "conv", "latent": 32, "width": 16, "steps": 1500, "lr": 1e-3, "generator_lr": 5e-4},
    "mnist": {"network": "conv", "latent": 64, "width": 16, "steps": 6000, "lr": 5e-4, "loss": "non-saturating"},
    "relativistic": {
        "network": "conv",
        "width": 16,
        "loss": "relativistic",
        "normalization": "none",
        "r1": 1.0,
        "r2": 1.0,
    },
    "wgan-gp": {
        "network": "conv",
        "width": 16,
        "loss": "wasserstein",
        "normalization": "none",
        "gp": 10.0,
        "n_critic": 5,
    },
    "spectral": {"network": "conv", "width": 16, "normalization": "none", "spectral": "reshaped"},
    "cifar10-cnn": _CNN,
    "cifar10-resnet": _RESNET,
    "cifar10-biggan": {
        **_RESNET,
        "width": 96,
        "batch_size": 50,
        "generator_ratio": 1,
        "conditional": True,
        "skip": True,
        "lr": 2e-4,
        "generator_lr": 1e-4,
        "n_critic": 4,
        "steps": 125_000,
        "beta2": 0.999,
        "lr_floor": 1.0,
        "ema_images": 347_000.0,
    },
    "stl10-cnn": _CNN,
    "stl10-resnet": _RESNET,
}
