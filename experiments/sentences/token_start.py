r"""The start of a token table from a teacher's vectors of single tokens.

Row i of the table is :math:`\frac{a}{a + p_i} P (t_i - \bar t)`: the teacher's vector of the
token's text, centred, reduced to the table's width by principal components, and smaller for
frequent tokens (smooth inverse frequency). The table as a whole has the standard deviation of the
random one that it replaces. Tokens without a vector keep their random rows.

References:
    A Simple but Tough-to-Beat Baseline for Sentence Embeddings (Arora et al., 2017),
    https://openreview.net/forum?id=SyK00v5xx
"""

from pathlib import Path

import numpy as np
import torch

from experiments.sentences.reduction import principal_components
from univae.checkpoint import replacing_file
from univae.errors import InputError
from univae.mapped_files import map_array
from univae.sentence.model import RoFormerSim
from univae.text.corpus import UNREADABLE_ARRAY, Corpus
from univae.text.special import RESERVED
from univae.text.tokenizers import Tokenizer

__all__ = ["load_table", "token_counts", "token_table", "token_texts", "write_token_table"]

RECOMPUTED = "delete it, and it is computed again"

FREQUENT = 1e-3  # a: tokens that are more frequent have less than half of the weight
FEWEST = 2  # vectors that have a mean and differ from it
UNREADABLE = "\ufffd"  # stands for bytes that are no character


def token_texts(tokenizer: Tokenizer) -> list[str]:
    """Return the text of every id, without white space at its ends; empty where it has none.

    Reserved ids, control characters and parts of characters have no text.
    """
    texts = [""] * RESERVED
    for token in range(RESERVED, tokenizer.vocab_size):
        text = tokenizer.decode([token]).strip()
        is_text = text.isprintable() and UNREADABLE not in text
        texts.append(text if is_text else "")
    return texts


def token_counts(corpus: Corpus, vocab_size: int) -> np.ndarray:
    """Return how often each id occurs in a corpus, (vocab_size,)."""
    counts = np.zeros(vocab_size, np.int64)
    for shard in corpus.shards:
        counts += np.bincount(shard.ids, minlength=vocab_size)
    return counts


def token_table(vectors: np.ndarray, counts: np.ndarray, width: int) -> np.ndarray:
    """Return the rows (N, width) of tokens, float32, with a standard deviation of 1.

    Args:
        vectors: the teacher's vectors (N, teacher's width); NaN for tokens without one.
        counts: how often every token occurs.
        width: that of the table.

    Raises:
        InputError: the table is wider than the vectors, or all vectors are equal, or missing.
    """
    if width > vectors.shape[1]:
        raise InputError(
            f"--token-start teacher: the table of tokens is {width} wide, the teacher's vectors "
            f"{vectors.shape[1]}; give --embedding-width {vectors.shape[1]}, or less"
        )
    has_vector = np.isfinite(vectors).all(1)
    distinct = len(np.unique(vectors[has_vector], axis=0))
    if distinct < FEWEST:
        raise InputError(
            f"--token-start teacher: the teacher has {distinct} different vectors of the "
            f"{len(vectors) - RESERVED} tokens; add vectors of their texts to its table, or leave "
            "the option out"
        )
    weight = FREQUENT / (FREQUENT + counts / max(counts.sum(), 1))
    rows = principal_components(vectors[has_vector], width) * weight[has_vector, None]
    table = np.full((len(vectors), width), np.nan, np.float32)
    table[has_vector] = rows / rows.std()
    return table


def write_token_table(path: Path, table: np.ndarray) -> None:
    """Write the rows of :func:`token_table`, atomically."""
    with replacing_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, table)


@torch.no_grad()
def load_table(path: Path, model: RoFormerSim) -> None:
    """Replace the random rows of tokens by those that :func:`write_token_table` wrote.

    Raises:
        InputError: the file is damaged, or of another model.
    """
    weight = model.embedding.tokens.weight
    expected = (weight.shape[0] - 1, weight.shape[1])  # the mask has no row in the file
    try:
        table = np.array(map_array(path))
    except UNREADABLE_ARRAY as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"{path} is damaged ({reason}); {RECOMPUTED}") from error
    if table.shape != expected or table.dtype != np.float32:
        holds = f"{table.dtype} {table.shape}"
        raise InputError(f"{path} holds {holds}, not float32 {expected}; {RECOMPUTED}")
    rows = torch.from_numpy(table).to(weight)
    has_row = rows.isfinite().all(1).nonzero()[:, 0]
    weight[has_row] = rows[has_row] * weight[has_row].std(correction=0)
