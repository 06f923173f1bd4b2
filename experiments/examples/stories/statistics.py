"""Statistics: a CSV with numbers, counts, categories and empty cells."""

from pathlib import Path

from experiments.examples.stories.files import write_houses
from experiments.examples.stories.story import Step, Story, command, python

__all__ = ["STORY"]

IN_PYTHON = """import pandas, univae, density
table = pandas.read_csv("houses.csv")
run = univae.load("runs/houses")
print(run)
scores = density.score(run, table.head(20))
print(scores)
print(scores.to_pandas().head(3))
print(run.sample(3))
print(run.encode(table.head(4)).shape)
print(run.impute(table.head(8)))"""

ESTIMATOR = """import pandas, density
table = pandas.read_csv("houses.csv").dropna()[["area_m2", "rooms"]]
model = density.DensityEstimator(random_state=0).fit(table)
print(model.score_samples(table.head(3)))
print(model.sample(2))"""


def _files(folder: Path, published: Path) -> None:
    write_houses(folder / "houses.csv")
    write_houses(folder / "new houses.csv", rows=40, seed=1)


def _steps(folder: Path, minutes: float) -> list[Step]:
    train = f"--preset tiny --minutes {minutes:g}"
    return [
        command(f"univae train-density --data houses.csv --out runs/houses {train}"),
        command('univae evaluate runs/houses --data "new houses.csv"'),
        command('univae likelihood runs/houses --data "new houses.csv" --out scores.csv'),
        python('print("".join(open("scores.csv").readlines()[:3]))'),
        command('univae impute runs/houses --data "new houses.csv" --out filled.csv'),
        python('print("".join(open("filled.csv").readlines()[:4]))'),
        command("univae sample runs/houses --count 5 --out drawn.csv"),
        python('print(open("drawn.csv").read())'),
        command('univae encode runs/houses --data "new houses.csv" --out codes.parquet'),
        command('univae reconstruct runs/houses --data "new houses.csv" --out again.csv'),
        command("univae interpolate runs/houses 0 1 --out between.csv"),
        python(IN_PYTHON),
        python(ESTIMATOR),
        command("univae report runs/houses"),
    ]


STORY = Story("Statistics: a CSV with mixed columns and empty cells", _steps, _files)
