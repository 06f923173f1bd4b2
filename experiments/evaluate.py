"""``univae evaluate``: the measures of a trained model of any kind on test data."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
import tyro
from typing_extensions import Doc

from density.trained import TrainedDensity
from experiments import evaluate_gan
from experiments.cli.commands import run
from experiments.data.kept_texts import KeptTexts
from experiments.data.notes import print_notes, with_notes
from experiments.evaluation.methods import Estimation
from experiments.evaluation.open_run import open_run
from experiments.evaluation.proposals import PROPOSALS, ProposalName
from experiments.evaluation.score_columns import ScoreColumns
from experiments.evaluation.score_table import scores_file
from experiments.evaluation.scorer import Scorer, ScoringTask
from experiments.images.evaluation import row_measures
from experiments.images.scorer import ArrayScorer
from experiments.kinds import Use, use_of
from experiments.likelihood import scored
from experiments.text.evaluation import text_measures
from experiments.text.scorer import TextScorer
from experiments.training.distributed import World, join
from experiments.training.settings import LIMIT, SEED
from experiments.training.task import reseed
from gan.trained import TrainedGan
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.registry import choices_help
from univae.rules import Rule, at_least, check
from univae.sentence.trained import TrainedSimilar
from univae.trained import Trained
from univae.vae.trained import TrainedText

__all__ = ["EVALUATORS", "Config", "main"]

DOUBTFUL = 0.1  # share of estimates with a large k-hat above which the result says so


@dataclass(frozen=True, kw_only=True)
class Config:
    """Measures a trained model on test data, by the measures of its kind."""

    run: tyro.conf.Positional[Path]  # the run folder
    # test data: texts, one a line; images or rows in any format of train-density; labelled or
    # similar pairs for a sentence model; for a GAN other real data, empty: its training data
    data: str = ""
    # for a VAE: file to write, with the scores of each datum: .csv, .tsv, .jsonl or .parquet
    out: Path | None = None
    overwrite: bool = False  # replace an existing output file
    limit: int = 0  # number of data or pairs to measure, the first of --data; 0: all
    samples: int = 128  # for a VAE: importance samples per datum; more lower the standard error
    proposal: Annotated[
        ProposalName, Doc(choices_help("for a VAE: proposal distribution", PROPOSALS))
    ] = "posterior"
    # for a sentence model: columns of the two texts and their label, names or numbers from 1
    columns: tuple[str, ...] = ()
    # for a GAN: number of generated data, at most half of the real ones; 0: 5000, and 50,000 for
    # --features inception, which compares with all of the real ones
    count: int = 0
    # for a GAN: feature space, see train-gan --features; empty: that of the run; inception: FID and
    # KID as published, which needs univae[fid]
    features: str = ""
    # for --features inception: file of its weights; without one they are downloaded
    inception_weights: Path | None = None
    # for --features inception: .npz with mu and sigma of real images, in place of the training data
    reference_statistics: Path | None = None
    checkpoint: str = "best"  # for a GAN: best (weights of the best validation) or last
    seed: int = 0  # seed of the samples
    device: str = "auto"  # auto (the GPU if there is one), cpu, cuda, cuda:1, ...

    RULES: ClassVar[Mapping[str, Rule]] = {
        "limit": LIMIT,
        "samples": at_least(1, 10**8),
        "count": evaluate_gan.count_rule,
        "seed": SEED,
    }

    def __post_init__(self) -> None:
        check(self)


def main(config: Config) -> JsonObject:
    """Measure the model.

    Returns:
        of texts means per text: ``nll_nats`` (importance-sampled), ``elbo_nats`` (the bound),
        ``kl_nats`` per latent layer, perplexities, bits, mutual information, active units, and
        ``word_overlap`` of reconstructions; of images and rows the same per row, with
        ``bits_per_dim``; of a GAN what ``evaluate-gan`` returns; of a sentence model rank
        correlation, area under the curve and recall.
    """
    return use_of(config, EVALUATORS, "evaluate").act(config)


@torch.no_grad()
def _evaluate_texts(config: Config) -> JsonObject:
    with join(config.device) as world, KeptTexts.open() as texts:
        scorer = TextScorer(_task(config, world))
        rows = ScoreColumns.of(texts.keeping(_scored(config, scorer), "text"))
        if not world.first:
            return {}
        result = _scores(config, scorer, rows)
        nll = math.nan if result["nll_nats"] is None else result["nll_nats"]
        reseed(config.seed, "evaluate")  # of the use of the latents, which compares data
        measures = text_measures(scorer.run, texts, rows.total("tokens"), nll, config.seed)
        return _with_all_notes(scorer, rows, result, measures)


@torch.no_grad()
def _evaluate_rows(config: Config) -> JsonObject:
    with join(config.device) as world:
        scorer = ArrayScorer(_task(config, world))
        rows = ScoreColumns.of(_scored(config, scorer))
        if not world.first:
            return {}
        result = _scores(config, scorer, rows)
        reseed(config.seed, "evaluate")  # of the use of the latents, which compares data
        measures = row_measures(scorer.run, scorer.data, len(rows), config.seed)
        return _with_all_notes(scorer, rows, result, measures)


def _evaluate_gan(config: Config) -> JsonObject:
    return evaluate_gan.main(
        evaluate_gan.Config(
            run=config.run,
            data=config.data,
            count=config.count,
            features=config.features,
            inception_weights=config.inception_weights,
            reference_statistics=config.reference_statistics,
            checkpoint=config.checkpoint,
            seed=config.seed,
            device=config.device,
        )
    )


def _evaluate_pairs(config: Config) -> JsonObject:
    from experiments.sentences.pair_evaluation import evaluate_pairs

    _require_data(config, "labelled or similar pairs")
    run = open_run(TrainedSimilar, config.run, config.device)
    result = evaluate_pairs(run, config.data, config.columns, config.limit)
    notes = result.pop("notes", [])
    print_notes(notes)
    return with_notes({"run": str(config.run), **result}, [*run.notes, *notes])


def _task(config: Config, world: World) -> ScoringTask:
    _require_data(config, "the data to score")
    estimator = Estimation(samples=config.samples, proposal=config.proposal).estimator
    device = str(world.device)
    return ScoringTask(config.run, device, config.data, config.limit, estimator, config.seed, world)


def _scored(config: Config, scorer: TextScorer | ArrayScorer) -> Iterator[JsonObject]:
    """Return the scores of ``univae likelihood``, from the same draws."""
    out = scores_file(config.out, (config.run, config.data), overwrite=config.overwrite)
    scorer.task.estimator.check(scorer.model)
    return scored(scorer, scorer.task.estimator, out)


def _scores(config: Config, scorer: TextScorer | ArrayScorer, rows: ScoreColumns) -> JsonObject:
    """Return the numbers of ``univae likelihood``.

    ``nll_nats`` is the negative mean log-likelihood, an estimate.
    """
    estimator = scorer.task.estimator
    totals = estimator.totals(rows)
    mean = totals["log_likelihood_nats"]
    return {
        "run": str(config.run),
        **estimator.settings(),
        "nll_nats": None if mean is None else -mean,
        **totals,
        **scorer.rates(rows, math.nan if mean is None else mean),
    }


def _with_all_notes(
    scorer: Scorer, rows: ScoreColumns, result: JsonObject, measures: JsonObject
) -> JsonObject:
    """Return scores and measures as one result, with all notes."""
    notes = [*scorer.notes(rows, result), *result.pop("notes", []), *measures.pop("notes", [])]
    share = result.get("khat_unreliable")
    if share is not None and share > DOUBTFUL:
        notes.append(
            f"nll_nats is no more than an upper bound for {share:.0%} of the data, whose k-hat is "
            "large; --proposal auto takes longer and estimates them better"
        )
    print_notes(notes)
    return with_notes({**result, **measures}, [*scorer.folder.notes, *notes])


def _require_data(config: Config, words: str) -> None:
    if not config.data:
        raise InputError(f"evaluate: {config.run} needs --data, {words}")


GENERATED = ("count", "features", "inception_weights", "reference_statistics", "checkpoint")
SCORED = ("out", "overwrite", "limit", "samples", "proposal")

EVALUATORS: Mapping[type[Trained], Use[Any]] = {
    TrainedGan: Use(TrainedGan, GENERATED, _evaluate_gan),
    TrainedDensity: Use(TrainedDensity, SCORED, _evaluate_rows),
    TrainedSimilar: Use(TrainedSimilar, ("columns", "limit"), _evaluate_pairs),
    TrainedText: Use(TrainedText, SCORED, _evaluate_texts),
}


if __name__ == "__main__":
    run(Config, main)
