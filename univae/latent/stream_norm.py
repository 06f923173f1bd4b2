"""Batch normalisation that also trains on batches of one row."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["StreamNorm"]


class StreamNorm(nn.BatchNorm1d):
    r"""Batch normalisation (rows, d) that normalises a single row by its moving statistics.

    Two rows and more are normalised with their own statistics, as in ``nn.BatchNorm1d``. One row
    :math:`x` has no variance of its own. It updates the moving statistics :math:`m, v` with their
    momentum :math:`a`, and is normalised with the result; the old statistics have no gradient:

    .. math::

        m' = m + a (x - m), \qquad v' = (1 - a) (v + a (x - m)^2), \qquad
        y = \frac{x - m'}{\sqrt{v' + \epsilon}}

    So :math:`|y| \le \sqrt{(1 - a) / a}`, which is 3 at the usual momentum of 0.1, whatever the row
    is, as a batch of n rows has :math:`|y| \le \sqrt{n - 1}`. Before any update :math:`m = 0` and
    :math:`v = 1`. There are no random numbers and the statistics are buffers, so that a resumed run
    repeats bit for bit.

    References:
        Updating mean and variance estimates: an improved method (West, 1979),
        https://doi.org/10.1145/359146.359153
    """

    def forward(self, input: Float[Tensor, "rows d"]) -> Float[Tensor, "rows d"]:
        """Return the normalised rows."""
        if self.training and len(input) == 1:
            return self._normalise_single(input)
        return self._normalise_batch(input)

    def _normalise_batch(self, rows: Float[Tensor, "rows d"]) -> Float[Tensor, "rows d"]:
        """Normalise as ``nn.BatchNorm1d``, also rows of another dtype than the statistics."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        if self.running_mean.dtype == rows.dtype:
            return super().forward(rows)
        statistics = (self.running_mean.to(rows), self.running_var.to(rows))
        normalised = F.batch_norm(
            rows, *statistics, training=self.training, momentum=self.momentum, eps=self.eps
        )
        if self.training:
            self._store(*statistics)
        return normalised

    def _normalise_single(self, row: Float[Tensor, "1 d"]) -> Float[Tensor, "1 d"]:
        momentum = self.momentum
        assert momentum is not None
        assert self.running_mean is not None
        assert self.running_var is not None

        change = row - self.running_mean
        mean = self.running_mean + momentum * change
        variance = (1 - momentum) * (self.running_var + momentum * change.square())
        normalised = (row - mean) / (variance + self.eps).sqrt()

        self._store(mean[0], variance[0])
        return normalised

    @torch.no_grad()
    def _store(self, mean: Float[Tensor, "d"], variance: Float[Tensor, "d"]) -> None:
        """Set the moving statistics after one more batch."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.running_mean.copy_(mean)
        self.running_var.copy_(variance)
        self.num_batches_tracked.add_(1)
