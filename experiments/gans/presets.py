"""Presets of ``train-gan``: the options that ``--preset NAME`` sets, by name."""

from univae.checkpoint import JsonObject

__all__ = ["PRESETS"]

# The configurations of Wu et al. (2021): Adam with betas (0, 0.9), no warm-up. The published decay
# of 0.9999 per step of the average is expressed as a half-life in images.
_PUBLISHED: JsonObject = {
    "latent": 128,
    "steps": 200_000,
    "batch_size": 64,
    "generator_ratio": 2,
    "flip": True,
    "beta2": 0.9,
    "ema_images": 887_000.0,
}
_CNN: JsonObject = {
    **_PUBLISHED,
    "network": "conv",
    "width": 64,
    "loss": "non-saturating",
    "lr": 2e-4,
}
_RESNET: JsonObject = {
    **_PUBLISHED,
    "network": "resnet",
    "width": 128,
    "lr": 4e-4,
    "generator_lr": 2e-4,
    "n_critic": 5,
    "lr_floor": 0.0,
}

# For minutes on a CPU: small batches, and a higher learning rate of the generator.
_FAST: JsonObject = {"network": "conv", "width": 16, "batch_size": 32, "generator_lr": 2e-3}
_MNIST: JsonObject = {
    **_FAST,
    "latent": 64,
    "steps": 12_000,
    "beta2": 0.99,
    "lr_floor": 0.05,
    "ema_images": 20_000.0,
}
_UNNORMALIZED: JsonObject = {**_MNIST, "lr": 5e-4, "normalization": "none"}

PRESETS: dict[str, JsonObject] = {
    "tiny": {**_FAST, "network": "auto", "latent": 32, "steps": 1500, "lr": 1e-3},
    "mnist": {**_MNIST, "lr": 1e-3, "loss": "non-saturating"},
    "relativistic": {**_UNNORMALIZED, "loss": "relativistic", "r1": 0.1, "r2": 0.1},
    "wgan-gp": {**_UNNORMALIZED, "loss": "wasserstein", "gp": 10.0},
    "spectral": {**_UNNORMALIZED, "loss": "non-saturating", "spectral": "reshaped"},
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
