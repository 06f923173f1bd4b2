"""What a training step computes and sends, and how many devices that lets work together.

Measured here: the floating-point operations of a step (PyTorch's counter), and the bytes that two
processes of this machine send a step, which the arithmetic predicts. A ring of n processes that
averages P gradients of 4 bytes sends

    2 (n - 1) / n * 4 P    bytes a process and update,

and a gathered contrastive loss 2 (n - 1) rows of vectors for each row of a process: the vectors,
and their gradients on the way back. From these numbers, and assumed ones of a device and of its
links (:data:`LINKS`), follows the share of a step in which 8, 64 and 1,024 devices compute.

Run it alone in a network namespace, because all bytes of the loopback device are counted:

``unshare -n sh -c 'ip link set lo up; python -m experiments.studies.scaling_plan --out FILE'``
"""

import argparse
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from safetensors import safe_open
from torch import nn

from experiments.benchmarks.harness import report
from experiments.benchmarks.operations import OperationCounter
from experiments.gans import presets as gan_presets
from experiments.sentences import presets as sentence_presets
from experiments.text import presets as text_presets
from gan import WGAN, Recipe
from gan.networks.registry import NETWORKS
from univae import UniVAE, UniVAEConfig
from univae.checkpoint import JsonObject, read_json
from univae.contrastive import info_nce
from univae.sentence import RoFormerSim, RoFormerSimConfig

Config = TypeVar("Config")

GRADIENT_BYTES = 4  # float32, also where forward passes are bfloat16
DEVICES = (2, 8, 64, 1024)
SHORT = 4  # steps of the shorter of two trainings, whose traffic is subtracted
LONG = 24
TEXTS = 256  # of the trainings that are measured


@dataclass(frozen=True)
class Link:
    """Assumed speed of a device and of its link to the others; not measured here."""

    operations: float  # a second, as training reaches them
    bandwidth: float  # bytes a second and device, in a ring
    latency: float  # seconds of one message


# A data-centre GPU at 40% of 1e15 bfloat16 operations; 8 of them in a machine, more over a network
# of 400 Gbit/s a device, of which four fifths arrive.
LINKS: Mapping[int, Link] = {
    8: Link(4e14, 3.6e11, 1e-5),
    1024: Link(4e14, 4e10, 2e-5),
}


@dataclass(frozen=True)
class Step:
    """The step of one device: what it computes, and what it sends to n - 1 others."""

    parameters: int  # whose gradients are averaged once a step
    operations: float
    messages: int  # collective operations of a step
    gathered: float = 0.0  # bytes of the rows that this device gives to each of the others
    operations_per_other: float = 0.0  # those on the rows of one other device

    def bytes_sent(self, devices: int) -> float:
        """Return the bytes that a device sends in a step."""
        ring = 2 * (devices - 1) / devices * GRADIENT_BYTES * self.parameters
        return ring + 2 * (devices - 1) * self.gathered

    def share(self, devices: int, *, overlaps: bool) -> float:
        """Return the share of a step in which a device computes.

        Args:
            devices: how many there are.
            overlaps: whether gradients are sent while the backward pass, two thirds of the
                operations, still computes others.
        """
        link = next(row for most, row in LINKS.items() if devices <= most)
        operations = self.operations + (devices - 1) * self.operations_per_other
        computing = operations / link.operations
        sending = self.bytes_sent(devices) / link.bandwidth
        sending += self.messages * math.ceil(math.log2(devices)) * link.latency
        if overlaps:
            sending = max(0.0, sending - 2 / 3 * computing)
        return computing / (computing + sending)


def text_step() -> Step:
    """Return the step of a text VAE of preset ``base``, 8,192 tokens a device."""
    options = dict(text_presets.PRESETS["base"])
    tokens = options["batch_tokens"]
    config = _of_preset(UniVAEConfig, options)
    model = UniVAE(config)
    ids = torch.randint(4, config.vocab_size, (2, config.max_length))

    def backward() -> None:
        elbo = model.elbo(ids)
        (elbo.kl.sum() - elbo.log_likelihood.sum()).backward()

    scale = tokens / ids.numel()
    return Step(_size(model), scale * _operations(backward), messages=_buckets(model) + 3)


def sentence_step() -> Step:
    """Return the contrastive step of a RoFormer-Sim of preset ``base``, with gathered negatives."""
    options = dict(sentence_presets.PRESETS["base"])
    pairs = options["batch_size"]
    config = _of_preset(RoFormerSimConfig, options)
    model = RoFormerSim(config)
    ids = torch.randint(4, config.vocab_size, (8, config.max_length))

    def backward() -> None:
        vectors = model.encode(ids)
        info_nce(vectors, vectors.flip(0), scale=20.0).backward()

    rows = 2 * pairs
    width = config.width
    return Step(
        _size(model),
        rows / len(ids) * _operations(backward),
        messages=_buckets(model) + 5,
        gathered=GRADIENT_BYTES * rows * width,
        operations_per_other=3 * 2 * rows * rows * width,
    )


