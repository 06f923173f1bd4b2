"""Short representations of estimates: a mean with its error, not whole tensors."""

from torch import Tensor

__all__ = ["counted", "mean_with_error"]

ONE = 1


def mean_with_error(values: Tensor) -> str:
    """Return mean and standard error over data in one line; the value itself of a single datum.

    >>> import torch
    >>> mean_with_error(torch.tensor([1.0, 2.0, 3.0]))
    '2.000 ± 0.58'
    """
    values = values.detach().double().flatten()
    mean = f"{values.mean().item():.3f}"
    if values.numel() <= ONE:
        return mean
    return f"{mean} ± {values.std().item() / values.numel() ** 0.5:.2g}"


def counted(count: int) -> str:
    """Return a number of data in words.

    >>> counted(1), counted(7)
    ('1 datum', '7 data')
    """
    return "1 datum" if count == ONE else f"{count:,} data"
