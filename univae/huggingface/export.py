"""Write a RoFormer-Sim as a checkpoint folder of transformers.

The folder has the layout of the published RoFormer-Sim models: ``RoFormerForMaskedLM`` and its
relatives load encoder and output layer. transformers has no pooler in a RoFormer; its weights are
in the file too, and :class:`univae.huggingface.Checkpoint` reads them back.
"""

from pathlib import Path

from torch import Tensor

from univae.attention.rotary import BASE
from univae.attention.variant import Variant
from univae.checkpoint import JsonObject, save_weights, write_json
from univae.errors import InputError
from univae.huggingface.architectures import ACTIVATION_NAMES, ARCHITECTURES
from univae.huggingface.checkpoint import SAFE
from univae.huggingface.vocabulary_files import write_vocabulary
from univae.sentence.model import RoFormerSim, RoFormerSimConfig
from univae.text.tokenizer import Tokenizer
from univae.text.wordpiece import WordPiece

__all__ = ["require_roformer", "write_roformer"]

ROFORMER = ARCHITECTURES["roformer"]
POSITIONS = 512  # least number of positions, which are computed
OUTPUT = "cls."  # prefix of the output layer, which lies beside the encoder


def require_roformer(
    config: RoFormerSimConfig, tokenizer: Tokenizer, *, lowercase: bool = False
) -> None:
    """Raise :class:`InputError` where a RoFormer cannot express a model and its tokenizer.

    Args:
        config: the model's configuration.
        tokenizer: its tokenizer.
        lowercase: whether texts are converted to lower case before they are tokenised.
    """
    for name, value in {"norm": "post", "scale": "sqrt", "rotary_base": BASE}.items():
        if getattr(config, name) != value:
            raise InputError(
                f"a RoFormer has {name}={value}; the model has {name}={getattr(config, name)}; "
                "use --format sentence-transformers"
            )
    if not isinstance(tokenizer, WordPiece) or (lowercase and not tokenizer.lowercase):
        raise InputError(
            f"a RoFormer has a wordpiece or jieba tokenizer; the model has {tokenizer.kind}"
            f"{' of texts in lower case' if lowercase else ''}; use --format sentence-transformers"
        )


def write_roformer(
    model: RoFormerSim, tokenizer: Tokenizer, folder: Path, *, lowercase: bool = False
) -> None:
    """Write configuration, weights and vocabulary.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        folder: created if it is missing.
        lowercase: whether texts are converted to lower case before they are tokenised.

    Raises:
        InputError: a RoFormer cannot express the model, or its tokenizer has no published form.
    """
    require_roformer(model.config, tokenizer, lowercase=lowercase)
    assert isinstance(tokenizer, WordPiece)
    config = roformer_config(model.config)
    write_vocabulary(tokenizer, folder)
    write_json(folder / "config.json", config)
    parameters = dict(model.named_parameters())
    tensors: dict[str, Tensor] = {}
    for name, parts in ROFORMER.names(model.config.layers):
        if name not in parameters:  # a projection of a table that is as wide as the layers
            continue
        for part, tensor in zip(parts, parameters[name].detach().chunk(len(parts)), strict=True):
            published = part if part.startswith(OUTPUT) else f"{ROFORMER.prefix}.{part}"
            tensors[published] = tensor.contiguous().cpu()
    save_weights(tensors, folder / SAFE)


def roformer_config(config: RoFormerSimConfig) -> JsonObject:
    """Return the configuration of transformers."""
    variant = Variant.of(config)
    activations = {here: there for there, here in reversed(ACTIVATION_NAMES.items())}
    return {
        "model_type": "roformer",
        "architectures": ["RoFormerForMaskedLM"],
        "vocab_size": config.vocab_size + 1,
        "embedding_size": variant.table_width(config.width),
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": variant.inner(config.width),
        "hidden_act": activations[config.activation],
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.attention_dropout,
        "max_position_embeddings": max(POSITIONS, 2 * config.max_length + 1),
        "type_vocab_size": 2,
        "layer_norm_eps": config.norm_eps,
        "pad_token_id": 0,
        "rotary_value": False,
        "pooler_activation": "linear",
    }
