"""Named shapes of the text model and how each is trained.

``train-text --preset`` starts from one.

The Gaussian presets hold the latent open with batch-normalised means and word dropout: without a
remedy, a text VAE trained from scratch soon ignores its latent, which its validations show.
"""

from univae.checkpoint import JsonObject

__all__ = ["MODELS", "PRESETS"]

OPEN: JsonObject = {"bn_gamma": 1.0, "word_dropout": 0.4}

MODELS: dict[str, JsonObject] = {
    "tiny": {
        "width": 128,
        "heads": 4,
        "layers": 3,
        "latent_layers": 2,
        "latent_width": 16,
        "max_length": 64,
        **OPEN,
    },
    "small": {
        "width": 256,
        "heads": 4,
        "layers": 6,
        "latent_layers": 3,
        "latent_width": 16,
        "max_length": 64,
        **OPEN,
    },
    "base": {
        "width": 512,
        "heads": 8,
        "layers": 12,
        "latent_layers": 4,
        "latent_width": 32,
        "max_length": 128,
        **OPEN,
    },
    # The published hyper-parameters. Two things differ by design, see univae.vae: decoder positions
    # restart after the latent, and texts keep their own length and end token instead of being
    # padded to 32.
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
