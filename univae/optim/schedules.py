"""Schedules: functions from the progress of training, a fraction in [0, 1], to a multiplier.

Progress is a fraction instead of a step count, so that one schedule serves a run bounded by steps
and a run bounded by minutes.
"""

import math

__all__ = ["cosine", "ramp", "tripling"]

SHORTEST_DECAY = 1e-12  # of training after a warm-up of 1; avoids a division by zero


def ramp(progress: float, length: float) -> float:
    r"""Rise linearly from 0 to 1 over the first ``length`` of training: :math:`\min(1, t / \ell)`.

    The warm-up of a learning rate, or of the weight of a KL term. With a ``length`` of 0 the result
    is 1 throughout.
    """
    return 1.0 if progress >= length else progress / length


def cosine(progress: float, warmup: float = 0.0, floor: float = 0.0) -> float:
    r"""Rise linearly over ``warmup``, then fall along half a cosine from 1 to ``floor``.

    .. math:: f + (1 - f) \frac{1 + \cos \pi s}{2}, \qquad s = \frac{t - w}{1 - w}

    References:
        SGDR: Stochastic Gradient Descent with Warm Restarts (Loshchilov & Hutter, 2016),
        https://arxiv.org/abs/1608.03983
    """
    if progress < warmup:
        return ramp(progress, warmup)
    s = min(1.0, (progress - warmup) / max(1.0 - warmup, SHORTEST_DECAY))
    return floor + (1.0 - floor) * (1.0 + math.cos(math.pi * s)) / 2.0


def tripling(progress: float, passes: int = 8) -> float:
    r"""Fall from 1 to 1/10 in ``passes`` passes of equal factors, each three times as long.

    .. math:: 10^{-i / (P - 1)}, \qquad i = \lfloor \log_3 (1 + t\, (3^P - 1)) \rfloor

    With 8 passes over 3280 epochs these are the 1, 3, 9, ..., 2187 epochs of the source.

    References:
        Importance Weighted Autoencoders (Burda et al., 2015), https://arxiv.org/abs/1509.00519
    """
    position = 1.0 + progress * (3**passes - 1)
    # compared with powers, because a rounded logarithm may miss the start of a pass
    finished = sum(position >= 3**i for i in range(1, passes))

    return math.pow(10.0, -finished / (passes - 1))
