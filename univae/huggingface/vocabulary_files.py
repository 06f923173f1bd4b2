"""The vocabulary of a published model: files of BERT, RoFormer and GPT-2 tokenizers.

In a published vocabulary the special tokens have any ids. Here padding, start and end have the ids
0, 1 and 2, regular tokens follow in their published order, and the token that hides others, if
there is one, comes last. :attr:`Vocabulary.rows` are the published ids of all but this one in
this order, :attr:`Vocabulary.mask` is its published id.

A special token that is written in a text is one in transformers; here, but for ``[UNK]``, it is a
word like others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from univae.checkpoint import JsonObject, read_json, write_json, write_text_atomic
from univae.errors import InputError
from univae.text.bpe import BPE
from univae.text.tokenizer import Tokenizer
from univae.text.wordpiece import UNKNOWN_PIECE, Jieba, WordPiece

__all__ = ["Vocabulary", "read_vocabulary", "write_vocabulary"]

# The roles of special tokens in tokenizer_config.json, and their usual tokens.
ROLES = {
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "unk_token": UNKNOWN_PIECE,
    "mask_token": "[MASK]",
}
END_OF_TEXT = "<|endoftext|>"  # the only special token of GPT-2

WORDS, JSON, TABLE, MERGES = "vocab.txt", "tokenizer.json", "vocab.json", "merges.txt"
CONFIG = "tokenizer_config.json"

# Published tokenizer classes, by the kind of the tokenizer here.
CLASSES: dict[type[WordPiece], str] = {WordPiece: "BertTokenizer", Jieba: "RoFormerTokenizer"}


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer, and the published id of each of its ids."""

    tokenizer: Tokenizer
    rows: Sequence[int]
    mask: int | None  # published id of the token that hides others


def read_vocabulary(folder: Path, model_type: str) -> Vocabulary:
    """Read the tokenizer of a checkpoint folder.

    Raises:
        InputError: the folder has no vocabulary, or one of another kind than WordPiece, Jieba with
            WordPiece, and byte-level BPE.
    """
    settings = _settings(folder)
    if (folder / WORDS).exists():
        return _pieces(folder, _ids(folder / WORDS), settings, model_type)
    if (folder / JSON).exists():
        state = read_json(folder / JSON)
        kind = state["model"].get("type")
        if kind == "WordPiece":
            _require_bert(folder / JSON, state)
            settings |= _normalisation(state["normalizer"])
            return _pieces(folder, _with_added(state), settings, model_type)
        if kind == "BPE" and _is_byte_level(state.get("pre_tokenizer")):
            return _byte_level(folder, _with_added(state), state["model"]["merges"])
        raise InputError(
            f"{folder / JSON}: must be a WordPiece or a byte-level BPE vocabulary; got {kind}"
        )
    if (folder / TABLE).exists() and (folder / MERGES).exists():
        lines = _lines(folder / MERGES)
        merges = [line for line in lines if line and not line.startswith("#version")]
        return _byte_level(folder, read_json(folder / TABLE), merges)
    raise InputError(
        f"{folder}: holds none of {WORDS}, {JSON} and {TABLE}; add the files of its tokenizer"
    )


def write_vocabulary(tokenizer: WordPiece, folder: Path) -> None:
    """Write ``vocab.txt`` and ``tokenizer_config.json``, whose ids are those of the tokenizer."""
    special = ROLES["pad_token"], ROLES["cls_token"], ROLES["sep_token"]
    tokens = [*special, *tokenizer.tokens, ROLES["mask_token"]]
    folder.mkdir(parents=True, exist_ok=True)
    write_text_atomic(folder / WORDS, "".join(token + "\n" for token in tokens))
    config: JsonObject = {
        "tokenizer_class": CLASSES[type(tokenizer)],
        "do_lower_case": tokenizer.lowercase,
        "strip_accents": tokenizer.strip_accents,
        "tokenize_chinese_chars": True,
        **ROLES,
    }
    write_json(folder / CONFIG, config)


