"""The importance-sampled likelihood of images beside pythae 0.1.2: the same MLP VAE, the same weights, one thread.

pythae's ``get_nll`` encodes every image once a sample and draws 100 samples when asked for one.
Here a datum is encoded once and chunks are summed as they come; ``estimate`` adds the standard
error, effective samples and k-hat. Peak memory is measured in fresh processes at K = 500 and K =
5000, of the whole process and above that of its imports.

``pip install pythae==0.1.2``, then ``python -m experiments.benchmarks.likelihood``
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import density
from density.images.mlp import MLPVAE
from density.likelihoods.head import Pixels
from experiments.benchmarks.harness import compare, peak_bytes, report

BARS = {"K=1000": 2.5, "K=1": 50.0, "memory": 1.10}
# pythae's own default network for MNIST
HIDDEN = 512
LATENT = 16


def setting(images: int) -> tuple[MLPVAE, Tensor]:
    """A model of random weights, sharpened so that its data are not noise, and data drawn from it."""
    torch.manual_seed(0)
    model = MLPVAE(Pixels((1, 28, 28)), (LATENT,), ((HIDDEN,),), "relu").eval()
    with torch.no_grad():
        model.last.weight.mul_(4)
        x = model.likelihood(model.prior().sample(torch.Size((images,)))).sample()
    return model, x


def twin(model: MLPVAE) -> Any:
    """pythae's VAE with the same weights."""
    from pythae.models import VAE, VAEConfig

    other = VAE(
        VAEConfig(input_dim=(1, 28, 28), latent_dim=LATENT, reconstruction_loss="bce")
    ).eval()
    state = model.state_dict()
    ours = {
        other.encoder.layers[0][0]: ("first.hidden.0", 1),
        other.encoder.embedding: ("first.mean", 1),
        other.encoder.log_var: ("first.log_scale", 2),  # log s^2 = 2 log s
        other.decoder.layers[0][0]: ("decoder.0", 1),
        other.decoder.layers[1][0]: ("last", 1),
    }
    state["last.bias"] = state["output.bias"].flatten()
    with torch.no_grad():
        for layer, (name, factor) in ours.items():
            layer.weight.copy_(factor * state[f"{name}.weight"])
            layer.bias.copy_(factor * state[f"{name}.bias"])
    return other


def speed(samples: int, images: int, rounds: int) -> dict[str, Any]:
    """Time both on the same images.

    The means of both estimates stand beside the ratio, for they must agree.
    """
    model, x = setting(images)
    other = twin(model)
    found: dict[str, list[float]] = {"pythae": [], "estimate": [], "log_weights": []}

    def theirs() -> None:
        found["pythae"].append(float(other.get_nll(x, n_samples=samples, batch_size=100)))

    @torch.no_grad()
    def estimated() -> None:
        found["estimate"].append(density.estimate(model, x, samples).log_likelihood.mean().item())

    @torch.no_grad()
    def weighed() -> None:
        log_w = density.log_weights(model, x, samples)
        found["log_weights"].append(density.log_likelihood(log_w).mean().item())

    times = compare(
        {"pythae": theirs, "estimate": estimated, "log_weights": weighed}, rounds, warmup=1
    )
    means = {name: sum(values) / len(values) for name, values in found.items()}
    return {
        "samples": samples,
        "images": images,
        "bar": BARS[f"K={samples}"],
        "log_likelihood_nats": means,
        **times,
    }


@torch.no_grad()
def peak(samples: int) -> list[int]:
    """Peak resident bytes of a process that scores 100 images, and how much they exceed those after one sample."""
    model, x = setting(100)
    density.estimate(model, x[:1], 1)
    before = peak_bytes()
    density.estimate(model, x, samples)
    return [peak_bytes(), peak_bytes() - before]


def memory() -> dict[str, Any]:
    command = [sys.executable, "-m", "experiments.benchmarks.likelihood", "--peak"]
    found = {k: json.loads(subprocess.check_output([*command, str(k)])) for k in (500, 5000)}
    ratios = [more / less for more, less in zip(found[5000], found[500], strict=True)]
    whole, above = ({k: sizes[i] for k, sizes in found.items()} for i in (0, 1))
    return {
        "bar": BARS["memory"],
        "peak_bytes": whole,
        "ratio": ratios[0],
        "above_imports_bytes": above,
        "ratio_above_imports": ratios[1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--peak",
        type=int,
        help="print the peak memory of scoring with so many samples, and nothing else",
    )
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.peak:
        print(peak(given.peak))
        return
    results = {
        "K=1000": speed(1000, 8, given.rounds),
        "K=1": speed(1, 100, given.rounds),
        "memory": memory(),
    }
    report("likelihood", results, given.out)


if __name__ == "__main__":
    main()
