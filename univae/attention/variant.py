"""What Transformers of one architecture differ in, beside their size."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Protocol, runtime_checkable

from univae.attention.activations import ACTIVATIONS, Activation, ActivationKind
from univae.attention.rotary import BASE
from univae.registry import lookup
from univae.rules import SIZE, Rule, above, at_least

__all__ = ["PLAIN", "VARIANT", "VARIANT_RULES", "Variant"]

INNER = 4  # times the width is the width inside a two-layer network, if none is given

# Rules of the fields of a configuration that a variant is made from.
VARIANT_RULES: Mapping[str, Rule] = {
    "norm_eps": above(0, 1),
    "inner_width": at_least(0, INNER * SIZE, "0 (four times the width) or more"),
    "embedding_width": at_least(0, SIZE, "0 (the width) or more"),
    "rotary_base": above(1, 1e12),
}


@runtime_checkable
class _Options(Protocol):
    """A configuration with the fields of a variant."""

    @property
    def activation(self) -> Activation: ...
    @property
    def norm_eps(self) -> float: ...
    @property
    def inner_width(self) -> int: ...
    @property
    def embedding_width(self) -> int: ...
    @property
    def rotary_base(self) -> float: ...


@dataclass(frozen=True)
class Variant:
    """Activation, layer norms, inner widths and positions of a Transformer.

    Args:
        activation: the name of a row of :data:`univae.attention.activations.ACTIVATIONS`.
        norm_eps: added to the variance in layer norms.
        inner_width: the width inside a block's two-layer network; 0: four times the width.
        embedding_width: the width of the token table, which is projected to the width and back;
            0: the width.
        rotary_base: the base of rotary positions, see :func:`univae.attention.rotary.phases`.
    """

    activation: Activation = "gelu"
    norm_eps: float = 1e-5
    inner_width: int = 0
    embedding_width: int = 0
    rotary_base: float = BASE

    @classmethod
    def of(cls, options: _Options) -> "Variant":
        """Return the variant of a configuration."""
        o = options
        return cls(o.activation, o.norm_eps, o.inner_width, o.embedding_width, o.rotary_base)

    @property
    def kind(self) -> ActivationKind:
        """The activation."""
        return lookup(ACTIVATIONS, self.activation, "activation")

    def inner(self, width: int) -> int:
        """Return the width inside the two-layer network of a block of this width."""
        return self.inner_width or INNER * width

    def table_width(self, width: int) -> int:
        """Return the width of the token table of a model of this width."""
        return self.embedding_width or width


PLAIN = Variant()
# The names of its fields, which configurations have too.
VARIANT = frozenset(field.name for field in fields(Variant))
