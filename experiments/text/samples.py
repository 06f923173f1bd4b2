"""What a text model can do, shown: the tables and the map that its report holds."""

from collections.abc import Sequence
from typing import Any

from experiments.text.latents import edit, interpolate, latent_map, reconstruct, sample
from experiments.text.run import TextRun
from experiments.training.task import reseed
from univae.checkpoint import write_json
from univae.decoding.sampling import Sampling

__all__ = ["showcase", "write_samples"]

WORDS = range(6, 15)  # texts of middling length are easiest to read in a table


def showcase(run: TextRun, held_out: Sequence[str], seed: int = 0) -> dict[str, dict[str, Any]]:
    """Draw, reconstructions, an interpolation, an edit of each latent layer, and a map of the latents."""
    reseed(seed, "showcase")
    readable = [text for text in held_out if len(text.split()) in WORDS] or list(held_out)
    shown = readable[:10]
    return {
        "prior": _table(
            "Samples from the prior", ["text"], [[t] for t in sample(run, 10, Sampling())]
        ),
        "reconstructions": _table(
            "Reconstructions of held-out texts, greedy, from the modes of the posterior",
            ["text", "reconstruction"],
            [list(pair) for pair in zip(shown, reconstruct(run, shown), strict=True)],
        ),
        "interpolation": _table(
            "Between two held-out texts",
            ["step", "text"],
            [[str(i), t] for i, t in enumerate(interpolate(run, shown[0], shown[-1], 7))],
        ),
        "edits": _edits(run, shown[0]),
        "map": _map(run, held_out),
    }


def write_samples(
    run: TextRun, held_out: Sequence[str], seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Write the showcase to ``samples/`` of the run and returns it."""
    shown = showcase(run, held_out, seed)
    for name, item in shown.items():
        write_json(run.run.subfolder("samples") / f"{name}.json", item)
    return shown


def _edits(run: TextRun, text: str) -> dict[str, Any]:
    rows: list[list[str]] = []
    for layer in range(run.model.config.latent_layers):
        reconstruction, edits = edit(run, text, [layer], 3)
        rows += [[str(layer), edited["text"], f"{edited['share']:.0%}"] for edited in edits]
    rows = [["", reconstruction, ""], *rows]
    note = "The first row is the reconstruction; kept is the share of words (Dice) that it and the edit have in common."
    return {
        **_table("Edits: one latent layer drawn anew", ["layer", "text", "kept"], rows),
        "note": note,
    }


def _map(run: TextRun, texts: Sequence[str]) -> dict[str, Any]:
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
        "note": f"Two principal components of the codes of all layers; they explain {first} and {second}.",
    }


def _table(title: str, columns: list[str], rows: list[list[str]]) -> dict[str, Any]:
    return {"title": title, "kind": "texts", "columns": columns, "rows": rows}
