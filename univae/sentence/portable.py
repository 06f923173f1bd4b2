r"""A sentence encoder of univae as one file, for sentence-transformers.

``univae export RUN DIR --format sentence-transformers`` copies this file into DIR. It needs torch,
safetensors, tokenizers and sentence-transformers, and not univae, whose vectors it computes with
plain arithmetic: rotary positions by sines and cosines, attention by an explicit softmax.

Rows of a text are [START, tokens, END], at positions 0, 1, 2, ..., and padding behind them. Shapes
are (batch, rows, width), and (batch, heads, rows, D) within a head.

References:
    RoFormer (Su et al., 2021), https://arxiv.org/abs/2104.09864
    SimBERTv2: RoFormer-Sim (Su, 2021), https://kexue.fm/archives/8454
"""

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import tokenizers
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

if TYPE_CHECKING:
    InputModule = nn.Module
else:
    try:
        from sentence_transformers.base.modules import InputModule
    except ImportError:  # versions below 6
        from sentence_transformers.models import InputModule

__all__ = ["Encoder", "TextTokenizer", "UnivaeEncoder"]

CONFIG = "config.json"
VOCABULARY = "univae_tokenizer.json"
WEIGHTS = "model.safetensors"

PAD, START, END = 0, 1, 2
RESERVED = 3  # the first id of a token
BYTE_VALUES = 256
UNKNOWN_PIECE = "[UNK]"
BASE = 10_000.0  # of rotary positions

Config = Mapping[str, Any]

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}

# Factors on the scores of a row that sees n keys, as functions of ln(n) / ln(base).
SCALES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "sqrt": torch.ones_like,
    "log_n": lambda log_n: log_n,
    "log_n_clip": lambda log_n: log_n.clamp_min(1),
}


class TextTokenizer:
    """Maps texts to token ids: BPE, words, characters, bytes, WordPiece or Jieba's words.

    Runs of white space count as one space; a text of BPE starts with a space.
    """

    def __init__(self, state: Config, *, lowercase: bool) -> None:
        self.state = dict(state)
        self.lowercase = lowercase
        kinds = {
            "bpe": self._bpe,
            "words": self._words,
            "chars": self._characters,
            "bytes": self._characters,
            "wordpiece": self._pieces,
            "jieba": self._jieba,
        }
        self._encode: Callable[[str], list[int]] = kinds[state["kind"]](state)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text's tokens, without START and END."""
        text = " ".join(text.split())
        if self.lowercase:
            text = text.lower()
        return self._encode(text)

    @staticmethod
    def _bpe(state: Config) -> Callable[[str], list[int]]:
        vocabulary = {token: i for i, token in enumerate(state["tokens"])}
        merges = [(left, right) for left, right in state["merges"]]
        bpe = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=merges))
        bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)

        def encode(text: str) -> list[int]:
            ids = bpe.encode(f" {text}").ids if text else []
            return [RESERVED + i for i in ids]

        return encode

    @staticmethod
    def _pieces(state: Config) -> Callable[[str], list[int]]:
        pieces = tokenizers.Tokenizer(_word_pieces(state))
        pieces.normalizer = _normalizer(state, handle_chinese_chars=True)
        pieces.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
        pieces.add_special_tokens([UNKNOWN_PIECE])
        return lambda text: [RESERVED + i for i in pieces.encode(text).ids]

    @staticmethod
    def _jieba(state: Config) -> Callable[[str], list[int]]:
        """Cut a text into words; those outside the vocabulary are split into pieces."""
        import rjieba

        vocabulary = {token: RESERVED + i for i, token in enumerate(state["tokens"])}
        pieces = _word_pieces(state)
        normalizer = _normalizer(state, handle_chinese_chars=False)
        spaces = tokenizers.normalizers.BertNormalizer(
            clean_text=False, handle_chinese_chars=True, strip_accents=False, lowercase=False
        )

        def encode(text: str) -> list[int]:
            ids: list[int] = []
            for i, part in enumerate(text.split(UNKNOWN_PIECE)):
                ids += [vocabulary[UNKNOWN_PIECE]] if i else []
                for word in rjieba.cut(normalizer.normalize_str(part), hmm=False):
                    if word in vocabulary:
                        ids.append(vocabulary[word])
                        continue
                    for character in spaces.normalize_str(word).split():
                        ids += [RESERVED + piece.id for piece in pieces.tokenize(character)]
            return ids

        return encode

    @staticmethod
    def _words(state: Config) -> Callable[[str], list[int]]:
        ids = {word: RESERVED + i for i, word in enumerate(state["words"])}
        unknown = ids["<unk>"]
        return lambda text: [ids.get(word, unknown) for word in text.split()]

    @staticmethod
    def _characters(state: Config) -> Callable[[str], list[int]]:
        first = RESERVED + BYTE_VALUES
        table = {character: [first + i] for i, character in enumerate(state["characters"])}

        def encode(text: str) -> list[int]:
            ids: list[int] = []
            for character in text:
                utf8 = [RESERVED + byte for byte in character.encode("utf-8")]
                ids += table.get(character, utf8)
            return ids

        return encode


