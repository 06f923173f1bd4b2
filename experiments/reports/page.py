"""``report.html``: what a run folder holds, on one page that needs no other file.

A section is a function from a :class:`Page` to HTML, empty when the run lacks its data;
:data:`SECTIONS` lists them in order, and a new kind of run adds its own.
"""

import math
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.figure import Figure

from experiments.reports import plots
from experiments.reports.html import brief, document, embed, escape, flat, paragraph, section, table
from univae.checkpoint import read_json, replacing_file, write_text_atomic
from univae.errors import InputError
from univae.run_folder import RunFolder

__all__ = [
    "LARGEST_PICTURE",
    "NUMBERS",
    "PNG",
    "SECTIONS",
    "Page",
    "best_validation",
    "configuration",
    "curves",
    "headline",
    "latents",
    "likelihoods",
    "maps",
    "notes",
    "parts",
    "pictures",
    "similarity",
    "tables",
    "update",
    "write",
]


# Numbers of a validation that a headline shows, where it has them; all are means over the
# validation's data.
NUMBERS = {
    "nll_nats": "negative log-likelihood (nats)",
    "nll_standard_error": "its standard error over data (nats)",
    "effective_samples_median": "effective importance samples (median)",
    "khat_above_0.7": "share of data whose k-hat is above 0.7 or none",
    "khat_unreliable": "share of data whose k-hat is above what the samples bear, or none",
    "bits_per_token": "bits per token",
    "bits_per_dim": "bits per dimension",
    "elbo_nats": "ELBO (nats)",
    "reconstruction_nats": "reconstruction (nats)",
    "kl_nats": "KL of all layers (nats)",
    "active_units": "active units",
    "mutual_information_nats": "mutual information (nats)",
    "mutual_information_ceiling_nats": "the most its estimate can show (nats)",
    "shuffled_gap_nats": "loss with shuffled latents (nats)",
    "spearman": "Spearman's rank correlation with labels",
    "recall_at_1": "recall at 1 of held-out pairs",
    "recall_at_10": "recall at 10 of held-out pairs",
    "generation_nats_per_token": "writing the other text (nats per token)",
    "held_out_loss": "loss of held-out pairs",
    "frechet_distance": "Fréchet distance",
    "kernel_distance": "kernel distance",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "sliced_wasserstein": "sliced Wasserstein distance",
    "classes_found": "classes found",
}


PNG = b"\x89PNG\r\n\x1a\n"

LARGEST_PICTURE = 2**26  # bytes of an image that a report embeds


class Page:
    """A report in the making: the run, and :meth:`figure`, which saves a plot and embeds it."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.validations = run.rows("validation")
        self.training = run.rows("train")
        found = [read_json(path) for path in sorted((run.path / "samples").glob("*.json"))]
        self.samples = [
            item for item in found if isinstance(item, dict) and {"kind", "title"} <= item.keys()
        ]

    def items(self, kind: str, show: Callable[[int, dict[str, Any]], str]) -> str:
        """Return the HTML of every item of ``samples/`` of one kind.

        Of a damaged one, a line that names it.
        """
        sections = []
        for i, item in enumerate(item for item in self.samples if item["kind"] == kind):
            try:
                sections.append(show(i, item))
            except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
                reason = f"cannot be shown, its file in samples/ is damaged ({type(error).__name__}: {error})"
                sections.append(section(str(item["title"]), paragraph(reason, "warning")))
        return "".join(sections)

    def picture(self, name: Any) -> bytes:
        """Return a PNG of ``samples/``.

        A run folder is data, so a name that leads elsewhere is refused.
        """
        folder = self.run.path / "samples"
        if not isinstance(name, str) or name in ("", ".", "..") or Path(name).name != name:
            raise InputError(f"file must be a plain name of a file in {folder}; got {name!r}")
        path = folder / name
        if path.is_symlink() or not path.is_file():
            raise InputError(f"{path} is no file of this folder")
        if path.stat().st_size > LARGEST_PICTURE:
            raise InputError(f"{path} is larger than {LARGEST_PICTURE} bytes")
        content = path.read_bytes()
        if not content.startswith(PNG):
            raise InputError(f"{path} is no PNG image")
        return content

    def figure(self, name: str, figure: Figure | None, alt: str) -> str:
        """Write ``plots/NAME.png`` and returns it as HTML; nothing for ``None``."""
        if figure is None:
            return ""
        data = plots.png(figure)
        with replacing_file(self.run.subfolder("plots") / f"{name}.png") as temporary:
            temporary.write_bytes(data)
        return embed(data, alt)


def write(run: Path) -> Path:
    """Write ``report.html`` and ``plots/*.png`` into a run folder, whole or not at all, and returns the page's path.

    What the run lacks is left out. :class:`InputError` for a folder that is no run.
    """
    page = Page(RunFolder.open(run))
    sections = [make(page) for make in SECTIONS]
    path = Path(run) / "report.html"
    write_text_atomic(path, document(f"Run {Path(run).resolve().name}", sections))
    return path


def update(run: Path, *writers: Callable[[], object]) -> tuple[str | None, list[str]]:
    """Call what writes new items into ``samples/``, then write the report; return its path and the notes.

    The report decorates a result that took long to compute: where the run folder cannot be written
    to, a shared one say, the path is ``None`` and a note says why.
    """
    try:
        for writer in writers:
            writer()
        return str(write(run)), []
    except (OSError, InputError) as error:
        reason = error if isinstance(error, InputError) else error.strerror or type(error).__name__
        return None, [f"{run}: the report was not written ({reason})"]


def headline(page: Page) -> str:
    """The state of the run, its best validation and its speed."""
    best = best_validation(page.run)
    error = page.run.path / "ERROR.json"
    state = "" if (page.run.path / "DONE").exists() else "This run is not complete."
    state = f"Training failed: {brief(read_json(error))}" if error.exists() else state
    rows = [[label, brief(best[name])] for name, label in NUMBERS.items() if name in best]
    rows += [
        [name, brief(best[name])] for name in ("verdict", "feature_space", "step") if name in best
    ]
    speeds = [row["tokens_per_second"] for row in page.training if row.get("tokens_per_second")]
    rows += [["steps trained", brief(page.training[-1]["step"])]] if page.training else []
    rows += [["tokens per second (median)", brief(median(speeds))]] if speeds else []
    return paragraph(state, "warning") + section("Best validation", table([], rows) if rows else "")


def notes(page: Page) -> str:
    """What was left out, cut or assumed of the data: notes of ``data.json`` and ``DONE``."""
    entries: list[Any] = list(page.run.data_record().values())
    if (page.run.path / "DONE").exists():
        entries.append(read_json(page.run.path / "DONE"))
    lines = []
    for entry in entries:
        stored = entry.get("notes") if isinstance(entry, dict) else None
        lines += stored if isinstance(stored, list) else []
    items = "".join(f"<li>{escape(line)}</li>" for line in dict.fromkeys(map(str, lines)))
    return section("Notes", f"<ul>{items}</ul>") if items else ""


def parts(page: Page) -> str:
    """Links to the reports of runs inside this one."""
    inside = sorted(path.parent.name for path in page.run.path.glob("*/report.html"))
    links = "".join(
        f'<li><a href="{escape(name)}/report.html">{escape(name)}</a></li>' for name in inside
    )
    return section("Other parts of this run", f"<ul>{links}</ul>") if links else ""


