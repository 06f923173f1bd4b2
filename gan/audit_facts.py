"""The facts that an audit of a critic measures."""

from dataclasses import dataclass

from gan.audit_layers import Layer
from gan.audit_slopes import Slopes
from gan.normalization.rules import NormalizationName

__all__ = ["Facts"]


@dataclass(frozen=True)
class Facts:
    """The measurements of :func:`gan.audit`; ``verdict`` has them in sentences."""

    normalization: NormalizationName
    piecewise_linear: bool
    own_sample: bool  # no score depends on another row
    gradient_norms: tuple[float, ...]  # of the score at its rows: 5 %, median, 95 %, largest
    raw_norms: tuple[float, ...]  # of the critic before normalisation
    above_one: float  # fraction of rows whose gradient norm exceeds 1
    largest_score: float
    slopes: tuple[Slopes, ...]
    layers: tuple[Layer, ...]
    certificate: float | None  # a Lipschitz constant, proven; None: none is known
    # certified lower bound and exact value, of W_1 between the two sets of rows
    wasserstein: tuple[float | None, float] | None
    verdict: str = ""
