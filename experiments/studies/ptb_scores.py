"""The scores of test texts by the models of the study of Penn Treebank, kept block by block."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from density.estimation.importance import estimate
from density.estimation.streams import STREAM, own_streams
from density.model import LatentModel
from experiments.data.texts import texts_of
from experiments.evaluation.bounds import layered_bound
from experiments.evaluation.khat_shares import KhatShares
from experiments.evaluation.latent_model import bound_and_use
from experiments.studies.ptb_models import LanguageModel, TokenByToken
from experiments.studies.ptb_training import Config as OwnConfig
from experiments.studies.ptb_training import open_model
from experiments.training.run_folder import Run
from experiments.training.run_tokenizer import open_tokenizer
from experiments.training.task import reseed
from univae.checkpoint import JsonObject, read_json, write_json
from univae.kinds import load
from univae.seeds import seed_of
from univae.text.padding import trimmed
from univae.text.tokenizers import Tokenizer, pad
from univae.vae.scoring import perplexity, text_batches
from univae.vae.trained import TrainedText

__all__ = ["Config", "Scored", "open_scored", "score", "test_texts", "totals"]

BLOCK = 100  # texts scored between two files
POSITIONS = 8192  # tokens decoded at once: bounds the memory
COMPARED = 128  # texts of the mutual information, at most log 128 = 4.85 nats
COLUMNS = ("log_likelihood", "elbo", "standard_error", "effective_samples", "khat")

Columns: TypeAlias = dict[str, list[float]]


@dataclass(frozen=True, kw_only=True)
class Config:
    """The scoring of one run.

    ``resume`` has no effect: blocks of texts that are in ``out`` are never scored again.
    """

    out: Path  # folder of the scores
    run: Path  # the trained run
    test: Path  # test texts
    texts: int  # number of them, the first in a shuffled order; 0: all
    samples: int  # importance samples of a text
    seed: int = 0  # of the draws
    threads: int = 1
    resume: bool = False


class Scored(NamedTuple):
    """A trained model with its tokenizer."""

    model: LatentModel | LanguageModel
    parameters: int
    texts: "PaddedTexts"


@dataclass(frozen=True)
class PaddedTexts:
    """Texts as padded token ids."""

    tokenizer: Tokenizer

    def token_ids(self, texts: Sequence[str]) -> Tensor:
        """Return padded ids (N, T): tokens and one end token a text."""
        return pad(self.tokenizer.encode_batch(texts))


def open_scored(folder: Path) -> Scored:
    """Return the model of a run of the study, in evaluation mode."""
    run = Run.open(folder)
    texts = PaddedTexts(open_tokenizer(run))
    if run.kind == OwnConfig.command:
        model = open_model(folder)
        if not isinstance(model, LatentModel | LanguageModel):
            raise TypeError(f"{folder}: a {type(model).__name__} gives texts no likelihood")
        return Scored(model, _count(model), texts)
    trained = load(folder, device="cpu")
    if not isinstance(trained, TrainedText):
        raise TypeError(f"{folder}: not a run of train-text")
    return Scored(TokenByToken(trained.model), _count(trained.model), texts)


def test_texts(path: Path, count: int) -> list[str]:
    """Return ``count`` texts of a file in a shuffled order, which is always the same; 0: all."""
    texts = list(texts_of(path))
    order = np.random.default_rng(0).permutation(len(texts))
    return [texts[i] for i in order[: count or None]]


@torch.no_grad()
def score(config: Config) -> JsonObject:
    """Score the texts; return the totals, which are written to ``DONE``.

    Blocks of texts that were scored before are read.
    """
    torch.set_num_threads(config.threads)
    config.out.mkdir(parents=True, exist_ok=True)
    write_json(config.out / "config.json", vars(config))
    scored = open_scored(config.run)
    texts = test_texts(config.test, config.texts)
    for start in range(0, len(texts), BLOCK):
        path = config.out / f"{start:05}.json"
        if not path.exists():
            began = time.process_time()
            block = _columns(scored, texts[start : start + BLOCK], config)
            write_json(path, {"seconds": time.process_time() - began, "columns": block})
    columns, seconds = read_scores(config.out)

    result = {
        **totals(columns, config.samples, _tokens(texts)),
        **_use(scored, texts, config.seed),
        "parameters": scored.parameters,
        "scoring_minutes": seconds / 60,
    }
    write_json(config.out / "DONE", result)
    return result


def read_scores(folder: Path) -> tuple[Columns, float]:
    """Return the columns of all blocks of a scoring, in the order of the texts, and its seconds."""
    columns: Columns = {}
    seconds = 0.0
    for path in sorted(folder.glob("[0-9]*.json")):
        stored = read_json(path)
        seconds += stored["seconds"]
        for name, values in stored["columns"].items():
            columns.setdefault(name, []).extend(math.nan if v is None else v for v in values)
    return columns, seconds


def paired_difference(folder: Path, reference: Path) -> JsonObject:
    """Return the nats a text that a scoring lies above another one of the same texts.

    ``standard_error`` is that of the mean of the differences over texts.
    """
    likelihoods = []
    for scores in (folder, reference):
        columns, _ = read_scores(scores)
        likelihoods.append(torch.tensor(columns["log_likelihood"], dtype=torch.float64))
    difference = likelihoods[1] - likelihoods[0]
    error = difference.std() / math.sqrt(len(difference))
    return {"nats": difference.mean().item(), "standard_error": error.item()}


def totals(columns: Mapping[str, Sequence[float]], samples: int, tokens: float) -> JsonObject:
    """Return means over texts in nats from the columns of their scores.

    Those of a language model are exact: ``khat`` is not among its columns. ``tokens`` is the mean
    number of tokens of these texts, whose perplexity is per token.
    """
    log_likelihood = torch.tensor(columns["log_likelihood"], dtype=torch.float64)
    count = len(log_likelihood)
    nll = -log_likelihood.mean().item()
    result: JsonObject = {
        "texts": count,
        "nll_nats": nll,
        "nll_standard_error": (log_likelihood.std() / math.sqrt(count)).item(),
        "tokens_per_text": tokens,
        "perplexity_per_token": perplexity(nll, tokens),
    }
    if "khat" not in columns:
        return result
    column = {name: torch.tensor(columns[name], dtype=torch.float64) for name in COLUMNS}
    return {
        **result,
        "samples": samples,
        "monte_carlo_error": (column["standard_error"].square().sum().sqrt() / count).item(),
        "minus_elbo_nats": -column["elbo"].mean().item(),
        "effective_samples_median": column["effective_samples"].median().item(),
        **KhatShares.of(column["khat"], samples).to_json(),
    }


def _tokens(texts: Sequence[str]) -> float:
    """Return the mean number of tokens of a text: its words and one end token."""
    return sum(len(text.split()) + 1 for text in texts) / len(texts)


def _columns(scored: Scored, texts: Sequence[str], config: Config) -> Columns:
    """Return the scores of a block of texts by column, in the order of the texts."""
    columns: dict[str, np.ndarray] = {}
    for batch in text_batches(scored.texts, texts, 1):
        count = len(batch.rows)
        for name, values in _scores(scored.model, batch.x, count, config).items():
            column = columns.setdefault(name, np.zeros(len(texts)))
            column[batch.rows] = values[:count].double().numpy()
    return {name: column.tolist() for name, column in columns.items()}


def _scores(
    model: LatentModel | LanguageModel, x: Tensor, count: int, config: Config
) -> dict[str, Tensor]:
    """Return the scores of padded texts, of which the first ``count`` are not copies."""
    if isinstance(model, LanguageModel):
        return {"log_likelihood": model.log_prob(x)}
    chunk = max(1, POSITIONS // x.numel())
    with own_streams(seed_of(config.seed, STREAM), x, count):
        return estimate(model, x, config.samples, chunk=chunk)._asdict()


def _use(scored: Scored, texts: Sequence[str], seed: int) -> JsonObject:
    """Return KL and use of the latents, nothing for a model without any."""
    if isinstance(scored.model, LanguageModel):
        return {}
    model = scored.model
    batches = [batch.x[: len(batch.rows)] for batch in text_batches(scored.texts, texts, 1)]
    compared = trimmed(scored.texts.token_ids(texts[:COMPARED]))
    reseed(seed, "evaluate")
    return bound_and_use(model, batches, lambda ids: layered_bound(model, ids), compared, seed)


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
