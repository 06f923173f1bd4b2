"""Print what compiled steps and exported decoders differ by from eager ones, as JSON.

A process of its own, without the checks of annotations that tests have, as a user's is.

``python -m tests.compiled_models compile`` or ``export``
"""

import json
import sys

import torch
from torch import Tensor, nn

from gan.config import Recipe
from tests.models import CASES, gan_loss, seeded_case, step


def compiled_differences() -> dict[str, float]:
    """Return, by case, the largest difference of loss and gradient, relative to the gradient."""
    torch._inductor.config.fallback_random = True  # the random numbers of eager code
    differences = {}
    for name in CASES:
        torch._dynamo.reset()
        model, batch, loss = seeded_case(name)
        if name.startswith("GAN"):  # torch.compile has no second derivatives
            loss = gan_loss(Recipe(loss="non-saturating", normalization="none", rescale=False))
        value, gradient = step(loss, model, *batch)
        other_value, other_gradient = step(torch.compile(loss), model, *batch)
        of_value = abs(value - other_value) / max(1.0, abs(value))
        of_gradient = (gradient - other_gradient).norm() / gradient.norm()
        differences[name] = max(of_value, of_gradient.item())
    return differences


class TextDecoder(nn.Module):
    """The logits of a text VAE given latents."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, z: Tensor, ids: Tensor) -> Tensor:
        logits: Tensor = self.model.likelihood(z).logits(ids)  # type: ignore[operator]
        return logits.clamp(min=-1e9)  # of excluded ids: -inf has no difference


class ImageDecoder(nn.Module):
    """The log-likelihood of images given latents."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return self.model.likelihood(z).log_prob(x)  # type: ignore[operator]


def exported_differences() -> dict[str, float]:
    """Return, by case, the largest difference of an exported decoder's output."""
    differences = {}
    for name in CASES:
        model, batch, _ = seeded_case(name)
        model.eval()
        if name.startswith("text"):
            decoder: nn.Module = TextDecoder(model)
            z = model.posterior(*batch).sample()  # type: ignore[operator]
            arguments: tuple[Tensor, ...] = (z, *batch)
        elif name.startswith("GAN"):
            decoder = model.generator  # type: ignore[assignment]
            arguments = batch[1:]
        elif name.startswith("similar"):
            continue
        else:
            x = batch[0].clamp(max=1)
            decoder = ImageDecoder(model)
            arguments = (model.posterior(x).sample(), x)  # type: ignore[operator]
        with torch.no_grad():
            expected = decoder(*arguments)
            program = torch.export.export(decoder, arguments, strict=False)
            differences[name] = (program.module()(*arguments) - expected).abs().max().item()
    return differences


if __name__ == "__main__":
    actions = {"compile": compiled_differences, "export": exported_differences}
    print(json.dumps(actions[sys.argv[1]]()))
