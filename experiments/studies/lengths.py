r"""Accuracy against length of language models trained on short texts, by the scale of attention.

A character model is trained on windows of 64 characters, as a masked and as a causal language
model, and measured on windows of up to 1,024. The arms differ in the factor on the scores
:math:`q \cdot k / \sqrt D` of a row that sees n keys, which is 1 at the length of training N:

    sqrt        1
    log_n       ln n / ln N
    sqrt_log_n  sqrt(ln n / ln N)
    learned     a_h ln n + b_h, two numbers for each head, from a = 0 and b = 1
    clip        max(1, ln n / ln N), on the weights of ``sqrt``

Every arm is measured with the rotary positions of training, and with those of base
:math:`10000 \, s^{D / (D - 2)}` at s times the length (NTK). Besides accuracy and loss the mean
entropy of attention rows is measured, head by head.

``python -m experiments.studies.lengths english.txt chinese.txt --minutes 3 --out runs/lengths``
reads texts of one sentence a line, which are joined into one document a file; a twentieth of it is
held out. Minutes are processor time.

References:
    Entropy-invariant softmax attention (Su, 2021), https://kexue.fm/archives/8823 and /9706
"""

import argparse
import functools
import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from experiments.benchmarks.harness import report
from experiments.studies.harness import spread
from experiments.studies.reuse import bad_input_ends, require_same_options
from univae.attention import attend
from univae.attention.rotary import phases
from univae.attention.transformer import Block
from univae.checkpoint import JsonObject, read_json, write_json

TRAINED_LENGTH = 64
LENGTHS = (64, 128, 256, 512, 1024)
BASE = 10_000.0  # of rotary positions
UNKNOWN = 0  # token of rare characters
MASK = 1
CHARACTERS = 4_000  # most characters that have a token
MASKED = 0.15  # share of the characters that a masked model predicts
BATCH = 32  # windows in a step
TOKENS = 32_768  # characters that a measurement reads
HELD_OUT = 0.05
LARGEST_RATE = 1e-3
WARMUP = 100  # steps
ROWS = 32  # rows of attention in a window whose entropy is measured

# Factor on the scores of rows that see n keys, from ln n / ln N.
FACTORS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "sqrt": torch.ones_like,
    "log_n": lambda log_n: log_n,
    "sqrt_log_n": torch.sqrt,
    "clip": lambda log_n: log_n.clamp_min(1),
}
TRAINED = ("sqrt", "log_n", "sqrt_log_n", "learned")
ARMS = (*TRAINED, "clip")
NTK = " ntk"  # behind the name of an arm: measured with a stretched base
MEASURED = ("accuracy", "row_entropy_nats")  # in the figure
WITHOUT_TRAINING = {"clip": "sqrt"}  # arm -> the arm whose weights it takes


@dataclass(frozen=True)
class Shape:
    """Size of the model."""

    width: int = 96
    layers: int = 3
    heads: int = 4


