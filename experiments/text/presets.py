"""Presets of ``train-text``: options of models and of their training.

The Gaussian presets have batch-normalised means and word dropout, without which the KL of a text
VAE that is trained from random weights vanishes.
"""

from univae.checkpoint import JsonObject

__all__ = ["MODELS", "PRESETS"]

AGAINST_COLLAPSE: JsonObject = {"bn_gamma": 1.0, "word_dropout": 0.4}

MODELS: dict[str, JsonObject] = {
    "tiny": {
        "width": 128,
        "heads": 4,
        "layers": 3,
        "latent_layers": 2,
        "latent_width": 16,
        "max_length": 64,
        **AGAINST_COLLAPSE,
    },
    "small": {
        "width": 256,
        "heads": 4,
        "layers": 6,
        "latent_layers": 3,
        "latent_width": 16,
        "max_length": 64,
        **AGAINST_COLLAPSE,
    },
    "base": {
        "width": 512,
        "heads": 8,
        "layers": 12,
        "latent_layers": 4,
        "latent_width": 32,
        "max_length": 128,
        **AGAINST_COLLAPSE,
    },
    # The published hyper-parameters. The model differs in two points, see univae.vae: decoder
    # positions restart after the latent, and texts have their length and an end token instead of
    # padding to 32.
    "paper": {
        "width": 768,
        "heads": 12,
        "layers": 12,
        "latent_layers": 4,
        "latent_width": 16,
        "latent": "vmf",
        "kappa": 32.0,
        "norm": "post",
        "max_length": 32,
        "dropout": 0.1,
        "attention_dropout": 0.1,
    },
}

_TRAINING: dict[str, JsonObject] = {
    "tiny": {"vocab_size": 2048, "batch_tokens": 1024, "lr": 3e-3},
    "small": {"vocab_size": 8192, "batch_tokens": 4096, "lr": 1e-3},
    "base": {"vocab_size": 16384, "batch_tokens": 8192, "lr": 5e-4, "dropout": 0.1},
    # Adam at a constant rate with neither decay nor clipping; 128 texts of 32 characters a step.
    "paper": {
        "tokenizer": "chars",
        "vocab_size": 12000,
        "batch_tokens": 4096,
        "lr": 2e-5,
        "warmup": 0.0,
        "lr_floor": 1.0,
        "weight_decay": 0.0,
        "beta2": 0.999,
        "clip": 0.0,
    },
}

PRESETS = {name: MODELS[name] | _TRAINING[name] for name in MODELS}
