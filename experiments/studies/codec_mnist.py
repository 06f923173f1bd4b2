r"""Bits-back coding of MNIST into files: by the VAE of the published coder, and by runs.

``published``  a 784-100-40-100-784 ReLU network (``--published``, arrays of the names of its
               PyTorch layers) codes the fixed binarised test set (``--binarised``, an .npz with
               packed bits under ``test``), with one particle and with several; the published net
               rate is 0.19 bits a pixel.
``runs``       each run of ``train-density`` codes ``--data``: net rate, ELBO, total rate, and
               archivers.

``python -m experiments.studies.codec_mnist --published vae_params.npz --binarised
binarized_mnist.npz``

``python -m experiments.studies.codec_mnist --runs RUN --data t10k-images-idx3-ubyte.gz``
"""

import argparse
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from tqdm import tqdm

from density.coding.bits_back import BitsBack
from density.coding.compress import decode, encode, exactly, fingerprint, pixel_code, prepared
from density.coding.container import Header, unpack
from density.coding.data_code import Coding
from density.estimation.importance import estimate
from density.likelihoods.distributions import BernoulliPixels
from experiments import compress, decompress
from experiments.benchmarks.harness import report
from experiments.evaluation.archivers import image_sizes
from univae.checkpoint import JsonObject
from univae.latent.gaussian import diagonal_gaussian

SIDE = 28
PIXELS = SIDE**2
HIDDEN = 100
LATENT = 40
BATCHES = 100  # of the test set, for the bounds
FEWEST_BOUND_SAMPLES = 16  # importance samples


class Published(nn.Module):
    """The VAE of the published coder: one hidden layer in both networks, scale :math:`e^{W h + b}`.

    The names of its layers are those of the published arrays.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        self.fc1 = nn.Linear(PIXELS, HIDDEN)
        self.fc21 = nn.Linear(HIDDEN, LATENT)
        self.fc22 = nn.Linear(HIDDEN, LATENT)
        self.fc3 = nn.Linear(LATENT, HIDDEN)
        self.fc4 = nn.Linear(HIDDEN, PIXELS)
        self.load_state_dict({name: torch.from_numpy(arrays[name]) for name in self.state_dict()})

    def prior(self) -> Distribution:
        """Return the standard normal."""
        origin = self.fc4.weight.new_zeros(LATENT)
        return diagonal_gaussian(origin, torch.ones_like(origin))

    def posterior(self, x: Tensor) -> Distribution:
        """Return the encoder's Gaussian."""
        h = self.fc1(x.to(self.fc4.weight.dtype).flatten(1)).relu()
        return diagonal_gaussian(self.fc21(h), self.fc22(h).exp())

    def likelihood(self, z: Tensor) -> Distribution:
        """Return the decoder's Bernoulli pixels."""
        logits = self.fc4(self.fc3(z).relu())
        return BernoulliPixels(logits.unflatten(-1, (1, SIDE, SIDE)), 3)


def coding_rates(model: Published, images: np.ndarray, particles: int, tile: int) -> JsonObject:
    """Encode and decode images (N, 1, 28, 28) of zeros and ones; return rates in bits per pixel."""
    exact_model = prepared(model)
    coding = Coding(particles, tile)
    header = Header(fingerprint(model), coding, torch.__version__, images.dtype.str, images.shape)
    with exactly(), tqdm(total=2 * len(images), desc=f"K={particles}", disable=None) as bar:
        coder = BitsBack(exact_model, pixel_code(exact_model, images.shape[1:], tile), coding)
        encode_start = time.perf_counter()
        content, account = encode(coder, images, header, len(images), bar.update)
        decode_start = time.perf_counter()
        decoded = decode(coder, *unpack(content), progress=bar.update)
        end = time.perf_counter()
    pixels = images[0].size
    return {
        "images": len(images),
        "exact": bool(np.array_equal(decoded, images)),
        "net_bits_per_dim": account.net_bits / (account.count - account.plain) / pixels,
        "total_bits_per_dim": 8 * len(content) / images.size,
        "initial_bits": account.initial_bits,
        "encode_ms": 1e3 * (decode_start - encode_start) / len(images),
        "decode_ms": 1e3 * (end - decode_start) / len(images),
    }


@torch.no_grad()
def ideal_rates(model: Published, images: np.ndarray, samples: int) -> dict[str, float]:
    """Return the ELBO and the bound of ``samples`` importance samples, in bits per pixel."""
    elbo = []
    log_likelihood = []
    for batch in np.array_split(images, BATCHES):
        estimated = estimate(model, torch.from_numpy(batch).float(), samples)
        elbo.append(estimated.elbo)
        log_likelihood.append(estimated.log_likelihood)
    scale = -1 / images[0].size / math.log(2)
    return {
        "elbo": torch.cat(elbo).mean().item() * scale,
        f"iw{samples}": torch.cat(log_likelihood).mean().item() * scale,
    }


def published_rates(
    arrays: Path, data: Path, particles: Sequence[int], tile: int, limit: int
) -> JsonObject:
    """Return the ideal and the coded rates of the published VAE, and those of archivers."""
    torch.manual_seed(0)
    model = Published(np.load(arrays)).eval()
    packed = np.load(data)["test"][: limit or None]
    bits = np.unpackbits(packed, axis=1)[:, :PIXELS]
    images = bits.reshape(-1, 1, SIDE, SIDE)

    rates: JsonObject = {"ideal": ideal_rates(model, images, max(FEWEST_BOUND_SAMPLES, *particles))}
    for k in particles:
        rates[f"K={k}"] = coding_rates(model, images, k, tile)
    sizes = image_sizes(images, 2)
    rates["archivers"] = {name: 8 * size / images.size for name, size in sizes.items()}
    return rates


def run_rates(run: Path, data: str, folder: Path, particles: int, tile: int) -> JsonObject:
    """Compress and decompress ``data`` by a run; return the results of both commands."""
    folder.mkdir(parents=True, exist_ok=True)
    compressed = folder / f"{run.name}-K{particles}.uvae"
    decompressed = compressed.with_suffix(".npy")
    config = compress.Config(run=run, data=data, out=compressed, particles=particles, tile=tile)
    result: JsonObject = compress.main(config)
    decompression = decompress.main(decompress.Config(run=run, data=compressed, out=decompressed))
    return result | {"decompressed": decompression}


def main() -> None:
    """Run the study with the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--published", type=Path, help="arrays of the published VAE, .npz")
    parser.add_argument(
        "--binarised", type=Path, help="the fixed binarised set, .npz with packed bits"
    )
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="runs of train-density")
    parser.add_argument("--data", help="the images that the runs code")
    parser.add_argument(
        "--particles", type=int, nargs="+", default=[1, 16], help="latent samples per image"
    )
    parser.add_argument("--tile", type=int, default=1, help="images coded at once")
    parser.add_argument("--limit", type=int, default=0, help="images of --binarised; 0: all")
    parser.add_argument(
        "--files", type=Path, default=Path("runs/codec"), help="folder of the compressed files"
    )
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    options = parser.parse_args()
    results: JsonObject = {}
    if options.published and options.binarised:
        results["published"] = published_rates(
            options.published, options.binarised, options.particles, options.tile, options.limit
        )
    for run in options.runs:
        results[run.name] = {}
        for k in options.particles:
            rates = run_rates(run, options.data, options.files, k, options.tile)
            results[run.name][f"K={k}"] = rates
    report("codec_mnist", results, options.out, "study")


if __name__ == "__main__":
    main()
