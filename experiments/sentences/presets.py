"""Presets of ``train-similar``: options of models and of their training."""

from univae.checkpoint import JsonObject

__all__ = ["PRESETS"]

PRESETS: dict[str, JsonObject] = {
    "tiny": {
        "width": 128,
        "heads": 4,
        "layers": 3,
        "max_length": 32,
        "vocab_size": 2048,
        "batch_size": 32,
        "lr": 2e-3,
    },
    "small": {
        "width": 256,
        "heads": 4,
        "layers": 4,
        "max_length": 48,
        "vocab_size": 8192,
        "batch_size": 64,
        "lr": 1e-3,
    },
    "base": {
        "width": 512,
        "heads": 8,
        "layers": 8,
        "max_length": 64,
        "dropout": 0.1,
        "vocab_size": 16384,
        "batch_size": 128,
        "lr": 3e-4,
    },
    # The published base model and its first stage: 48 pairs both ways, a constant rate, weight
    # decay. It started from a pre-trained RoFormer; random weights need a larger rate.
    "paper": {
        "tokenizer": "chars",
        "vocab_size": 12000,
        "width": 768,
        "heads": 12,
        "layers": 12,
        "norm": "post",
        "pooling": "first",
        "max_length": 64,
        "dropout": 0.2,
        "attention_dropout": 0.1,
        "batch_size": 48,
        "lr": 1e-5,
        "warmup": 0.0,
        "lr_floor": 1.0,
        "beta2": 0.999,
        "clip": 0.0,
    },
}