class Model(nn.Module):
    """A Transformer over characters, whose attention has one of the scales."""

    def __init__(self, characters: int, arm: str, *, causal: bool, shape: Shape) -> None:
        super().__init__()
        self.arm = arm
        self.causal = causal
        self.head_width = shape.width // shape.heads
        self.table = nn.Embedding(characters, shape.width)
        self.blocks = nn.ModuleList(Block(shape.width, shape.heads) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.width)
        nn.init.normal_(self.table.weight, std=0.02)
        # a_h and b_h of every layer; parameters of the arm ``learned`` alone
        start = torch.stack((torch.zeros(shape.heads), torch.ones(shape.heads)))
        self.scales = nn.Parameter(start.repeat(shape.layers, 1, 1), arm == "learned")

    def forward(
        self, ids: Int[Tensor, "batch length"], *, ntk: bool = False, entropies: bool = False
    ) -> tuple[Float[Tensor, "batch length characters"], list[Tensor]]:
        """Return logits, and for each layer the mean entropy of attention rows of every head."""
        length = ids.shape[1]
        stretch = max(1.0, length / TRAINED_LENGTH) if ntk else 1.0
        base = BASE * stretch ** (self.head_width / (self.head_width - 2))
        phase = phases(torch.arange(length), self.head_width, base)[None]
        x = self.table(ids)
        measured: list[Tensor] = []

        def mix(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            q = q * self.factor(layer, length)[..., None]
            if entropies:
                measured.append(_row_entropy(q, k, causal=self.causal))
            return attend(q, k, v, causal=self.causal)

        for layer, block in enumerate(self.blocks):
            x = block(x, phase, functools.partial(mix, layer))
        return self.norm(x) @ self.table.weight.T, measured

    def factor(self, layer: int, length: int) -> Float[Tensor, "heads length"]:
        """Return the factor on the scores of every row, of every head."""
        keys = torch.arange(1, length + 1) if self.causal else torch.full((length,), length)
        log_n = keys.log() / math.log(TRAINED_LENGTH)
        if self.arm != "learned":
            return FACTORS[self.arm](log_n).expand(self.scales.shape[-1], -1)
        slope, start = self.scales[layer]
        return slope[:, None] * log_n * math.log(TRAINED_LENGTH) + start[:, None]


def _row_entropy(q: Tensor, k: Tensor, *, causal: bool) -> Float[Tensor, "heads"]:
    """Return the mean entropy of the last rows, in nats."""
    scores = q[:, :, -ROWS:] @ k.mT / math.sqrt(q.shape[-1])
    if causal:
        rows, keys = scores.shape[-2:]
        future = torch.ones(rows, keys, dtype=torch.bool).triu(1 + keys - rows)
        scores = scores.masked_fill(future, -math.inf)
    weights = scores.softmax(-1)
    return torch.special.entr(weights).sum(-1).mean((0, 2))


@dataclass(frozen=True)
class Corpus:
    """Characters as tokens, of training and held out."""

    training: Int[Tensor, "characters"]
    held_out: Int[Tensor, "held_out"]
    characters: int

    @classmethod
    def read(cls, path: Path) -> "Corpus":
        """Read a file of one sentence a line as one document."""
        text = " ".join(path.read_text(encoding="utf-8").split("\n"))
        frequent = [character for character, _ in Counter(text).most_common(CHARACTERS)]
        token_of = {character: i for i, character in enumerate(frequent, start=2)}
        ids = torch.tensor([token_of.get(character, UNKNOWN) for character in text])
        count = int(HELD_OUT * len(ids))
        return cls(ids[:-count], ids[-count:], len(frequent) + 2)


def batches(ids: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield random windows of training without end."""
    while True:
        starts = torch.randint(len(ids) - TRAINED_LENGTH, (BATCH, 1), generator=generator)
        yield ids[starts + torch.arange(TRAINED_LENGTH)]


def targets(
    ids: Tensor, generator: torch.Generator, *, causal: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return inputs, their targets, and where there is one.

    A causal model predicts the next character, a masked one those behind :data:`MASK`.
    """
    if causal:
        return ids[:, :-1], ids[:, 1:], torch.ones_like(ids[:, 1:], dtype=torch.bool)
    masked = torch.rand(ids.shape, generator=generator) < MASKED
    return ids.masked_fill(masked, MASK), ids, masked


def train(
    corpus: Corpus, arm: str, seed: int, minutes: float, *, causal: bool
) -> tuple[Model, int]:
    """Train a model for so many minutes of processor time; return it with its steps."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = Model(corpus.characters, arm, causal=causal, shape=Shape())
    optimizer = torch.optim.AdamW(model.parameters(), lr=LARGEST_RATE, weight_decay=0.01)
    start = time.process_time()
    for step, ids in enumerate(batches(corpus.training, generator)):
        elapsed = (time.process_time() - start) / (60 * minutes)
        if elapsed >= 1:
            break
        warm = min(1.0, (step + 1) / WARMUP)
        optimizer.param_groups[0]["lr"] = LARGEST_RATE * warm * _cosine(elapsed)
        inputs, wanted, at = targets(ids, generator, causal=causal)
        logits, _ = model(inputs)
        loss = F.cross_entropy(logits[at], wanted[at])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval(), step


def _cosine(elapsed: float) -> float:
    """Return the share of the largest rate at a share of the time."""
    return (1 + math.cos(math.pi * elapsed)) / 2


@torch.inference_mode()
def measure(model: Model, corpus: Corpus, length: int, *, ntk: bool) -> JsonObject:
    """Return accuracy, loss in nats, and entropies on held-out windows of a length."""
    generator = torch.Generator().manual_seed(length)
    windows = corpus.held_out[: len(corpus.held_out) // length * length].view(-1, length)
    windows = windows[: max(1, TOKENS // length)]
    correct: list[Tensor] = []
    losses: list[Tensor] = []
    entropies: list[Tensor] = []
    for ids in windows.split(max(1, 4096 // length)):
        inputs, wanted, at = targets(ids, generator, causal=model.causal)
        logits, measured = model(inputs, ntk=ntk, entropies=not entropies)
        correct.append((logits.argmax(-1) == wanted)[at])
        losses.append(F.cross_entropy(logits[at], wanted[at], reduction="none"))
        entropies += measured
    return {
        "accuracy": torch.cat(correct).double().mean().item(),
        "nats_per_character": torch.cat(losses).double().mean().item(),
        "row_entropy_nats": torch.stack(entropies).tolist(),
    }


def job(path: Path, arguments: argparse.Namespace, task: str, arm: str, seed: int) -> JsonObject:
    """Train one model and measure it at every length; its result is kept in a file of its own.

    Raises:
        InputError: the file is of a training of another length.
    """
    name = f"{path.stem}-{task}-{arm}-{seed}"
    kept = arguments.out / f"{name}.json"
    asked = {"minutes": arguments.minutes}
    if kept.exists():
        stored: JsonObject = read_json(kept)
        require_same_options(
            kept, stored.get("asked", {}), asked, "give another --out, or remove the file"
        )
        return stored
    corpus = Corpus.read(path)
    model, steps = train(corpus, arm, seed, arguments.minutes, causal=task == "causal")
    arms = [arm, *(other for other, source in WITHOUT_TRAINING.items() if source == arm)]
    measured: JsonObject = {}
    for each, ntk in itertools.product(arms, (False, True)):
        model.arm = each
        key = f"{each}{NTK}" if ntk else each
        measured[key] = {str(n): measure(model, corpus, n, ntk=ntk) for n in LENGTHS}
    result: JsonObject = {"name": name, "asked": asked, "steps": steps, "arms": measured}
    if arm == "learned":
        result["scales"] = model.scales.tolist()
    write_json(kept, result)
    return result


def main(arguments: argparse.Namespace) -> JsonObject:
    """Train every arm with every seed, and return means over seeds."""
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    table: JsonObject = {}
    runs = itertools.product(range(arguments.seeds), arguments.texts, arguments.tasks, TRAINED)
    for seed, path, task, arm in runs:
        result = job(path, arguments, task, arm, seed)
        for key, by_length in result["arms"].items():
            row = table.setdefault(f"{path.stem} {task}", {}).setdefault(key, {})
            for length, numbers in by_length.items():
                cell = row.setdefault(length, {"accuracy": [], "nats_per_character": []})
                cell["accuracy"].append(numbers["accuracy"])
                cell["nats_per_character"].append(numbers["nats_per_character"])
                heads = torch.tensor(numbers["row_entropy_nats"])
                cell.setdefault("row_entropy_nats", []).append(heads.mean().item())
        print(path.stem, task, arm, seed, result["steps"], flush=True)
    for rows in table.values():
        for by_length in rows.values():
            for cell in by_length.values():
                for name, values in list(cell.items()):
                    cell[name] = spread(values)
    return {"minutes": arguments.minutes, "seeds": arguments.seeds, "table": table}


def markdown(results: JsonObject) -> str:
    """Return the accuracies of each language and task as a table in Markdown."""
    lines = []
    for task, rows in results["table"].items():
        lengths = list(next(iter(rows.values())))
        lines += [f"| {task} | {' | '.join(lengths)} |", f"|---|{'---|' * len(lengths)}"]
        for arm, by_length in rows.items():
            cells = [_percent(by_length[length]["accuracy"]) for length in lengths]
            lines.append(f"| {arm} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _percent(accuracy: JsonObject) -> str:
    """Return a mean in percent, with the deviation over seeds if there is one.

    >>> _percent({"mean": 0.6331, "sd": 0.004}), _percent({"mean": 0.5, "sd": None})
    ('63.3 ± 0.4', '50.0')
    """
    shown = f"{100 * accuracy['mean']:.1f}"
    return shown if accuracy["sd"] is None else f"{shown} ± {100 * accuracy['sd']:.1f}"


def draw(table: JsonObject, path: Path) -> None:
    """Draw accuracy and entropy by length, a column for each language and task."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(table), 6.5), layout="constrained")
    grid = figure.subplots(2, len(table), sharex=True, squeeze=False)
    for column, (task, rows) in enumerate(table.items()):
        for arm, by_length in rows.items():
            lengths = [int(length) for length in by_length]
            style = "--" if arm.endswith(NTK) else "-"
            color = f"C{ARMS.index(arm.removesuffix(NTK))}"
            for axes, name in zip(grid[:, column], MEASURED, strict=True):
                values = [cell[name]["mean"] for cell in by_length.values()]
                axes.plot(lengths, values, style, color=color, marker=".", label=arm)
        grid[0, column].set(title=task, xscale="log", ylabel="accuracy")
        grid[1, column].set(xlabel="characters", ylabel="entropy of a row, nats")
        grid[1, column].set_xticks(lengths, [str(length) for length in lengths], minor=False)
        grid[1, column].minorticks_off()
    grid[0, 0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description="Accuracy against length, by scale of attention.")
    parser.add_argument("texts", nargs="+", type=Path, help="files of one sentence a line")
    parser.add_argument("--tasks", nargs="+", default=["masked", "causal"])
    parser.add_argument("--minutes", type=float, default=3.0, help="processor time of a training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/lengths"))
    parser.add_argument("--results", type=Path, default=None, help="JSON file to write")
    parser.add_argument("--figure", type=Path, default=None, help="PNG to draw")
    return parser.parse_args()


if __name__ == "__main__":
    options = parse()
    with bad_input_ends("lengths"):
        study = main(options)
    report("lengths", study, options.results, kind="study")
    if options.figure is not None:
        draw(study["table"], options.figure)
