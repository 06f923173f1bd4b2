"""Commands that are killed: all trainings, a calibration, and those that write an output."""

import json
import shutil
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from experiments.cli.commands import COMMANDS
from experiments.cli.commands import run as run_command
from experiments.training.metrics_file import TIMING

__all__ = ["CASES", "Case", "prepare", "write_data"]

RUN = "run"  # the run folder of a case
TRAINING = "--steps 6 --validate-every 3 --checkpoint-every 2 --log-every 1 --threads 1"
DENSITY = f"--data digits --latents 3 --hidden 16 --batch-size 20 --validation-data 20 {TRAINING}"
DENSITY += " --validation-samples 4"
TEXT = "--width 8 --heads 2 --layers 2 --latent-width 4 --tokenizer words --validation-texts 8"
TEXT += f" --validation-samples 2 {TRAINING}"
GAN = f"--data digits --width 4 --latent 8 --hidden 16 --batch-size 16 --validation-data 60 {TRAINING}"
SIMILAR = "--width 16 --heads 2 --layers 1 --max-length 16 --tokenizer words --vocab-size 60"
SIMILAR += f" --batch-size 6 --held-out 0.15 {TRAINING}"


class Case(NamedTuple):
    """A command, what it starts from, and what it must have written in the end."""

    command: str
    arguments: str
    results: Callable[[Path], Mapping[str, object]]  # by the folder that it ran in
    source: str = ""  # the case whose folder it starts from, copied
    with_report: bool = False  # of a training

    @property
    def is_training(self) -> bool:
        """Whether it writes a run folder, which ``--resume`` continues."""
        return self.command.startswith("train")

    def act(self, folder: Path, *, again: bool = False, resume: bool = True) -> None:
        """Run the command in ``folder``, the working directory.

        Args:
            folder: the working directory.
            again: whether it was killed before; an output may then exist.
            resume: whether a training is started with ``--resume``, too, where it is new.
        """
        words = self.arguments.split()
        exists = (folder / RUN / "config.json").exists()
        if self.is_training and (resume or exists):
            words.append("--resume")
        if not self.is_training and again and self.command != "calibrate":
            words.append("--overwrite")
        if self.command == "calibrate" and (folder / RUN / "calibration" / "DONE").exists():
            finished = Case("train-density", f"--out {RUN}", trained)
            finished.act(folder)  # a complete one would be refused: the next start is a resume
        module = import_module(COMMANDS[self.command][0])
        is_short = self.is_training and not self.with_report
        action = module.train if is_short else module.main
        run_command(module.Config, action, words, f"univae {self.command}")


def trained(folder: Path) -> dict[str, object]:
    """Return the weights and the metrics of a run, without times."""
    run = folder / RUN
    found: dict[str, object] = {}
    for name in ("last", "best"):
        found[name] = (run / "checkpoints" / name / "model.safetensors").read_bytes()
    lines = (run / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    found["rows"] = [{k: v for k, v in row.items() if k not in TIMING} for row in rows]
    found["DONE"] = (run / "DONE").exists()
    features = run / "features" / "checkpoints" / "best" / "model.safetensors"
    if features.exists():
        found["features"] = features.read_bytes()
    return found


def reported(folder: Path) -> dict[str, object]:
    """Return the weights and metrics of a run, and whether it has its report."""
    return {**trained(folder), "report": (folder / RUN / "report.html").exists()}


def calibrated(folder: Path) -> dict[str, object]:
    """Return the best weights of a run, and those from before its calibration."""
    checkpoints = folder / RUN / "checkpoints"
    names = sorted(path.name for path in checkpoints.iterdir())
    best = (checkpoints / "best" / "model.safetensors").read_bytes()
    return {"names": names, "best": best}


def file(name: str) -> Callable[[Path], dict[str, object]]:
    """Return a function that returns the content of a file."""
    return lambda folder: {name: (folder / name).read_bytes()}


CASES: dict[str, Case] = {
    "train-text": Case("train-text", f"--text ../data/t.txt --out {RUN} {TEXT}", trained),
    "train-density": Case("train-density", f"{DENSITY} --out {RUN}", trained),
    "train-gan": Case("train-gan", f"{GAN} --feature-steps 3 --out {RUN}", trained),
    "train-similar": Case("train-similar", f"--pairs ../data/g.tsv --out {RUN} {SIMILAR}", trained),
    "report": Case("train-density", f"{DENSITY} --out {RUN}", reported, with_report=True),
    "train on": Case(
        "train-density", f"{DENSITY} --out {RUN} --steps 8", trained, source="calibrate"
    ),
    "calibrate": Case("calibrate", f"{RUN} --steps 4 --fit model", calibrated, "train-density"),
    "compress": Case("compress", f"{RUN} ../data/d.npy x.bits", file("x.bits"), "train-density"),
    "decompress": Case("decompress", f"{RUN} x.bits back.npy", file("back.npy"), "compress"),
    "likelihood": Case(
        "likelihood",
        f"{RUN} --data ../data/d.npy --samples 4 --out s.csv",
        file("s.csv"),
        "train-density",
    ),
    "encode": Case("encode", f"{RUN} --data ../data/d.npy --out z.npy", file("z.npy"), "compress"),
}


def write_data(folder: Path) -> None:
    """Write the data of the cases into ``folder``."""
    import numpy as np
    from sklearn.datasets import load_digits

    folder.mkdir()
    words = ["red", "blue", "cat", "dog", "sees", "likes"]
    texts = [f"{a} {b} {c}\n" for a in words for b in words for c in words]
    (folder / "t.txt").write_text("".join(texts))
    groups = [f"a {a} {b}\ta {b} and {a}\n" for a in words for b in words]
    (folder / "g.tsv").write_text("".join(groups))
    np.save(folder / "d.npy", load_digits().images[:6].astype(np.uint8))


def prepare(case: Case, place: Path, done: Mapping[str, Path]) -> None:
    """Make ``place`` the folder that a case starts from; ``done`` holds those of other cases."""
    shutil.rmtree(place, ignore_errors=True)
    if case.source:
        shutil.copytree(done[case.source], place)
    else:
        place.mkdir()
