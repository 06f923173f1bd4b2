"""Charts of a training and of the validations of a VAE; none of what the rows lack."""

import numpy as np

from experiments.reports.charts import Chart
from experiments.reports.metric_curves import NATS, Rows, column
from experiments.reports.series import Area, Bars, Line

__all__ = ["kl_layers", "latent_use", "training", "validation"]

RANGE_PERCENTILES = (0, 98)  # range of the axis of the loss, without the high first steps
WINDOWS = 40  # windows of the running median in a curve


def training(rows: Rows) -> list[Chart]:
    """Return the training loss, row by row and as a running median, and the learning rate."""
    steps, loss = column(rows, "loss")
    if not len(steps):
        return []

    low, high = np.percentile(loss, RANGE_PERCENTILES).tolist()
    room = high - low
    series = [
        Line("every row of the log", steps, loss, is_faint=True),
        Line("running median", steps, _running_median(loss), label="loss"),
    ]
    y_range = (low - 0.05 * room, high + 0.1 * room) if room > 0 else None
    charts = [Chart("train_loss", "Training loss", series, y_range=y_range)]
    steps, rates = column(rows, "lr")
    if len(steps):
        charts.append(Chart("learning_rate", "Learning rate", [Line("", steps, rates, colour=7)]))
    return charts


def validation(rows: Rows) -> list[Chart]:
    """Return the negative log-likelihood with its standard error, and its upper bound."""
    steps, nll = column(rows, "nll_nats")
    if not len(steps):
        return []

    errors = []
    for row in rows:
        if len(column([row], "nll_nats")[0]):
            errors.append(float(row.get("nll_standard_error") or 0.0))
    series = [Line("NLL ± standard error", steps, nll, errors=errors, label="NLL")]
    bound_steps, elbo = column(rows, "elbo_nats")
    if len(bound_steps):
        series.append(Line("−ELBO, an upper bound", bound_steps, -elbo, 1, label="−ELBO"))
    title = "Negative log-likelihood of held-out data"
    return [Chart("validation", title, series, y_label=NATS)]


def kl_layers(rows: Rows) -> list[Chart]:
    """Return the KL of every latent layer, stacked; of a single validation, as bars."""
    complete = [row for row in rows if row.get("kl_nats") and None not in row["kl_nats"]]
    if not complete:
        return []

    steps = np.array([row["step"] for row in complete], dtype=np.float64)
    layers = np.array([row["kl_nats"] for row in complete], dtype=np.float64).T
    names = [f"layer {i}" for i in range(len(layers))]
    title = "KL of every latent layer"
    if len(complete) == 1:  # an area needs two steps
        bars = Bars("", range(len(layers) + 1), layers[:, 0], labels=names)
        return [Chart("kl_layers", title, [bars], x_label="", y_label=NATS, x_names=names)]

    tops = layers.cumsum(axis=0)
    bottoms = tops - layers
    areas = []
    for i, name in enumerate(names):
        areas.append(Area(name, steps, bottoms[i], tops[i], i))
    return [Chart("kl_layers", f"{title}, stacked", areas, y_label=NATS)]


def latent_use(rows: Rows) -> list[Chart]:
    """Return the mutual information of datum and latent with its ceiling, and active units.

    The ceiling is the largest value of the estimator of the mutual information.
    """
    series = []
    information = {
        "mutual_information_nats": "mutual information",
        "shuffled_gap_nats": "loss with shuffled latents",
    }
    for colour, (key, name) in enumerate(information.items()):
        steps, values = column(rows, key)
        if len(steps):
            series.append(Line(name, steps, values, colour))
    ceiling = column(rows, "mutual_information_ceiling_nats")
    if series and len(ceiling[0]):
        series.append(Line("ceiling of the estimate", *ceiling, colour=7, is_dashed=True))
    charts = [Chart("use", "Use of the latents", series, y_label=NATS)] if series else []

    steps, units = column(rows, "active_units")
    if len(steps):
        top = max(float(units.max()) * 1.05, 1.0)
        line = Line("", steps, units, colour=2)
        charts.append(Chart("active_units", "Active latent units", [line], y_range=(0.0, top)))
    return charts


def _running_median(values: np.ndarray) -> np.ndarray:
    half = max(len(values) // WINDOWS, 1)
    medians = []
    for i in range(len(values)):
        medians.append(np.median(values[max(i - half, 0) : i + half + 1]))
    return np.array(medians)