def _pieces(
    folder: Path, vocabulary: Mapping[str, int], settings: JsonObject, model_type: str
) -> Vocabulary:
    """Return a WordPiece or Jieba tokenizer."""
    if settings.get("tokenize_chinese_chars") is False:
        raise InputError(
            f"{folder / CONFIG}: tokenize_chinese_chars must be true; got false, for which there "
            "is no tokenizer here"
        )
    special = {role: _content(settings.get(role), ROLES[role]) for role in ROLES}
    missing = [special[role] for role in list(ROLES)[:4] if special[role] not in vocabulary]
    if missing:
        raise InputError(f"{folder}: the vocabulary lacks the special token {missing[0]}")
    published = {special[role]: vocabulary[special[role]] for role in list(ROLES)[:3]}
    if len(set(special.values())) < len(special):
        raise InputError(f"{folder}: special tokens must differ; got {', '.join(special.values())}")
    mask = vocabulary.get(special["mask_token"])
    left_out = {*published, special["mask_token"]}
    regular = {token: row for token, row in vocabulary.items() if token not in left_out}
    tokens = sorted(regular, key=regular.__getitem__)
    rows = [*published.values(), *(regular[token] for token in tokens)]
    names = [UNKNOWN_PIECE if token == special["unk_token"] else token for token in tokens]
    name = settings.get("tokenizer_class") or ("RoFormer" if model_type == "roformer" else "")
    kind = Jieba if "RoFormer" in name else WordPiece
    lowercase = settings.get("do_lower_case", True)
    stored = settings.get("strip_accents")
    strip_accents = lowercase if stored is None else stored
    tokenizer = kind(names, lowercase=lowercase, strip_accents=strip_accents)
    return Vocabulary(tokenizer, rows, mask)


def _byte_level(folder: Path, vocabulary: Mapping[str, int], merges: Sequence[Any]) -> Vocabulary:
    """Return a byte-level BPE tokenizer, whose one special token is padding, start and end."""
    if END_OF_TEXT not in vocabulary:
        raise InputError(f"{folder}: the vocabulary lacks the special token {END_OF_TEXT}")
    end = vocabulary[END_OF_TEXT]
    regular = {token: row for token, row in vocabulary.items() if token != END_OF_TEXT}
    tokens = sorted(regular, key=regular.__getitem__)
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
    return Vocabulary(BPE(tokens, pairs), [end] * 3 + [regular[token] for token in tokens], None)


def _settings(folder: Path) -> JsonObject:
    path = folder / CONFIG
    return dict(read_json(path)) if path.exists() else {}


def _lines(path: Path) -> list[str]:
    """Return the lines of a file, which end at line feeds alone: tokens hold other separators."""
    with path.open(encoding="utf-8") as file:
        return [line.rstrip("\n") for line in file]


def _ids(path: Path) -> dict[str, int]:
    words = _lines(path)
    repeated = len(words) - len(set(words))
    if repeated:
        raise InputError(f"{path}: tokens must be distinct; {repeated} repeat")
    return {word: i for i, word in enumerate(words)}


def _require_bert(path: Path, state: JsonObject) -> None:
    """Raise InputError unless words are found and split as those of BERT are."""
    normalizer = state.get("normalizer") or {}
    model = state["model"]
    found = {
        "normalizer": (normalizer.get("type"), "BertNormalizer"),
        "clean_text": (normalizer.get("clean_text"), True),
        "handle_chinese_chars": (normalizer.get("handle_chinese_chars"), True),
        "pre_tokenizer": ((state.get("pre_tokenizer") or {}).get("type"), "BertPreTokenizer"),
        "continuing_subword_prefix": (model.get("continuing_subword_prefix", "##"), "##"),
        "max_input_chars_per_word": (model.get("max_input_chars_per_word", 100), 100),
    }
    for name, (value, expected) in found.items():
        if value != expected:
            raise InputError(f"{path}: {name} must be {expected}; got {value}")
    words = [token["content"] for token in state.get("added_tokens") or [] if not token["special"]]
    if words:
        raise InputError(
            f"{path}: added tokens have no equivalent here; got {', '.join(words)[:60]}"
        )


def _with_added(state: JsonObject) -> dict[str, int]:
    added = {token["content"]: token["id"] for token in state.get("added_tokens", [])}
    return {**state["model"]["vocab"], **added}


def _normalisation(normalizer: JsonObject) -> JsonObject:
    """Return settings by their names in ``tokenizer_config.json``."""
    return {
        "do_lower_case": normalizer["lowercase"],
        "strip_accents": normalizer["strip_accents"],
    }


def _is_byte_level(pre_tokenizer: JsonObject | None) -> bool:
    if pre_tokenizer is None:
        return False
    parts = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    return any(part.get("type") == "ByteLevel" for part in parts)


def _content(token: object, usual: str) -> str:
    """Return a special token, which files write as a string or as an object."""
    if isinstance(token, dict):
        return str(token["content"])
    return usual if token is None else str(token)
