r"""UniVAE, a text VAE whose encoder and decoder are one Transformer.

Latents are in its last layers.

The end token alone models the length of a text, so :math:`p(x \mid z)` is normalised over all
texts. See :mod:`univae.vae.network` for the Transformer.

References:
    UniVAE (Su, 2021), https://kexue.fm/archives/8475
"""

from collections.abc import Collection, Sequence
from functools import partial
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Size, Tensor
from torch.distributions import Distribution, Independent, kl_divergence

from univae.attention.transformer import Block
from univae.decoding.cached import CachedDecoder, DecoderLayers
from univae.errors import InputError
from univae.latent.hierarchy import Hierarchical
from univae.latent.layouts import Stacked
from univae.vae.config import UniVAEConfig
from univae.vae.kl_weight import Elbo
from univae.vae.likelihood import TextLikelihood
from univae.vae.network import TwoStreamTransformer

__all__ = ["Elbo", "UniVAE", "UniVAEConfig"]


class UniVAE(TwoStreamTransformer):
    """A VAE of texts: its prior, posterior and likelihood, and the bound in training.

    Texts are ids (B, T): tokens, one end token, padding. Latents are (..., B, S, d). With a
    ``grid`` the texts are images: all ``max_length`` cells of it, and no end token.

    >>> config = UniVAEConfig(9, width=8, heads=2, layers=2, latent_layers=2, latent_width=3)
    >>> model = UniVAE(config).eval()
    >>> texts = torch.tensor([[5, 6, 2], [7, 2, 0]])
    >>> z = model.posterior(texts).sample((4,))
    >>> z.shape, model.likelihood(z).log_prob(texts).shape, model.prior().log_prob(z).shape
    (torch.Size([4, 2, 2, 3]), torch.Size([4, 2]), torch.Size([4, 2]))
    """

    def prior(self) -> Distribution:
        r"""Return :math:`p(z)`, event (S, d).

        It is the standard prior of the family, or computed by the stack of layers without a text.
        """
        if self.config.learned_prior:
            no_text = torch.zeros(1, 0, dtype=torch.long, device=self._table.device)
            rows, _ = self._encode(no_text)
            return Hierarchical(partial(self._climb, rows[0], None, self.expect), self._layout())
        layers = Size((self.config.latent_layers,))
        return Independent(self._standard_prior().expand(layers), 1)

    def posterior(self, ids: Int[Tensor, "batch length"]) -> Hierarchical:
        r"""Return :math:`q(z \mid x) = \prod_l q(z_l \mid z_{<l}, x)`.

        The layers below the latents are evaluated once, by this call.
        """
        rows, real = self._encode(ids)
        climb = partial(self._climb, rows, real, self.infer)
        return Hierarchical(climb, self._layout(), ids.shape[:1])

    def likelihood(self, z: Float[Tensor, "*batch layers d"]) -> TextLikelihood:
        r"""Return :math:`p(x \mid z)` over texts.

        The layers below the latents are evaluated once for all samples of a text.
        """
        return TextLikelihood(z, self._logits, self.decoder, self.config.max_length, self.end)

    def decoder(
        self, z: Float[Tensor, "batch layers d"], capacity: int | None = None
    ) -> CachedDecoder:
        """Return the step-by-step decoder of ``z``, with room for ``capacity`` tokens.

        The default capacity is ``max_length``.
        """
        config = self.config
        latents = z.to(self._table).unbind(-2)
        memories = [inject(z_l) for inject, z_l in zip(self.inject, latents, strict=True)]
        blocks = cast("list[Block]", list(self.blocks))
        phase = self._phase(0, (capacity or config.max_length) + 1)[0]
        layers = DecoderLayers(self.embedding, blocks, self.head)
        return CachedDecoder.after_memories(
            layers, memories, phase, config.scale, config.scale_base
        )

    def elbo(self, ids: Int[Tensor, "batch length"]) -> Elbo:
        """Draw one latent a text and return both terms of the bound, in nats.

        The two streams are evaluated side by side.
        """
        posterior, z, rows = self._two_stream_rows(ids, ids, lambda layer, q: q.rsample())
        kl = []
        kl_dimensions = []
        for q, p in zip(posterior, self.prior_conditionals(z), strict=True):
            kl.append(kl_divergence(q, p))
            per_dimension = self.config.family.kl_dimensions(q, p)
            if per_dimension is not None:
                kl_dimensions.append(per_dimension)

        dimensions = torch.stack(kl_dimensions, -2) if kl_dimensions else None
        log_likelihood = self.head.target_log_prob(rows, self._table, ids).sum(-1)
        return Elbo(log_likelihood, torch.stack(kl, -1), dimensions)

    def prior_conditionals(self, z: Float[Tensor, "*batch layers d"]) -> Sequence[Distribution]:
        r"""Return :math:`p(z_l \mid z_{<l})` for every layer, given z."""
        prior = self.prior()
        if isinstance(prior, Hierarchical):
            return prior.conditionals(z)
        return [self._standard_prior()] * self.config.latent_layers

    def resample(
        self, z: Float[Tensor, "*batch layers d"], layers: Collection[int]
    ) -> Float[Tensor, "*batch layers d"]:
        """Draw some latent layers from the prior, given the layers before; the others stay as in z.

        Raises:
            InputError: a layer is not one of the model's.
        """
        unknown = set(layers) - set(range(self.config.latent_layers))
        if unknown:
            raise InputError(
                f"resample: latent layers are 0..{self.config.latent_layers - 1}; "
                f"got {sorted(unknown)}"
            )
        prior = self.prior()
        if isinstance(prior, Hierarchical):
            return prior.resample(z, layers)
        is_resampled = torch.tensor(
            [layer in layers for layer in range(z.shape[-2])], device=z.device
        )
        return torch.where(is_resampled[:, None], prior.sample(z.shape[:-2]), z)

    def _layout(self) -> Stacked:
        return Stacked(self.config.latent_layers, self.config.latent_width)

    def _standard_prior(self) -> Distribution:
        return self.config.family.standard_prior(self.config.latent_width, self._table)
