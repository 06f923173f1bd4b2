"""Engineering: a folder of mixed pictures and a log as small files; strange lines."""

from pathlib import Path

from experiments.examples.stories.files import write_log, write_pictures
from experiments.examples.stories.story import Step, Story, command, python

__all__ = ["STORY"]

SAME_TREE = """from pathlib import Path
names = sorted(p.relative_to("pictures") for p in Path("pictures").rglob("*"))
again = sorted(p.relative_to("pictures again") for p in Path("pictures again").rglob("*"))
print(len(names), "files;", "the same names:", names == again)
import numpy
from PIL import Image
pairs = [(Image.open(Path("pictures") / n), Image.open(Path("pictures again") / n))
         for n in names if n.suffix == ".png"]
print("the same pixels:", all(a.mode == b.mode and numpy.array_equal(a, b) for a, b in pairs))"""

SAME_LOG = """from pathlib import Path
print("the same bytes:", Path("server.log").read_bytes() == Path("again.log").read_bytes())"""

STRANGE = """import pandas
scores = pandas.read_csv("scores.csv")
print(scores.sort_values("log_likelihood_nats").head(3).to_string())"""


def _files(folder: Path, published: Path) -> None:
    write_pictures(folder / "pictures")
    write_log(folder / "server.log")


def _steps(folder: Path, minutes: float) -> list[Step]:
    train = f"--preset tiny --minutes {minutes:g}"
    return [
        command(f"univae train-density --data pictures --out runs/small {train}", expected=2),
        command(f"univae train-density --data pictures --size 24 --out runs/pictures {train}"),
        command("univae sample runs/pictures --count 16"),
        command("univae reconstruct runs/pictures --data pictures --limit 8"),
        command("univae interpolate runs/pictures 0 1"),
        command("univae compress runs/pictures pictures pictures.bits"),
        command('univae decompress runs/pictures pictures.bits "pictures again"'),
        python(SAME_TREE),
        command(f"univae train-text --text server.log --out runs/log {train}"),
        command("univae likelihood runs/log --data server.log --out scores.csv --proposal widened"),
        python(STRANGE),
        command("univae export runs/log log.univae"),
        command("univae compress log.univae server.log server.bits"),
        command("univae decompress log.univae server.bits again.log"),
        python(SAME_LOG),
        command("univae compress runs/pictures server.log wrong.bits", expected=2),
    ]


STORY = Story("Engineering: a folder of pictures, and a log", _steps, _files)
