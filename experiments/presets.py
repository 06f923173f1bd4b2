"""Named shapes of the text model; a training command's --preset starts from one and explicit options win."""

from typing import Any

__all__ = ["MODELS"]

MODELS: dict[str, dict[str, Any]] = {
    "tiny": {"width": 128, "heads": 4, "layers": 4, "latent_layers": 2, "latent_width": 16, "max_length": 64},
    "small": {"width": 256, "heads": 4, "layers": 6, "latent_layers": 3, "latent_width": 16, "max_length": 64},
    "base": {"width": 512, "heads": 8, "layers": 12, "latent_layers": 4, "latent_width": 32, "max_length": 128},
    # The published hyper-parameters. Two things differ by design, see univae.vae: decoder positions restart after the
    # latent and texts keep their own length, with one end token, instead of being padded to 32.
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
