"""Importance-sampled likelihood of images, compared with pythae 0.1.2 on the same MLP VAE.

Weights and threads are the same. pythae's ``get_nll`` encodes every image once per sample, and
draws at least 100 samples. Here an image is encoded once, and chunks of samples are summed as they
are drawn; ``estimate`` also computes the standard error, effective samples and k-hat. Peak memory
is measured in new processes at K = 500 and K = 5000, of the whole process and above its imports.

``pip install pythae==0.1.2``, then ``python -m experiments.benchmarks.likelihood``
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

import density
from density.images.mlp import MLPVAE
from density.likelihoods.head import Pixels
from experiments.benchmarks.harness import compare, peak_bytes, report
from univae.checkpoint import JsonObject

if TYPE_CHECKING:
    from pythae.models import VAE

BARS = {"K=1000": 2.5, "K=1": 50.0, "memory": 1.10}
HIDDEN = 512  # as LATENT, of pythae's default network for MNIST
LATENT = 16

SHARPENING = 4  # factor of the last weights, so that sampled images are not noise
FEW_SAMPLES = 500
MANY_SAMPLES = 5000


def setting(images: int) -> tuple[MLPVAE, Tensor]:
    """Return a model with random, sharpened weights, and images drawn from it."""
    torch.manual_seed(0)
    model = MLPVAE(Pixels((1, 28, 28)), (LATENT,), ((HIDDEN,),), "relu").eval()
    with torch.no_grad():
        model.last.weight.mul_(SHARPENING)
        x = model.likelihood(model.prior().sample(torch.Size((images,)))).sample()
    return model, x


def pythae_model(model: MLPVAE) -> "VAE":
    """Return pythae's VAE with the same weights."""
    from pythae.models import VAE, VAEConfig

    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=LATENT, reconstruction_loss="bce")
    pythae_vae = VAE(config).eval()
    state = model.state_dict()
    state["last.bias"] = state["output.bias"].flatten()
    # layer of pythae: name in MLPVAE, and factor of its weights
    sources = {
        pythae_vae.encoder.layers[0][0]: ("first.hidden.0", 1),
        pythae_vae.encoder.embedding: ("first.mean", 1),
        pythae_vae.encoder.log_var: ("first.log_scale", 2),  # log s^2 = 2 log s
        pythae_vae.decoder.layers[0][0]: ("decoder.0", 1),
        pythae_vae.decoder.layers[1][0]: ("last", 1),
    }
    with torch.no_grad():
        for layer, (name, factor) in sources.items():
            layer.weight.copy_(factor * state[f"{name}.weight"])
            layer.bias.copy_(factor * state[f"{name}.bias"])
    return pythae_vae


def speed(samples: int, images: int, rounds: int) -> JsonObject:
    """Time both on the same images; report the mean of each estimate, which must agree."""
    model, x = setting(images)
    pythae_vae = pythae_model(model)
    values: dict[str, list[float]] = {"pythae": [], "estimate": [], "log_weights": []}

    def pythae() -> None:
        values["pythae"].append(float(pythae_vae.get_nll(x, n_samples=samples, batch_size=100)))

    @torch.no_grad()
    def estimate() -> None:
        log_likelihood = density.estimate(model, x, samples).log_likelihood
        values["estimate"].append(log_likelihood.mean().item())

    @torch.no_grad()
    def log_weights() -> None:
        log_w = density.log_weights(model, x, samples)
        values["log_weights"].append(density.log_likelihood(log_w).mean().item())

    contestants = {"pythae": pythae, "estimate": estimate, "log_weights": log_weights}
    times = compare(contestants, rounds, warmup=1)
    return {
        "samples": samples,
        "images": images,
        "bar": BARS[f"K={samples}"],
        "log_likelihood_nats": {name: sum(each) / len(each) for name, each in values.items()},
        **times,
    }


@torch.no_grad()
def peak(samples: int) -> list[int]:
    """Return the peak bytes of scoring 100 images: of this process, and above one sample's."""
    model, x = setting(100)
    density.estimate(model, x[:1], 1)
    before = peak_bytes()
    density.estimate(model, x, samples)
    return [peak_bytes(), peak_bytes() - before]


def peak_in_a_new_process(samples: int) -> list[int]:
    """Return :func:`peak` of a new process."""
    command = [sys.executable, "-m", "experiments.benchmarks.likelihood", "--peak", str(samples)]
    sizes: list[int] = json.loads(subprocess.check_output(command))
    return sizes


def memory() -> JsonObject:
    """Return the peaks with few and many samples, and their ratios."""
    few_whole, few_above = peak_in_a_new_process(FEW_SAMPLES)
    many_whole, many_above = peak_in_a_new_process(MANY_SAMPLES)
    return {
        "bar": BARS["memory"],
        "peak_bytes": {FEW_SAMPLES: few_whole, MANY_SAMPLES: many_whole},
        "ratio": many_whole / few_whole,
        "above_imports_bytes": {FEW_SAMPLES: few_above, MANY_SAMPLES: many_above},
        "ratio_above_imports": many_above / few_above,
    }


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7, help="timed repetitions")
    parser.add_argument(
        "--peak",
        type=int,
        help="only print the peak memory of scoring with this many samples",
    )
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.peak:
        print(peak(arguments.peak))
        return
    results = {
        "K=1000": speed(1000, 8, arguments.rounds),
        "K=1": speed(1, 100, arguments.rounds),
        "memory": memory(),
    }
    report("likelihood", results, arguments.out)


if __name__ == "__main__":
    main()
