r"""Published architectures: their configuration and their weights in the names of the models here.

RoFormer has an exact equivalent. BERT and GPT-2 have learned absolute positions in place of rotary
ones; these are left out, so that their weights are a start for training and no model as they are.

References:
    RoFormer (Su et al., 2021), https://arxiv.org/abs/2104.09864
    BERT (Devlin et al., 2018), https://arxiv.org/abs/1810.04805
    Language Models are Unsupervised Multitask Learners (Radford et al., 2019)
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from univae.attention.variant import PLAIN
from univae.checkpoint import JsonObject
from univae.errors import InputError

__all__ = ["ARCHITECTURES", "Architecture", "Tensors"]

Tensors = Mapping[str, Tensor]

# Published names of activations, by the name here.
ACTIVATION_NAMES = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}

WEIGHT_AND_BIAS = ("weight", "bias")
TABLE = "embedding.tokens.weight"
OUTPUT_BIAS = "head.bias"


class Architecture(ABC):
    """An architecture; a row of :data:`ARCHITECTURES`, under its ``model_type``."""

    prefix: ClassVar[str]  # of the names of its weights, which some files leave out
    layer: ClassVar[str]  # before the number of a layer in these names
    output: ClassVar[str]  # name of the output matrix, which is the table of tokens
    has_embedding_norm: ClassVar[bool] = True  # as a RoFormer-Sim has
    left_out: ClassVar[tuple[str, ...]] = ()  # what has no equivalent here

    @abstractmethod
    def options(self, config: JsonObject) -> JsonObject:
        """Return the options of the model.

        Raises:
            InputError: the configuration has a value without an equivalent.
        """

    @abstractmethod
    def names(self, layers: int) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield names here, each with the published names of the parts that are stacked."""

    def weights(self, config: JsonObject, tensors: Tensors) -> dict[str, Tensor]:
        """Return the published weights by their names here; those that the file lacks are missing.

        Rows of the table of tokens and of the output bias stand in the published order.

        Raises:
            InputError: there are more layers than in the configuration, or the output layer is not
                the table of tokens.
        """
        short = {name.removeprefix(self.prefix + "."): tensor for name, tensor in tensors.items()}
        layers = self.options(config)["layers"]
        further = f"{self.layer}.{layers}."
        if any(name.startswith(further) for name in short):
            raise InputError(f"config.json has {layers} layers, and the weights have more")
        weights = {}
        for name, parts in self.names(layers):
            if all(part in short for part in parts):
                stacked = torch.cat([short[part] for part in parts])
                weights[name] = self.converted(name, stacked)
        output = short.get(self.output)
        if output is not None and TABLE in weights and not torch.equal(output, weights[TABLE]):
            raise InputError(
                f"{self.output} must be the table of tokens, tied to it; got another matrix, for "
                "which there is no equivalent here"
            )
        return weights

    def converted(self, name: str, tensor: Tensor) -> Tensor:
        """Return a published tensor in the layout here."""
        return tensor

    def notes(self, config: JsonObject, tensors: Tensors) -> list[str]:
        """Return what of this checkpoint has no equivalent here."""
        return list(self.left_out)


