r"""Log-likelihoods of data by a run or by any latent-variable model, with errors and diagnostics.

>>> from density.images.mlp import MLPVAE
>>> from density.likelihoods.head import Pixels
>>> model = MLPVAE(Pixels((4,)), (1,), ((4,),))
>>> scores = score(model, [[0, 1, 1, 0], [1, 1, 1, 1]], samples=64, proposal="posterior")
>>> len(scores), scores.mean < 0
(2, True)
"""

import numpy as np
import torch
from torch import Tensor, nn

from density.estimation.batches import row_batches, scored_at_once
from density.estimation.datum_scores import REFINED, check_proposal, datum_scores
from density.estimation.proposal import Proposal
from density.estimation.proposals import Defensive
from density.estimation.streams import STREAM, own_streams
from density.model import LatentModel, model_input
from density.score_results import Scores
from univae.arguments import whole_number
from univae.as_texts import index_of
from univae.data_frames import as_frame
from univae.dtypes import as_floating
from univae.errors import InputError
from univae.modes import evaluating
from univae.seeds import seed_of, seeded
from univae.trained import Scoring, ScoringBatch, Trained

__all__ = ["Scores", "score"]

AUTO = "auto"
LARGEST_SEED = 2**62
PRIOR_SHARE = 0.5  # of the draws, where "auto" cannot judge data one by one
ROW = "row"  # unit of tables
REMEDY = "the first axis counts the data: give x[None] for one datum x"


def score(
    model: object,
    data: object,
    samples: int = 128,
    proposal: str | Proposal = "auto",
    *,
    seed: int | None = 0,
) -> Scores:
    r"""Estimate the log-likelihood of every datum, with its error and diagnostics.

    With the same seed the numbers of a run are those of ``univae likelihood``. Data are scored in
    batches that fit into memory, and the scores are in their order; a datum's draws depend on the
    seed and on the datum alone (:mod:`density.estimation.streams`). Modules are in evaluation mode
    meanwhile, and there are no gradients.

    Args:
        model: a run of :func:`univae.load`, or a model with prior, posterior and likelihood, as
            :func:`density.from_pyro` returns.
        data: for a text run a list of texts; for a run of images or a table rows in the units of
            its training data; for another model its input, a tensor or an array. Series and
            DataFrames keep their index.
        samples: importance samples a datum; with ``auto`` the fewest.
        proposal: the name of a row of :data:`density.estimation.registry.PROPOSALS`, or a proposal.
            With an automatic guide of Pyro, which holds latents of each training datum, ``auto`` is
            ``Defensive(0.5)``: half of the draws are from the prior.
        seed: seed of the samples, with which the global generators are left as they are; None:
            the global generator draws it.

    Raises:
        InputError: the model has no likelihood or no posterior, the data are not of its kind, or
            the proposal does not fit its latents.
    """
    samples = whole_number("score", "samples", samples)
    if not isinstance(proposal, str | Proposal):
        raise InputError(
            "score: proposal must be a name, such as 'auto' or 'posterior', or an object with "
            f"draws; got {type(proposal).__name__} {proposal!r}"
        )
    latent_model = _latent_model(model)
    scoring = _scoring(model, latent_model, data)
    if proposal == AUTO and needs_all_data(latent_model):
        proposal = Defensive(PRIOR_SHARE)
    hashed = _global_seed() if seed is None else seed_of(seed, STREAM)
    with seeded(hashed, _device(model)), torch.no_grad(), evaluating(*_modules(latent_model)):
        columns = _columns(latent_model, scoring, samples, proposal, hashed)
    name = proposal if isinstance(proposal, str) else type(proposal).__name__
    rows = as_frame(data) if scoring.unit == ROW else data  # a Series is one row of a table
    return Scores.of(columns, scoring, name, index_of(rows))


