"""The README is short, its commands exist, and its jobs run on files as it describes them.

Its other blocks are run, and their outputs compared, by ``tests/documentation/test_documented_blocks.py``.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.cli.commands import COMMANDS
from tests.documentation.pages import blocks

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MOST_LINES = 150

# Every job in turn; those of one run follow each other in one folder.
JOBS = [block.code for block in blocks(README) if "minutes of" in block.settings.get("not run", "")]
SENTENCES = ("How do I reset the clock?", "Where is the manual?", "The lamp does not work.")


def write_files(folder: Path) -> None:
    """Write a small file of every name that the README uses."""
    random = np.random.default_rng(0)
    texts = [f"{text} It is number {i}." for i in range(40) for text in SENTENCES]
    reviews = [f'{i},"{text}"' for i, text in enumerate(texts)]
    (folder / "reviews.csv").write_text("\n".join(["id,review", *reviews]))
    (folder / "notes.txt").write_text("\n".join(texts[:20]) + "\n")
    (folder / "questions.txt").write_text("\n".join(texts) + "\n")
    pairs = [f"{text}\tTell me: {text.lower()}" for text in texts]
    (folder / "pairs.tsv").write_text("\n".join(pairs) + "\n")

    rows = [f"{area:.1f},{2 * area + noise:.1f}," for area, noise in random.normal(80, 20, (60, 2))]
    rows += [f"{area:.1f},,garden" for area in random.normal(90, 20, 60)]
    (folder / "houses.csv").write_text("\n".join(["area,price,extra", *rows]))

    (folder / "photos").mkdir()
    for i in range(60):
        pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{i}.png")


def test_it_is_short_and_nothing_is_left_to_be_filled_in() -> None:
    assert len(README.splitlines()) <= MOST_LINES
    assert not re.search(r"^[A-Z]+$", README, re.MULTILINE)


def test_every_command_it_names_exists() -> None:
    named = set(re.findall(r"^univae ([a-z-]+)", README, re.MULTILINE))
    assert len(named) > 10
    assert named <= COMMANDS.keys()


def test_every_link_to_a_file_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)", README):
        if "://" not in target:
            assert (ROOT / target).exists(), target


@pytest.mark.slow
def test_its_jobs_run_on_files_as_it_describes_them(tmp_path: Path) -> None:
    assert len(JOBS) == 5
    write_files(tmp_path)
    (tmp_path / "runs").mkdir()
    commands = "\n".join(JOBS)
    commands = re.sub(r"--minutes \d+", "--steps 4", commands)
    commands = commands.replace("train-gan", "train-gan --steps 4")
    commands = commands.replace("train-density", "train-density --steps 200")
    commands = commands.replace(" runs/other", "")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        ["bash", "-ec", commands],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "again.txt").read_bytes() == (tmp_path / "notes.txt").read_bytes()
    for name in ("scores.csv", "filled.csv", "key.univae", "compare.html"):
        assert (tmp_path / name).stat().st_size
