"""Every extra alone: its command works with it, and names it in one line without it.

``make extras`` builds an environment without extras, installs each of them, runs its command, and
removes what came with it. It needs the registry of packages, and takes about ten minutes.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
REFUSED = 2  # exit code for bad input


@dataclass(frozen=True)
class Case:
    """A command that needs an extra.

    Args:
        arguments: of ``univae``; ``{out}`` is an empty folder, ``{golden}`` the stored runs.
        rest: what else stands between this machine and a result, part of the one line that the
            command ends with where the extra is installed; empty: it ends with a result.
        included: whether dependencies of univae bring the extra, so that nothing is refused.
    """

    arguments: str
    rest: str = ""
    included: bool = False


CASES = {
    "board": Case("train-text --text {texts} --out {out}/run --steps 1 --track tensorboard"),
    "trackio": Case("train-text --text {texts} --out {out}/run --steps 1 --track trackio"),
    "tables": Case("encode {golden}/text/run --data {texts} --out {out}/codes.parquet"),
    "remote": Case(
        "encode {golden}/text/run --data file://{texts} --out {out}/codes.csv", included=True
    ),
    "hub": Case("train-text --text hub:no/such:train:text --out {out}/run", rest="hub:no/such"),
    "hf": Case("train-text --text {texts} --out {out}/run --steps 1 --tokenizer jieba"),
    "onnx": Case("export {golden}/text/run {out}/graphs --format onnx"),
    "explore": Case("explore {golden}/text/run --data {out}/missing.txt", rest="missing.txt"),
    "fid": Case("evaluate {golden}/gan_images/run --features inception", rest="inception"),
    "glyphs": Case("train-density --data glyphs --out {out}/run --preset tiny --steps 1"),
    "usearch": Case(
        "search {golden}/similar/run --corpus {texts} --index usearch 'the cat' --count 2"
    ),
    "faiss": Case("search {golden}/similar/run --corpus {texts} --index faiss 'the cat' --count 2"),
}


class Environment:
    """A virtual environment in which univae is installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "venv" / "bin" / "python"
        if not self.python.exists():
            subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
            self.pip("install", str(ROOT))

    def pip(self, *arguments: str) -> None:
        """Run pip with the versions of ``constraints.txt``."""
        constraints = ["-c", str(ROOT / "constraints.txt")] if arguments[0] == "install" else []
        command = [self.python, "-m", "pip", "-q", *arguments, *constraints]
        subprocess.run(command, check=True, cwd=self.folder)

    def packages(self) -> set[str]:
        """Return the installed packages."""
        command = [self.python, "-m", "pip", "freeze", "--exclude", "univae"]
        frozen = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return {line.split("==")[0].split(" @")[0] for line in frozen.splitlines()}

    def run(self, case: Case) -> tuple[int, str]:
        """Return the exit code of a command and the end of what it prints."""
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        texts = self.folder / "texts.txt"
        texts.write_text("".join(f"the cat sat on mat {i}\n" for i in range(100)))
        command = case.arguments.format(out=out, golden=self.folder / "golden", texts=texts)
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRACKIO_DIR": str(out)}
        environment.pop("PYTHONPATH", None)
        done = subprocess.run(
            f"{self.folder}/venv/bin/univae {command} --quiet",
            shell=True,
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        return done.returncode, (done.stderr.strip() or done.stdout.strip())


def check(environment: Environment, extra: str) -> list[str]:
    """Return what is wrong with an extra."""
    case = CASES[extra]
    faults = []
    code, text = environment.run(case)
    is_refused = code == REFUSED and f"univae[{extra}]" in text and "\n" not in text
    if not is_refused and not case.included:
        faults.append(f"without {extra}: exit code {code}, {text[-300:]}")
    before = environment.packages()
    environment.pip("install", f"{ROOT}[{extra}]")
    code, text = environment.run(case)
    if case.rest:
        if code != REFUSED or case.rest not in text or f"univae[{extra}]" in text:
            faults.append(f"with {extra}: exit code {code}, {text[-300:]}")
    elif code:
        faults.append(f"with {extra}: exit code {code}, {text[-300:]}")
    added = environment.packages() - before
    if added:
        environment.pip("uninstall", "-y", *sorted(added))
    print(f"{extra}: {len(added)} packages; {'; '.join(faults) or 'as it should be'}", flush=True)
    if case.rest:
        print(f"    ends with: {text[-160:]}")
    return faults


def main(argv: Sequence[str] | None = None) -> int:
    """Check the extras, and return how many faults were found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="for the environment")
    parser.add_argument("--only", nargs="*", default=list(CASES), choices=list(CASES))
    arguments = parser.parse_args(argv)
    folder = arguments.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(GOLDEN, folder / "golden", dirs_exist_ok=True)
    environment = Environment(folder)
    return sum(len(check(environment, extra)) for extra in arguments.only)


if __name__ == "__main__":
    sys.exit(main())
