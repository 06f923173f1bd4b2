"""Sampling from the cached decoder against ``transformers`` ``generate`` on a GPT-2 of the same shape.

Same sampler (temperature 1, top-k 50), no end token, so both draw the same number of tokens, which
is counted. Needs the benchmark-only dependency ``transformers`` (the ``bench`` extra): ``python -m
experiments.benchmarks.generation``.
"""

import argparse
from pathlib import Path
from typing import Any

import torch

from experiments.benchmarks.harness import compare, report
from univae.decoding.sampling import Sampling, generate
from univae.text.special import START
from univae.vae.model import UniVAE, UniVAEConfig

CASES = [
    {"width": 64, "layers": 2, "heads": 2, "vocab": 512, "batch": 1, "bar": 3.0},
    {"width": 64, "layers": 2, "heads": 2, "vocab": 512, "batch": 32, "bar": 2.0},
    {"width": 256, "layers": 4, "heads": 4, "vocab": 4096, "batch": 32, "bar": 1.3},
]


@torch.inference_mode()
def contest(case: dict[str, Any], tokens: int, rounds: int) -> dict[str, Any]:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    width, layers, heads, vocab, batch = (
        case[key] for key in ("width", "layers", "heads", "vocab", "batch")
    )
    shape = GPT2Config(
        vocab_size=vocab,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        n_positions=tokens + 2,
        bos_token_id=START,
    )
    theirs = GPT2LMHeadModel(shape).eval()
    ours = UniVAE(
        UniVAEConfig(vocab, width, heads, layers, min(2, layers), 16, max_length=tokens)
    ).eval()
    sampling = Sampling(top_k=50)
    prompt = torch.full((batch, 1), START)
    options = {
        "do_sample": True,
        "top_k": 50,
        "temperature": 1.0,
        "use_cache": True,
        "eos_token_id": None,
    }
    counted: dict[str, int] = {}

    def peer() -> None:
        out = theirs.generate(prompt, max_new_tokens=tokens, pad_token_id=0, **options)
        counted["transformers"] = out.shape[1] - 1

    def mine() -> None:
        z = ours.prior().sample((batch,))
        counted["univae"] = generate(
            ours.decoder(z, tokens), batch, tokens, sampling, end=None
        ).shape[1]

    times = compare({"transformers": peer, "univae": mine}, rounds)
    return {**case, "tokens_a_text": counted, **times}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    results = [contest(case, arguments.tokens, arguments.rounds) for case in CASES]
    report("generation", results, arguments.out)


if __name__ == "__main__":
    main()
