"""Time and memory of training steps: as they are, compiled, and with activations computed again.

``ratio``        time of a plain step over that of the contestant: quartiles of the rounds
``warm_up``      seconds until the first step can be taken
``graphs``       functions that were compiled, in all steps
``saved_bytes``  what a forward pass keeps for the backward pass, weights aside

The models are the presets ``tiny`` and ``small`` of texts, ``conv`` and ``neighbours``
(autoregressive pixels) of 28x28 images, and ``tiny`` of sentences; of the text preset ``base`` only
memory is measured. A round takes one step of every contestant on the same batch, of random data;
batches of texts have other lengths in every round. What ``compiled, recomputed`` has to compile
``compiled`` has compiled before.

``python -m experiments.benchmarks.compiled_steps``
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TypeAlias

import torch._dynamo
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo.utils import counters

from density.images import build
from density.images.base import DataModel
from density.likelihoods.head import Pixels
from experiments.benchmarks.harness import compare, report
from experiments.evaluation.bounds import layered_bound
from experiments.images.models import IMAGE_MODELS, ImageShape
from experiments.images.presets import PRESETS as IMAGES
from experiments.sentences.presets import PRESETS as SENTENCES
from experiments.text.presets import MODELS as TEXTS
from experiments.text.presets import PRESETS as TEXT_PRESETS
from experiments.training.blocks import blocks_of, recompute
from experiments.training.distributed import World
from experiments.training.gradient_steps import GradientSteps
from experiments.training.settings import Settings
from experiments.training.task import Progress
from univae.checkpoint import JsonObject
from univae.contrastive.losses import paired_info_nce
from univae.sentence.config import RoFormerSimConfig
from univae.sentence.losses import generation_loss
from univae.sentence.model import RoFormerSim
from univae.text.special import END, PAD
from univae.vae.config import UniVAEConfig
from univae.vae.model import UniVAE

# Maps a model and a batch to the loss, summed.
Loss: TypeAlias = Callable[[nn.Module, Tensor], Tensor]

SHAPE = (1, 28, 28)
FIRST_WORD = 4  # after the special tokens
SHORTEST = 8  # tokens of the longest text of a batch
MODES: Mapping[str, JsonObject] = {
    "plain": {},
    "compiled": {"compile": True},
    "recomputed": {"recompute": True},
    "compiled, recomputed": {"compile": True, "recompute": True},
}


@dataclass(frozen=True)
class Model:
    """A training to time: ``build`` returns a new model, ``batch(i)`` the rows of round i."""

    build: Callable[[], nn.Module]
    batch: Callable[[int], Tensor]
    loss: Loss


class RandomRows:
    """The task of a model on batches of random data, the same for every contestant."""

    def __init__(self, model: Model, rounds: int) -> None:
        torch.manual_seed(0)
        self.module = model.build()
        self.rounds = rounds
        self.batch = model.batch
        self.model_loss = model.loss

    def batches(self, epoch: int) -> Sequence[int]:
        """Return the numbers of the rounds."""
        return range(self.rounds)

    def load(self, item: int) -> Tensor:
        """Return the batch of a round."""
        return self.batch(item)

    def weight(self, batch: Tensor) -> int:
        """Return the number of rows."""
        return len(batch)

    def loss(self, batch: Tensor, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch."""
        return self.model_loss(self.module, batch), {}

    def validate(self, progress: Progress) -> JsonObject:
        """Return no metrics."""
        return {}


