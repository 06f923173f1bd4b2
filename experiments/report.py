"""``report.html``: what a run folder holds, on one page that needs no other file; and several runs side by side.

A section is a function from a :class:`Page` to HTML, empty when the run lacks its data; :data:`SECTIONS` lists them in
order, and a new kind of run adds its own.
"""

import html
import json
import math
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from matplotlib.figure import Figure

from experiments import plots
from experiments.run import UNCOMPARED, Run
from univae.checkpoint import read_json, write_text_atomic
from univae.errors import InputError

__all__ = ["SECTIONS", "Page", "compare", "write"]

# Numbers of a validation that a headline shows, where it has them; all are means over the validation's data.
NUMBERS = {
    "nll_nats": "negative log-likelihood (nats)",
    "nll_standard_error": "its standard error over data (nats)",
    "bits_per_token": "bits per token",
    "bits_per_dim": "bits per dimension",
    "elbo_nats": "ELBO (nats)",
    "reconstruction_nats": "reconstruction (nats)",
    "kl_nats": "KL of all layers (nats)",
    "active_units": "active units",
    "mutual_information_nats": "mutual information (nats)",
    "mutual_information_ceiling_nats": "the most its estimate can show (nats)",
    "shuffled_gap_nats": "loss with shuffled latents (nats)",
    "frechet_distance": "Fréchet distance",
}

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--line);
  white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; }
