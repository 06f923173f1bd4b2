"""The STS tasks of MTEB on a sentence model: the rank correlation of its cosines with judgements.

The run is exported to sentence-transformers, which MTEB evaluates. A task is one of MTEB's, whose
data its library loads from the hub or from its cache, or a file of labelled pairs of texts, in any
format that ``univae evaluate`` reads, with scores from 0 to 5. Needs ``mteb`` and
``sentence-transformers`` (the ``bench`` extra).

``python -m experiments.benchmarks.mteb_sts RUN --tasks STS12 STSBenchmark --files pairs.tsv``
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.benchmarks.harness import report
from experiments.data.pairs import read_groups
from experiments.exports.sentence_transformers_folder import write_folder
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.run_folder import RunFolder

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

SPLIT = "test"
METRICS = ("cosine_spearman", "cosine_pearson")


def measure(run: Path, tasks: Sequence[str] = (), files: Sequence[Path] = ()) -> list[JsonObject]:
    """Return the correlations of a run on MTEB's tasks by their names, and on files of pairs.

    Raises:
        InputError: the run is not of a sentence model, or a file has pairs without labels.
    """
    import mteb

    selected: list[Any] = [file_task(path) for path in files]
    if tasks:
        selected += mteb.get_tasks(tasks=list(tasks))
    with tempfile.TemporaryDirectory() as folder:
        model = exported_model(run, Path(folder))
        results = mteb.evaluate(
            model, selected, cache=None, co2_tracker=False, show_progress_bar=False
        )
    return [_row(result) for result in results.task_results]


def exported_model(run: Path, folder: Path) -> "SentenceTransformer":
    """Export a run into an empty folder, and return it as sentence-transformers loads it."""
    from sentence_transformers import SentenceTransformer

    write_folder(RunFolder.open(run), folder)
    return SentenceTransformer(str(folder), trust_remote_code=True)


def file_task(path: Path) -> Any:
    """Return a file of labelled pairs as a task of MTEB.

    Raises:
        InputError: a line breaks a rule of its format, or the pairs have no labels.
    """
    from datasets import Dataset
    from mteb.abstasks.sts import AbsTaskSTS
    from mteb.abstasks.task_metadata import TaskMetadata

    groups = read_groups(path)
    if groups.scores is None:
        raise InputError(f"--files {path}: needs labelled pairs; give each a score from 0 to 5")
    first, second = groups.pairs.T
    rows = {
        "sentence1": [groups.texts[i] for i in first],
        "sentence2": [groups.texts[i] for i in second],
        "score": groups.scores.tolist(),
    }

    class FileTask(AbsTaskSTS):
        metadata = TaskMetadata(
            name=path.name.partition(".")[0],
            description=f"The pairs of {path.name}.",
            dataset={"path": str(path), "revision": "file"},
            type="STS",
            category="t2t",
            eval_splits=[SPLIT],
            eval_langs=["und-Zyyy"],
            main_score="cosine_spearman",
        )

    task = FileTask()
    task.dataset = {SPLIT: Dataset.from_dict(rows)}
    task.data_loaded = True
    return task


def _row(result: Any) -> JsonObject:
    """Return name and correlations of a result; of several subsets their means."""
    subsets = [subset for rows in result.scores.values() for subset in rows]
    row: JsonObject = {"task": result.task_name}
    for name in METRICS:
        row[name] = sum(subset[name] for subset in subsets) / len(subsets)
    return row


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="the run folder of a sentence model")
    parser.add_argument("--tasks", nargs="+", default=[], help="names of MTEB's tasks")
    parser.add_argument("--files", type=Path, nargs="+", default=[], help="files of labelled pairs")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    arguments = parser.parse_args()
    results = measure(arguments.run, arguments.tasks, arguments.files)
    report("mteb_sts", results, arguments.out)


if __name__ == "__main__":
    main()
