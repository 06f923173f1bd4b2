"""Presets of ``train-density``: options of models and of their training."""

from univae.checkpoint import JsonObject

__all__ = ["PRESETS"]

# Burda et al. (2015): 3280 epochs of 60,000 images in batches of 20.
_IWAE: JsonObject = {
    "binarisation": "auto",
    "batch_size": 20,
    "steps": 9_840_000,
    "lr": 1e-3,
    "schedule": "tripling",
    "weight_decay": 0.0,
    "beta2": 0.999,
    "eps": 1e-4,
    "clip": 0.0,
}

PRESETS: dict[str, JsonObject] = {
    "tiny": {
        "latents": (16,),
        "hidden": (128, 128),
        "binarisation": "auto",
        "batch_size": 50,
        "lr": 2e-3,
    },
    "iwae-1": {"latents": (50,), "hidden": (200, 200), **_IWAE},
    "iwae-2": {"latents": (100, 50), "hidden": (200, 200), "hidden_above": (100, 100), **_IWAE},
    "conv": {"model": "conv", "latents": (32,), "width": 32, "lr": 1e-3},
    "ladder": {"model": "ladder", "latents": (1, 4), "width": 32, "lr": 1e-3},
    # Autoregressive pixels: the highest likelihood of these models for the same training time.
    "neighbours": {
        "latents": (32,),
        "hidden": (200,),
        "activation": "gelu",
        "reach": 5,
        "context": 16,
        "binarisation": "auto",
        "batch_size": 50,
        "lr": 4e-3,
        "annealing": "linear",
        "anneal_warmup": 0.1,
    },
    # The text model on 28x28 black and white images, for an hour on two cores. Words of 2x4 pixels
    # give half as many positions as 2x2, hence twice the images a second. Validations are rare
    # because each takes as long as hundreds of steps.
    "univae": {
        "model": "univae",
        "patch": 2,
        "patch_width": 4,
        "near": 2,
        "width": 96,
        "heads": 3,
        "layers": 3,
        "latent_layers": 1,
        "latents": (16,),
        "binarisation": "auto",
        "batch_size": 16,
        "minutes": 60.0,
        "lr": 2e-3,
        "lr_floor": 0.01,
        "validation_samples": 4,
        "validate_every": 5000,
    },
}
