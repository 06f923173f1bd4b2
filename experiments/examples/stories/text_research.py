"""Text research: Penn Treebank, captions and Chinese sentences; likelihoods, latents, edits."""

from pathlib import Path

from experiments.examples.stories.published import write_captions, write_ptb
from experiments.examples.stories.story import Step, Story, command, python

__all__ = ["STORY"]

IN_PYTHON = """import univae, density
run = univae.load("runs/ptb words")
print(run)
print(run.sample(3))
print(density.score(run, ["the market fell sharply", "sharply fell market the"]))
print(run.encode(["a text"]).shape)
print(run.interpolate("the market fell", "the bank said it will pay", steps=3))"""


def _files(folder: Path, published: Path) -> None:
    write_ptb(folder, published)
    write_captions(folder, published)


def _steps(folder: Path, minutes: float) -> list[Step]:
    train = f"--preset tiny --minutes {minutes:g}"
    return [
        command(f'univae train-text --text ptb.train.txt --out "runs/ptb words" {train}'),
        command('univae evaluate "runs/ptb words" --data ptb.test.txt --limit 100'),
        command(
            'univae likelihood "runs/ptb words" --data ptb.test.txt --limit 10 --samples 64 '
            "--out scores.csv"
        ),
        command('univae sample "runs/ptb words" --count 3'),
        command('univae reconstruct "runs/ptb words" --data ptb.test.txt --limit 3'),
        command('univae interpolate "runs/ptb words" "the market fell" "the bank will pay"'),
        command('univae edit "runs/ptb words" "the market fell" --layers 0'),
        command('univae encode "runs/ptb words" --data ptb.test.txt --limit 50 --out codes.npy'),
        python(IN_PYTHON),
        command(f"univae train-text --text captions --out runs/captions {train}"),
        command("univae sample runs/captions --count 3 --out captions.txt"),
        command(f"univae train-text --text cmn.tsv --column 2 --out runs/chinese {train}"),
        command("univae sample runs/chinese --count 3"),
        command(
            f'univae train-text --text captions --out runs/tuned --from "runs/ptb words" {train}'
        ),
        command(f'univae train-text --out "runs/ptb words" --resume --minutes {2 * minutes:g}'),
        command('univae compare "runs/ptb words" runs/tuned'),
        command('univae report "runs/ptb words"'),
    ]


STORY = Story("Text research: Penn Treebank, captions, Chinese", _steps, _files)
