"""Training step of a UniVAE: two streams against the published dense (2n)^2 mask, same weights, same outputs.

The dense version is the tests' plain twin, so run this from a checkout:
``python -m experiments.benchmarks.two_streams``.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.benchmarks.harness import compare, report
from univae.text.special import END
from univae.vae.dense import dense
from univae.vae.likelihood import text_log_prob
from univae.vae.model import UniVAE, UniVAEConfig

BARS = {32: 1.10, 128: 1.25, 512: 1.60}
BATCH = {32: 32, 128: 8, 512: 2}


def contest(n: int, rounds: int) -> dict[str, Any]:
    """128 wide, 6 layers, 2 latent.

    Texts of n tokens, so that the dense mask is (2n + 1) x (2n + 1).
    """
    torch.manual_seed(0)
    config = UniVAEConfig(512, 128, 4, 6, 2, 16, max_length=n)
    model = UniVAE(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, foreach=True)
    ids = torch.randint(END + 1, 512, (BATCH[n], n))
    z = torch.randn(BATCH[n], 2, 16)

    def step(run: Any) -> Tensor:
        _, _, logits, *_ = run(ids, ids, lambda layer, q: q.rsample())
        loss = -text_log_prob(logits, ids).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    def plain(*call: Any) -> Any:
        return dense(model, *call)

    with torch.no_grad():
        gap = _outputs(plain, ids, z) - _outputs(model.two_streams, ids, z)
    times = compare(
        {"dense": lambda: step(plain), "two_streams": lambda: step(model.two_streams)}, rounds
    )

    return {
        "n": n,
        "batch": BATCH[n],
        "bar": BARS[n],
        "largest_difference": gap.abs().max().item(),
        **times,
    }


def _outputs(run: Any, ids: Tensor, z: Tensor) -> Tensor:
    return run(ids, ids, lambda layer, q: z[:, layer])[2][..., END:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    report("two_streams", [contest(n, arguments.rounds) for n in BARS], arguments.out)


if __name__ == "__main__":
    main()
