r"""The models of the study of Penn Treebank beside the UniVAE, and its likelihood token by token.

:class:`LanguageModel` is the stack of layers of a UniVAE without a latent. :class:`Peer` is the
``GPTVAE`` of x-transformers: an encoder whose mean row gives a Gaussian latent, which a decoder has
as its first row. Its loss is a mean over tokens plus the KL of a text, so that the KL weighs as
many times more than in a bound as a text has tokens. :class:`Peer` trains with that loss, and as a
latent-variable model gives the exact log-likelihood of texts given their latents.

References:
    x-transformers (Wang, 2020-2025), https://github.com/lucidrains/x-transformers
"""

from collections.abc import Callable
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal
from torch.distributions.constraints import Constraint

from experiments.evaluation.latent_model import measure
from univae.attention.adaptive_head import SOFTMAXES
from univae.attention.rotary import phases
from univae.attention.target_log_prob import target_log_prob
from univae.attention.transformer import Block, Embedding, initialise
from univae.attention.variant import Variant
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.text.padding import trimmed
from univae.text.special import PAD, START
from univae.vae.config import UniVAEConfig
from univae.vae.kl_weight import Elbo
from univae.vae.model import UniVAE
from univae.vae.streams import Streams

__all__ = ["Conditional", "LanguageModel", "Objective", "Peer", "TokenByToken"]

ROWS = 32  # texts validated at once
HEAD_WIDTH = 64  # of the peer's attention, which is its default
CHUNK = 8  # samples of a text decoded at once in a validation


