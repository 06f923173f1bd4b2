"""Write the golden runs: small run folders of each kind, compressed files, and their scores.

``python tests/golden/make.py`` trains them anew, which only a new version of the formats is a
reason for: those that are stored were written by version 0.1.0 and must open for ever.
``python tests/golden/make.py --scores`` keeps the runs and the files, and measures again; that is
for a change of the numbers that is meant, say of the order of random draws.
"""

import contextlib
import io
import json
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from univae.checksums import write_checksums

HERE = Path(__file__).resolve().parent
WORDS = shlex.split("the a no small large red blue cat dog bird sees likes old new fish")

COMMON = shlex.split("--steps 12 --log-every 6 --threads 1 --seed 0")
TEXT = shlex.split("--tokenizer bytes --width 8 --heads 2 --layers 2 --max-length 64")
TEXT += shlex.split("--latent-layers 2 --latent-width 4 --batch-tokens 512")
TEXT += shlex.split("--validation-texts 10 --validation-samples 2")
DENSITY = shlex.split("--latents 3 --hidden 12 --batch-size 20")
DENSITY += shlex.split("--validation-data 20 --validation-samples 2")
GAN = shlex.split("--batch-size 16 --width 4 --latent 8 --hidden 12")
GAN += shlex.split("--feature-steps 12 --validation-data 60")
SIMILAR = shlex.split("--tokenizer words --vocab-size 60 --width 16 --heads 2 --layers 1")
SIMILAR += shlex.split("--max-length 16 --batch-size 6 --held-out 0.15")

# Run -> the command that trains it, in the folder of the data.
PLAIN = ["--samples", "8", "--proposal", "posterior"]  # the sampling of version 0.1.0

RUNS: dict[str, list[str]] = {
    "text": ["train-text", "--text", "texts.txt", *TEXT, *COMMON],
    "text_vmf": ["train-text", "--text", "texts.txt", "--latent", "vmf", *TEXT, *COMMON],
    "images": [
        "train-density",
        "--data",
        "images.npy",
        "--likelihood",
        "logistic",
        *DENSITY,
        *COMMON,
    ],
    "table": [
        "train-density",
        "--data",
        "table.npy",
        "--likelihood",
        "logistic",
        *DENSITY,
        *COMMON,
    ],
    "columns": ["train-density", "--data", "houses.csv", *DENSITY, *COMMON],
    "neighbours": [
        "train-density",
        "--data",
        "images.npy",
        "--likelihood",
        "logistic",
        "--reach",
        "2",
        "--context",
        "4",
        *DENSITY,
        *COMMON,
    ],
    "gan_images": ["train-gan", "--data", "digits", *GAN, *COMMON],
    "gan_table": ["train-gan", "--data", "wine", *GAN, *COMMON],
    "similar": ["train-similar", "--pairs", "groups.tsv", *SIMILAR, *COMMON],
}

# Run -> what it compresses, and the ending of what comes back.
COMPRESSED = {
    "text": "texts.txt",
    "images": "images.npy",
    "table": "table.npy",
    "neighbours": "images.npy",
}

# Beside data.bits of autoregressive pixels, which is in raster order (--tile 4 --no-store), the file
# waves.bits is of the same data and options in the order that compress writes now.

# Runs that keep all that continuing them takes.
RESUMED = ("text", "images", "gan_images", "gan_table")

# Run -> commands that measure it. RUN and OUT stand for the run folder and for a new file.
SCORES: dict[str, list[list[str]]] = {
    "text": [
        ["likelihood", "RUN", "--data", "texts.txt", "--limit", "12", *PLAIN],
        ["encode", "RUN", "--data", "texts.txt", "--limit", "12", "--out", "OUT.npy"],
    ],
    "text_vmf": [
        ["likelihood", "RUN", "--data", "texts.txt", "--limit", "12", *PLAIN],
        ["encode", "RUN", "--data", "texts.txt", "--limit", "12", "--out", "OUT.npy"],
    ],
    "images": [["likelihood", "RUN", "--data", "images.npy", *PLAIN]],
    "table": [["likelihood", "RUN", "--data", "table.npy", *PLAIN]],
    "columns": [["likelihood", "RUN", "--data", "houses.csv", *PLAIN]],
    "neighbours": [["likelihood", "RUN", "--data", "images.npy", *PLAIN]],
    "gan_images": [["audit", "RUN", "--count", "40"], ["evaluate-gan", "RUN", "--count", "60"]],
    "gan_table": [["audit", "RUN", "--count", "40"], ["evaluate-gan", "RUN", "--count", "60"]],
    "similar": [["encode", "RUN", "--data", "corpus.txt", "--out", "OUT.npy"]],
}

# Keys of a result that are kept: numbers of the model and its data; no times, paths or versions.
KEPT = {
    "likelihood": [
        "count",
        "log_likelihood_nats",
        "elbo_nats",
        "bits_per_dim",
        "bits_per_token",
        "tokens",
    ],
    "audit": ["count", "gradient_norms", "raw_norms"],
    "evaluate-gan": ["count", "frechet_distance", "kernel_distance", "sliced_wasserstein"],
    "encode": ["count"],
}