def _word_pieces(state: Config) -> tokenizers.models.WordPiece:
    vocabulary = {token: i for i, token in enumerate(state["tokens"])}
    return tokenizers.models.WordPiece(vocabulary, unk_token=UNKNOWN_PIECE)


def _normalizer(state: Config, *, handle_chinese_chars: bool) -> tokenizers.normalizers.Normalizer:
    return tokenizers.normalizers.BertNormalizer(
        handle_chinese_chars=handle_chinese_chars,
        strip_accents=state["strip_accents"],
        lowercase=state["lowercase"],
    )


class Embedding(nn.Module):
    """The embedding of tokens, plus that of segment 0, normalised.

    Its width may differ from that of the layers; a linear layer then follows.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config["width"]
        table_width = config.get("embedding_width", 0) or width
        self.tokens = nn.Embedding(config["vocab_size"] + 1, table_width)  # and the mask
        self.segments = nn.Embedding(2, table_width)
        self.norm = _layer_norm(table_width, config)
        self.dropout = nn.Dropout(config["dropout"])
        self.project = nn.Linear(table_width, width) if table_width != width else nn.Identity()

    def forward(self, ids: Tensor) -> Tensor:
        """Return the rows (batch, rows, width) of ids (batch, rows)."""
        rows = self.dropout(self.norm(self.tokens(ids) + self.segments.weight[0]))
        projected: Tensor = self.project(rows)
        return projected


class Attention(nn.Module):
    r"""Multi-head attention, :math:`\mathrm{softmax}_j(\lambda q_i k_j / \sqrt D) v_j`."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config["width"]
        self.heads = config["heads"]
        self.project = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)
        self.dropout = nn.Dropout(config["attention_dropout"])

    def forward(self, x: Tensor, angles: Tensor, mask: Tensor, scale: Tensor) -> Tensor:
        """Return the attended rows.

        Args:
            x: the rows.
            angles: of the positions, (rows, D / 2).
            mask: true at real rows, (batch, 1, 1, rows).
            scale: the factor on a text's scores, (batch, 1, 1, 1).
        """
        q, k, v = self.project(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q = rotate(q, angles)
        k = rotate(k, angles)

        scores = q @ k.mT * scale.to(q.dtype) / math.sqrt(q.shape[-1])
        scores = scores.masked_fill(~mask, -math.inf)
        attended = self.dropout(scores.softmax(-1)) @ v
        merged: Tensor = self.merge(attended.transpose(1, 2).flatten(2))
        return merged


class Block(nn.Module):
    """Attention and a two-layer network, each a residual branch."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config["width"]
        inner_width = config.get("inner_width", 0) or 4 * width
        self.pre = config["norm"] == "pre"
        self.attention = Attention(config)
        self.first = _layer_norm(width, config)
        self.second = _layer_norm(width, config)
        self.wide = nn.Linear(width, inner_width)
        self.narrow = nn.Linear(inner_width, width)
        self.activation = ACTIVATIONS[config.get("activation", "gelu")]
        self.dropout = nn.Dropout(config["dropout"])

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        """Return the rows; ``context`` are the other arguments of the attention."""
        output: Tensor
        if self.pre:
            x = x + self.dropout(self.attention(self.first(x), *context))
            output = x + self.dropout(self.network(self.second(x)))
        else:
            x = self.first(x + self.dropout(self.attention(x, *context)))
            output = self.second(x + self.dropout(self.network(x)))
        return output

    def network(self, x: Tensor) -> Tensor:
        """Return the two-layer network of each row."""
        output: Tensor = self.narrow(self.activation(self.wide(x)))
        return output


class Encoder(nn.Module):
    """A RoFormer-Sim as an encoder. Its weights have the names that they have in univae."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = dict(config)
        self.embedding = Embedding(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config["layers"]))
        pre = config["norm"] == "pre"
        self.norm = _layer_norm(config["width"], config) if pre else nn.Identity()
        self.pooler = nn.Linear(config["width"], config["width"])

    def forward(self, ids: Tensor, real: Tensor) -> Tensor:
        """Return the vectors (batch, width), of length 1.

        Args:
            ids: of START, tokens, END and padding, (batch, rows).
            real: a mask of the rows that are not padding, (batch, rows).
        """
        count = real.sum(1)
        log_n = count.to(torch.promote_types(torch.get_default_dtype(), torch.float32)).log()
        log_n = log_n / math.log(self.config["scale_base"])
        scale = SCALES[self.config["scale"]](log_n)[:, None, None, None]
        head_width = self.config["width"] // self.config["heads"]
        angles = rotary_angles(ids.shape[1], head_width, self.config.get("rotary_base", BASE))

        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x, angles.to(x.device), real[:, None, None, :], scale)
        return F.normalize(self.pooler(self._pool(self.norm(x), real)), dim=-1)

    def _pool(self, rows: Tensor, real: Tensor) -> Tensor:
        """Return the row of START, or the mean of the real rows."""
        if self.config["pooling"] == "first":
            return rows[:, 0]
        weights = (real / real.sum(1, keepdim=True)).to(rows)
        return (weights[:, :, None] * rows).sum(1)


