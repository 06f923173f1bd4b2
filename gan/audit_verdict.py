"""The facts of an audit in sentences."""

from collections.abc import Sequence

from gan.audit_facts import Facts
from gan.audit_slopes import Slopes
from gan.normalization.rules import NORMALIZATIONS

__all__ = ["verdict"]

# A slope across regions counts as a jump where it is above the largest gradient by this factor.
JUMP_FACTOR = 1.05


def verdict(facts: Facts) -> str:
    """Return the meaning of the facts in sentences."""
    sentences = []
    normalized = NORMALIZATIONS[facts.normalization].uses_gradient
    if not facts.own_sample:
        sentences.append(
            "A score depends on other samples of its batch: no gradient here is that of one sample."
        )
    sentences.append(_gradient_sentence(facts))
    if normalized:
        sentences += _jump_sentence(facts.slopes, facts.gradient_norms[-1])
    sentences.append(_certificate_sentence(facts, normalized=normalized))
    if facts.wasserstein is not None:
        sentences.append(_distance_sentence(*facts.wasserstein))
    return " ".join(sentences)


def _gradient_sentence(facts: Facts) -> str:
    largest = facts.gradient_norms[-1]
    if not NORMALIZATIONS[facts.normalization].uses_gradient:
        median = facts.gradient_norms[1]
        return f"The gradient norm is {median:.3g} at the median row, at most {largest:.3g}."
    if facts.piecewise_linear:
        return (
            f"The gradient norm is at most {largest:.4g} at the rows, bounded by "
            f"{facts.normalization} within a linear region."
        )
    return (
        f"The critic is smooth, so {facts.normalization} bounds nothing: the gradient norm reaches "
        f"{largest:.3g}, and exceeds 1 at {100 * facts.above_one:.1f} % of the rows."
    )


def _jump_sentence(slopes: Sequence[Slopes], largest_gradient: float) -> list[str]:
    """Return the sentence on the steepest segment that leaves its region, if there is one."""
    steepest = None
    steepest_slope = 0.0
    for entry in slopes:
        if entry.across is not None and (steepest is None or entry.across > steepest_slope):
            steepest = entry
            steepest_slope = entry.across
    if steepest is None:
        return []

    description = (
        f"across linear regions slopes reach {steepest_slope:.3g} on segments of "
        f"{steepest.length:g} of the median distance"
    )
    is_jump = steepest_slope > max(1.0, JUMP_FACTOR * largest_gradient)
    if is_jump:
        return [f"It is not Lipschitz: {description}."]
    return [f"No jump was measured: {description}."]


def _certificate_sentence(facts: Facts, *, normalized: bool) -> str:
    if facts.certificate is not None:
        return f"Its layers prove a Lipschitz constant of {facts.certificate:.3g}."
    if normalized:
        return (
            "No Lipschitz constant can be proven, so its scores estimate no Wasserstein distance."
        )
    return f"No Lipschitz constant is proven: {facts.uncertified}."


def _distance_sentence(lower_bound: float | None, exact: float) -> str:
    certified = "nothing" if lower_bound is None else f"{lower_bound:.3g}"
    return f"The W1 distance is {exact:.4g}, of which the critic certifies {certified}."
