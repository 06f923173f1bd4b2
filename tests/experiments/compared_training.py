"""A small training of a kind with other options; ``python -m`` of it prints how weights compare.

``KIND FOLDER A B ...``: every word is a run, a list of options separated by commas, such as
``compile,accumulate=2``; ``steps=2+1`` trains two steps and continues for one. The result has, for
every run but the first, the largest difference of a weight from the first run's, or null where all
are equal bit for bit; ``graphs``, the number of compiled functions of each run; ``files``, the
names in the run folders; and ``litter``, new names in the working directory.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch._dynamo
from safetensors.torch import load_file
from torch import Tensor
from torch._dynamo.utils import counters

from experiments import train_density, train_similar, train_text
from experiments.cli.commands import parse
from experiments.training.distributed import join
from univae.run_folder import RunFolder

__all__: list[str] = []

TEXT = "--tokenizer words --width 16 --heads 2 --layers 3 --max-length 24 --dropout 0.2"
KINDS: dict[str, tuple[Any, str]] = {
    "text": (
        train_text,
        f"--text FOLDER/texts.txt {TEXT} --latent-layers 2 --latent-width 4 --batch-tokens 64 "
        "--validation-texts 4 --validation-samples 2 --word-dropout 0.3",
    ),
    "image": (
        train_density,
        "--data digits --model conv --width 4 --latents 3 --batch-size 16 --validation-data 4 "
        "--validation-samples 2",
    ),
    "mlp": (
        train_density,
        "--data digits --latents 3 --hidden 8 --batch-size 16 --reach 1 --context 4 "
        "--validation-data 4 --validation-samples 2",
    ),
    "patches": (
        train_density,
        "--data digits --model attention --width 16 --heads 2 --latents 3 --batch-size 16 "
        "--validation-data 4 --validation-samples 2",
    ),
    "ladder": (
        train_density,
        "--data digits --model ladder --width 4 --latents 2 --batch-size 16 "
        "--validation-data 4 --validation-samples 2",
    ),
    "table": (
        train_density,
        "--data FOLDER/rows.csv --latents 2 --hidden 8 --batch-size 16 --validation-data 4 "
        "--validation-samples 2",
    ),
    "similar": (
        train_similar,
        f"--pairs FOLDER/pairs.tsv {TEXT} --batch-size 8 --validation-pairs 4",
    ),
}


def write_data(folder: Path) -> None:
    """Write texts and pairs of ragged lengths, and rows of a number and a category."""
    lines = [f"the {i % 9} cat " + "sees dogs " * (i % 7) for i in range(80)]
    (folder / "texts.txt").write_text("".join(f"{line}\n" for line in lines))
    pairs = [f"the {i} cat {'sits ' * (i % 5)}\tthis {i} cat\n" for i in range(60)]
    (folder / "pairs.tsv").write_text("".join(pairs))
    rows = [f"{i % 13 / 7},{'abc'[i % 3]}\n" for i in range(80)]
    (folder / "rows.csv").write_text("".join(["size,kind\n", *rows]))


def folder_of(folder: Path, options: str) -> Path:
    """Return the run folder of a training."""
    return folder / options.replace(",", "-")


def trained(kind: str, folder: Path, options: str) -> dict[str, Tensor]:
    """Train, and return the weights."""
    torch._dynamo.reset()  # a run starts in a new process
    module, common = KINDS[kind]
    out = folder_of(folder, options)
    argv = common.replace("FOLDER", str(folder)).split()
    words = dict(word.partition("=")[::2] for word in options.split(","))
    steps = [int(step) for step in words.pop("steps", "3").split("+")]
    for name, value in words.items():
        argv += [f"--{name}", value] if value else [f"--{name}"]
    if hasattr(module.Config, "calibration"):
        argv += ["--calibration", "0"]
    argv += ["--threads", "1", "--warmup", "0", "--lr-floor", "1", "--out", str(out)]
    for index in range(len(steps)):
        torch._dynamo.reset()
        resume = ["--resume"] if index else []
        module.train(
            parse(module.Config, [*argv, *resume, "--steps", str(sum(steps[: index + 1]))])
        )
    return load_file(RunFolder.open(out).checkpoint("last") / "model.safetensors")


def difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float | None:
    """Return the largest difference of a weight; None where all bits are equal."""
    assert a.keys() == b.keys()
    if all(torch.equal(a[name], b[name]) for name in a):
        return None
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def main(kind: str, folder: Path, *runs: str) -> dict[str, Any]:
    """Train all runs, and compare each with the first."""
    before = sorted(os.listdir())
    with join("cpu") as world:
        if world.first:
            write_data(folder)
        world.wait()
        weights = []
        graphs = []
        for options in runs:
            counters.clear()
            weights.append(trained(kind, folder, options))
            graphs.append(counters["stats"]["unique_graphs"])
    return {
        "differences": [difference(weights[0], other) for other in weights[1:]],
        "graphs": graphs,
        "files": sorted(path.name for run in runs for path in folder_of(folder, run).iterdir()),
        "litter": sorted(set(os.listdir()) - set(before)),
    }


if __name__ == "__main__":
    result = main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps(result))
