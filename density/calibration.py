r"""The calibration of a posterior: its own parameters are fitted again, and all others are held.

A posterior is trained beside a decoder that changes, under dropout, blanked words and floors of the
KL, and is used without them. With prior and likelihood held constant

.. math:: \log p(x) - \mathcal{L}(x) = \mathrm{KL}(q(z \mid x) \,\|\, p(z \mid x))

so a higher bound on held-out data is a posterior nearer to the truth. The model, and with it every
likelihood, stays what it is.

References:
    Inference Suboptimality in Variational Autoencoders (Cremer et al., 2018),
    https://arxiv.org/abs/1801.03558
    Lagging Inference Networks and Posterior Collapse in Variational Autoencoders (He et al., 2019),
    https://arxiv.org/abs/1901.05534
"""

import torch
from torch import Tensor, nn

from density.model import LatentModel, as_data
from univae.errors import InputError

__all__ = ["inference_parameters"]


@torch.enable_grad()
def inference_parameters(model: LatentModel, x: Tensor) -> dict[str, nn.Parameter]:
    r"""Return the parameters of :math:`q(z \mid x)` that neither prior nor likelihood reads.

    They are found by a backward pass on ``x``, by their names in the module. Where encoder and
    decoder share layers, as in a UniVAE, these are the heads of the posterior alone.

    Raises:
        InputError: the model is no ``nn.Module``, or shares all parameters of its posterior.
    """
    if not isinstance(model, nn.Module):
        raise InputError(
            f"inference_parameters: needs a torch module; got {type(model).__name__}; "
            "derive the model from torch.nn.Module"
        )
    x = as_data(x, "inference_parameters")
    q = model.posterior(x)
    z = q.sample()
    joint = model.prior().log_prob(z).sum() + model.likelihood(z).log_prob(x).sum()
    generative = _read_by(joint, model)
    inferring = _read_by(q.log_prob(z).sum(), model)
    unshared = {name: p for name, p in inferring.items() if name not in generative}
    if not unshared:
        raise InputError(
            "inference_parameters: prior and likelihood read every parameter of the posterior, so "
            "that it cannot change alone; give it a layer of its own"
        )
    return unshared


def _read_by(log_density: Tensor, model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that a log-density depends on, by name."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not log_density.requires_grad:
        return {}
    gradients = torch.autograd.grad(log_density, list(named.values()), allow_unused=True)
    pairs = zip(named.items(), gradients, strict=True)
    return {name: p for (name, p), gradient in pairs if gradient is not None}