def run(*words: object) -> dict[str, Any]:
    """Run a command of ``univae`` in this process, and return its JSON."""
    from experiments.cli.commands import main

    out = io.StringIO()
    code: object = 0
    try:
        with contextlib.redirect_stdout(out):
            main([str(word) for word in words])
    except SystemExit as stop:
        code = stop.code
    if code not in (0, None):
        raise RuntimeError(f"univae {' '.join(map(str, words))} ended with {code}")
    result: dict[str, Any] = json.loads(out.getvalue().strip().splitlines()[-1])
    return result


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in a folder, so that paths in commands are those of the golden data."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def write_data(folder: Path) -> None:
    """Write texts, groups of similar texts, small grey images, and a table of whole numbers."""
    draw = np.random.default_rng(0)
    lines = [" ".join(draw.choice(WORDS, draw.integers(2, 9))) for _ in range(60)]
    (folder / "texts.txt").write_text("\n".join([*lines, "Zürich, 3 °C", ""]), encoding="utf-8")

    groups = []
    for who in ("a man", "the boy", "two dogs", "a girl"):
        for what in ("a ball", "the cat", "red cars"):
            groups += [[f"{who} sees {what}", f"{who} is looking at {what}"]]
            groups += [[f"{who} likes {what}", f"{who} is fond of {what}"]]
    pairs = "".join("\t".join(group) + "\n" for group in groups)
    (folder / "groups.tsv").write_text(pairs, encoding="utf-8")
    sources = "".join(group[0] + "\n" for group in groups)
    (folder / "corpus.txt").write_text(sources, encoding="utf-8")

    slope = np.add.outer(np.arange(8), np.arange(8))
    images = np.stack([(slope + shift) % 16 for shift in draw.integers(0, 16, 60)])
    np.save(folder / "images.npy", images.astype(np.uint8))
    table = draw.integers(0, 6, (60, 5)) + draw.integers(0, 2, (60, 1))
    np.save(folder / "table.npy", table.astype(np.uint8))

    lines = ["area,rooms,district"]
    for _ in range(60):
        cells = [f"{draw.normal(90, 20):.1f}", f"{draw.poisson(3)}", draw.choice(["hills", "port"])]
        lines.append(",".join(cell if draw.random() > 0.1 else "" for cell in cells))
    (folder / "houses.csv").write_text("\n".join([*lines, ""]), encoding="utf-8")


def strip(run_folder: Path, data: Path) -> None:
    """Take out of a run folder what is large or tells of the machine; commands do without."""
    for name in ("plots", "corpus", "validation", "report.html"):
        path = run_folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    shutil.rmtree(run_folder / "features" / "plots", ignore_errors=True)
    (run_folder / "features" / "checkpoints" / "best" / "optimizer.pt").unlink(missing_ok=True)
    if not run_folder.parent.name.startswith("gan"):  # a GAN keeps its average there
        (run_folder / "checkpoints" / "best" / "optimizer.pt").unlink()
    if run_folder.parent.name not in RESUMED:
        (run_folder / "checkpoints" / "last" / "optimizer.pt").unlink()
    shutil.rmtree(run_folder / "features" / "checkpoints" / "last", ignore_errors=True)
    for path in [*run_folder.rglob("*.json*"), run_folder / "DONE"]:
        text = path.read_text(encoding="utf-8").replace(f"{data.resolve()}/", "")
        text = text.replace(f"{data}/", "")
        path.write_text(text, encoding="utf-8")
    for path in run_folder.rglob("environment.json"):
        environment = json.loads(path.read_text(encoding="utf-8"))
        environment |= {
            "platform": "Linux",
            "cpu": "",
            "git": None,
            "cores": 2,
            "started": "2026-11-23T00:00:00+00:00",
        }
        environment["command"] = "univae"
        path.write_text(json.dumps(environment, indent=2) + "\n", encoding="utf-8")
    for path in run_folder.rglob(".lock"):
        path.unlink()
    for path in run_folder.rglob("checksums.json"):  # of files that have changed here
        write_checksums(path.parent, path.parents[2])


def measure(name: str, run_folder: Path, data: Path, scratch: Path) -> dict[str, Any]:
    """Return the scores of a run, by command."""
    scores: dict[str, Any] = {}
    for command, *words in SCORES[name]:
        out = scratch / f"{name}_{command}"
        told = [str(run_folder) if w == "RUN" else w.replace("OUT", str(out)) for w in words]
        with inside(data):
            result = run(command, *told)
        scores[command] = {key: result[key] for key in KEPT[command] if key in result}
        for metric in ("frechet", "kernel"):  # None in a feature space that is in doubt
            if f"{metric}_distance" in scores[command]:
                named = result[f"{metric}[{result['feature_space']}]"]
                scores[command][f"{metric}_distance"] = named
        if command == "encode":
            codes = np.load(f"{out}.npy").astype(np.float64)
            scores[command] |= {
                "shape": list(codes.shape),
                "sum_of_squares": float((codes**2).sum()),
                "first": codes.reshape(len(codes), -1)[0].tolist(),
            }
    return scores


def copy_run(name: str, folder: Path) -> Path:
    """Copy a golden run, because commands write into the folders they read."""
    return Path(shutil.copytree(HERE / name / "run", folder / name))


def write_scores() -> None:
    """Measure every golden run and write ``expected.json`` beside it."""
    with tempfile.TemporaryDirectory() as scratch:
        for name in RUNS:
            scores = measure(name, copy_run(name, Path(scratch)), HERE / "data", Path(scratch))
            text = json.dumps(scores, indent=1) + "\n"
            (HERE / name / "expected.json").write_text(text, encoding="utf-8")


def write_runs() -> None:
    """Train every run anew, and compress with those that can."""
    data = HERE / "data"
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir()
    write_data(data)
    for name, (command, *words) in RUNS.items():
        folder = HERE / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        with inside(data):
            run(command, *words, "--out", "../" + name + "/run")
            if name in COMPRESSED:
                run("compress", f"../{name}/run", COMPRESSED[name], f"../{name}/data.bits")
        strip(folder / "run", data)


def main() -> None:
    if "--scores" not in sys.argv[1:]:
        write_runs()
    write_scores()


if __name__ == "__main__":
    main()
