"""The items of a text model's report: samples, reconstructions, interpolation, edits, latents."""

from collections.abc import Sequence

from experiments.text.latents import latent_map
from experiments.training.task import reseed
from univae.checkpoint import JsonObject, write_json
from univae.vae.trained import TrainedText

__all__ = ["showcase", "write_samples"]

WORDS = range(6, 15)  # words of a text that fits into a table cell on a line or two
ROWS = 10  # of a table
STEPS = 7  # of the interpolation, both ends included
EDITS = 3  # per latent layer


def showcase(run: TrainedText, held_out: Sequence[str], seed: int = 0) -> dict[str, JsonObject]:
    """Return the items of the report by name.

    These are samples from the prior, reconstructions of held-out texts, an interpolation, edits of
    each latent layer, and a map of the held-out texts' latents.
    """
    reseed(seed, "showcase")
    short = [text for text in held_out if len(text.split()) in WORDS]
    texts = (short or list(held_out))[:ROWS]
    return {
        "prior": _table("Samples from the prior", ["text"], [[text] for text in run.sample(ROWS)]),
        "reconstructions": _table(
            "Reconstructions of held-out texts, greedy, from the modes of the posterior",
            ["text", "reconstruction"],
            [list(pair) for pair in zip(texts, run.reconstruct(texts), strict=True)],
        ),
        "interpolation": _table(
            "Between two held-out texts",
            ["step", "text"],
            _numbered(run.interpolate(texts[0], texts[-1], STEPS)),
        ),
        "edits": _edits(run, texts[0]),
        "map": _map(run, held_out),
    }


def write_samples(
    run: TrainedText, held_out: Sequence[str], seed: int = 0
) -> dict[str, JsonObject]:
    """Write the items of :func:`showcase` to ``samples/`` of the run, and return them."""
    items = showcase(run, held_out, seed)
    for name, item in items.items():
        write_json(run.folder.subfolder("samples") / f"{name}.json", item)
    return items


def _numbered(texts: Sequence[str]) -> list[list[str]]:
    return [[str(number), text] for number, text in enumerate(texts)]


def _edits(run: TrainedText, text: str) -> JsonObject:
    rows: list[list[str]] = []
    for layer in range(run.model.config.latent_layers):
        reconstruction, edits = run.edit(text, [layer], EDITS)
        rows += [[str(layer), edit.text, f"{edit.share:.0%}"] for edit in edits]
    rows = [["", reconstruction, ""], *rows]
    note = (
        "The first row is the reconstruction; kept is the share of words (Dice) that it and the "
        "edit have in common."
    )
    table = _table("Edits: one latent layer drawn anew", ["layer", "text", "kept"], rows)
    return {**table, "note": note}


def _map(run: TrainedText, texts: Sequence[str]) -> JsonObject:
    points, explained = latent_map(run, texts)
    first, second = (f"{share:.0%}" for share in explained.tolist())
    return {
        "title": "Held-out texts in latent space",
        "kind": "points",
        "x": points[:, 0].tolist(),
        "y": points[:, 1].tolist(),
        "labels": list(texts),
        "color": [len(text.split()) for text in texts],
        "color_label": "words",
        "note": "Two principal components of the codes of all layers; "
        f"they explain {first} and {second}.",
    }


def _table(title: str, columns: list[str], rows: list[list[str]]) -> JsonObject:
    return {"title": title, "kind": "texts", "columns": columns, "rows": rows}