def _latent_model(model: object) -> LatentModel:
    """Return the model of a run, or the model itself.

    Raises:
        InputError: it is no latent-variable model, or the kind of run has no likelihood.
    """
    if isinstance(model, Trained):
        inner = getattr(model, "model", None)
        if not isinstance(inner, LatentModel):
            raise model.refusal("score")
        return inner
    if not isinstance(model, LatentModel):
        raise InputError(
            "score: model must be a run of univae.load, or have prior(), posterior(x) and "
            f"likelihood(z); got {type(model).__name__}; for Pyro give "
            "density.from_pyro(model, guide)"
        )
    return model


def _scoring(model: object, latent_model: LatentModel, data: object) -> Scoring:
    """Return the data as batches to score."""
    if isinstance(model, Trained):
        return model.scoring(data, REFINED)
    x = model_input(data, "score")
    if needs_all_data(latent_model):
        batches = iter([ScoringBatch(list(range(len(x))), x, None)])
    else:
        x = _accepted(latent_model, x)
        batches = row_batches(latent_model, x, REFINED)
    return Scoring(len(x), batches, {}, "datum")


def _accepted(model: LatentModel, x: Tensor) -> Tensor:
    """Return the data as the model takes them: whole numbers as floats where it takes no others.

    Raises:
        InputError: the model takes no rows of this shape, or its posterior is not one per datum.
    """
    batch = x[: scored_at_once(model, REFINED)]
    shape = tuple(batch.shape)
    try:
        with seeded(0, x.device), torch.no_grad(), evaluating(*_modules(model)):
            posterior = model.posterior(batch)
    except RuntimeError as error:
        if not x.is_floating_point():
            return _accepted(model, as_floating(x))
        reason = str(error).splitlines()[0]
        raise InputError(
            f"score: the model does not take data of shape {shape} ({reason}); {REMEDY}"
        ) from error
    if posterior.batch_shape != (len(batch),):
        raise InputError(
            f"score: posterior(x) of data of shape {shape} must have batch shape ({len(batch)},); "
            f"got {tuple(posterior.batch_shape)}; {REMEDY}, and sum over other axes with "
            "Independent"
        )
    return x


def needs_all_data(model: LatentModel) -> bool:
    """Return whether a model scores all its training data together, and not some of them.

    The automatic guides of Pyro hold latents of every training datum.
    """
    return bool(getattr(model, "needs_all_data", False))


def _columns(
    model: LatentModel, scoring: Scoring, samples: int, proposal: str | Proposal, seed: int
) -> dict[str, np.ndarray]:
    """Return the scores of all batches by column, in the order of the data."""
    columns: dict[str, np.ndarray] = {}
    for batch in scoring.batches:
        if not columns:
            check_proposal(model, batch.x[:1], proposal)
        with own_streams(seed, batch.x, len(batch.rows)) as numbers:
            scores = datum_scores(model, batch.x, samples, proposal, batch.chunk)
        scores["datum"] = torch.tensor(numbers)
        for name, values in scores.items():
            array = _array(values)[: len(batch.rows)]
            if name not in columns:
                columns[name] = np.empty(scoring.count, array.dtype)
            columns[name][batch.rows] = array
    return columns


def _global_seed() -> int:
    """Return a seed that the global generator draws."""
    return int(torch.randint(LARGEST_SEED, ()))


def _array(values: Tensor) -> np.ndarray:
    return values.detach().cpu().numpy()


def _device(model: object) -> torch.device:
    """Return the device that draws: that of a run, or of a module's first parameter."""
    if isinstance(model, Trained):
        return model.device
    for module in _modules(model):
        for parameter in module.parameters():
            return parameter.device
    return torch.device("cpu")


def _modules(model: object) -> list[nn.Module]:
    """Return the modules whose mode matters: the model, or what it is made of."""
    if isinstance(model, nn.Module):
        return [model]
    parts = [getattr(model, name, None) for name in ("model", "guide")]
    return [part for part in parts if isinstance(part, nn.Module)]
