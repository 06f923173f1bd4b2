r"""Pyro models and guides with one data plate as a ``LatentModel``: weights per datum.

The guide is the posterior. Under an outer plate of K particles its sites and those of the model
have log-probabilities of shape (K, B), which are added and not summed:

.. math:: \log w = \sum_{\text{model sites}} \log p - \sum_{\text{guide sites}} \log q

Discrete sites that the model marks for parallel enumeration and the guide omits are summed over
exactly, see :mod:`density.pyro_elimination`; those of the guide are drawn. Pyro's own
``vectorized_importance_weights`` sums over the data plate as well, which gives the weight of the
whole batch.

References:
    Pyro: Deep Universal Probabilistic Programming (Bingham et al., 2018),
    https://arxiv.org/abs/1810.09538
"""

from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor

from density.pyro_code import CodablePyro
from density.pyro_distributions import Likelihood, Posterior, Prior, PyroDistributions
from density.pyro_sites import latent_sites
from univae.errors import InputError

__all__ = ["PyroModel", "from_pyro"]


def from_pyro(model: Callable[..., object], guide: Callable[..., object]) -> "PyroModel":
    r"""Return ``model(x)`` and ``guide(x)``, callables or ``PyroModule``\ s, as a ``LatentModel``.

    Both are called with a batch x of B data. Every latent site of the guide, and every observed
    site of the model, must lie in one plate over the data, at ``dim=-1`` and without subsampling;
    leave ``dim=-2`` and beyond free. Train them with Pyro's ELBOs, ``Trace_ELBO()(model, guide)``
    being a module for any torch optimizer.

    A site scaled by ``poutine.scale``, a factor in the guide, and enumeration with ``num_samples``
    give no density, and raise :class:`InputError` at the first run.

    Of Pyro's automatic guides ``AutoNormal`` draws each datum independently. Its site ``z`` is a
    point at the value of the auxiliary site ``z_unconstrained``, whose density and Jacobian make up
    that of z; a custom guide may do so with the same names. Guides that draw the latents of all
    data jointly, and point masses, have no density per datum and raise :class:`InputError` at the
    first run.
    """
    return PyroModel(model, guide)


class PyroModel:
    """The three distributions of a Pyro program.

    Latents z are flat, (K, B, d), in the order in which the guide draws them. A program needs
    data to run: the prior and the likelihood use those of the last :meth:`posterior`, see
    :meth:`distributions`.
    """

    def __init__(self, model: Callable[..., object], guide: Callable[..., object]) -> None:
        self.model = model
        self.guide = guide
        self._last: PyroDistributions | None = None

    def distributions(self, x: Tensor) -> PyroDistributions:
        """Run the guide once to list its sites, and return the distributions for the data ``x``.

        Raises:
            InputError: a site of the guide has no density per datum.
        """
        sites = latent_sites(self.model, self.guide, x)
        return PyroDistributions(self.model, self.guide, x, sites)

    def posterior(self, x: Tensor) -> Posterior:
        """Return the guide's distribution of z, and store ``x`` for prior and likelihood."""
        self._last = self.distributions(x)
        return Posterior(self._last)

    def prior(self) -> Prior:
        """Return p(z) beside each datum of the last :meth:`posterior`, of batch shape (B,).

        Raises:
            InputError: :meth:`posterior` was not called.
        """
        return Prior(self._last_distributions())

    def likelihood(self, z: Float[Tensor, "*sample B d"]) -> Likelihood:
        """Return p(x | z), for data of the shape of the last :meth:`posterior`.

        Raises:
            InputError: :meth:`posterior` was not called.
        """
        return Likelihood(self._last_distributions(), z)

    @property
    def needs_all_data(self) -> bool:
        """Whether the guide holds latents of every training datum, as automatic guides do.

        It then runs beside all of them only, and not beside some.
        """
        from pyro.infer.autoguide import AutoGuide

        return isinstance(self.guide, AutoGuide)

    def codable(self, shape: Sequence[int]) -> CodablePyro:
        """Return the pair as a torch module for :func:`density.compress`, of rows of one shape.

        Raises:
            InputError: the programs are not as :mod:`density.pyro_code` says.
        """
        return CodablePyro(self.model, self.guide, shape)

    def _last_distributions(self) -> PyroDistributions:
        if self._last is None:
            raise InputError("from_pyro: prior and likelihood need data; call posterior(x) first")
        return self._last
