r"""Distances between two sets of data or features, and what tells collapse from quality.

All take points (N, D), features of images say; a number means something only with the name of the
feature space, its floor (real against real) and its answers to known faults beside it. Everything
is computed in float64. Shuffle before taking a part: files are often sorted by class.

:func:`exact_wasserstein` is the exact optimal transport between two point sets: the true distance
that estimates are held against.

References:
    GANs Trained by a Two Time-Scale Update Rule (Heusel et al., 2017),
    https://arxiv.org/abs/1706.08500 Demystifying MMD GANs (Binkowski et al., 2018),
    https://arxiv.org/abs/1801.01401 Improved Precision and Recall Metric (Kynkäänniemi et al.,
    2019), https://arxiv.org/abs/1904.06991 Reliable Fidelity and Diversity Metrics (Naeem et al.,
    2020), https://arxiv.org/abs/2002.09797 VEEGAN (Srivastava et al., 2017),
    https://arxiv.org/abs/1705.07761, for the count of modes Sliced and Radon Wasserstein
    Barycenters of Measures (Bonneel et al., 2015), https://doi.org/10.1007/s10851-014-0506-3
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from univae.errors import InputError

__all__ = [
    "Classes",
    "Manifold",
    "Memory",
    "Modes",
    "class_coverage",
    "exact_wasserstein",
    "frechet_distance",
    "kernel_distance",
    "memorisation",
    "mode_coverage",
    "nearest",
    "prdc",
    "sliced_wasserstein",
]


ROWS = 1024  # rows of a distance matrix at once


class Manifold(NamedTuple):
    """Shares, from comparing each point with the balls to the k-th neighbour within a set."""

    precision: float  # of generated points, inside some real ball
    recall: float  # of real points, inside some generated ball
    density: float  # real balls around a generated point, over k; above 1 where it is dense
    coverage: float  # of real points, with a generated one inside their ball


class Memory(NamedTuple):
    """How near generated data come to the training data, against how near held-out data do."""

    # of the median distances to the nearest training datum; about 1 when nothing is memorised
    ratio: float
    copies: float  # share of generated data nearer than all but 1 % of the held-out data


class Classes(NamedTuple):
    """Which classes a classifier finds among generated data."""

    found: int  # with at least a fifth of their real share
    shares: tuple[float, ...]
    kl_nats: float  # from the generated shares to the real ones


class Modes(NamedTuple):
    """How many of a known number of equally likely modes generated data have."""

    found: int  # with one generated datum at least
    # from the generated shares to equal ones; of N fair draws of M modes (M - 1) / 2N on average
    kl_nats: float


def frechet_distance(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> float:
    r"""Return :math:`\|\mu - \nu\|^2 + \mathrm{tr}(A + B - 2 (A^{1/2} B A^{1/2})^{1/2})` of fitted Gaussians.

    Biased upward by about :math:`D / N`: compare sets of one size only. The square of a length in
    feature space.
    """
    a, b = _points(a, b, "frechet_distance")
    covariances = [x.T.cov(correction=1).reshape(x.shape[1], -1) for x in (a, b)]
    values, vectors = torch.linalg.eigh(covariances[0])
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ covariances[1] @ root).clamp_min(0).sqrt().sum()
    traces = covariances[0].trace() + covariances[1].trace()
    return ((a.mean(0) - b.mean(0)).square().sum() + traces - 2 * cross).item()


def kernel_distance(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> float:
    r"""Return the unbiased squared MMD with the kernel :math:`(\langle x, y \rangle / D + 1)^3`.

    Unbiased, so of two sets of one law it is around 0 and as often below as above.
    """
    a, b = _points(a, b, "kernel_distance")
    within = [
        (_kernel_sum(x, x) - (x.square().sum(1) / x.shape[1] + 1).pow(3).sum()) for x in (a, b)
    ]
    pairs = [len(x) * (len(x) - 1) for x in (a, b)]
    return (
        within[0] / pairs[0] + within[1] / pairs[1] - 2 * _kernel_sum(a, b) / (len(a) * len(b))
    ).item()


def prdc(real: Float[Tensor, "n d"], fake: Float[Tensor, "m d"], k: int = 5) -> Manifold:
    """Return precision, recall, density and coverage with balls to the k-th nearest neighbour.

    Raises:
        InputError: for a k out of range, and for real points that are all alike, whose balls have
            no radius. Generated
            points may be: none of the real ones is in their balls then.
    """
    real, fake = _points(real, fake, "prdc")
    if not 1 <= k < min(len(real), len(fake)):
        raise InputError(
            f"prdc: k must lie in 1..{min(len(real), len(fake)) - 1}, the points but one; got k={k}"
        )
    if bool((real == real[0]).all()):
        raise InputError(
            f"prdc: the {len(real)} real points are all alike, so their balls have no radius; give others"
        )
    of_real = _radii(real, k)
    of_fake = _radii(fake, k)
    recalled = []
    covered = []
    inside = torch.zeros(len(fake), dtype=torch.float64, device=real.device)
    for part, radius in zip(real.split(ROWS), of_real.split(ROWS), strict=True):
        distances = torch.cdist(part, fake)
        within = distances < radius[:, None]
        inside += within.sum(0)
        covered.append(within.any(1))
        recalled.append((distances < of_fake).any(1))
    recall, coverage = (torch.cat(found).double().mean().item() for found in (recalled, covered))
    return Manifold((inside > 0).double().mean().item(), recall, inside.mean().item() / k, coverage)


def sliced_wasserstein(
    a: Float[Tensor, "n d"],
    b: Float[Tensor, "m d"],
    directions: int = 256,
    p: float = 1.0,
    generator: torch.Generator | None = None,
) -> float:
    r"""Return :math:`(E_\theta W_p^p(\langle \theta, a \rangle, \langle \theta, b \rangle))^{1/p}` over directions.

    Exact in each direction, for sets of any two sizes.
    """
    a, b = _points(a, b, "sliced_wasserstein")
    theta = torch.randn(a.shape[1], directions, generator=generator, dtype=torch.float64).to(
        a.device
    )
    theta /= theta.norm(dim=0)
    sides = [(x @ theta).sort(0).values for x in (a, b)]
    # Both quantile functions are constant between the steps of either.
    steps = torch.cat(
        [torch.arange(1, len(x) + 1, dtype=torch.float64, device=a.device) / len(x) for x in sides]
    )
    ends = steps.sort().values
    lengths = ends.diff(prepend=ends.new_zeros(1))
    middles = ends - lengths / 2
    quantiles = [x[(middles * len(x)).long().clamp_max(len(x) - 1)] for x in sides]
    return (lengths @ (quantiles[0] - quantiles[1]).abs().pow(p)).mean().pow(1 / p).item()


def memorisation(
    train: Float[Tensor, "n d"], fake: Float[Tensor, "m d"], held_out: Float[Tensor, "k d"]
) -> Memory:
    """Compare distances to the nearest training datum: of generated data, and of data that were held out.

    Both numbers are NaN where half of the held-out data or more are training data: nothing is
    nearer than that.
    """
    train, held_out = _points(train, held_out, "memorisation")
    train, fake = _points(train, fake, "memorisation")
    own = nearest(fake, train)[0]
    reference = nearest(held_out, train)[0]
    if reference.median() == 0:
        return Memory(math.nan, math.nan)
    ratio = (own.median() / reference.median()).item()
    return Memory(ratio, (own < reference.quantile(0.01)).double().mean().item())


def class_coverage(predicted: Int[Tensor, "n"], real: Int[Tensor, "m"]) -> Classes:
    r"""Count the classes of generated data, as predicted, against the labels of real data.

    ``kl_nats`` is :math:`\sum_c p_c \log (p_c / q_c)` from generated shares p to real shares q,
    infinite for a class that real data do not have.
    """
    _require_some("class_coverage", predicted, real)
    count = int(max(predicted.max(), real.max())) + 1
    p, q = (torch.bincount(x, minlength=count).double() / len(x) for x in (predicted, real))
    kl = torch.where(p > 0, p * (p / q).log(), 0.0).sum().item()
    return Classes(int((p[q > 0] >= q[q > 0] / 5).sum()), tuple(p.tolist()), kl)


def mode_coverage(predicted: Int[Tensor, "n"], modes: int) -> Modes:
    r"""Count the modes 0..modes-1 that occur.

    ``kl_nats`` is :math:`\sum_c p_c \log (M p_c)` from their shares p.
    """
    _require_some("mode_coverage", predicted)
    p = torch.bincount(predicted, minlength=modes).double() / len(predicted)
    if len(p) > modes:
        raise InputError(f"mode_coverage: predicted must lie in 0..{modes - 1}; got {len(p) - 1}")
    return Modes(int((p > 0).sum()), torch.special.xlogy(p, modes * p).sum().item())


def nearest(
    a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]
) -> tuple[Float[Tensor, "n"], Int[Tensor, "n"]]:
    """The distance from each of ``a`` to its nearest of ``b``, and which that is."""
    found = [torch.cdist(part, b).min(1) for part in a.split(ROWS)]
    return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])


def _require_some(who: str, *labels: Tensor) -> None:
    if not all(len(each) for each in labels):
        raise InputError(f"{who}: needs at least one label; got none; generate more")


def _points(a: Tensor, b: Tensor, who: str) -> tuple[Tensor, Tensor]:
    shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
    if not (a.ndim == b.ndim == 2 and a.shape[1] == b.shape[1] > 0):
        raise InputError(
            f"{who}: points must be two matrices with the same features, one at least; got {shapes}"
        )
    if min(len(a), len(b)) < 2:
        raise InputError(f"{who}: needs two points a side at least; got {len(a)} and {len(b)}")
    if not (a.isfinite().all() and b.isfinite().all()):
        raise InputError(
            f"{who}: points must be finite; got NaN or infinity; is the model trained?"
        )
    return a.detach().double(), b.detach().double()


def _kernel_sum(a: Tensor, b: Tensor) -> Tensor:
    return torch.stack([(part @ b.T / a.shape[1] + 1).pow(3).sum() for part in a.split(ROWS)]).sum()


def _radii(x: Tensor, k: int) -> Tensor:
    # The nearest of all is the point itself.
    return torch.cat([torch.cdist(part, x).kthvalue(k + 1, 1).values for part in x.split(ROWS)])


def exact_wasserstein(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"], p: float = 1.0) -> float:
    r"""Return :math:`W_p` of two uniform empirical measures under the Euclidean distance.

    As an assignment for sets of one size, through the package POT for others. Cost grows with the
    cube of the size: a second for 1,000 points, a minute for 4,000.

    Raises:
        InputError: for sets of two sizes without POT.
    """
    cost = torch.cdist(a.detach().double(), b.detach().double()).pow(p).cpu().numpy()
    if len(a) == len(b):
        from scipy.optimize import linear_sum_assignment

        value = cost[linear_sum_assignment(cost)].mean()
    else:
        try:
            import ot
        except ImportError as error:
            sizes = f"exact_wasserstein: sets of {len(a)} and {len(b)} points need the package POT"
            raise InputError(
                f"{sizes}; install it (pip install POT), or give sets of one size"
            ) from error
        value = ot.emd2([], [], cost, numItermax=10_000_000)
    return float(value) ** (1 / p)
