"""The model card of a run: the README.md of its repository on the Hugging Face hub.

Metadata in YAML between two lines of dashes, then in Markdown what the model is, how it is opened,
what it was trained on, the numbers of its best validation with what they are, and their limits.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from experiments.reports.sizes import parameters
from experiments.reports.validations import best_validation
from experiments.reports.values import brief
from experiments.training.metric_names import METRICS
from univae.checkpoint import read_json
from univae.kinds import trained_class
from univae.rules import reading
from univae.run_folder import BEST, LAST, RunFolder

__all__ = ["CARDS", "CardKind", "model_card"]

LIKELIHOOD = (
    "The negative log-likelihood is an estimate by importance sampling, with {samples} samples per "
    "{datum}, over {data} held-out {datum}s: in expectation it is not below the exact value. The "
    "ELBO is a lower bound of the log-likelihood. Both are means in nats per {datum}; the standard "
    "error is that of the mean over the held-out {datum}s."
)
TEXT_LENGTH = "A text has its tokens plus one end token, and no other; rates are of these."
COSINES = (
    "Recall and rank correlation are of held-out pairs among each other: they depend on how many "
    "there are. The model gives cosines, no probabilities of texts."
)
DENSITIES = (
    "Densities of continuous columns depend on the units of the data, and their negative logarithm "
    "may be below 0."
)
CALIBRATED = "The posterior was fitted again after training; the numbers are from after that."


@dataclass(frozen=True)
class CardKind:
    """What the card of a kind of run says."""

    datum: str  # the unit of the numbers
    pipeline: str  # the task of the hub; empty where none fits
    uses: str  # lines of Python that use ``run``
    limits: tuple[str, ...]  # what the numbers are


TEXT = CardKind(
    "text", "text-generation", "print(run.sample(3, seed=0))", (LIKELIHOOD, TEXT_LENGTH)
)
IMAGES = CardKind(
    "image",
    "unconditional-image-generation",
    "images = run.sample(3, seed=0)  # an array of grey levels",
    (LIKELIHOOD,),
)
TABLE = CardKind(
    "row", "", "rows = run.sample(3, seed=0)  # in the units of the data", (LIKELIHOOD, DENSITIES)
)
SENTENCES = CardKind(
    "pair",
    "sentence-similarity",
    'vectors = run.encode(["a text", "another text"])  # of length 1: products are cosines',
    (COSINES,),
)


def _density(run: RunFolder) -> CardKind:
    path = run.path / "model.json"
    with reading(path):
        shape = read_json(path)["pixels"]["shape"]
        return IMAGES if len(shape) > 1 else TABLE


# Kind of run -> what the card of a run says.
CARDS: Mapping[str, Callable[[RunFolder], CardKind]] = {
    "train-text": lambda run: TEXT,
    "train-density": _density,
    "train-similar": lambda run: SENTENCES,
}


def model_card(files: RunFolder, run: RunFolder, name: str, license_name: str = "") -> str:
    """Return the README.md of a run.

    Args:
        files: the folder of what is published: configuration, data record and weights.
        run: the run folder, with its metrics.
        name: the repository, ``org/name``.
        license_name: an identifier of the hub, such as ``mit``; empty: the card names none.

    Raises:
        InputError: a file of the run is damaged.
    """
    kind = CARDS[str(run.kind)](run)
    paragraphs = [
        _metadata(run, kind, license_name),
        f"# {name.rpartition('/')[2]}",
        f"This is {trained_class(run).description} of the Python library univae, trained with "
        f"`univae {run.kind}`. It has {parameters(files.checkpoint(BEST)):,} parameters.",
        "## How to open it",
        f"```python\nimport univae\nrun = univae.load({json.dumps(name)})\n{kind.uses}\n```",
        "`pip install 'univae[hub]'` installs what this needs. The files are JSON and safetensors; "
        "opening them executes no code.",
        *_training(files),
        *_validation(run, kind),
    ]
    return "\n\n".join(paragraphs) + "\n"


def _metadata(run: RunFolder, kind: CardKind, license_name: str) -> str:
    lines = ["---", "library_name: univae"]
    if license_name:
        lines.append(f"license: {license_name}")
    if kind.pipeline:
        lines.append(f"pipeline_tag: {kind.pipeline}")
    tags = ["univae", str(run.kind).removeprefix("train-")]
    lines += ["tags:", *(f"- {tag}" for tag in tags), "---"]
    return "\n".join(lines)


def _training(files: RunFolder) -> Iterator[str]:
    """Yield what the run was trained on, and how long."""
    yield "## Training"
    rows = []
    for name, entry in files.data_record().items():
        if name != "tokenizer":
            rows.append((f"{name}: source", entry.get("source")))
            rows.append((f"{name}: count", entry.get("count")))
    checkpoint = BEST if files.has_checkpoint(BEST) else LAST
    rows.append((f"steps of the {checkpoint} checkpoint", files.step(checkpoint)))
    rows += [(option, files.config.get(option)) for option in ("seed", "optimizer", "lr")]
    yield _table(("", ""), [(label, _cell(value)) for label, value in rows if value is not None])


def _validation(run: RunFolder, kind: CardKind) -> Iterator[str]:
    """Yield the numbers of the best validation and what they are; nothing where there is none."""
    if not run.has_checkpoint(BEST):
        return
    best = best_validation(run)
    rows = [(metric.titled, _cell(best[key])) for key, metric in METRICS.items() if key in best]
    if not rows:
        return
    yield "## Best validation"
    yield _table(("metric", "value"), rows)
    if "verdict" in best:
        yield f"Use of the latents: {_cell(best['verdict'])}."
    if run.uncalibrated():
        yield CALIBRATED
    yield "## What the numbers are"
    facts = {"samples": best.get("samples", "some"), "data": best.get("data", "the")}
    for limit in kind.limits:
        yield limit.format(datum=kind.datum, **facts)


def _cell(value: object) -> str:
    """Return a value for a cell of a table in Markdown."""
    return " ".join(brief(value).split()).replace("|", "\\|")


def _table(head: tuple[str, str], rows: list[tuple[str, str]]) -> str:
    lines = [head, ("---", "---"), *rows]
    return "\n".join(f"| {left} | {right} |" for left, right in lines)
