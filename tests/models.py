"""Small models of every kind with the loss of a training step, for tests of what PyTorch offers.

Every random number of a loss is from PyTorch's default generator.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from density.images.attention import AttentionVAE
from density.images.conv import ConvVAE
from density.images.ladder import LadderVAE
from density.images.mlp import MLPVAE
from density.images.univae import PatchVAE
from density.likelihoods.head import Pixels
from density.objectives import elbo, iwae
from gan.config import Recipe
from gan.critic_loss import CriticLoss
from gan.losses import generator_loss
from gan.networks.registry import NETWORKS, build, network_config
from gan.penalties import Penalties
from univae.contrastive.losses import paired_info_nce
from univae.contrastive.ranking import cosent
from univae.sentence.config import RoFormerSimConfig
from univae.sentence.losses import (
    classification_loss,
    distillation_loss,
    generation_loss,
    pair_features,
    vector_loss,
)
from univae.sentence.model import RoFormerSim
from univae.text.special import END, PAD
from univae.vae.config import UniVAEConfig
from univae.vae.model import UniVAE

SEED = 3
VOCABULARY = 300
IMAGE = (1, 8, 8)
ROWS = 6


@dataclass(frozen=True)
class Case:
    """A model and the loss of a training step on a batch."""

    build: Callable[[], nn.Module]
    batch: Callable[[], tuple[Tensor, ...]]
    loss: Callable[..., Tensor]  # of the model and the batch


def texts() -> tuple[Tensor]:
    """Return padded texts, two of each so that they are pairs."""
    ids = torch.randint(END + 1, VOCABULARY, (ROWS, 9))
    for row, length in enumerate((8, 8, 5, 5, 3, 3)):
        ids[row, length] = END
        ids[row, length + 1 :] = PAD
    return (ids,)


def text_model(**options: Any) -> Callable[[], nn.Module]:
    """Return a function that builds a text VAE."""
    config = UniVAEConfig(
        vocab_size=VOCABULARY,
        width=16,
        heads=2,
        layers=2,
        latent_layers=2,
        latent_width=4,
        max_length=12,
        **options,
    )
    return lambda: UniVAE(config)


def text_loss(model: UniVAE, ids: Tensor) -> Tensor:
    """Return the negative ELBO of texts, in nats."""
    bound = model.elbo(ids)
    return (bound.kl.sum(-1) - bound.log_likelihood).mean()


def sentence_model() -> nn.Module:
    """Return a sentence model."""
    return RoFormerSim(
        RoFormerSimConfig(vocab_size=VOCABULARY, width=16, heads=2, layers=2, max_length=12)
    )


def pretraining_loss(model: RoFormerSim, ids: Tensor) -> Tensor:
    """Return the loss of the first stage."""
    vectors, log_likelihood = model.read_and_write(ids, ids.roll(1, 0))
    unit = nn.functional.normalize(vectors, dim=-1)
    return generation_loss(log_likelihood, ids.roll(1, 0)) + paired_info_nce(unit)


def distilling_loss(model: RoFormerSim, ids: Tensor) -> Tensor:
    """Return both losses of the second stage, with a constant teacher."""
    teacher = torch.eye(ROWS, device=ids.device)
    vectors = model.encode(ids)
    return distillation_loss(vectors, teacher) + vector_loss(vectors, teacher, 10.0)


def supervised_loss(model: RoFormerSim, ids: Tensor) -> Tensor:
    """Return both losses of the third stage."""
    vectors = model.encode(ids)
    u, v = vectors.chunk(2)
    labels = torch.arange(len(u), device=ids.device) % 2
    logits = model.classifier(pair_features(u, v))
    return classification_loss(logits, labels) + cosent((u * v).sum(-1), labels)


def rows_of(pixels: Pixels) -> Callable[[], tuple[Tensor]]:
    """Return a function that draws data of a shape."""

    def batch() -> tuple[Tensor]:
        return (torch.randint(pixels.levels, (ROWS, *pixels.shape)).float(),)

    return batch


def image_case(
    kind: Callable[..., nn.Module], pixels: Pixels, objective: Callable[..., Tensor], **options: Any
) -> Case:
    """Return the case of an image or table model."""
    return Case(
        lambda: kind(pixels, **options),
        rows_of(pixels),
        lambda model, x: -objective(model, x).float().mean(),
    )


class Players(nn.Module):
    """Generator and critic of a family."""

    def __init__(self, family: str) -> None:
        super().__init__()
        values: dict[str, Any] = {
            "latent": 3,
            "width": 8,
            "hidden": (9,),
            "heads": 2,
            "layers": 1,
            "patch": 4,
        }
        values |= {"leak": 0.2, "skip": True}
        config = network_config(family, (1, 16, 16), 0, values)
        self.generator = build(config["generator"])
        self.critic = build(config["critic"])


def gan_loss(recipe: Recipe) -> Callable[..., Tensor]:
    """Return the sum of the losses of both players."""

    def loss(model: Players, real: Tensor, z: Tensor) -> Tensor:
        fake = model.generator(z)
        noise = torch.Generator(real.device if real.device.type != "meta" else "cpu")
        critic = CriticLoss(model.critic, recipe)
        of_critic, _ = critic(real, fake.detach(), None, regularized=True, noise=noise)
        of_generator = generator_loss(recipe.loss, real.new_zeros(0), model.critic(fake))
        return of_critic + of_generator

    return loss


def images_and_noise() -> tuple[Tensor, Tensor]:
    """Return real images and latents."""
    return torch.rand(ROWS, 1, 16, 16) * 2 - 1, torch.randn(ROWS, 3)


GREY = Pixels(IMAGE, "logistic", levels=16)
BLACK_AND_WHITE = Pixels(IMAGE, "bernoulli", levels=2)
TABLE = Pixels((3,), "gaussian", kinds=("numeric", "count", "categorical"), sizes=(0, 0, 2))
RECIPE = Recipe(loss="non-saturating", penalties=Penalties(r1=0.5), rescale=False)

CASES: Mapping[str, Case] = {
    "text": Case(text_model(), texts, text_loss),
    "text, vmf": Case(text_model(latent="vmf"), texts, text_loss),
    "text, learned prior": Case(text_model(prior="learned"), texts, text_loss),
    "text, adaptive softmax": Case(text_model(softmax="adaptive"), texts, text_loss),
    "similar, pretrain": Case(sentence_model, texts, pretraining_loss),
    "similar, distil": Case(sentence_model, texts, distilling_loss),
    "similar, supervised": Case(sentence_model, texts, supervised_loss),
    "MLPVAE": image_case(MLPVAE, BLACK_AND_WHITE, elbo, latents=(4, 2), hidden=((9,), (7,))),
    "ConvVAE": image_case(ConvVAE, GREY, elbo, latent=3, width=4, depth=1),
    "AttentionVAE": image_case(
        AttentionVAE, GREY, elbo, latent=3, patch=4, width=16, heads=2, layers=1
    ),
    "LadderVAE": image_case(LadderVAE, BLACK_AND_WHITE, elbo, latents=(2,), width=4),
    "PatchVAE": image_case(
        PatchVAE, BLACK_AND_WHITE, elbo, width=16, layers=2, latent_layers=1, latent=3
    ),
    "table": image_case(
        MLPVAE, TABLE, lambda model, x: iwae(model, x.clamp(max=1), 2), latents=(2,), hidden=((9,),)
    ),
    **{
        f"GAN, {family}": Case(lambda f=family: Players(f), images_and_noise, gan_loss(RECIPE))
        for family in NETWORKS
    },
}


def seeded_case(name: str) -> tuple[nn.Module, tuple[Tensor, ...], Callable[..., Tensor]]:
    """Return a model, a batch and the loss of a case, the same at every call."""
    case = CASES[name]
    torch.manual_seed(SEED)
    model = case.build()
    batch = case.batch()
    return model, batch, case.loss


def step(loss: Callable[..., Tensor], model: nn.Module, *batch: Tensor) -> tuple[float, Tensor]:
    """Return the loss, with one seed, and the gradient of all parameters."""
    torch.manual_seed(SEED)
    model.zero_grad()
    value = loss(model, *batch)
    value.backward()
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return value.item(), torch.cat(gradients)
