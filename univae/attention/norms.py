"""Placements of layer norms in a Transformer.

References:
    On Layer Normalization in the Transformer Architecture (Xiong et al., 2020),
    https://arxiv.org/abs/2002.04745
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from torch import nn

from univae.attention.variant import PLAIN, Variant

__all__ = ["NORMS", "Norm", "NormPlacement"]


@dataclass(frozen=True)
class NormPlacement:
    """A placement of the layer norms of a Transformer.

    With ``pre`` they normalise the input of each residual branch, and the rows before an output;
    without it, the embedding and each residual sum, so that the rows before an output are
    already normalised.
    """

    summary: str
    pre: bool

    def embedding_norm(self, width: int, variant: Variant = PLAIN) -> nn.Module:
        """Return the norm of embedded tokens, which have the width of the token table."""
        return nn.Identity() if self.pre else _norm(variant.table_width(width), variant)

    def output_norm(self, width: int, variant: Variant = PLAIN) -> nn.Module:
        """Return the norm between the last block and an output layer."""
        return _norm(width, variant) if self.pre else nn.Identity()

    def output_transform(self, width: int, variant: Variant = PLAIN) -> nn.Module:
        """Return the layers between the last block and the table of tokens."""
        table_width = variant.table_width(width)
        # Built for both placements, so that both consume the same random numbers.
        published = nn.Sequential(
            nn.Linear(width, table_width), variant.kind.module(), _norm(table_width, variant)
        )
        if not self.pre:
            return published
        norm = _norm(width, variant)
        return norm if table_width == width else nn.Sequential(norm, nn.Linear(width, table_width))


def _norm(width: int, variant: Variant) -> nn.LayerNorm:
    return nn.LayerNorm(width, eps=variant.norm_eps)


NORMS = {
    "pre": NormPlacement("before each branch, stable at larger step sizes", pre=True),
    "post": NormPlacement("after each residual sum, as in RoFormer and BERT", pre=False),
}

if TYPE_CHECKING:
    Norm: TypeAlias = str
else:
    Norm = Literal[tuple(NORMS)]
