"""What the explorer shows of a text VAE."""

from collections.abc import Sequence
from functools import partial

from experiments.explorer.answers import PROPOSAL_FIELD, named, notes_list, scores_table
from experiments.explorer.latents import LatentSliders
from experiments.explorer.panels import ChoicesField, NumberField, Panel, SliderField, TextField
from experiments.reports.html import brief, table
from experiments.text.notes import text_notes
from experiments.training.settings import SEED
from univae.decoding.sampling import Sampling
from univae.errors import InputError
from univae.rules import at_least
from univae.vae.trained import TrainedText, word_overlap

__all__ = ["moved_text", "path_of", "text_panels"]

CODES = 256  # texts whose codes give the directions of the sliders
MOST_STEPS = 50
MOST_DRAWS = 100
MOST_BEAMS = 64
MOST_SCORED = 200  # texts
SHORT = range(4, 13)  # words of the texts that stand in the fields at the start

SEED_FIELD = NumberField("Seed", 0, SEED, "the same seed gives the same draws")


def text_panels(run: TrainedText, texts: Sequence[str] = (), source: str = "") -> list[Panel]:
    """Return the panels of a text VAE.

    Args:
        run: the run.
        texts: data whose codes give the directions of the sliders; none: texts that the model
            draws.
        source: where the texts come from.
    """
    origin = f"of {source}"
    if not texts:
        texts = [text for text in run.sample(CODES, seed=0) if text.strip()]
        origin = "that the model drew"
    texts = list(texts[:CODES])
    first, second = _starting_texts(texts)
    config = run.model.config
    sliders = LatentSliders.of(
        run.model.prior(), run.modes(texts), range(config.latent_layers), config.family.displaced
    )
    layers = tuple(map(str, range(config.latent_layers)))
    text = TextField("Text", first)

    return [
        Panel(
            "Reconstruct",
            "The most probable text of the latents that a text is encoded to.",
            (
                text,
                NumberField("Beam", 1, at_least(1, MOST_BEAMS), "hypotheses; 1: greedy decoding"),
            ),
            partial(_reconstruct, run),
        ),
        Panel(
            "Latents",
            "Each slider moves the latent of one layer along a principal component of the codes of "
            f"{len(texts)} texts {origin}; 1 is their standard deviation. With all sliders at 0 "
            f"the text is the reconstruction.{sliders.missing}",
            (text, *sliders.fields),
            partial(_move, run, sliders),
        ),
        Panel(
            "Path",
            "Texts at equal distances between the latents of two texts.",
            (
                TextField("From", first),
                TextField("To", second),
                NumberField("Steps", 7, at_least(2, MOST_STEPS), "both ends included"),
            ),
            partial(_path, run),
        ),
        Panel(
            "Resample",
            "Some latent layers are drawn anew, and the others stay: what a text keeps is in the "
            "layers that stay. Layer 0 is at the bottom.",
            (
                text,
                ChoicesField("Layers to draw", layers, layers[:1]),
                NumberField("Draws", 5, at_least(1, MOST_DRAWS)),
                SEED_FIELD,
            ),
            partial(_resample, run),
        ),
        Panel(
            "Samples",
            "Texts from the prior.",
            (
                NumberField("Texts", 10, at_least(1, MOST_DRAWS)),
                SliderField(
                    "Temperature", 0, 2, 0.05, 1.0, hint="1: the model; 0: the most probable token"
                ),
                NumberField("Top k", 0, Sampling.RULES["top_k"], "most probable tokens; 0: all"),
                SliderField("Top p", 0.05, 1, 0.05, 1.0, hint="their total probability; 1: all"),
                SEED_FIELD,
            ),
            partial(_sample, run),
            button="Draw",
        ),
        Panel(
            "Score",
            "Log-likelihoods by importance sampling, in nats. Where k-hat is large an estimate is "
            "no more than a lower bound.",
            (
                TextField("Texts, one a line", f"{first}\n{second}", lines=4),
                NumberField("Importance samples", 128, at_least(1, 10_000), "of each text"),
                PROPOSAL_FIELD,
            ),
            partial(_score, run),
            button="Score",
        ),
    ]


