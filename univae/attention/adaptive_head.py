r"""An output layer of two steps: frequent tokens and classes of rare ones, then one of the class.

.. math::
    p(v) = p_0(v) \text{ for frequent } v, \qquad p(v) = p_0(c)\, p_c(v) \text{ for } v \in c

with softmaxes :math:`p_0` over the frequent tokens and the classes, and :math:`p_c` over the tokens
of class c. The distribution is normalised over the whole vocabulary. In training a row computes the
logits of the frequent tokens, and those of one class if its target is in it.

Classes are ranges of ids, so the ids should stand in the order of their frequency, as those of a
vocabulary of words do. The token vectors have their full width in all classes, since they are those
of the embedding.

References:
    Efficient softmax approximation for GPUs (Grave et al., 2017), https://arxiv.org/abs/1609.04309
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from univae.attention.norms import Norm
from univae.attention.target_log_prob import target_log_prob
from univae.attention.transformer import Head
from univae.attention.variant import PLAIN, Variant
from univae.devices import is_readable
from univae.dtypes import at_least_float32, autocast
from univae.errors import InputError

__all__ = ["SOFTMAXES", "AdaptiveHead", "Softmax", "SoftmaxKind"]

CLASSES = 3
FREQUENT_SHARE = 1 / 16  # of the ids: those without a class
LEAST_VOCABULARY = 256


def _class_bounds(vocab_size: int) -> list[int]:
    """Return the first id of each class, and ``vocab_size``.

    Each class ends at the same multiple of its start. If the k-th id has a frequency in proportion
    to 1/k, the classes are then equally probable.
    """
    step = FREQUENT_SHARE ** (-1 / CLASSES)
    first = vocab_size * FREQUENT_SHARE
    return [round(first * step**i) for i in range(CLASSES + 1)]


class AdaptiveHead(Head):
    """A :class:`Head` with three classes of rare ids, beside the first sixteenth of all ids.

    Its logits are log-probabilities, in at least float32.

    Raises:
        InputError: there are fewer than 256 ids.
    """

    def __init__(
        self,
        vocab_size: int,
        width: int,
        norm: Norm = "pre",
        excluded: Sequence[int] = (),
        variant: Variant = PLAIN,
    ) -> None:
        if vocab_size < LEAST_VOCABULARY:
            raise InputError(
                f"softmax=adaptive needs at least {LEAST_VOCABULARY} token ids; got {vocab_size}; "
                "use softmax=full"
            )
        super().__init__(vocab_size, width, norm, excluded, variant)
        self.bounds = _class_bounds(vocab_size)
        self.classes = nn.Linear(variant.table_width(width), CLASSES)

    def initialise(self) -> None:
        """Give a class the probability of its share of the ids."""
        with torch.no_grad():
            for i, size in enumerate(self._sizes()[1:]):
                self.classes.bias[i] = math.log(size)

    def stepper(self, table: Float[Tensor, "vocab table"]) -> Callable[[Tensor], Tensor]:
        """Return :meth:`forward` for one table."""
        layers = self._layers(table)

        def log_probs(x: Tensor) -> Tensor:
            x = self.transform(x)
            first, *within = (_log_softmax(F.linear(x, *layer)) for layer in layers)
            parts = [first[..., :-CLASSES]]
            for i, conditional in enumerate(within):
                class_log_prob = first[..., i - CLASSES, None]
                parts.append(class_log_prob + conditional)
            return torch.cat(parts, -1)

        return log_probs

    def target_log_prob(
        self,
        x: Float[Tensor, "*batch width"],
        table: Float[Tensor, "vocab table"],
        targets: Int[Tensor, "*batch"],
    ) -> Float[Tensor, "*batch"]:
        """Return the log-probability of the token after each row, 0 of padding.

        A row of a token without a class computes no logit of a class's token, and a row of a token
        with one only those of its class.
        """
        return self._of_real_rows(x, targets, lambda rows, ids: self._log_prob(rows, table, ids))

    def _log_prob(self, rows: Tensor, table: Tensor, ids: Tensor) -> Float[Tensor, "rows"]:
        first, *within = self._layers(table)
        starts = torch.tensor(self.bounds[:-1], device=ids.device)
        class_of = torch.bucketize(ids, starts, right=True)  # 0 without a class, or 1, 2, ...
        as_class = self.bounds[0] + class_of - 1
        log_prob = target_log_prob(rows, *first, torch.where(class_of == 0, ids, as_class))
        for i, layer in enumerate(within):
            if not is_readable(ids):  # the number of members is not known
                places = (ids - self.bounds[i]).clamp(0, len(layer[0]) - 1)
                conditional = target_log_prob(rows, *layer, places)
                log_prob = log_prob + conditional.masked_fill(class_of != i + 1, 0.0)
                continue
            members = (class_of == i + 1).nonzero().squeeze(1)
            places = ids[members] - self.bounds[i]
            conditional = target_log_prob(rows[members], *layer, places)
            log_prob = log_prob.index_add(0, members, conditional)
        return log_prob

    def _layers(self, table: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return table and bias of the first softmax, with the classes last, and of each class."""
        tables = table.split(self._sizes())
        biases = self.masked_bias().split(self._sizes())
        first_table = torch.cat((tables[0], self.classes.weight))
        first_bias = torch.cat((biases[0], self.classes.bias))
        return [(first_table, first_bias), *zip(tables[1:], biases[1:], strict=True)]

    def _sizes(self) -> list[int]:
        """Return the number of ids without a class, and of each class."""
        return [
            stop - start for start, stop in zip([0, *self.bounds[:-1]], self.bounds, strict=True)
        ]


def _log_softmax(logits: Float[Tensor, "*batch tokens"]) -> Float[Tensor, "*batch tokens"]:
    with autocast(logits.device, enabled=False):
        return at_least_float32(logits).log_softmax(-1)


@dataclass(frozen=True)
class SoftmaxKind:
    """A distribution over the next token."""

    summary: str
    head: type[Head]


SOFTMAXES = {
    "full": SoftmaxKind("one over all tokens", Head),
    "adaptive": SoftmaxKind(
        "classes of rare tokens, faster in training; for ids sorted by frequency, as --tokenizer "
        "words has",
        AdaptiveHead,
    ),
}

if TYPE_CHECKING:
    Softmax: TypeAlias = str
else:
    Softmax = Literal[tuple(SOFTMAXES)]
