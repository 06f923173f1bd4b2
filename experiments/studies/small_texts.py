"""A small UniVAE on ``python-docs``, for studies of optimizers that train it many times."""

from pathlib import Path

from experiments.data.texts import BUILT_IN, texts_of
from experiments.text.task import TextObjective, TextTask
from univae.text.corpus import Corpus, split
from univae.text.tokenizers import train_tokenizer
from univae.vae.model import UniVAE, UniVAEConfig

__all__ = ["prepare_corpus", "small_text_task"]

VOCABULARY = 1024
# No batch normalisation of the means: its statistics would be those of a micro-batch, which may
# have one text.
SHAPE = UniVAEConfig(
    VOCABULARY,
    width=64,
    heads=2,
    layers=2,
    latent_layers=1,
    latent_width=16,
    max_length=64,
    word_dropout=0.4,
)
HELD_OUT = 256  # texts


def small_text_task(corpus_folder: Path, batch_tokens: int, seed: int) -> TextTask:
    """Return the training of a new model with ``batch_tokens`` padded tokens in a micro-batch."""
    corpus = Corpus.open(corpus_folder)
    indices, held_out = split(len(corpus), 0.05, 0)
    return TextTask(
        UniVAE(SHAPE),
        TextObjective(batch_tokens=batch_tokens, validation_samples=4),
        seed,
        (corpus, indices),
        corpus.gather(held_out[:HELD_OUT]),
    )


def prepare_corpus(folder: Path) -> None:
    """Tokenise ``python-docs`` into ``folder``, where this is not done."""
    if not (folder / "DONE").exists():
        tokenizer = train_tokenizer("bpe", texts_of(BUILT_IN), VOCABULARY)
        Corpus.build(texts_of(BUILT_IN), tokenizer, folder, max_length=SHAPE.max_length)
        (folder / "DONE").touch()
