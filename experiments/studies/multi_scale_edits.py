"""Edits of latent layers, and attribute vectors, of a trained text model on held-out texts."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from experiments.studies.multi_scale_measures import (
    MEASURES,
    Language,
    above_chance,
    compare,
    content_kept,
    interval,
    verdict,
)
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.vae.trained import TrainedText

__all__ = ["SCALES", "SOURCES", "layer_sets", "low_layers", "measure"]

SOURCES = ("prior", "texts")  # of the layers that are drawn anew
SHORT = 12  # words of the texts whose reconstruction is reported apart
SCALES = (1.0, 2.0)  # of attribute vectors
EXAMPLES = 1000  # most training texts on either side of an attribute vector
FEWEST = 20  # texts on either side, and held-out texts, of an attribute


def low_layers(layers: int) -> tuple[int, ...]:
    """Return the lower half of the latent layers.

    >>> low_layers(4), low_layers(2)
    ((0, 1), (0,))
    """
    return tuple(range(layers // 2))


def layer_sets(layers: int) -> list[tuple[int, ...]]:
    """Return each layer, the lower half, and all layers but each.

    >>> layer_sets(2)
    [(0,), (1,)]
    >>> layer_sets(3)
    [(0,), (1,), (2,), (1, 2), (0, 2), (0, 1)]
    """
    every = range(layers)
    single = [(layer,) for layer in every]
    complements = [tuple(other for other in every if other != layer) for layer in every]
    return list(dict.fromkeys([*single, low_layers(layers), *complements]))


def measure(
    run: TrainedText,
    language: Language,
    training: Sequence[str],
    held_out: Sequence[str],
    count: int,
) -> JsonObject:
    """Return reconstruction, KL, edits and attribute vectors of a run.

    Args:
        run: the model.
        language: that of the texts.
        training: texts of its training, for attribute vectors.
        held_out: texts that it has not seen.
        count: edits of every text and set of layers.
    """
    torch.manual_seed(0)
    z = run.modes(held_out)
    before = run.decode(z)
    attributes = {}
    for name in language.attributes:
        successes = _attribute(run, language, name, training, (held_out, z, before))
        if successes is not None:
            attributes[name] = successes
    return {
        "reconstruction": reconstruction(language, held_out, before),
        "kl_nats": _kl(run, held_out),
        **_edits(run, language, z, before, count),
        "attributes": attributes,
    }


def reconstruction(language: Language, texts: Sequence[str], decoded: Sequence[str]) -> JsonObject:
    """Return the shares of texts that are decoded exactly, and of words that are kept.

    Raises:
        InputError: no text has 12 words or fewer.
    """
    exact = np.array([a == b for a, b in zip(texts, decoded, strict=True)], float)
    lengths = np.array([len(language.words(text)) for text in texts])
    words_kept = []
    for a, b in zip(texts, decoded, strict=True):
        words_kept.append(content_kept(Counter(language.words(a)), Counter(language.words(b))))
    by_length = {str(n): float(exact[lengths == n].mean()) for n in np.unique(lengths)}
    short = exact[lengths <= SHORT]
    if not len(short):
        raise InputError(f"none of {len(texts)} held-out texts has {SHORT} words or fewer")
    return {
        "exact": interval(exact),
        "exact_short": interval(short),
        "exact_by_length": by_length,
        "words_kept": interval(np.array(words_kept)),
    }


def _content_kept(language: Language, a: str, b: str) -> float:
    before, after = (language.content(language.words(text)) for text in (a, b))
    return content_kept(before, after)


@torch.inference_mode()
def _kl(run: TrainedText, texts: Sequence[str]) -> list[float]:
    """Return the mean KL of each latent layer, in nats."""
    ids = run.token_ids(texts)
    return run.model.elbo(ids).kl.double().mean(0).tolist()


def _edits(
    run: TrainedText, language: Language, z: Tensor, before: Sequence[str], count: int
) -> JsonObject:
    """Return what edits of every set of layers keep, and the difference of low and top layers."""
    layers = z.shape[1]
    chance = _chance(language, before)
    top = (layers - 1,)
    edits: JsonObject = {}
    contrast: JsonObject = {}
    for source in SOURCES:
        kept: dict[tuple[int, ...], Mapping[str, np.ndarray]] = {}
        edits[source] = {}
        for anew in layer_sets(layers):
            after = [run.decode(_drawn(run, z, anew, source)) for _ in range(count)]
            kept[anew] = _kept(language, before, after, chance)
            name = ",".join(map(str, anew))
            edits[source][name] = {key: interval(values) for key, values in kept[anew].items()}
        contrast[source] = difference(kept[low_layers(layers)], kept[top])
    return {"chance": chance, "edits": edits, "contrast": contrast}


@torch.inference_mode()
def _drawn(run: TrainedText, z: Tensor, layers: Sequence[int], source: str) -> Tensor:
    """Return codes with some layers from the prior, or from the codes of other texts."""
    if source == "prior":
        return run.model.resample(z, layers)
    drawn = z.clone()
    drawn[:, list(layers)] = z.roll(_shift(len(z)), 0)[:, list(layers)]
    return drawn


def _shift(count: int) -> int:
    """Draw by how many texts codes are moved, so that each meets that of another text."""
    return int(torch.randint(1, count, ()))


def _chance(language: Language, texts: Sequence[str]) -> dict[str, float]:
    """Return the measures of pairs of different texts."""
    pairs = []
    for shift in (1, len(texts) // 3, len(texts) // 2):
        others = [*texts[shift:], *texts[:shift]]
        pairs += [compare(language, a, b) for a, b in zip(texts, others, strict=True)]
    return {name: float(np.mean([pair[name] for pair in pairs])) for name in MEASURES}


def _kept(
    language: Language,
    before: Sequence[str],
    after: Sequence[Sequence[str]],
    chance: Mapping[str, float],
) -> Mapping[str, np.ndarray]:
    """Return the measures of every text, (N,), as means over its edits."""
    draws = []
    for texts in after:
        rows = [compare(language, a, b) for a, b in zip(before, texts, strict=True)]
        draws.append([[row[name] for name in MEASURES] for row in rows])
    means = np.array(draws).mean(0).T
    kept = dict(zip(MEASURES, means, strict=True))
    for name in ("content", "pattern"):
        kept[f"{name}_above_chance"] = above_chance(kept[name], chance[name])
    return kept


def difference(low: Mapping[str, np.ndarray], top: Mapping[str, np.ndarray]) -> JsonObject:
    """Return what is kept with low layers drawn anew, minus with the top one, and the verdict.

    ``content_minus_pattern`` is of shares above chance: 0 for layers that change nothing, and for
    those that change everything.
    """
    content = interval(low["content"] - top["content"])
    pattern = interval(low["pattern"] - top["pattern"])
    contrasts = [kept["content_above_chance"] - kept["pattern_above_chance"] for kept in (low, top)]
    contrast = interval(contrasts[0] - contrasts[1])
    return {
        "content": content,
        "pattern": pattern,
        "content_minus_pattern": contrast,
        "verdict": verdict(content, pattern, contrast),
    }


def _attribute(
    run: TrainedText,
    language: Language,
    name: str,
    training: Sequence[str],
    held_out: tuple[Sequence[str], Tensor, Sequence[str]],
) -> JsonObject | None:
    """Return how often an attribute's vector, and a random one, gives texts the attribute.

    None where there are fewer than 20 texts with it, without it, or to edit.
    """
    texts, z, before = held_out
    examples = {}
    for side in (True, False):
        matching = (text for text in training if language.has(name, text) is side)
        examples[side] = list(itertools.islice(matching, EXAMPLES))
    rows = []
    for row, pair in enumerate(zip(texts, before, strict=True)):
        if not any(language.has(name, text) for text in pair):
            rows.append(row)
    if min(len(examples[True]), len(examples[False]), len(rows)) < FEWEST:
        return None

    vector = run.modes(examples[True]).mean(0) - run.modes(examples[False]).mean(0)
    noise = torch.randn(len(rows), *vector.shape)
    noise *= vector.norm() / noise.flatten(1).norm(dim=1)[:, None, None]
    without = [before[row] for row in rows]
    successes: JsonObject = {"texts": len(rows)}
    for scale in SCALES:
        moved = {
            "vector": run.decode(z[rows] + scale * vector),
            "random": run.decode(z[rows] + scale * noise),
        }
        successes[f"{scale:g}"] = _success(language, name, without, moved)
    return successes


def _success(
    language: Language, name: str, before: Sequence[str], moved: Mapping[str, Sequence[str]]
) -> JsonObject:
    """Return the shares of texts with the attribute, of their content kept, and the gain."""
    shares: JsonObject = {}
    has_attribute = {}
    for direction, after in moved.items():
        has_attribute[direction] = np.array([language.has(name, text) for text in after], float)
        content = [_content_kept(language, a, b) for a, b in zip(before, after, strict=True)]
        shares[direction] = {
            "success": interval(has_attribute[direction]),
            "content": interval(np.array(content)),
        }
    shares["gain"] = interval(has_attribute["vector"] - has_attribute["random"])
    return shares