def texts(rows: int, longest: int, vocab_size: int, index: int) -> Tensor:
    """Return random texts of ragged lengths, as long as ``rows * longest`` tokens allow."""
    generator = torch.Generator().manual_seed(index)
    length = int(torch.randint(SHORTEST, longest + 1, (), generator=generator))
    count = max(2, rows * longest // length // 2 * 2)
    ids = torch.randint(FIRST_WORD, vocab_size, (count, length), generator=generator)
    ends = torch.randint(1, length, (count,), generator=generator)
    ends[0] = length - 1
    ids[torch.arange(length) > ends[:, None]] = PAD
    ids[torch.arange(count), ends] = END
    return ids


def images(rows: int, index: int) -> Tensor:
    """Return random black and white images."""
    generator = torch.Generator().manual_seed(index)
    return torch.randint(0, 2, (rows, *SHAPE), generator=generator).float()


def text_model(preset: str, rows: int | None = None) -> Model:
    """Return the training of a preset of text VAEs."""
    options = TEXT_PRESETS[preset]
    vocab_size = options["vocab_size"]
    config = UniVAEConfig(vocab_size=vocab_size, **TEXTS[preset])
    longest = config.max_length
    rows = rows or options["batch_tokens"] // longest

    def loss(model: nn.Module, ids: Tensor) -> Tensor:
        assert isinstance(model, UniVAE)
        bound = model.elbo(ids)
        return bound.kl.sum() - bound.log_likelihood.sum()

    return Model(partial(UniVAE, config), partial(texts, rows, longest, vocab_size), loss)


def image_model(preset: str) -> Model:
    """Return the training of a preset of image VAEs."""
    options = IMAGES[preset]
    names = [field.name for field in fields(ImageShape)]
    shape = ImageShape(**{name: options[name] for name in names if name in options})
    pixels = Pixels(SHAPE, reach=shape.reach, context=shape.context)
    config = {**IMAGE_MODELS[shape.model].config(shape, pixels), "pixels": pixels.to_json()}

    def loss(model: nn.Module, x: Tensor) -> Tensor:
        assert isinstance(model, DataModel)
        bound = layered_bound(model, x)
        return bound.kl.sum() - bound.log_likelihood.sum()

    return Model(partial(build, config), partial(images, options.get("batch_size", 100)), loss)


def sentence_model(preset: str) -> Model:
    """Return the training of a preset of sentence models on pairs, whose texts lie side by side."""
    options = SENTENCES[preset]
    names = [field.name for field in fields(RoFormerSimConfig)]
    config = RoFormerSimConfig(**{name: options[name] for name in names if name in options})
    rows = partial(texts, 2 * options["batch_size"], config.max_length, config.vocab_size)

    def loss(model: nn.Module, ids: Tensor) -> Tensor:
        assert isinstance(model, RoFormerSim)
        target = ids.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
        vectors, log_likelihood = model.read_and_write(ids, target)
        contrast = paired_info_nce(F.normalize(vectors, dim=-1))
        tokens = int((target != PAD).sum())
        return len(ids) * (contrast + generation_loss(log_likelihood, target, tokens))

    return Model(partial(RoFormerSim, config), rows, loss)


def timed(model: Model, rounds: int) -> JsonObject:
    """Time steps of a model in all modes that it has."""
    has_blocks = bool(blocks_of(model.build()))
    world = World(0, 1, torch.device("cpu"))
    contestants: dict[str, Callable[[], object]] = {}
    columns: dict[str, JsonObject] = {}
    torch._dynamo.reset()
    for name, options in MODES.items():
        if "recompute" in options and not has_blocks:
            continue
        task = RandomRows(model, rounds)
        task.module.train()
        before = _graphs()
        start = time.perf_counter()
        steps = GradientSteps(task, Settings(**options), world)
        columns[name] = {"warm_up": time.perf_counter() - start, "graphs": _graphs() - before}
        contestants[name] = _step(steps, rounds, columns[name])
    table = compare(contestants, rounds, warmup=1)
    return {name: {**table[name], **columns[name]} for name in contestants}


def _step(steps: GradientSteps[int, Tensor], rounds: int, column: JsonObject) -> Callable[[], None]:
    """Return the function to time: a step on the batch of the next round."""
    numbers = iter(range(rounds + 1))  # one round is not timed

    def step() -> None:
        before = _graphs()
        number = next(numbers)
        steps.step([number], Progress(number, 0.5))
        column["graphs"] += _graphs() - before

    return step


def _graphs() -> int:
    return int(counters["stats"]["unique_graphs"])


def saved_bytes(model: Model) -> JsonObject:
    """Return what a forward pass keeps for the backward pass, in bytes, weights aside."""
    row: JsonObject = {}
    for name in ("plain", "recomputed"):
        task = RandomRows(model, 1)
        task.module.train()
        storages: dict[int, int] = {}
        blocks = blocks_of(task.module)
        if name == "recomputed":
            recompute(task.module)
        for block in blocks:
            block.register_forward_pre_hook(partial(_keep_inputs, storages))
        with torch.autograd.graph.saved_tensors_hooks(partial(_keep, storages), _same):
            loss, _ = task.loss(model.batch(0), Progress(0, 0.5))
        row[name] = sum(storages.values())
        del loss
    return {**row, "ratio": row["plain"] / row["recomputed"]}


def _keep(storages: dict[int, int], x: Tensor) -> Tensor:
    if not isinstance(x, nn.Parameter):
        storages[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
    return x


def _keep_inputs(storages: dict[int, int], block: nn.Module, inputs: tuple[object, ...]) -> None:
    """Count the rows that a block is called with: activations are computed again from them."""
    for x in inputs:
        if isinstance(x, Tensor):
            _keep(storages, x)


def _same(x: Tensor) -> Tensor:
    return x


def main() -> None:
    """Time all models and write the table as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    models = {
        "text tiny": text_model("tiny"),
        "text small": text_model("small"),
        "image conv": image_model("conv"),
        "image neighbours": image_model("neighbours"),
        "sentence tiny": sentence_model("tiny"),
    }
    parser.add_argument("--rounds", type=int, default=15, help="timed steps of each contestant")
    parser.add_argument("--models", nargs="+", choices=models, default=list(models))
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = {name: timed(models[name], arguments.rounds) for name in arguments.models}
    saved = {
        "text small": saved_bytes(text_model("small")),
        "text base, 8 texts": saved_bytes(text_model("base", rows=8)),
        "sentence tiny": saved_bytes(sentence_model("tiny")),
    }
    report("compiled_steps", {"steps": result, "saved_bytes": saved}, arguments.out)


if __name__ == "__main__":
    main()
