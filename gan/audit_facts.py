"""The facts that an audit of a critic measures."""

from dataclasses import dataclass

from gan.audit_layers import Layer
from gan.audit_slopes import Slopes
from gan.normalization.rules import NormalizationName

__all__ = ["Facts"]


@dataclass(frozen=True)
class Facts:
    """The measurements of :func:`gan.audit`; ``verdict`` states them in sentences."""

    normalization: NormalizationName
    piecewise_linear: bool
    own_sample: bool  # each score depends on one row of its batch only
    gradient_norms: tuple[float, ...]  # of the score at the rows: 5 %, median, 95 %, largest
    raw_norms: tuple[float, ...]  # of the critic before normalisation, the same quantiles
    above_one: float  # fraction of rows whose gradient norm exceeds 1
    largest_score: float
    slopes: tuple[Slopes, ...]
    layers: tuple[Layer, ...]
    certificate: float | None  # a proven Lipschitz constant; None: there is no proof
    # W_1 between the two sets of rows: certified lower bound, exact value
    wasserstein: tuple[float | None, float] | None
    uncertified: str = ""  # the reason for no certificate
    verdict: str = ""
