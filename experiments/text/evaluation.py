"""Measures of a text VAE on test texts besides their likelihood: latents and reconstructions."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from density.estimation.streams import own_draws
from experiments.evaluation.latent_model import COMPARED, Bound, bound_and_use
from experiments.evaluation.scores import perplexity
from univae.checkpoint import JsonObject
from univae.vae.trained import TrainedText, word_overlap

__all__ = ["text_measures"]

ROWS = 32  # texts evaluated at once: bounds the memory
RECONSTRUCTED = 200  # texts that are decoded again


def text_measures(
    run: TrainedText, rows: Sequence[JsonObject], nll_nats: float, seed: int
) -> JsonObject:
    """Return perplexity per token, bound, use of the latents, and what reconstructions keep.

    ``word_overlap`` is the mean Dice's coefficient of the words of a text and its greedy
    reconstruction, over the first ``reconstructed`` texts.

    Args:
        run: the text model.
        rows: scores of texts, with ``text`` and ``tokens``.
        nll_nats: mean negative log-likelihood of a text.
        seed: seed of the draws of the bound.
    """
    texts = [row["text"] for row in rows]
    tokens = sum(row["tokens"] for row in rows)
    compared = run.token_ids(texts[:COMPARED])

    def bound(ids: Tensor) -> Bound:
        with own_draws(ids, "bound", axis=0):
            return run.model.elbo(ids)

    return {
        "perplexity_per_token": perplexity(nll_nats * len(texts), tokens),
        **bound_and_use(run.model, _batches(run, texts), bound, compared, seed),
        **_reconstruction(run, texts[:RECONSTRUCTED]),
    }


def _batches(run: TrainedText, texts: Sequence[str]) -> Iterator[Tensor]:
    """Yield padded ids of all texts, those of similar length together."""
    by_length = sorted(texts, key=len)
    for start in range(0, len(texts), ROWS):
        yield run.token_ids(by_length[start : start + ROWS])


def _reconstruction(run: TrainedText, texts: Sequence[str]) -> JsonObject:
    again = run.reconstruct(texts)
    pairs = list(zip(texts, again, strict=True))
    return {
        "word_overlap": sum(word_overlap(*pair) for pair in pairs) / len(pairs),
        "exact_share": sum(text == reconstruction for text, reconstruction in pairs) / len(pairs),
        "reconstructed": len(pairs),
    }
