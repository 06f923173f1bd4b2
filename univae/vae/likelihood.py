r"""The likelihood of a text model, :math:`p(x \mid z)`, as a distribution over texts."""

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Size, Tensor
from torch.distributions import Distribution
from torch.distributions.constraints import Constraint

from univae.decoding.sampling import Stepper, generate
from univae.dtypes import at_least_float32
from univae.text.special import END, PAD

__all__ = ["TextLikelihood", "text_log_prob"]


def text_log_prob(
    logits: Float[Tensor, "*batch length vocab"], ids: Int[Tensor, "*#batch length"]
) -> Float[Tensor, "*batch"]:
    """Return the log-probability of each text in nats: all tokens and the end, no padding.

    It is computed and summed in at least float32.
    """
    ids = ids.expand(logits.shape[:-1])
    nll = F.cross_entropy(
        at_least_float32(logits).flatten(0, -2), ids.reshape(-1), ignore_index=PAD, reduction="none"
    )
    return -nll.view(ids.shape).sum(-1)


class TextLikelihood(Distribution):
    r"""The distribution :math:`p(x \mid z) = \prod_t p(x_t \mid z, x_{<t})` of texts of any length.

    The last token is the end token. ``logits(z, ids)`` teacher-forces texts; ``step(z)`` returns a
    new :class:`Stepper`. Both broadcast: ids (B, T) against latents (..., B, S, d). With
    ``end=None`` the texts have ``max_length`` tokens and no end token.
    """

    arg_constraints: ClassVar[dict[str, Constraint]] = {}

    def __init__(
        self,
        z: Float[Tensor, "*batch layers d"],
        logits: Callable[[Tensor, Tensor], Tensor],
        step: Callable[[Tensor], Stepper],
        max_length: int,
        end: int | None = END,
    ) -> None:
        self.z = z
        self.step = step
        self.max_length = max_length
        self.end = end
        self._logits = logits
        super().__init__(z.shape[:-2], Size(), validate_args=False)

    def logits(self, ids: Int[Tensor, "batch length"]) -> Float[Tensor, "*sample length vocab"]:
        r"""Return unnormalised :math:`\log p(x_t \mid z, x_{<t})` at every position of texts."""
        return self._logits(self.z, ids)

    def log_prob(self, value: Int[Tensor, "batch length"]) -> Float[Tensor, "*sample"]:
        """Return the log-probability of padded texts, in nats."""
        return text_log_prob(self.logits(value), value)

    def sample(self, sample_shape: Sequence[int] = Size()) -> Int[Tensor, "*sample length"]:
        """Draw padded texts token by token; one without an end token stops at ``max_length``."""
        z = self.z.expand(*sample_shape, *self.z.shape)
        rows = z.shape[:-2].numel()
        with torch.no_grad():
            ids = generate(self.step(z.flatten(0, -3)), rows, self.max_length, end=self.end)
        return ids.view(*z.shape[:-2], -1)
