"""What one does with a text model's latents: draw, reconstruct, interpolate, edit, and look at them from above."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from experiments.text.run import TextRun
from univae.decoding.beam import beam_search
from univae.decoding.sampling import Sampling, generate
from univae.errors import InputError

__all__ = ["decode", "edit", "interpolate", "latent_map", "modes", "reconstruct", "sample"]

ROWS = 256  # texts decoded at once
GREEDY = Sampling(temperature=0.0)


@torch.inference_mode()
def sample(run: TextRun, count: int, sampling: Sampling) -> list[str]:
    """Draw texts from the prior."""
    if count < 1:
        raise InputError(f"sample: count must be at least 1; got count={count}")
    return decode(run, run.model.prior().sample(torch.Size((count,))), sampling)


@torch.inference_mode()
def decode(
    run: TextRun, z: Tensor, sampling: Sampling = GREEDY, beam: int = 1, longest: int = 0
) -> list[str]:
    """Texts for latents (N, S, d): drawn by ``sampling``, or the best of ``beam`` hypotheses if that is over 1."""
    length = max(run.model.config.max_length, longest)
    texts = list[str]()
    for part in z.split(max(1, ROWS // beam)):
        if beam > 1:
            step = run.model.decoder(part.repeat_interleave(beam, 0), length)
            texts += run.decode(beam_search(step, len(part), beam, length)[0])
        else:
            texts += run.decode(
                generate(run.model.decoder(part, length), len(part), length, sampling)
            )
    return texts


@torch.inference_mode()
def modes(run: TextRun, texts: Sequence[str]) -> Tensor:
    """The codes (N, S, d) of texts: the mode of each latent layer, given the modes before it."""
    return torch.cat(
        [
            run.model.posterior(run.encode(texts[i : i + ROWS])).modes()
            for i in range(0, len(texts), ROWS)
        ]
    )


def reconstruct(run: TextRun, texts: Sequence[str], beam: int = 1) -> list[str]:
    """The most probable text of each code, by greedy decoding or a beam."""
    longest = max(map(len, run.tokenizer.encode_batch(texts))) + 1
    return decode(run, modes(run, texts), beam=beam, longest=longest)


def interpolate(run: TextRun, a: str, b: str, steps: int) -> list[str]:
    """Texts on the way from a to b: a straight line for Gaussian latents, great circles for those on the sphere."""
    if steps < 2:
        raise InputError(
            f"interpolate: steps must be at least 2, the ends included; got steps={steps}"
        )
    start, end = modes(run, [a, b]).unbind(0)
    with torch.inference_mode():
        z = run.model.config.family.interpolate(
            start, end, torch.linspace(0, 1, steps, device=start.device, dtype=start.dtype)
        )
    return decode(run, z)


@torch.inference_mode()
def edit(
    run: TextRun, text: str, layers: Collection[int], count: int
) -> tuple[str, list[dict[str, Any]]]:
    """Return the reconstruction, and ``count`` texts with the named layers drawn anew and the words each kept."""
    if count < 1:
        raise InputError(f"edit: count must be at least 1; got count={count}")
    z = modes(run, [text])
    edited = run.model.resample(z.repeat(count, 1, 1), layers)
    before, *after = decode(run, torch.cat((z, edited)))
    return before, [
        {"text": t, "kept": _shared_words(before, t), "share": _share(before, t)} for t in after
    ]


def latent_map(run: TextRun, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """The codes' two principal components (N, 2), and the share of the variance that each explains."""
    z = modes(run, texts).flatten(1).double()
    z = z - z.mean(0)
    _, spread, axes = torch.linalg.svd(z, full_matrices=False)
    return z @ axes[:2].T, spread[:2].square() / spread.square().sum().clamp_min(1e-30)


def _shared_words(a: str, b: str) -> list[str]:
    """The words of b that a has too, in b's order, each as often as in both."""
    left = Counter(a.split())
    shared = list[str]()
    for word in b.split():
        if left[word] > 0:
            left[word] -= 1
            shared.append(word)
    return shared


def _share(a: str, b: str) -> float:
    """Of the words of both texts, the share that both have (Dice's coefficient of the bags of words)."""
    total = len(a.split()) + len(b.split())
    return 2 * len(_shared_words(a, b)) / total if total else 1.0