def moved_text(
    run: TrainedText, sliders: LatentSliders, text: str, offsets: Sequence[float]
) -> tuple[str, str]:
    """Return the reconstruction of a text, and the text of its latents moved by the offsets."""
    z = run.modes([text])
    (reconstruction,) = run.decode(z)
    (moved,) = run.decode(sliders.moved(z, offsets))
    return reconstruction, moved


def path_of(run: TrainedText, a: str, b: str, steps: int) -> list[tuple[int, str, float, float]]:
    """Return the texts between two: number, text, and the shares of words (Dice) of both ends."""
    texts = run.interpolate(a, b, steps)
    path = []
    for number, text in enumerate(texts):
        path.append((number, text, word_overlap(texts[0], text), word_overlap(texts[-1], text)))
    return path


def _starting_texts(texts: Sequence[str]) -> tuple[str, str]:
    """Return two different texts, short ones where there are some."""
    short = [text for text in texts if len(text.split()) in SHORT]
    distinct = list(dict.fromkeys([*short, *texts])) or [""]
    return distinct[0], distinct[min(1, len(distinct) - 1)]


def _reconstruct(run: TrainedText, text: str, beam: int) -> str:
    (reconstruction,) = run.reconstruct(text, beam)
    shown = {
        "text": text,
        "reconstruction": reconstruction,
        "words in common": f"{word_overlap(text, reconstruction):.0%}",
    }
    return named(shown) + notes_list(text_notes(run, "the text", [text]))


def _move(run: TrainedText, sliders: LatentSliders, text: str, *offsets: float) -> str:
    reconstruction, moved = moved_text(run, sliders, text, offsets)
    shown = {
        "text": text,
        "reconstruction": reconstruction,
        "moved": moved,
        "words in common with the reconstruction": f"{word_overlap(reconstruction, moved):.0%}",
    }
    return named(shown) + notes_list(text_notes(run, "the text", [text], written=True))


def _path(run: TrainedText, a: str, b: str, steps: int) -> str:
    rows = [
        [number, text, f"{start:.0%}", f"{end:.0%}"]
        for number, text, start, end in path_of(run, a, b, steps)
    ]
    head = ["step", "text", "words of the first", "words of the last"]
    return table(head, rows) + notes_list(text_notes(run, "the two", [a, b], written=True))


def _resample(run: TrainedText, text: str, layers: Sequence[str], draws: int, seed: int) -> str:
    reconstruction, edits = run.edit(text, [int(layer) for layer in layers], draws, seed)
    rows: list[list[object]] = [["reconstruction", reconstruction, "", ""]]
    for number, edit in enumerate(edits, start=1):
        rows.append([f"draw {number}", edit.text, f"{edit.share:.0%}", " ".join(edit.kept)])
    head = ["", "text", "words kept", "which"]
    return table(head, rows) + notes_list(text_notes(run, "the text", [text], written=True))


def _sample(
    run: TrainedText, count: int, temperature: float, top_k: int, top_p: float, seed: int
) -> str:
    texts = run.sample(count, Sampling(temperature, top_k, top_p), seed)
    return table(["", "text"], enumerate(texts, start=1))


def _score(run: TrainedText, lines: str, samples: int, proposal: str) -> str:
    texts = [line.strip() for line in lines.splitlines() if line.strip()]
    if len(texts) > MOST_SCORED:
        raise InputError(
            f"at most {MOST_SCORED} texts at once; got {len(texts)}; univae likelihood takes any "
            "number"
        )
    scores = run.score(texts, samples, proposal)
    rates = {}
    for name, rate in scores.rates.items():
        rates[name.replace("_", " ")] = "not known" if rate is None else brief(rate)
    return (
        scores_table(scores, {"text": texts}, range(len(texts)))
        + named(rates)
        + notes_list(scores.notes)
    )
