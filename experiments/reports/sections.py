"""The sections of a report; a function returns nothing where the run has no data for it."""

from collections.abc import Mapping
from statistics import median

from experiments.reports import plots
from experiments.reports.content import Content, evenly
from experiments.reports.html import brief, embed, escape, flat, items, paragraph, section, table
from experiments.reports.validations import NUMBERS, best_validation
from experiments.training.environment import stored_environment
from univae.checkpoint import JsonValue, read_json
from univae.errors import InputError

__all__ = [
    "configuration",
    "curves",
    "distances",
    "grids",
    "headline",
    "inner_runs",
    "latents",
    "notes",
    "similarity",
]

WORDS = ("verdict", "feature_space", "frechet_note", "step")  # keys that follow the numbers
MOST_GRIDS = 6  # of generated images by step, that a page embeds
GRIDS = "step_*.png"  # their files


def headline(content: Content) -> str:
    """Return the state of the run, its best validation and its speed."""
    best = best_validation(content.run)
    rows = [[label, brief(best[name])] for name, label in NUMBERS.items() if name in best]
    rows += [[name, brief(best[name])] for name in WORDS if name in best]
    if content.training:
        rows.append(["steps trained", brief(content.training[-1]["step"])])
    speeds = [row["tokens_per_second"] for row in content.training if row.get("tokens_per_second")]
    if speeds:
        rows.append(["tokens per second (median)", brief(median(speeds))])

    numbers = section("Best validation", table([], rows) if rows else "")
    return paragraph(_state(content), "warning") + numbers


def _state(content: Content) -> str:
    """Return a warning for a run that failed or is not complete."""
    error = content.run.path / "ERROR.json"
    if error.exists():
        return f"Training failed: {brief(read_json(error))}"
    if not (content.run.path / "DONE").exists():
        return "This run is not complete."
    return ""


def notes(content: Content) -> str:
    """Return the notes of ``data.json`` and ``DONE``: what was left out, cut or assumed."""
    entries: list[JsonValue] = list(content.run.data_record().values())
    done = content.run.path / "DONE"
    if done.exists():
        entries.append(read_json(done))

    lines: list[JsonValue] = []
    for entry in entries:
        stored = entry.get("notes") if isinstance(entry, dict) else None
        if isinstance(stored, list):
            lines += stored
    distinct = dict.fromkeys(map(str, lines))
    return section("Notes", items(distinct))


def inner_runs(content: Content) -> str:
    """Return links to the reports of runs inside this run's folder."""
    names = sorted(path.parent.name for path in content.run.path.glob("*/report.html"))
    links = []
    for name in map(escape, names):
        links.append(f'<li><a href="{name}/report.html">{name}</a></li>')
    return section("Runs inside this run", f"<ul>{''.join(links)}</ul>" if links else "")


def curves(content: Content) -> str:
    """Return the training loss and the validation's likelihood by step."""
    loss = content.figure(
        "train_loss",
        plots.train_loss(content.training),
        "Training loss and learning rate by step",
    )
    likelihood = content.figure(
        "validation",
        plots.validation(content.validations),
        "Validation negative log-likelihood with its standard error, and the negative ELBO, "
        "by step",
    )
    return section("Curves", loss + likelihood)


def latents(content: Content) -> str:
    """Return the KL per layer and measures of the use of the latents, by step."""
    kl = content.figure(
        "kl_layers",
        plots.kl_layers(content.validations),
        "KL of every latent layer by step, stacked",
    )
    use = content.figure(
        "use",
        plots.latent_use(content.validations),
        "Active units, and mutual information with its ceiling, by step",
    )
    return section("Use of the latent variables", kl + use)


def similarity(content: Content) -> str:
    """Return rank correlation, recall and generation of a sentence model, by step."""
    figure = content.figure(
        "similarity",
        plots.similarity(content.validations),
        "Rank correlation and recall on held-out texts, and nats per generated token, by step",
    )
    return section("Similarity", figure)


def distances(content: Content) -> str:
    """Return the distance of generated rows to real ones by step, or why there is none."""
    figure = content.figure(
        "distance",
        plots.distance(content.validations),
        "Fréchet distance of generated rows to real ones, precision and recall, by step",
    )
    last = content.validations[-1] if content.validations else {}
    reason = str(last.get("frechet_note") or "")
    return section("Distance to real data", paragraph(reason, "warning") + figure)


def grids(content: Content) -> str:
    """Return images that a GAN generated from the same latents, at steps across its training."""
    steps = {}
    for path in (content.run.path / "samples").glob(GRIDS):
        number = path.stem.removeprefix("step_")
        if number.isdecimal():
            steps[int(number)] = path.name
    pictures = []
    for step in evenly(sorted(steps), MOST_GRIDS):
        title = f"Step {step}"
        try:
            picture = embed(content.picture(steps[step]), f"Generated images, step {step}")
        except InputError as error:
            picture = paragraph(f"cannot be shown: {error}", "warning")
        pictures.append(paragraph(title) + picture)
    return section("Images of the same latents by step", "".join(pictures))


def configuration(content: Content) -> str:
    """Return every option, and the versions, device and command line of the run."""
    environment = flat(stored_environment(content.run.path))
    options = _settings("Configuration", flat(content.run.config))
    return options + _settings("Environment", environment)


def _settings(title: str, values: Mapping[str, object]) -> str:
    rows = [[name, brief(value)] for name, value in values.items()]
    return section(title, table([], rows) if rows else "")
