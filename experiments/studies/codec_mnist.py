r"""Bits-back coding of MNIST, measured as files: the published coder's own VAE, and runs of this library.

``published``  a 784-100-40-100-784 ReLU network (``--published``, arrays of the names of its PyTorch layers) codes the
               fixed binarised test set (``--binarised``, an .npz with packed bits under ``test``),
               with one particle and with several; the published net rate is 0.19 bits a pixel.
``runs``       each run of ``train-density`` codes ``--data`` as it is: net rate against the ELBO, total, and archivers.

``python -m experiments.studies.codec_mnist --published vae_params.npz --binarised
binarized_mnist.npz`` ``python -m experiments.studies.codec_mnist --runs RUN --data
t10k-images-idx3-ubyte.gz``
"""

import argparse
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
from univae.latent.gaussian import diagonal_gaussian

SIDE = 28


class Published(nn.Module):
    """The VAE that came with the first bits-back coder: one hidden layer each way, scale :math:`e^{W h + b}`."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        self.fc1 = nn.Linear(SIDE**2, 100)
        self.fc21 = nn.Linear(100, 40)
        self.fc22 = nn.Linear(100, 40)
        self.fc3 = nn.Linear(40, 100)
        self.fc4 = nn.Linear(100, SIDE**2)
        self.load_state_dict({name: torch.from_numpy(arrays[name]) for name in self.state_dict()})

    def prior(self) -> Distribution:
        origin = self.fc4.weight.new_zeros(40)
        return diagonal_gaussian(origin, torch.ones_like(origin))

    def posterior(self, x: Tensor) -> Distribution:
        h = self.fc1(x.to(self.fc4.weight.dtype).flatten(1)).relu()
        return diagonal_gaussian(self.fc21(h), self.fc22(h).exp())

    def likelihood(self, z: Tensor) -> Distribution:
        return BernoulliPixels(self.fc4(self.fc3(z).relu()).unflatten(-1, (1, SIDE, SIDE)), 3)


def code(model: Published, images: np.ndarray, particles: int, tile: int) -> dict[str, Any]:
    """Codes and decodes images (N, 1, 28, 28) of zeros and ones; rates in bits a pixel."""
    owned = prepared(model)
    coding = Coding(particles, tile)
    header = Header(fingerprint(model), coding, torch.__version__, images.dtype.str, images.shape)
    with exactly(), tqdm(total=2 * len(images), desc=f"K={particles}", disable=None) as bar:
        coder = BitsBack(owned, pixel_code(owned, images.shape[1:], tile), coding)
        start = time.perf_counter()
        content, account = encode(coder, images, header, len(images), bar.update)
        middle = time.perf_counter()
        again = decode(coder, *unpack(content), progress=bar.update)
        end = time.perf_counter()
    pixels = images[0].size
    return {
        "images": len(images),
        "exact": bool(np.array_equal(again, images)),
        "net_bits_per_dim": account.net_bits / (account.count - account.plain) / pixels,
        "total_bits_per_dim": 8 * len(content) / images.size,
        "initial_bits": account.initial_bits,
        "encode_ms": 1e3 * (middle - start) / len(images),
        "decode_ms": 1e3 * (end - middle) / len(images),
    }


@torch.no_grad()
def ideal(model: Published, images: np.ndarray, samples: int) -> dict[str, float]:
    """The ELBO and the importance-weighted bound of ``samples`` draws, in bits a pixel."""
    found = [
        estimate(model, torch.from_numpy(part).float(), samples)
        for part in np.array_split(images, 100)
    ]
    each = {"elbo": [e.elbo for e in found], f"iw{samples}": [e.log_likelihood for e in found]}
    scale = -1 / images[0].size / math.log(2)
    return {name: torch.cat(parts).mean().item() * scale for name, parts in each.items()}


def published(
    arrays: Path, data: Path, particles: list[int], tile: int, limit: int
) -> dict[str, Any]:
    """Both rates of the published VAE."""
    torch.manual_seed(0)
    model = Published(np.load(arrays)).eval()
    packed = np.load(data)["test"][: limit or None]
    images = np.unpackbits(packed, axis=1)[:, : SIDE**2].reshape(-1, 1, SIDE, SIDE)
    found: dict[str, Any] = {"ideal": ideal(model, images, max(16, *particles))}
    for k in particles:
        found[f"K={k}"] = code(model, images, k, tile)
    sizes = image_sizes(images, 2)
    return found | {"archivers": {name: 8 * size / images.size for name, size in sizes.items()}}


def trained(run: Path, data: str, out: Path, particles: int, tile: int) -> dict[str, Any]:
    """A run's file of the data, as the command writes it, and what comes back."""
    target = out / f"{run.name}-K{particles}.uvae"
    out.mkdir(parents=True, exist_ok=True)
    config = compress.Config(run=run, data=data, out=target, particles=particles, tile=tile)
    found = compress.main(config)
    back = decompress.main(decompress.Config(run=run, data=target, out=target.with_suffix(".npy")))
    return found | {"decompressed": back}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--published", type=Path, help="arrays of the published VAE, .npz")
    parser.add_argument(
        "--binarised", type=Path, help="the fixed binarised set, .npz with packed bits"
    )
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="runs of train-density")
    parser.add_argument("--data", help="what the runs code")
    parser.add_argument("--particles", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--tile", type=int, default=1)
    parser.add_argument("--limit", type=int, default=0, help="images of --binarised; 0: all")
    parser.add_argument(
        "--files", type=Path, default=Path("runs/codec"), help="where the runs' files go"
    )
    parser.add_argument("--out", type=Path)
    a = parser.parse_args()
    results: dict[str, Any] = {}
    if a.published and a.binarised:
        results["published"] = published(a.published, a.binarised, a.particles, a.tile, a.limit)
    for run in a.runs:
        results[run.name] = {
            f"K={k}": trained(run, a.data, a.files, k, a.tile) for k in a.particles
        }
    report("codec_mnist", results, a.out, "study")


if __name__ == "__main__":
    main()
