"""A Pyro pair of Gaussian latents and whole numbers as a torch module, which a codec can use.

A codec needs distributions with one-dimensional tables, weights that it can copy to float64, and a
model that runs on tiles of any rows. So both programs must be torch modules or methods of one; each
latent site must be a Normal, whose parameters depend in the guide on the data alone and in the
model on nothing; and one site must observe the data, as Bernoulli or Categorical values.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import Size, Tensor, nn
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, Normal

from density.pyro_traces import Node, Program, is_deterministic, run, sample_nodes
from univae.dtypes import as_floating
from univae.errors import InputError

__all__ = ["CodablePyro"]

Parameters: TypeAlias = Any  # a distribution, whose parameters depend on its class

REMEDY = "write the model as a torch module with prior(), posterior(x) and likelihood(z)"
PARTICLES = 2  # of a run that shows what parameters depend on


class CodablePyro(nn.Module):
    """The three distributions of a Pyro pair, for rows of one shape.

    Raises:
        InputError: a program is no torch module, or a site is not as the module says.
    """

    def __init__(self, model: Program, guide: Program, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.programs = (model, guide)
        self.parts = nn.ModuleList(dict.fromkeys([_owner(model, "model"), _owner(guide, "guide")]))
        self.config = {"shape": list(self.shape), "pyro": True}
        self.sites = self._checked_sites()

    def prior(self) -> Distribution:
        """Return p(z), a diagonal Gaussian."""
        nodes = self._run_model(self._blank(1), None)
        loc, scale = _parameters([nodes[name] for name in self.sites])
        return Independent(Normal(loc[0], scale[0]), 1)

    def posterior(self, x: Tensor) -> Distribution:
        """Return q(z | x), a diagonal Gaussian of batch shape (B,)."""
        loc, scale = _parameters(list(self._run_guide(x).values()))
        return Independent(Normal(loc, scale), 1)

    def likelihood(self, z: Tensor) -> Distribution:
        r"""Return p(x | z) of latents (\*lead, d)."""
        flat = z.reshape(-1, z.shape[-1])
        nodes = self._run_model(self._blank(len(flat)), flat)
        (observed,) = (node for name, node in nodes.items() if name not in self.sites)
        base = _base(observed["fn"])
        lead = (*z.shape[:-1], *self.shape)
        if isinstance(base, Categorical):
            table = base.logits.reshape(*lead, base.logits.shape[-1])
            return Independent(Categorical(logits=table), len(self.shape))
        return Independent(Bernoulli(logits=base.logits.reshape(lead)), len(self.shape))

    def _blank(self, count: int) -> Tensor:
        """Return rows of zeros, of the weights' dtype: programs need rows to run."""
        weight = next(self.parameters(), torch.zeros(()))
        return torch.zeros(count, *self.shape, dtype=weight.dtype, device=weight.device)

    def _run_guide(self, x: Tensor, samples: int = 1) -> dict[str, Node]:
        return _sites(self.programs[1], x, samples, {})

    def _run_model(self, x: Tensor, z: Tensor | None, samples: int = 1) -> dict[str, Node]:
        """Run the model beside rows x; with latents z (B, d) its sites have their values."""
        values = {}
        if z is not None:
            widths = [shape.numel() for shape in self.sites.values()]
            for (name, shape), flat in zip(self.sites.items(), z.split(widths, -1), strict=True):
                values[name] = flat.reshape(len(z), *shape)
        return _sites(self.programs[0], x, samples, values)

    @torch.no_grad()
    def _checked_sites(self) -> dict[str, Size]:
        """Return the shapes of the latent sites by name, after a check of both programs."""
        x = self._blank(PARTICLES)
        guide = self._run_guide(x, PARTICLES)
        model = _sites(self.programs[0], x, PARTICLES, {})
        latent = {name: node for name, node in model.items() if not node["is_observed"]}
        observed = [node for node in model.values() if node["is_observed"]]
        if list(guide) != list(latent):
            raise InputError(
                f"compress: guide and model must draw the same latents in one order; got "
                f"{', '.join(guide)} and {', '.join(latent)}; {REMEDY}"
            )
        for name, node in guide.items():
            _require_normal("guide", name, node, "another latent", axis=0)
        for name, node in latent.items():
            _require_normal("model", name, node, "another latent", axis=0)
            _require_normal("model", name, node, "the data", axis=1)
        if len(observed) != 1:
            raise InputError(
                f"compress: one site must observe the data; got {len(observed)}; {REMEDY}"
            )
        self._require_table(observed[0], x)
        return {name: node["fn"].event_shape for name, node in guide.items()}

    def _require_table(self, node: Node, x: Tensor) -> None:
        base = _base(node["fn"])
        shape = tuple(node["fn"].event_shape)
        is_data = shape == self.shape and node["value"].shape[-x.dim() :] == x.shape
        if not isinstance(base, Bernoulli | Categorical) or not is_data:
            raise InputError(
                f"compress: the observed site {node['name']!r} must be Bernoulli or Categorical "
                f"values of the shape of a datum, {self.shape}; got {type(base).__name__} of "
                f"shape {shape}; {REMEDY}"
            )