def _of_preset(kind: Callable[..., Config], options: Mapping[str, object]) -> Config:
    """Return a configuration of a dataclass with the options of a preset that are its fields."""
    names = {field.name for field in fields(cast("Any", kind))}
    return kind(**{name: value for name, value in options.items() if name in names})


def gan_step() -> Step:
    """Return one critic and one generator step of a WGAN-GN, preset ``cifar10-resnet``."""
    options = gan_presets.PRESETS["cifar10-resnet"]
    family = NETWORKS[options["network"]]
    shape = (3, 32, 32)
    torch.manual_seed(0)
    generator = family.generator(latent=options["latent"], shape=shape, width=options["width"])
    critic = family.critic(shape=shape, width=options["width"])
    real = 2 * torch.rand(2, *shape) - 1
    wgan = WGAN(generator, critic, Recipe(loss=options.get("loss", "wasserstein")))
    scale = options["batch_size"] / len(real)
    size = _size(generator) + _size(critic)
    return Step(size, scale * _operations(lambda: wgan.step(real)), messages=6)


STEPS: Mapping[str, Callable[[], Step]] = {
    "text VAE, base, 8,192 tokens a device": text_step,
    "contrastive, base, 128 pairs a device, gathered": sentence_step,
    "WGAN-GN, cifar10-resnet, 64 images a device": gan_step,
}


def plan(step: Step) -> JsonObject:
    """Return the numbers of a step, and the shares of computing by the number of devices."""
    shares = {}
    for devices in DEVICES:
        shares[str(devices)] = {
            "bytes_sent": step.bytes_sent(devices),
            "share_computing": step.share(devices, overlaps=False),
            "share_computing_overlapped": step.share(devices, overlaps=True),
        }
    return {**asdict(step), "devices": shares}


def traffic(kind: str, folder: Path) -> JsonObject:
    """Return the bytes that two processes sent a step, and what the arithmetic predicts."""
    sent = {}
    for steps in (SHORT, LONG):
        out = folder / f"{kind}-{steps}"
        before = _loopback_bytes()
        _train(kind, folder, steps, out)
        sent[steps] = _loopback_bytes() - before
    measured = (sent[LONG] - sent[SHORT]) / (LONG - SHORT)
    run = folder / f"{kind}-{LONG}"
    parameters = _stored_parameters(run / "checkpoints" / "last")
    options = read_json(run / "config.json")
    gathered = 0
    if options.get("gather"):
        gathered = GRADIENT_BYTES * 2 * options["batch_size"] * options["width"]
    predicted = 2 * Step(parameters, 0.0, 0, gathered=gathered).bytes_sent(2)
    return {
        "parameters": parameters,
        "bytes_per_step": measured,
        "predicted": predicted,
        "ratio": measured / predicted,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, compute, and print the tables as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measured = {kind: traffic(kind, folder) for kind in TRAININGS}
    links = {str(most): asdict(link) for most, link in LINKS.items()}
    plans = {name: plan(step()) for name, step in STEPS.items()}
    report(
        "scaling_plan",
        {"two_processes": measured, "assumed_links": links, "plans": plans},
        options.out,
        "study",
    )


COMMON = ("--validate-every", "0", "--checkpoint-every", "0", "--threads", "1", "--quiet")
TRAININGS: Mapping[str, Sequence[str]] = {
    "train-text": ("--text", "texts.txt", "--preset", "tiny", "--calibration", "0"),
    "train-similar": ("--pairs", "pairs.tsv", "--preset", "tiny", "--gather"),
    "train-gan": ("--data", "digits", "--preset", "tiny"),
}


def _train(kind: str, folder: Path, steps: int, out: Path) -> None:
    """Run a training of two processes on texts of random words."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(1000, (TEXTS, 2, 8), generator=generator).tolist()
    lines = [[" ".join(f"w{word}" for word in text) for text in pair] for pair in words]
    (folder / "texts.txt").write_text("".join(pair[0] + "\n" for pair in lines))
    (folder / "pairs.tsv").write_text("".join("\t".join(pair) + "\n" for pair in lines))
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--no-python",
    ]
    command += [sys.executable, "-m", "experiments.cli", kind, *TRAININGS[kind], *COMMON]
    command += ["--steps", str(steps), "--out", str(out)]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def _stored_parameters(checkpoint: Path) -> int:
    """Return the number of numbers in the weights of a checkpoint."""
    with safe_open(checkpoint / "model.safetensors", framework="pt") as file:
        names = file.keys()
        return sum(math.prod(file.get_slice(name).get_shape()) for name in names)


def _loopback_bytes() -> int:
    """Return the bytes that were sent through the loopback device so far."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, columns = line.partition(":")
        if name.strip() == "lo":
            return int(columns.split()[0])
    raise RuntimeError("/proc/net/dev: no loopback device")


def _operations(run: Callable[[], object]) -> float:
    """Return the floating-point operations of a function, its backward passes included."""
    with OperationCounter() as counter:
        run()
    return counter.total


def _size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _buckets(module: nn.Module) -> int:
    """Return the number of messages of DistributedDataParallel, of 25 MiB each."""
    return math.ceil(GRADIENT_BYTES * _size(module) / (25 * 2**20))


if __name__ == "__main__":
    main()
