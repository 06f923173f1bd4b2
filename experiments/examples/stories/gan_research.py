"""GAN research: colour pictures in folders of their classes."""

from pathlib import Path

from experiments.examples.stories.published import write_classes
from experiments.examples.stories.story import Step, Story, command, python

__all__ = ["STORY"]

IN_PYTHON = """import univae
run = univae.load("runs/gan")
print(run)
images = run.sample(4)
print(images.shape, images.dtype, images.min(), images.max())"""


def _steps(folder: Path, minutes: float) -> list[Step]:
    train = f"--data pictures --preset tiny --minutes {minutes:g}"
    return [
        command(f"univae train-gan {train} --out runs/gan"),
        command(f"univae train-gan {train} --conditional --out runs/classes"),
        command("univae evaluate runs/gan --count 200"),
        command("univae sample runs/gan --count 36 --out drawn.npz"),
        command("univae sample runs/classes --count 8 --label cat --out cats.png"),
        command("univae interpolate runs/gan 0 1"),
        command("univae audit runs/gan"),
        command(f"univae train-gan --out runs/gan --resume --minutes {2 * minutes:g}"),
        command("univae compare runs/gan runs/classes"),
        command("univae reconstruct runs/gan --data pictures", expected=2),
        python(IN_PYTHON),
        command("univae report runs/gan"),
    ]


STORY = Story("GAN research: colour pictures in folders of their classes", _steps, write_classes)