def curves(page: Page) -> str:
    """Loss by step."""
    loss = page.figure(
        "train_loss", plots.train_loss(page.training), "Training loss and learning rate by step"
    )
    alt = (
        "Validation negative log-likelihood with its standard error, and the negative ELBO, by step"
    )
    return section(
        "Curves", loss + page.figure("validation", plots.validation(page.validations), alt)
    )


def latents(page: Page) -> str:
    """Whether the latent variables are used."""
    kl = page.figure(
        "kl_layers", plots.kl_layers(page.validations), "KL of every latent layer by step, stacked"
    )
    alt = "Active units, and mutual information with its ceiling, by step"
    return section(
        "Use of the latent variables",
        kl + page.figure("use", plots.latent_use(page.validations), alt),
    )


def similarity(page: Page) -> str:
    """How well a sentence model ranks, retrieves and writes."""
    alt = "Rank correlation and recall on held-out texts, and nats per written token, by step"
    return section("Similarity", page.figure("similarity", plots.similarity(page.validations), alt))


def maps(page: Page) -> str:
    """Scatter plots from ``samples/``, some points numbered and named."""

    def show(i: int, item: dict[str, Any]) -> str:
        drawn = page.figure(f"map_{i}", plots.points(item), f"Scatter plot: {item['title']}")
        numbered = plots.spread_out(item["x"], item["y"]) if item.get("labels") else []
        names = "".join(f"<li>{escape(item['labels'][k])}</li>" for k in numbered)
        listed = f"<ol>{names}</ol>" if names else ""
        return section(item["title"], paragraph(item.get("note", "")) + drawn + listed)

    return page.items("points", show)


def likelihoods(page: Page) -> str:
    """What ``univae likelihood`` found, as it left it in ``samples/``."""

    def show(i: int, item: dict[str, Any]) -> str:
        alt = "Histogram of log-likelihoods, mean estimate by number of samples, k-hat by log-likelihood"
        drawn = page.figure(f"likelihood_{i}", plots.scores(item), alt)
        numbers = table([], [[name, brief(value)] for name, value in item["totals"].items()])
        return section(item["title"], paragraph(item["note"]) + numbers + drawn)

    return page.items("likelihood", show)


def pictures(page: Page) -> str:
    """Grids of images from ``samples/``."""

    def show(i: int, item: dict[str, Any]) -> str:
        return section(item["title"], embed(page.picture(item.get("file")), item["title"]))

    return page.items("images", show)


def tables(page: Page) -> str:
    """Tables of texts from ``samples/``."""

    def show(i: int, item: dict[str, Any]) -> str:
        return section(
            item["title"], paragraph(item.get("note", "")) + table(item["columns"], item["rows"])
        )

    return page.items("texts", show)


def configuration(page: Page) -> str:
    """Every option, and where and with what the run was made."""
    found = page.run.path / "environment.json"
    environment = flat(read_json(found)) if found.exists() else {}
    return "".join(
        section(
            title,
            table([], [[name, brief(value)] for name, value in values.items()]) if values else "",
        )
        for title, values in (
            ("Configuration", flat(page.run.config)),
            ("Environment", environment),
        )
    )


SECTIONS: list[Callable[[Page], str]] = [
    headline,
    notes,
    parts,
    curves,
    latents,
    similarity,
    likelihoods,
]

SECTIONS += [maps, pictures, tables, configuration]


def best_validation(run: RunFolder, within: float = math.inf) -> dict[str, Any]:
    """Return the validation of the smallest NLL (Fréchet distance of a GAN), KL summed, without empty numbers.

    ``within``: the best of those in the first so many seconds of training.
    """
    found = [row for row in run.rows("validation") if row.get("seconds", 0.0) <= within]
    rows = [{name: value for name, value in row.items() if value is not None} for row in found]
    best = min(
        rows, key=lambda row: row.get("nll_nats", row.get("selection", math.inf)), default={}
    )
    layers = best.pop("kl_nats", [None])
    return best if None in layers else best | {"kl_nats": sum(layers)}
