"""Measures of a text VAE on test texts besides their likelihood: latents and reconstructions."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from experiments.data.kept_texts import KeptTexts
from experiments.data.texts import blocks
from experiments.evaluation.bounds import layered_bound
from experiments.evaluation.latent_model import COMPARED, bound_and_use
from experiments.evaluation.scores import perplexity
from univae.checkpoint import JsonObject
from univae.vae.trained import TrainedText, word_overlap

__all__ = ["text_measures"]

ROWS = 32  # texts evaluated at once: bounds the memory
BLOCK = 2048  # texts from which those of similar length are evaluated together
RECONSTRUCTED = 200  # texts that are decoded again


def text_measures(
    run: TrainedText, texts: KeptTexts, tokens: int, nll_nats: float, seed: int
) -> JsonObject:
    """Return perplexity per token, bound, use of the latents, and what reconstructions keep.

    ``word_overlap`` is the mean Dice's coefficient of the words of a text and its greedy
    reconstruction, over the first ``reconstructed`` texts.

    Args:
        run: the text model.
        texts: all texts.
        tokens: the number of their tokens.
        nll_nats: mean negative log-likelihood of a text.
        seed: seed of the draws of the bound.
    """
    compared = run.token_ids(texts.first(COMPARED))
    measures = bound_and_use(
        run.model,
        _batches(run, texts),
        lambda ids: layered_bound(run.model, ids),
        compared,
        seed,
    )
    return {
        "perplexity_per_token": perplexity(nll_nats * len(texts), tokens),
        **measures,
        **_reconstruction(run, texts.first(RECONSTRUCTED)),
    }


def _batches(run: TrainedText, texts: KeptTexts) -> Iterator[Tensor]:
    """Yield padded ids of all texts, those of similar length within a block together."""
    for block in blocks(texts, BLOCK):
        by_length = sorted(block, key=len)
        for start in range(0, len(block), ROWS):
            yield run.token_ids(by_length[start : start + ROWS])


def _reconstruction(run: TrainedText, texts: Sequence[str]) -> JsonObject:
    again = run.reconstruct(texts)
    pairs = list(zip(texts, again, strict=True))
    return {
        "word_overlap": sum(word_overlap(*pair) for pair in pairs) / len(pairs),
        "exact_share": sum(text == reconstruction for text, reconstruction in pairs) / len(pairs),
        "reconstructed": len(pairs),
    }
