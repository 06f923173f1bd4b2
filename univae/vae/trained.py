"""A trained text VAE: texts to latents and back, samples, interpolations and edits of layers."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from univae.arguments import as_layers, whole_number
from univae.as_texts import Texts, as_texts
from univae.checkpoint import read_module
from univae.decoding.beam import beam_search
from univae.decoding.sampling import Sampling, generate
from univae.errors import InputError
from univae.run_folder import RunFolder, model_shape
from univae.seeds import seeded
from univae.text.run_tokenizer import open_tokenizer
from univae.text.tokenizers import Tokenizer, pad
from univae.trained import WEIGHTS, Trained
from univae.vae.model import UniVAE, UniVAEConfig
from univae.vae.scoring import TextScoring, text_batches, text_sizes

__all__ = ["Edit", "TrainedText", "model_config", "word_overlap"]

ROWS = 256  # texts encoded, or hypotheses decoded, at once: bounds the memory
GREEDY = Sampling(temperature=0.0)
ANCESTRAL = Sampling()
ENDS = 2  # texts of the shortest interpolation


@dataclass(frozen=True)
class Edit:
    """A text with some latent layers drawn anew, beside the reconstruction of the original."""

    text: str
    kept: list[str]  # its words that the reconstruction has too, in its order
    share: float  # Dice's coefficient of the two bags of words, in [0, 1]


class TrainedText(Trained):
    """A UniVAE with its tokenizer.

    Latents ("codes") are tensors (N, S, d): N texts, S latent layers, d features.
    """

    kind = "train-text"
    description = "a text model"

    def __init__(
        self,
        folder: RunFolder,
        device: torch.device,
        checkpoint: str,
        model: UniVAE,
        tokenizer: Tokenizer,
    ) -> None:
        super().__init__(folder, device, checkpoint)
        self.model = model
        self.tokenizer = tokenizer

    @classmethod
    def read(cls, folder: RunFolder, device: torch.device, checkpoint: str) -> "TrainedText":
        """Read tokenizer, model configuration and the weights of a checkpoint."""
        tokenizer = open_tokenizer(folder)
        config = model_config(folder.config, tokenizer.vocab_size)
        weights = folder.checkpoint(checkpoint) / WEIGHTS
        model = read_module(lambda: UniVAE(config), weights, folder.path / "config.json")
        return cls(folder, device, checkpoint, model.to(device).eval(), tokenizer)

    # Texts and token ids.

    def token_ids(self, texts: Sequence[str]) -> Tensor:
        """Return padded ids (N, T) on the model's device: tokens and one end token a text."""
        return pad(self.tokenizer.encode_batch(texts)).to(self.device)

    def texts_of(self, ids: Tensor) -> list[str]:
        """Return the texts of ids (N, T), each up to its end token."""
        return [self.tokenizer.decode(row) for row in ids]

    # Texts and latents.

    def encode(self, texts: Texts) -> np.ndarray:
        """Return the codes of texts, (N, S, d) float32, see :meth:`modes`.

        ``texts`` are a text, a list of texts, or an array, Series or DataFrame of them.
        """
        return self.modes(as_texts(texts, "encode")).float().cpu().numpy()

    @property
    def trained_length(self) -> int:
        """The most tokens of a training text, its end token included."""
        return self.folder.trained_length() or self.model.config.max_length

    @torch.inference_mode()
    def modes(self, texts: Sequence[str]) -> Tensor:
        """Return the codes (N, S, d): each layer's posterior mode given the modes before it."""
        config = self.model.config
        codes = [torch.empty(0, config.latent_layers, config.latent_width, device=self.device)]
        for start in range(0, len(texts), ROWS):
            ids = self.token_ids(texts[start : start + ROWS])
            codes.append(self.model.posterior(ids).modes())
        return torch.cat(codes)

    @torch.inference_mode()
    def decode(
        self, z: Tensor, sampling: Sampling = GREEDY, beam: int = 1, longest: int = 0
    ) -> list[str]:
        """Return the texts of latents (N, S, d).

        Args:
            z: the latents.
            sampling: how the next token is drawn; greedy by default.
            beam: with more than 1, the best of so many hypotheses, and no sampling.
            longest: the largest number of tokens of a text, if above the model's ``max_length``.
        """
        length = max(self.model.config.max_length, longest)
        texts: list[str] = []
        for chunk in torch.split(z, max(1, ROWS // beam)):
            if beam > 1:
                step = self.model.decoder(chunk.repeat_interleave(beam, 0), length)
                ids = beam_search(step, len(chunk), beam, length)[0]
            else:
                step = self.model.decoder(chunk, length)
                ids = generate(step, len(chunk), length, sampling)
            texts += self.texts_of(ids)
        return texts

    @torch.inference_mode()
    def sample(
        self, count: int, sampling: Sampling = ANCESTRAL, seed: int | None = None
    ) -> list[str]:
        """Draw texts from the prior.

        With a ``seed`` the global generators are left as they are.

        Raises:
            InputError: ``count`` is below 1.
        """
        count = whole_number("sample", "count", count)
        with seeded(seed, self.device):
            z = self.model.prior().sample(torch.Size((count,)))
            return self.decode(z, sampling)

    def reconstruct(self, texts: Texts, beam: int = 1) -> list[str]:
        """Return the most probable text of each code, by greedy decoding or a beam.

        ``texts``: see :meth:`encode`.

        Raises:
            InputError: ``beam``, the number of hypotheses, is below 1.
        """
        beam = whole_number("reconstruct", "beam", beam)
        texts = as_texts(texts, "reconstruct")
        if not texts:
            return []
        longest = max(map(len, self.tokenizer.encode_batch(texts))) + 1  # and the end token
        return self.decode(self.modes(texts), beam=beam, longest=longest)

    def interpolate(self, a: Texts, b: Texts, steps: int = 7) -> list[str]:
        """Return the texts at ``steps`` equal distances from a to b, both reconstructed.

        The way is a straight line for Gaussian latents, a great circle for those on a sphere.

        Raises:
            InputError: ``steps`` is below 2.
        """
        steps = whole_number("interpolate", "steps", steps, ENDS)
        start, end = self.modes(_one_text(a, "interpolate") + _one_text(b, "interpolate"))
        with torch.inference_mode():
            t = torch.linspace(0, 1, steps, device=start.device, dtype=start.dtype)
            z = self.model.config.family.interpolate(start, end, t)
        return self.decode(z)

    @torch.inference_mode()
    def edit(
        self,
        text: Texts,
        layers: int | Collection[int] = (0,),
        count: int = 5,
        seed: int | None = None,
    ) -> tuple[str, list[Edit]]:
        """Return the reconstruction of a text, and ``count`` texts with some layers drawn anew.

        Args:
            text: the text.
            layers: the latent layers to draw from the prior, or one, counted from 0 at the bottom.
            count: how many draws.
            seed: with a seed the global generators are left as they are.

        Raises:
            InputError: ``count`` is below 1, or the model has no such layer.
        """
        count = whole_number("edit", "count", count)
        layers = as_layers("edit", layers)
        z = self.modes(_one_text(text, "edit"))
        with seeded(seed, self.device):
            edited = self.model.resample(z.repeat(count, 1, 1), layers)
        reconstruction, *texts = self.decode(torch.cat((z, edited)))
        return reconstruction, [_edit(reconstruction, text) for text in texts]

    def scoring(self, data: Texts, latents: int) -> TextScoring:
        """Return texts as batches to score, see :class:`univae.vae.scoring.TextScoring`.

        Raises:
            InputError: there are no texts, or an entry is no text.
        """
        texts = as_texts(data, "score")
        if not texts:
            raise InputError("score: needs at least one text; got an empty list")
        return TextScoring(
            count=len(texts),
            batches=text_batches(self, texts, latents),
            sizes=text_sizes(self.tokenizer, texts),
            unit="text",
            max_length=self.trained_length,
        )


def model_config(config: Mapping[str, object], vocab_size: int) -> UniVAEConfig:
    """Return the model's configuration from that of a run and its tokenizer's number of ids."""
    return model_shape(UniVAEConfig, config, vocab_size)


def word_overlap(a: str, b: str) -> float:
    """Return Dice's coefficient of the bags of words of two texts, in [0, 1]."""
    total = len(a.split()) + len(b.split())
    return 2 * len(_shared_words(a, b)) / total if total else 1.0


def _one_text(text: Texts, who: str) -> list[str]:
    """Return a text as a list of one; a list of one text is one, too."""
    texts = as_texts(text, who)
    if len(texts) != 1:
        raise InputError(f"{who}: takes one text; got {len(texts)}; call it for each")
    return texts


def _edit(reconstruction: str, text: str) -> Edit:
    shared = _shared_words(reconstruction, text)
    return Edit(text, shared, word_overlap(reconstruction, text))


def _shared_words(a: str, b: str) -> list[str]:
    """Return the words of b that a has too, in b's order, each as often as in both."""
    remaining = Counter(a.split())
    shared = []
    for word in b.split():
        if remaining[word] > 0:
            remaining[word] -= 1
            shared.append(word)
    return shared