def _owner(program: Callable[..., object], role: str) -> nn.Module:
    """Return the module whose weights a program uses: itself, or what it is a method of.

    Raises:
        InputError: it is a plain function, or an automatic guide.
    """
    from pyro.infer.autoguide import AutoGuide

    owner = getattr(program, "__self__", program)
    if isinstance(owner, AutoGuide):
        raise InputError(
            f"compress: {type(owner).__name__} holds latents of its training data and encodes no "
            f"others; {REMEDY}"
        )
    if not isinstance(owner, nn.Module):
        raise InputError(
            f"compress: the {role} must be a torch module or a method of one, whose weights can be "
            f"copied to float64; got a {type(owner).__name__}; {REMEDY}"
        )
    return owner


def _sites(
    program: Program, x: Tensor, samples: int, values: Mapping[str, Tensor]
) -> dict[str, Node]:
    """Run a program, and return its sample sites; the global generator stays as it is.

    Constants that it creates, as by ``torch.zeros``, have the dtype of ``x``.
    """
    with torch.random.fork_rng(devices=[]), _default_dtype(as_floating(x).dtype):
        nodes = sample_nodes(run(program, x, samples, values))
    return {name: node for name, node in nodes.items() if not is_deterministic(node)}


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Set PyTorch's default dtype while the block runs."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _base(distribution: Distribution) -> Parameters:
    while isinstance(distribution, Independent):
        distribution = distribution.base_dist
    return distribution


def _parameters(nodes: Sequence[Node]) -> tuple[Tensor, Tensor]:
    """Return the means and deviations (B, d) of all latent sites side by side."""
    means = []
    deviations = []
    for node in nodes:
        base = _base(node["fn"])
        width = node["fn"].event_shape.numel()
        means.append(base.loc.reshape(-1, width))
        deviations.append(base.scale.reshape(-1, width))
    return torch.cat(means, -1), torch.cat(deviations, -1)


def _require_normal(role: str, name: str, node: Node, other: str, axis: int) -> None:
    """Raise :class:`InputError` unless a site is a Normal that is the same along an axis.

    The axes are particles, of other draws of the latents, and rows.
    """
    base = _base(node["fn"])
    if not isinstance(base, Normal):
        raise InputError(
            f"compress: site {name!r} of the {role} must be a Normal, which has one-dimensional "
            f"tables; got {type(base).__name__}; {REMEDY}"
        )
    for parameter in (base.loc, base.scale):
        first, second = parameter.expand(PARTICLES, PARTICLES, *node["fn"].event_shape).unbind(axis)
        if not torch.equal(first, second):
            raise InputError(
                f"compress: site {name!r} of the {role} depends on {other}; {REMEDY}, whose "
                "latents may be a univae.latent.hierarchy.Hierarchical"
            )