class UnivaeEncoder(InputModule):
    """An :class:`Encoder` and its tokenizer, as the one module of a SentenceTransformer."""

    config_file_name = CONFIG
    save_in_root = True
    load_file_path: ClassVar[Callable[..., str | None]]  # of the base class

    def __init__(self, config: Config, vocabulary: Config) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        self.tokenizer = TextTokenizer(vocabulary, lowercase=config["lowercase"])
        self.processor = self.tokenizer
        # START and END included; longer texts are read by their beginning
        self.max_seq_length = config["max_length"] + 1

    def preprocess(
        self, inputs: Sequence[str], prompt: str | None = None, **_: object
    ) -> dict[str, Tensor]:
        """Return the padded ids of texts and the mask of those that are not padding."""
        texts = [(prompt or "") + text for text in inputs]
        kept = self.max_seq_length - 2
        rows = [[START, *self.tokenizer.encode(text)[:kept], END] for text in texts]
        longest = max(map(len, rows), default=0)
        ids = torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])
        return {"input_ids": ids, "attention_mask": (ids != PAD).long()}

    def tokenize(self, texts: Sequence[str], **_: object) -> dict[str, Tensor]:
        """Return :meth:`preprocess` of texts; its name before version 6."""
        return self.preprocess(texts)

    def forward(self, features: dict[str, Any], **_: object) -> dict[str, Any]:
        """Add ``sentence_embedding`` (batch, width) to the features of :meth:`preprocess`."""
        ids = features["input_ids"]
        features["sentence_embedding"] = self.encoder(ids, features["attention_mask"].bool())
        return features

    def get_embedding_dimension(self) -> int:
        """Return the width of the vectors."""
        width: int = self.encoder.config["width"]
        return width

    def get_sentence_embedding_dimension(self) -> int:
        """Return the width of the vectors; the method's name before version 6."""
        return self.get_embedding_dimension()

    def get_config_dict(self) -> dict[str, Any]:
        """Return the configuration, with the present ``max_seq_length``."""
        return {**self.encoder.config, "max_length": self.max_seq_length - 1}

    @classmethod
    def load(
        cls, model_name_or_path: str, subfolder: str = "", **options: object
    ) -> "UnivaeEncoder":
        """Return the encoder of a folder, or of a repository of the hub."""
        names = ("token", "cache_folder", "revision", "local_files_only")
        hub = {name: options[name] for name in names if name in options}

        def path(name: str) -> Path:
            file = cls.load_file_path(model_name_or_path, name, subfolder=subfolder, **hub)
            return Path(str(file))

        config = json.loads(path(CONFIG).read_text(encoding="utf-8"))
        vocabulary = json.loads(path(VOCABULARY).read_text(encoding="utf-8"))
        module = cls(config, vocabulary)
        module.encoder.load_state_dict(load_file(path(WEIGHTS)))
        return module

    def save(self, output_path: str, *_: object, **__: object) -> None:
        """Write configuration, vocabulary, weights (safetensors) and this file to a folder."""
        folder = Path(output_path)
        module_file = Path(__file__)
        if module_file.parent != folder.resolve():
            shutil.copyfile(module_file, folder / module_file.name)
        vocabulary = json.dumps(self.tokenizer.state, ensure_ascii=False)
        (folder / CONFIG).write_text(json.dumps(self.get_config_dict(), indent=2), encoding="utf-8")
        (folder / VOCABULARY).write_text(vocabulary, encoding="utf-8")
        weights = self.encoder.state_dict()
        tensors = {name: weight.contiguous() for name, weight in weights.items()}
        save_file(tensors, folder / WEIGHTS, {"format": "pt"})


def rotary_angles(rows: int, head_width: int, base: float) -> Tensor:
    r"""Return the angles :math:`p \, \text{base}^{-2j / D}` in float64, (rows, D / 2)."""
    exponents = -torch.arange(0, head_width, 2, dtype=torch.float64) / head_width
    return torch.arange(rows, dtype=torch.float64)[:, None] * base**exponents


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Return x (..., rows, D), its features (2i, 2i + 1) rotated by the angles (rows, D / 2)."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    cos = angles.cos().to(dtype)
    sin = angles.sin().to(dtype)
    even, odd = x.to(dtype).unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1)
    return turned.flatten(-2).to(x.dtype)


def _layer_norm(width: int, config: Config) -> nn.LayerNorm:
    return nn.LayerNorm(width, eps=config.get("norm_eps", 1e-5))
