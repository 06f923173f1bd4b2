"""The parts of a trained model that an ONNX file can hold, as functions of tensors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from density.trained import TrainedDensity
from experiments.evaluation.latent_model import codes
from gan.trained import TrainedGan
from univae.checkpoint import JsonObject
from univae.sentence.trained import TrainedSimilar
from univae.text.special import END, PAD, RESERVED
from univae.trained import Trained
from univae.vae.trained import TrainedText

__all__ = ["GRAPHS", "Graph", "Part"]

TOKENS = "int64 token ids of texts: tokens, one end token (2), padding (0)"
Sizes = Mapping[str, int]  # of the axes that differ from batch to batch


class Part(nn.Module):
    """A function of a model and tensors as a module, of which a graph can be made."""

    def __init__(self, model: nn.Module, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.model = model
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the function's result."""
        return self.function(self.model, *inputs)


@dataclass(frozen=True)
class Graph:
    """A part of a model that becomes one ONNX file.

    Args:
        name: of the file, without its suffix.
        part: the part.
        inputs: the meaning of each input by its name, in the order of the arguments.
        axes: of each input, the names of its first axes, whose sizes are free.
        output: the name of the output.
        meaning: that of the output, with its axes and unit.
        example: draws the inputs, from the sizes of the free axes.
        longest: the largest size of the axis ``tokens``; 0: no bound.
    """

    name: str
    part: Part
    inputs: Mapping[str, str]
    axes: Mapping[str, tuple[str, ...]]
    output: str
    meaning: str
    example: Callable[[Sizes], tuple[Tensor, ...]]
    longest: int = 0

    def to_json(self) -> JsonObject:
        """Return the names and meanings of inputs and output."""
        inputs: dict[str, Any] = {}
        for name, meaning in self.inputs.items():
            inputs[name] = {"axes": list(self.axes[name]), "meaning": meaning}
        return {"inputs": inputs, "outputs": {self.output: {"meaning": self.meaning}}}


def _sentence_graphs(run: TrainedSimilar) -> tuple[list[Graph], JsonObject]:
    config = run.model.config
    encoder = Graph(
        name="encoder",
        part=Part(run.model, lambda model, ids: model.encode(ids)),
        inputs={"ids": f"{TOKENS}; at most {config.max_length} columns"},
        axes={"ids": ("batch", "tokens")},
        output="vectors",
        meaning=f"vectors (batch, {config.width}) of length 1; an inner product is a cosine",
        example=lambda sizes: (_token_ids(sizes, run.tokenizer.vocab_size),),
        longest=config.max_length,
    )
    return [encoder], {"max_length": config.max_length, "lowercase": run.text.lowercase}


def _text_graphs(run: TrainedText) -> tuple[list[Graph], JsonObject]:
    return [_text_encoder(run), _text_decoder(run)], {"max_length": run.model.config.max_length}


def _text_encoder(run: TrainedText) -> Graph:
    config = run.model.config
    return Graph(
        name="encoder",
        part=Part(run.model, lambda model, ids: model.posterior(ids).modes()),
        inputs={"ids": TOKENS},
        axes={"ids": ("batch", "tokens")},
        output="z",
        meaning=f"{_latents(run)}: each layer's posterior mode given those of the layers before it",
        example=lambda sizes: (_token_ids(sizes, config.vocab_size),),
    )


def _text_decoder(run: TrainedText) -> Graph:
    config = run.model.config

    def example(sizes: Sizes) -> tuple[Tensor, ...]:
        z = torch.randn(sizes["batch"], config.latent_layers, config.latent_width)
        return z, _token_ids(sizes, config.vocab_size)

    return Graph(
        name="decoder",
        part=Part(run.model, lambda model, z, ids: model.likelihood(z).logits(ids)),
        inputs={"z": _latents(run), "ids": TOKENS},
        axes={"z": ("batch",), "ids": ("batch", "tokens")},
        output="logits",
        meaning=(
            f"logits (batch, tokens, {config.vocab_size}) of the token at each position, given z "
            "and the tokens before it"
        ),
        example=example,
    )


