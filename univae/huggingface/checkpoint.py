"""A published checkpoint: a folder of transformers, as a RoFormer-Sim or a UniVAE.

>>> from univae.huggingface import Checkpoint
>>> checkpoint = Checkpoint.open("roformer")  # doctest: +SKIP
>>> model = checkpoint.sentence_model(max_length=64)  # doctest: +SKIP
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from univae.checkpoint import JsonObject, load_state, read_json, read_weights
from univae.dtypes import at_least_float32
from univae.errors import InputError
from univae.hub import hub_folder, is_hub_name
from univae.huggingface.architectures import (
    ARCHITECTURES,
    OUTPUT_BIAS,
    TABLE,
    Architecture,
)
from univae.huggingface.vocabulary_files import Vocabulary, read_vocabulary
from univae.registry import lookup
from univae.rules import reading
from univae.sentence.model import RoFormerSim, RoFormerSimConfig
from univae.text.tokenizer import Tokenizer
from univae.vae.model import UniVAE, UniVAEConfig

__all__ = ["Checkpoint"]

SAFE, PICKLED = "model.safetensors", "pytorch_model.bin"
INDEX = ".index.json"  # after the name of a file: the files that its weights are divided into
POOLER = "pooler"
FILES = ("*.json", "*.txt", "*.safetensors", "*.bin")  # of a checkpoint on the hub
OTHER = "the checkpoint is damaged, or not one of transformers"
# Parts of a model that a checkpoint may lack, and that are then new.
MAY_BE_NEW = ("pooler", "classifier", "head", "infer", "inject", "expect", "norm")
SEGMENTS = "embedding.segments.weight"


class Checkpoint:
    """A checkpoint folder of a RoFormer, a BERT or a GPT-2; open one with :meth:`open`.

    ``notes`` say, a line each, what of the checkpoint has no equivalent here, and which weights of
    a model that was made from it are new.
    """

    def __init__(self, folder: Path, config: JsonObject, architecture: Architecture) -> None:
        self.folder = folder
        self.config = config
        self.architecture = architecture
        self.notes: list[str] = []

    @classmethod
    def open(cls, folder: str | Path) -> "Checkpoint":
        """Open a folder that ``save_pretrained`` of transformers wrote, or one on the hub.

        ``org/name`` or ``org/name@revision`` is fetched, where no folder has that name.

        Raises:
            InputError: the folder is missing, or of an architecture that has no equivalent; the hub
                has no such repository, or cannot be reached.
        """
        if is_hub_name(Path(folder)):
            folder = hub_folder(str(folder), FILES)
        folder = Path(folder)
        if not folder.is_dir():
            raise InputError(
                f"{folder}: no such folder; give one with a config.json of transformers"
            )
        config = read_json(folder / "config.json")
        kind = config.get("model_type") if isinstance(config, dict) else None
        if not isinstance(kind, str):
            raise InputError(f"{folder / 'config.json'}: has no model_type; it is no checkpoint")
        return cls(folder, config, lookup(ARCHITECTURES, kind, f"{folder}: model_type"))

    @cached_property
    def options(self) -> JsonObject:
        """The options of the model that the checkpoint fixes.

        Raises:
            InputError: the configuration has a value without an equivalent, or lacks one.
        """
        with reading(self.folder / "config.json", OTHER):
            try:
                return self.architecture.options(self.config)
            except KeyError as error:
                raise InputError(f"lacks {error.args[0]}") from error

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The tokenizer, and the published ids of its tokens.

        Raises:
            InputError: the files are missing, damaged, or of a tokenizer without an equivalent.
        """
        with reading(self.folder, OTHER):
            return read_vocabulary(self.folder, self.config["model_type"])

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer."""
        return self.vocabulary.tokenizer

    def sentence_model(self, **options: object) -> RoFormerSim:
        """Return the checkpoint as a RoFormer-Sim.

        Args:
            options: ``pooling``, ``max_length``, ``dropout``, ``attention_dropout``.

        Raises:
            InputError: a file is missing or damaged, or a value has no equivalent here.
        """
        config = RoFormerSimConfig(
            self.tokenizer.vocab_size, **{"pooling": "first", **options, **self.options}
        )
        model = RoFormerSim(config).eval()
        self.notes += self.load(model)
        return model

    def text_vae(self, **options: object) -> UniVAE:
        """Return a UniVAE with the checkpoint's layers, embeddings and head.

        Its latent heads and injections are new, drawn from N(0, 0.02^2).

        Args:
            options: those of :class:`UniVAEConfig`, but for the shape of the layers.

        Raises:
            InputError: a file is missing or damaged, or a value has no equivalent here.
        """
        config = UniVAEConfig(self.tokenizer.vocab_size, **{**options, **self.options})
        model = UniVAE(config).eval()
        self.notes += self.load(model)
        return model

    @torch.no_grad()
    def load(self, model: RoFormerSim | UniVAE) -> list[str]:
        """Copy the weights into a model of the checkpoint's shape and tokenizer.

        Weights that the checkpoint lacks keep their values, but for the pooler of a sentence model,
        which becomes the identity, so that vectors are the pooled rows.

        Returns:
            what of the checkpoint was left out, and which weights of the model are new, a line
            each.

        Raises:
            InputError: a file is missing or damaged, or a tensor has another shape.
        """
        if isinstance(model, RoFormerSim) and not self.architecture.has_embedding_norm:
            raise InputError(
                f"{self.folder}: a {self.config['model_type']} has no norm of its embeddings, "
                "which a sentence model needs; train-text starts from it"
            )
        tensors = self._tensors()
        with reading(self.folder, OTHER):
            weights = self.architecture.weights(self.config, tensors)
        state = dict(model.named_parameters())
        missing = [name for name in state if name not in weights]
        self._require_layers(missing)
        for name, parameter in state.items():
            if name in weights:
                self._copy(name, weights[name], parameter)
        if isinstance(model, RoFormerSim) and f"{POOLER}.weight" in missing:
            nn.init.eye_(model.pooler.weight)
            nn.init.zeros_(model.pooler.bias)
        return self._notes(tensors, missing)

    def weights_files(self) -> list[Path]:
        """Return the files of the weights.

        Raises:
            InputError: there are none.
        """
        for name in (SAFE, PICKLED):
            if (self.folder / name).exists():
                return [self.folder / name]
            index = self.folder / (name + INDEX)
            if index.exists():
                with reading(index, OTHER):
                    names = dict.fromkeys(read_json(index)["weight_map"].values())
                    return [self.folder / name for name in names]
        raise InputError(f"{self.folder}: holds neither {SAFE} nor {PICKLED}; add the weights")

    def _require_layers(self, missing: list[str]) -> None:
        """Raise InputError where the checkpoint lacks weights of embeddings or layers."""
        for name in missing:
            if name.split(".")[0] not in MAY_BE_NEW and name != SEGMENTS:
                raise InputError(f"{self.folder}: the weights lack {name}; {OTHER}")

    def _copy(self, name: str, published: Tensor, parameter: Tensor) -> None:
        """Copy a published tensor; of one with a row a token, the rows of the tokenizer."""
        of_tokens = name in (TABLE, OUTPUT_BIAS)
        axes = slice(1, None) if of_tokens else slice(None)
        if published.shape[axes] != parameter.shape[axes]:
            raise InputError(
                f"{self.folder}: {name} must have the shape {tuple(parameter.shape)}; "
                f"got {tuple(published.shape)}; {OTHER}"
            )
        if of_tokens:
            self._copy_rows(published, parameter)
        else:
            parameter.copy_(published)

    def _copy_rows(self, published: Tensor, parameter: Tensor) -> None:
        """Copy the rows of the vocabulary; a row that hides tokens stays as it is if it is new."""
        rows = list(self.vocabulary.rows)
        if len(parameter) > len(rows) and self.vocabulary.mask is not None:
            rows.append(self.vocabulary.mask)
        if max(rows) >= len(published):
            raise InputError(
                f"{self.folder}: the tokenizer has {max(rows) + 1} ids, and the weights "
                f"{len(published)} rows; restore the tokenizer of these weights"
            )
        parameter[: len(rows)] = published[rows].to(parameter)

    def _notes(self, tensors: Mapping[str, Tensor], missing: list[str]) -> list[str]:
        left_out = self.architecture.notes(self.config, tensors)
        notes = [f"{self.folder}: left out {part}" for part in left_out]
        parts = list(dict.fromkeys(name.split(".")[0] for name in missing))
        if parts:
            notes.append(f"{self.folder}: new weights in {', '.join(parts)}")
        return notes

    def _tensors(self) -> dict[str, Tensor]:
        """Return all weights by their published names, in at least float32."""
        tensors: dict[str, Tensor] = {}
        for path in self.weights_files():
            stored = read_weights(path) if path.suffix == ".safetensors" else load_state(path)
            for name, tensor in stored.items():
                if not isinstance(tensor, Tensor):
                    raise InputError(f"{path}: {name!r:.60} is no tensor; {OTHER}")
                if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                    raise InputError(f"{path}: {name} has values that are not finite; {OTHER}")
                tensors[_modern(str(name))] = tensor
        return {
            name: at_least_float32(tensor)
            for name, tensor in tensors.items()
            if tensor.is_floating_point()
        }


def _modern(name: str) -> str:
    """Return the name of a weight, whose norms the first published files name after TensorFlow."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace(
        "LayerNorm.beta", "LayerNorm.bias"
    )