th { background: var(--soft); } figure { margin: 1rem 0; } li { unicode-bidi: isolate; }
img { max-width: 100%; border-radius: 6px; background: white; }
.warning { border-left: 4px solid #c33; padding-left: 1rem; }
"""


class Page:
    """A report in the making: the run, and :meth:`figure`, which saves a plot and embeds it."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.validations, self.training = run.rows("validation"), run.rows("train")
        found = [read_json(path) for path in sorted((run.path / "samples").glob("*.json"))]
        self.samples = [item for item in found if isinstance(item, dict) and {"kind", "title"} <= item.keys()]

    def figure(self, name: str, figure: Figure | None, alt: str) -> str:
        """Writes ``plots/NAME.png`` and returns it as HTML; nothing for ``None``."""
        if figure is None:
            return ""
        data = plots.png(figure)
        (self.run.path / "plots").mkdir(exist_ok=True)
        (self.run.path / "plots" / f"{name}.png").write_bytes(data)
        return embed(data, alt)


def write(run: Path) -> Path:
    """Writes ``report.html`` and ``plots/*.png`` into a run folder, whole or not at all, and returns the page's path.

    What the run lacks is left out. :class:`InputError` for a folder that is no run.
    """
    page = Page(Run.open(run))
    sections = [make(page) for make in SECTIONS]
    path = Path(run) / "report.html"
    write_text_atomic(path, document(f"Run {Path(run).resolve().name}", sections))
    return path


def compare(runs: Sequence[Path], path: Path) -> Path:
    """Writes a page on runs grouped by configuration minus seed: means, spread over seeds, and curves.

    A run counts with its validation of the smallest negative log-likelihood. :class:`InputError` for no run, or a
    folder that is no run.
    """
    if not runs:
        raise InputError("compare: needs at least one run folder; got none; name the folders training commands wrote")
    alike: dict[str, list[Run]] = {}
    for run in map(Run.open, runs):
        alike.setdefault(json.dumps(settings(run), sort_keys=True), []).append(run)
    groups = {str(i): members for i, members in enumerate(alike.values(), start=1)}
    curves = {f"group {name}": [run.rows("validation") for run in members] for name, members in groups.items()}
    figure = plots.overlay(curves)
    drawn = embed(plots.png(figure), "Validation NLL by step, one colour a group, one line a run") if figure else ""
    note = paragraph("Mean ± standard deviation over the seeds of a group, every run at its best validation.")
    sections = [note + _side_by_side(groups), section("Validation", drawn)]
    write_text_atomic(path, document("Runs side by side", sections))
    return Path(path)


def headline(page: Page) -> str:
    """The state of the run, its best validation and its speed."""
    best, error = best_validation(page.run), page.run.path / "ERROR.json"
    state = "" if (page.run.path / "DONE").exists() else "This run is not complete."
    state = f"Training failed: {brief(read_json(error))}" if error.exists() else state
    rows = [[label, brief(best[name])] for name, label in NUMBERS.items() if name in best]
    rows += [[name, brief(best[name])] for name in ("verdict", "step") if name in best]
    speeds = [row["tokens_per_second"] for row in page.training if row.get("tokens_per_second")]
    rows += [["steps trained", brief(page.training[-1]["step"])]] if page.training else []
    rows += [["tokens per second (median)", brief(median(speeds))]] if speeds else []
    return paragraph(state, "warning") + section("Best validation", table([], rows) if rows else "")


def curves(page: Page) -> str:
    """Loss by step."""
    loss = page.figure("train_loss", plots.train_loss(page.training), "Training loss and learning rate by step")
    alt = "Validation negative log-likelihood with its standard error, and the negative ELBO, by step"
    return section("Curves", loss + page.figure("validation", plots.validation(page.validations), alt))


def latents(page: Page) -> str:
    """Whether the latent variables are used."""
    kl = page.figure("kl_layers", plots.kl_layers(page.validations), "KL of every latent layer by step, stacked")
    alt = "Active units, and mutual information with its ceiling, by step"
    return section("Use of the latent variables", kl + page.figure("use", plots.latent_use(page.validations), alt))


def maps(page: Page) -> str:
    """Scatter plots from ``samples/``, some points numbered and named."""
    shown = []
    for i, item in enumerate(item for item in page.samples if item["kind"] == "points"):
        drawn = page.figure(f"map_{i}", plots.points(item), f"Scatter plot: {item['title']}")
        numbered = plots.spread_out(item["x"], item["y"]) if item.get("labels") else []
        names = "".join(f"<li>{escape(item['labels'][k])}</li>" for k in numbered)
        shown.append(
            section(item["title"], paragraph(item.get("note", "")) + drawn + (f"<ol>{names}</ol>" if names else ""))
        )
    return "".join(shown)


def tables(page: Page) -> str:
    """Tables of texts from ``samples/``."""
    texts = [item for item in page.samples if item["kind"] == "texts"]
    return "".join(section(t["title"], paragraph(t.get("note", "")) + table(t["columns"], t["rows"])) for t in texts)


def configuration(page: Page) -> str:
    """Every option, and where and with what the run was made."""
    found = page.run.path / "environment.json"
    environment = flat(read_json(found)) if found.exists() else {}
    return "".join(
        section(title, table([], [[name, brief(value)] for name, value in values.items()]) if values else "")
        for title, values in (("Configuration", flat(page.run.config)), ("Environment", environment))
    )


SECTIONS: list[Callable[[Page], str]] = [headline, curves, latents, maps, tables, configuration]


def document(title: str, sections: Iterable[str]) -> str:
    """Returns a whole page."""
    body = "\n".join(part for part in sections if part)
    name = escape(title)
    return (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{name}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>\n'
        f"<body><h1>{name}</h1>\n{body}</body>\n</html>\n"
    )


def section(title: str, body: str) -> str:
    """Returns a heading and its body; nothing without a body."""
    return f"<section><h2>{escape(title)}</h2>\n{body}</section>\n" if body else ""


def paragraph(text: str, kind: str = "note") -> str:
    return f'<p class="{kind}">{escape(text)}</p>\n' if text else ""


def table(columns: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    head = "<tr>" + "".join(f"<th>{escape(each)}</th>" for each in columns) + "</tr>\n" if columns else ""
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f"<table>\n{head}{body}</table>\n"


def embed(data: bytes, alt: str) -> str:
    return f'<figure><img alt="{escape(alt)}" src="data:image/png;base64,{b64encode(data).decode()}"></figure>\n'


def escape(value: Any) -> str:
    """Returns text that stands for itself in HTML; control characters, which sampled bytes may hold, are replaced."""
    return html.escape(re.sub(r"[\0-\x08\x0b-\x1f\x7f\ud800-\udfff]", "\ufffd", str(value)))


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested settings under dotted names."""
    items: dict[str, Any] = {}
    for name, value in values.items():
        items |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return items


def brief(value: Any) -> str:
    """Returns a number with four digits, text as it is and anything else as JSON."""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def best_validation(run: Run) -> dict[str, Any]:
    """Returns the validation of the smallest NLL, KL summed over layers, without empty numbers."""
    rows = [{name: value for name, value in row.items() if value is not None} for row in run.rows("validation")]
    best = min(rows, key=lambda row: row.get("nll_nats", math.inf), default={})
    return best | {"kl_nats": sum(best["kl_nats"])} if "kl_nats" in best else best


def settings(run: Run) -> dict[str, Any]:
    """Returns what tells one experiment from another: the configuration but for the seed and the folder."""
    return {name: value for name, value in flat(run.config).items() if name not in ("seed", *UNCOMPARED)}


def _side_by_side(groups: Mapping[str, Sequence[Run]]) -> str:
    options = {name: settings(members[0]) for name, members in groups.items()}
    names = dict.fromkeys(option for each in options.values() for option in each)
    differing = [option for option in names if len({brief(each.get(option)) for each in options.values()}) > 1]
    best = {name: [best_validation(run) for run in members] for name, members in groups.items()}
    numbers = {
        key: label for key, label in NUMBERS.items() if any(key in row for rows in best.values() for row in rows)
    }
    rows = []
    for name, members in groups.items():
        chosen = [brief(options[name].get(option)) for option in differing]
        runs = "\n".join(f"{run.path} (seed {run.config.get('seed')})" for run in members)
        rows.append([name, *chosen, *(_spread(best[name], key) for key in numbers), runs])
    return table(["group", *differing, *numbers.values(), "runs"], rows)


def _spread(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    values = [float(row[name]) for row in rows if name in row]
    spread = f" ± {stdev(values):.2g}" if len(values) > 1 else ""
    return brief(mean(values)) + spread if values else ""