class RoFormer(Architecture):
    """Post-norm layers with rotary positions; exact."""

    prefix = "roformer"
    layer = "encoder.layer"
    output = "cls.predictions.decoder.weight"

    def options(self, config: JsonObject) -> JsonObject:
        """Return the options of the model; see the base class."""
        if config.get("rotary_value"):
            raise _unequalled("rotary_value", "true", "values that rotate")
        if config.get("add_cross_attention"):
            raise _unequalled("add_cross_attention", "true", "cross-attention")
        width = config["hidden_size"]
        return {
            "width": width,
            "heads": config["num_attention_heads"],
            "layers": config["num_hidden_layers"],
            "norm": "post",
            "scale": "sqrt",
            "activation": _activation(config["hidden_act"]),
            "norm_eps": float(config["layer_norm_eps"]),
            "inner_width": _unless(config["intermediate_size"], PLAIN.inner(width)),
            "embedding_width": _unless(config.get("embedding_size") or width, width),
        }

    def names(self, layers: int) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield names here with published ones; see the base class."""
        yield TABLE, ("embeddings.word_embeddings.weight",)
        yield "embedding.segments.weight", ("embeddings.token_type_embeddings.weight",)
        yield OUTPUT_BIAS, ("cls.predictions.bias",)
        pairs = {
            "embedding.norm": "embeddings.LayerNorm",
            "embedding.project": "embeddings_project",
            "head.transform.0": "cls.predictions.transform.dense",
            "head.transform.2": "cls.predictions.transform.LayerNorm",
            "pooler": "pooler.dense",
        }
        for layer in range(layers):
            here = f"blocks.{layer}"
            there = f"encoder.layer.{layer}"
            pairs |= {
                f"{here}.attention.merge": f"{there}.attention.output.dense",
                f"{here}.first": f"{there}.attention.output.LayerNorm",
                f"{here}.wide": f"{there}.intermediate.dense",
                f"{here}.narrow": f"{there}.output.dense",
                f"{here}.second": f"{there}.output.LayerNorm",
            }
            for end in WEIGHT_AND_BIAS:
                projections = (
                    f"{there}.attention.self.{part}.{end}" for part in ("query", "key", "value")
                )
                yield f"{here}.attention.project.{end}", tuple(projections)
        yield from _weights_and_biases(pairs)

    def weights(self, config: JsonObject, tensors: Tensors) -> dict[str, Tensor]:
        """Return the published weights by their names here; see the base class."""
        weights = super().weights(config, tensors)
        if not self._is_linear(config):
            for end in WEIGHT_AND_BIAS:
                weights.pop(f"pooler.{end}", None)
        return weights

    def notes(self, config: JsonObject, tensors: Tensors) -> list[str]:
        """Return what of this checkpoint has no equivalent here."""
        has_pooler = any(name.endswith("pooler.dense.weight") for name in tensors)
        if has_pooler and not self._is_linear(config):
            return [*self.left_out, "its pooler, which is followed by tanh"]
        return list(self.left_out)

    @staticmethod
    def _is_linear(config: JsonObject) -> bool:
        """Return whether the pooler is a linear map, as in RoFormer-Sim."""
        return bool(config.get("pooler_activation", "tanh") == "linear")


class Bert(RoFormer):
    """Post-norm layers with learned absolute positions, in place of which rotary ones stand."""

    prefix = "bert"
    left_out = ("its absolute positions, in whose place stand rotary ones",)

    def options(self, config: JsonObject) -> JsonObject:
        """Return the options of the model; see the base class."""
        kind = config.get("position_embedding_type", "absolute")
        if kind != "absolute":
            raise _unequalled("position_embedding_type", kind, "relative positions")
        return super().options(config)


class GPT2(Architecture):
    """Pre-norm layers with learned absolute positions, in place of which rotary ones stand."""

    prefix = "transformer"
    layer = "h"
    output = "lm_head.weight"
    has_embedding_norm = False
    left_out = ("its absolute positions, in whose place stand rotary ones",)

    def options(self, config: JsonObject) -> JsonObject:
        """Return the options of the model; see the base class."""
        if config.get("scale_attn_by_inverse_layer_idx"):
            raise _unequalled("scale_attn_by_inverse_layer_idx", "true", "that scale")
        width = config["n_embd"]
        return {
            "width": width,
            "heads": config["n_head"],
            "layers": config["n_layer"],
            "norm": "pre",
            "scale": "sqrt",
            "activation": _activation(config["activation_function"]),
            "norm_eps": float(config["layer_norm_epsilon"]),
            "inner_width": _unless(config.get("n_inner") or PLAIN.inner(width), PLAIN.inner(width)),
            "embedding_width": 0,
        }

    def names(self, layers: int) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield names here with published ones; see the base class."""
        yield TABLE, ("wte.weight",)
        pairs = {"head.transform": "ln_f"}
        for layer in range(layers):
            pairs |= {
                f"blocks.{layer}.first": f"h.{layer}.ln_1",
                f"blocks.{layer}.attention.project": f"h.{layer}.attn.c_attn",
                f"blocks.{layer}.attention.merge": f"h.{layer}.attn.c_proj",
                f"blocks.{layer}.second": f"h.{layer}.ln_2",
                f"blocks.{layer}.wide": f"h.{layer}.mlp.c_fc",
                f"blocks.{layer}.narrow": f"h.{layer}.mlp.c_proj",
            }
        yield from _weights_and_biases(pairs)

    def weights(self, config: JsonObject, tensors: Tensors) -> dict[str, Tensor]:
        """Return the published weights by their names here; segments and output bias are 0."""
        weights = super().weights(config, tensors)
        table = weights.get(TABLE)
        if table is not None:
            weights["embedding.segments.weight"] = table.new_zeros(2, table.shape[1])
            weights[OUTPUT_BIAS] = table.new_zeros(len(table))
        return weights

    def converted(self, name: str, tensor: Tensor) -> Tensor:
        """Return a published tensor in the layout here: its matrices have inputs as rows."""
        is_matrix = name.endswith("weight") and tensor.dim() > 1 and name != TABLE
        return tensor.T.contiguous() if is_matrix else tensor


ARCHITECTURES: dict[str, Architecture] = {"roformer": RoFormer(), "bert": Bert(), "gpt2": GPT2()}


def _activation(name: object) -> str:
    if not isinstance(name, str) or name not in ACTIVATION_NAMES:
        raise InputError(f"activation must be one of {', '.join(ACTIVATION_NAMES)}; got {name!r}")
    return ACTIVATION_NAMES[name]


def _weights_and_biases(pairs: Mapping[str, str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the names of weight and bias of modules here, each with the published one."""
    for name, published in pairs.items():
        for end in WEIGHT_AND_BIAS:
            yield f"{name}.{end}", (f"{published}.{end}",)


def _unless(value: int, usual: int) -> int:
    """Return a width, 0 where it is the usual one."""
    return 0 if value == usual else value


def _unequalled(name: str, value: str, what: str) -> InputError:
    return InputError(f"{name}={value}; the models here do not have {what}")