@runtime_checkable
class Objective(Protocol):
    """A model with its training loss and its validation."""

    def loss(self, ids: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of padded texts, and its parts by name, summed over their tokens."""
        ...

    def validate(self, ids: Tensor, samples: int) -> JsonObject:
        """Return the metrics of held-out texts, ``nll_nats`` among them."""
        ...


class LanguageModel(nn.Module):
    """A causal Transformer with the blocks, embedding, dropout and head of a UniVAE, no latent."""

    def __init__(self, config: UniVAEConfig) -> None:
        super().__init__()
        self.config = config
        variant = Variant.of(config)
        self.embedding = Embedding(
            config.vocab_size, config.width, config.dropout, config.norm, variant
        )
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.dropout, config.norm, variant)
            for _ in range(config.layers)
        )
        build_head = SOFTMAXES[config.softmax].head
        self.head = build_head(config.vocab_size, config.width, config.norm, (PAD, START), variant)
        initialise(self)
        self.head.initialise()

    def log_prob(self, ids: Int[Tensor, "batch length"]) -> Float[Tensor, "batch"]:
        """Return the log-probability of each text in nats: all tokens and the end, no padding."""
        config = self.config
        dropout = config.attention_dropout if self.training else 0.0
        streams = Streams(scale=config.scale, base=config.scale_base, dropout=dropout)
        positions = torch.arange(ids.shape[1], device=ids.device)
        phase = phases(positions, config.width // config.heads, config.rotary_base)[None]
        x = self.embedding.decoder_rows(_with_start(ids)[:, :-1])
        for block in self.blocks:
            x = block(x, phase, streams.decoder)
        table = self.embedding.tokens.weight
        return self.head.target_log_prob(x, table, ids).sum(-1)

    def loss(self, ids: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the negative log-likelihood of the texts, in nats."""
        return -self.log_prob(ids).sum(), {}

    def validate(self, ids: Tensor, samples: int) -> JsonObject:
        """Return the mean negative log-likelihood of a text, which needs no samples."""
        rows = [self.log_prob(trimmed(some)) for some in ids.split(ROWS)]
        return {"nll_nats": -torch.cat(rows).double().mean().item()}


class Conditional(Distribution):
    r"""The distribution of texts given latents (\*sample, B, \*E), by its log-probability."""

    arg_constraints: ClassVar[dict[str, Constraint]] = {}

    def __init__(self, lead: torch.Size, log_prob: Callable[[Tensor], Tensor]) -> None:
        super().__init__(lead, validate_args=False)
        self._log_prob = log_prob

    def log_prob(self, value: Int[Tensor, "batch length"]) -> Float[Tensor, "*sample"]:
        """Return the log-probability of padded texts, in nats."""
        return self._log_prob(value)


class Peer(nn.Module):
    """The ``GPTVAE`` of x-transformers, with width, depth and number of latents of a UniVAE.

    Its encoder has half as many layers as its decoder and its positions are rotary, as in the
    example of its authors; heads are 64 wide, and the latent is dropped out in half of the texts of
    training, which are its defaults. A text is its start token, its tokens, its end token and
    padding.

    Args:
        config: the shape.
        kl_weight: weight of the KL of a text beside the mean nats of a token.
        kl_floor: nats of KL without cost, for each dimension of the latent.

    Raises:
        InputError: x-transformers is not installed.
    """

    def __init__(self, config: UniVAEConfig, kl_weight: float, kl_floor: float) -> None:
        super().__init__()
        try:
            from x_transformers.gpt_vae import GPTVAE
        except ImportError as error:
            raise InputError(
                "the peer's arms need x-transformers: pip install x-transformers"
            ) from error
        head_width = min(HEAD_WIDTH, config.width)
        self.latents = config.latent_layers * config.latent_width
        self.vae = GPTVAE(
            num_tokens=config.vocab_size,
            dim=config.width,
            depth=config.layers,
            enc_depth=max(1, config.layers // 2),
            heads=config.width // head_width,
            attn_dim_head=head_width,
            max_seq_len=config.max_length + 1,
            dim_latent=self.latents,
            rotary_pos_emb=True,
            attn_dropout=config.dropout,
            ff_dropout=config.dropout,
            vae_kl_loss_weight=kl_weight,
            vae_kl_div_floor=kl_floor,
            pad_id=PAD,
        )

    def prior(self) -> Distribution:
        """Return the standard normal distribution."""
        zeros = self.vae.to_latent_mean_log_variance[0].weight.new_zeros(self.latents)
        return Independent(Normal(zeros, 1.0), 1)

    def posterior(self, ids: Int[Tensor, "batch length"]) -> Distribution:
        """Return the Gaussian of the encoder."""
        texts = _with_start(ids)
        rows = self.vae.encoder(texts, mask=texts != PAD)
        mean, log_variance = self.vae.to_latent_mean_log_variance(rows)
        return Independent(Normal(mean, (0.5 * log_variance).exp()), 1)

    def likelihood(self, z: Float[Tensor, "*sample d"]) -> Conditional:
        r"""Return :math:`p(x \mid z)`; its softmax is over all token ids, as in its loss."""

        def log_prob(ids: Tensor) -> Tensor:
            lead = torch.broadcast_shapes(z.shape[:-1], ids.shape[:1])
            latents = z.expand(*lead, z.shape[-1]).flatten(0, -2)
            inputs = _with_start(ids)[:, :-1].expand(*lead, -1).flatten(0, -2)
            rows = self.vae.decoder(
                inputs,
                prepend_embeds=self.vae.from_latent_to_prepend_token(latents),
                return_embeddings=True,
            )[:, 1:]
            targets = ids.expand(*lead, -1).flatten(0, -2)
            real = targets != PAD
            table = self.vae.decoder.to_logits.weight
            bias = table.new_zeros(len(table))
            tokens = target_log_prob(rows[real], table, bias, targets[real])
            log_probs = tokens.new_zeros(targets.shape).masked_scatter(real, tokens)
            return log_probs.sum(-1).unflatten(0, lead)

        return Conditional(z.shape[:-1], log_prob)

    def elbo(self, ids: Int[Tensor, "batch length"]) -> Elbo:
        """Draw one latent a text and return both terms of the bound, in nats."""
        q = self.posterior(ids)
        kl = torch.distributions.kl_divergence(q, self.prior())
        return Elbo(self.likelihood(q.rsample()).log_prob(ids), kl[:, None])

    def loss(self, ids: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of x-transformers times the tokens of the batch."""
        tokens = (ids != PAD).sum()
        total, (reconstruction, kl) = self.vae(_with_start(ids), return_all_losses=True)
        return total * tokens, {
            "reconstruction_nats_per_token": reconstruction * tokens,
            "kl_nats_above_floor_per_token": kl * len(ids),
        }

    def validate(self, ids: Tensor, samples: int) -> JsonObject:
        """Return the metrics of a validation of ``train-text``."""
        batches = [trimmed(rows) for rows in ids.split(ROWS)]
        compared = ids[: 2 * ROWS]
        return measure(self, batches, samples, self.elbo, compared, CHUNK).to_json()


class TokenByToken:
    """A UniVAE whose likelihood computes the logits that the tokens of a text need, and no others.

    It has the likelihood of the model itself, in less time with an adaptive softmax.
    """

    def __init__(self, model: UniVAE) -> None:
        self.model = model

    def prior(self) -> Distribution:
        """Return the prior of the model."""
        return self.model.prior()

    def posterior(self, ids: Int[Tensor, "batch length"]) -> Distribution:
        """Return the posterior of the model."""
        return self.model.posterior(ids)

    def likelihood(self, z: Float[Tensor, "*batch layers d"]) -> Conditional:
        r"""Return :math:`p(x \mid z)`."""
        return Conditional(z.shape[:-2], lambda ids: self.model.token_log_prob(z, ids).sum(-1))

    def elbo(self, ids: Int[Tensor, "batch length"]) -> Elbo:
        """Return both terms of the bound of the model."""
        return self.model.elbo(ids)


def _with_start(ids: Int[Tensor, "*batch length"]) -> Int[Tensor, "*batch longer"]:
    """Return texts behind their start token."""
    return nn.functional.pad(ids, (1, 0), value=START)
