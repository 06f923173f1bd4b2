"""Importance-sampled likelihood of images beside pythae 0.1.2: the same MLP VAE, weights, thread.

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
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

import density
from density.images.mlp import MLPVAE
from density.likelihoods.head import Pixels
from experiments.benchmarks.harness import compare, peak_bytes, report
from univae.checkpoint import JsonObject

BARS = {"K=1000": 2.5, "K=1": 50.0, "memory": 1.10}
# pythae's default network for MNIST
HIDDEN = 512
LATENT = 16

SHARPENING = 4  # of the last weights, so that the data are not noise
FEW_SAMPLES = 500
MANY_SAMPLES = 5000


def setting(images: int) -> tuple[MLPVAE, Tensor]:
    """Return a model of random, sharpened weights, and data drawn from it."""
    torch.manual_seed(0)
    model = MLPVAE(Pixels((1, 28, 28)), (LATENT,), ((HIDDEN,),), "relu").eval()
    with torch.no_grad():
        model.last.weight.mul_(SHARPENING)
        x = model.likelihood(model.prior().sample(torch.Size((images,)))).sample()
    return model, x


@runtime_checkable
class PythaeModel(Protocol):
    """The estimator of pythae's models."""

    def get_nll(self, data: Tensor, n_samples: int, batch_size: int) -> float:
        """Return the mean negative log-likelihood of ``data``, in nats."""
        ...


def pythae_twin(model: MLPVAE) -> PythaeModel:
    """Return pythae's VAE with the same weights."""
    from pythae.models import VAE, VAEConfig

    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=LATENT, reconstruction_loss="bce")
    twin = VAE(config).eval()
    state = model.state_dict()
    state["last.bias"] = state["output.bias"].flatten()
    # layer of pythae -> name here, and factor of its weights
    sources = {
        twin.encoder.layers[0][0]: ("first.hidden.0", 1),
        twin.encoder.embedding: ("first.mean", 1),
        twin.encoder.log_var: ("first.log_scale", 2),  # log s^2 = 2 log s
        twin.decoder.layers[0][0]: ("decoder.0", 1),
        twin.decoder.layers[1][0]: ("last", 1),
    }
    with torch.no_grad():
        for layer, (name, factor) in sources.items():
            layer.weight.copy_(factor * state[f"{name}.weight"])
            layer.bias.copy_(factor * state[f"{name}.bias"])
    return twin


def speed(samples: int, images: int, rounds: int) -> JsonObject:
    """Time both on the same images; the means of both estimates must agree."""
    model, x = setting(images)
    twin = pythae_twin(model)
    values: dict[str, list[float]] = {"pythae": [], "estimate": [], "log_weights": []}

    def pythae() -> None:
        values["pythae"].append(float(twin.get_nll(x, n_samples=samples, batch_size=100)))

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
    """Return :func:`peak` of a process of its own."""
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
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--peak",
        type=int,
        help="print the peak memory of scoring with so many samples, and nothing else",
    )
    parser.add_argument("--out", type=Path)
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
