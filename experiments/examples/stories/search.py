"""Search: STS-B and Quora's question pairs in their published layouts."""

from pathlib import Path

from experiments.examples.stories.published import write_quora, write_sts
from experiments.examples.stories.story import Step, Story, command, python

__all__ = ["STORY"]

IN_PYTHON = """import univae
run = univae.load("runs/quora")
print(run)
print(run.encode(["how do I learn french ?", "what is a good way to learn french ?"]).shape)
print(run.similar("how do I learn french ?", count=2))"""


def _files(folder: Path, published: Path) -> None:
    write_sts(folder, published)
    write_quora(folder, published)


def _steps(folder: Path, minutes: float) -> list[Step]:
    train = f"--preset tiny --minutes {minutes:g}"
    finetune = f"--stage finetune {train}"
    questions = "--columns question1 question2 is_duplicate"
    search = "--corpus questions.txt"
    return [
        command(f"univae train-similar --pairs sts-train.csv {train} --out runs/no", expected=2),
        command(
            f"univae train-similar --pairs sts-train.csv --columns 6 7 5 {finetune} --out runs/sts"
        ),
        command("univae evaluate runs/sts --data sts-test.csv --columns 6 7 5"),
        command(
            "univae train-similar --pairs quora_duplicate_questions.tsv "
            f"{questions} {finetune} --out runs/quora"
        ),
        command(
            "univae evaluate runs/quora --data quora_duplicate_questions.tsv "
            f"{questions} --limit 2000"
        ),
        command(f'univae search runs/quora {search} "how do I learn french ?" --count 3'),
        command(f"univae search runs/quora {search} --queries asked.txt --out found.jsonl"),
        command('univae similar runs/quora "how do I learn french ?" --count 3'),
        command("univae encode runs/quora --data asked.txt --out vectors.npy"),
        python(IN_PYTHON),
        command("univae likelihood runs/quora --data asked.txt", expected=2),
    ]


STORY = Story("Search: STS-B and Quora in their published layouts", _steps, _files)