def _density_graphs(run: TrainedDensity) -> tuple[list[Graph], JsonObject]:
    centre = run.units.centre
    facts: JsonObject = {"centre": None if centre is None else centre.tolist()}
    if _has_mean(run):
        return [_row_encoder(run), _row_decoder(run)], facts
    run.notes.append(
        f"{run.path}: its pixels depend on each other, so that their mean given a latent is not "
        "known; decoder.onnx is left out"
    )
    return [_row_encoder(run)], facts


def _row_encoder(run: TrainedDensity) -> Graph:
    return Graph(
        name="encoder",
        part=Part(run.model, codes),
        inputs={"x": f"{_rows(run)}: {_unit(run)}"},
        axes={"x": ("batch",)},
        output="z",
        meaning=f"{_latents(run)}: the posterior's mode",
        example=lambda sizes: (run.draw(sizes["batch"]),),
    )


def _row_decoder(run: TrainedDensity) -> Graph:
    prior = run.model.prior()
    return Graph(
        name="decoder",
        part=Part(run.model, lambda model, z: model.likelihood(z).mean),
        inputs={"z": _latents(run)},
        axes={"z": ("batch",)},
        output="mean",
        meaning=f"{_rows(run)}: means given z, {_unit(run)}; the most probable categories",
        example=lambda sizes: (prior.sample(torch.Size((sizes["batch"],))),),
    )


def _gan_graphs(run: TrainedGan) -> tuple[list[Graph], JsonObject]:
    generator = run.players.generator
    inputs = {"z": f"standard normal latents (batch, {generator.latent})"}
    if generator.classes:
        inputs["labels"] = f"int64 classes 0..{generator.classes - 1}, (batch,)"

    def example(sizes: Sizes) -> tuple[Tensor, ...]:
        z = torch.randn(sizes["batch"], generator.latent)
        labels = torch.arange(sizes["batch"]) % max(generator.classes, 1)
        return (z, labels) if generator.classes else (z,)

    graph = Graph(
        name="generator",
        part=Part(generator, lambda model, *arguments: model(*arguments)),
        inputs=inputs,
        axes=dict.fromkeys(inputs, ("batch",)),
        output="x",
        meaning=(
            f"rows (batch, {_shape(generator.shape)}) in the units of the network: images of "
            "`levels` grey levels in [-1, 1]; columns standardised, x * `spread` + `centre` in the "
            "units of the data"
        ),
        example=example,
    )
    return [graph], _gan_units(run)


def _gan_units(run: TrainedGan) -> JsonObject:
    """Return what converts generated rows to the units of the data, None where not known."""
    units = run.units
    if units is None:
        return {"levels": None, "centre": None, "spread": None}
    return {
        "levels": units.levels,
        "centre": None if units.centre is None else units.centre.tolist(),
        "spread": None if units.spread is None else units.spread.tolist(),
    }


# The graphs of a run of each kind, and the facts that their use needs.
GRAPHS: Mapping[type[Trained], Callable[[Any], tuple[list[Graph], JsonObject]]] = {
    TrainedSimilar: _sentence_graphs,
    TrainedText: _text_graphs,
    TrainedDensity: _density_graphs,
    TrainedGan: _gan_graphs,
}


def _token_ids(sizes: Sizes, vocab_size: int) -> Tensor:
    """Return random ids (batch, tokens) of texts, the last of which is the shortest."""
    ids = torch.randint(RESERVED, vocab_size, (sizes["batch"], sizes["tokens"]))
    ids[:, -1] = END
    if sizes["tokens"] > 1:
        ids[-1, -2] = END
        ids[-1, -1] = PAD
    return ids


def _has_mean(run: TrainedDensity) -> bool:
    """Return whether the mean of a row given its latent is known."""
    likelihood = run.model.likelihood(run.model.prior().sample(torch.Size((1,))))
    try:
        _ = likelihood.mean
    except NotImplementedError:
        return False
    return True


def _latents(run: TrainedText | TrainedDensity) -> str:
    return f"latents (batch, {_shape(run.model.prior().event_shape)})"


def _rows(run: TrainedDensity) -> str:
    return f"rows (batch, {_shape(run.model.output.pixels.shape)})"


def _unit(run: TrainedDensity) -> str:
    if run.columns is not None:
        return "numbers of the columns, categories by their codes"
    return "level numbers" if run.units.centre is None else "the data less `centre`"


def _shape(sides: Sequence[int]) -> str:
    return ", ".join(map(str, sides))
