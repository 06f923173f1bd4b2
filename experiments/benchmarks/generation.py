"""Sampling from the cached decoder, compared with ``transformers`` on a GPT-2 of the same shape.

Both use the same sampler (temperature 1, top-k 50) without an end token, and draw the same number
of tokens, which is counted. Needs ``transformers`` (the ``bench`` extra).

``python -m experiments.benchmarks.generation``
"""

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from experiments.benchmarks.harness import compare, report
from univae.checkpoint import JsonObject
from univae.decoding.sampling import Sampling, generate
from univae.text.special import START
from univae.vae.model import UniVAE, UniVAEConfig

TOP_K = 50


@dataclass(frozen=True)
class Case:
    """A model shape, a batch size, and the target of the speed-up."""

    width: int
    layers: int
    heads: int
    vocab: int
    batch: int
    bar: float


CASES = (
    Case(width=64, layers=2, heads=2, vocab=512, batch=1, bar=3.0),
    Case(width=64, layers=2, heads=2, vocab=512, batch=32, bar=2.0),
    Case(width=256, layers=4, heads=4, vocab=4096, batch=32, bar=1.3),
)


@torch.inference_mode()
def contest(case: Case, tokens: int, rounds: int) -> JsonObject:
    """Time both samplers on ``tokens`` tokens per text, and count the drawn tokens."""
    torch.manual_seed(0)
    counts: dict[str, int] = {}
    # GPT-2 first: both models draw their weights from one generator
    draw_with_transformers = _transformers_sampler(case, tokens, counts)
    draw_with_univae = _univae_sampler(case, tokens, counts)
    contestants = {"transformers": draw_with_transformers, "univae": draw_with_univae}
    times = compare(contestants, rounds)
    return {**asdict(case), "tokens_a_text": counts, **times}


def _transformers_sampler(case: Case, tokens: int, counts: dict[str, int]) -> Callable[[], None]:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=case.vocab,
        n_embd=case.width,
        n_layer=case.layers,
        n_head=case.heads,
        n_positions=tokens + 2,
        bos_token_id=START,
    )
    gpt2 = GPT2LMHeadModel(config).eval()
    prompt = torch.full((case.batch, 1), START)

    def draw() -> None:
        ids = gpt2.generate(
            prompt,
            max_new_tokens=tokens,
            pad_token_id=0,
            do_sample=True,
            top_k=TOP_K,
            temperature=1.0,
            use_cache=True,
            eos_token_id=None,
        )
        counts["transformers"] = ids.shape[1] - 1

    return draw


def _univae_sampler(case: Case, tokens: int, counts: dict[str, int]) -> Callable[[], None]:
    latent_layers = min(2, case.layers)
    shape = (case.vocab, case.width, case.heads, case.layers, latent_layers, 16)
    univae = UniVAE(UniVAEConfig(*shape, max_length=tokens)).eval()
    sampling = Sampling(top_k=TOP_K)

    def draw() -> None:
        z = univae.prior().sample((case.batch,))
        ids = generate(univae.decoder(z, tokens), case.batch, tokens, sampling, end=None)
        counts["univae"] = ids.shape[1]

    return draw


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15, help="timed draws of each sampler")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of each text")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    arguments = parser.parse_args()
    results = [contest(case, arguments.tokens, arguments.rounds) for case in CASES]
    report("generation", results, arguments.out)


if __name__ == "__main__":
    main()
