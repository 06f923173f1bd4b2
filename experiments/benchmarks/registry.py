"""The registry of benchmarks, ``BENCHMARKS``: what each measures, what it needs, and its ratios.

A benchmark is a module ``experiments/benchmarks/NAME.py`` that takes ``--out`` and writes its
results by :func:`experiments.benchmarks.harness.report`. Its ``ratios`` are rows of tables
(:mod:`experiments.benchmarks.table`): each names numbers in the results by their keys.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["BENCHMARKS", "Benchmark", "Keys", "Peer", "Ratio"]

Keys: TypeAlias = tuple[str | int, ...]  # of a number within results; -1: the last of a list


@dataclass(frozen=True)
class Peer:
    """A package that a benchmark compares with."""

    module: str
    requirement: str  # for pip

    @property
    def install(self) -> str:
        """The line that installs it."""
        return f"pip install '{self.requirement}'"


@dataclass(frozen=True)
class Ratio:
    """A row of the table of ratios.

    ``keys`` lead to a number, or to the quartiles of one, of which the median is shown; with
    ``over``, to one that is divided by that of ``over``. A row of a part that a file of results may
    lack is ``partial``.
    """

    what: str
    against: str
    keys: Sequence[Keys]
    over: Sequence[Keys] = ()
    partial: bool = False


@dataclass(frozen=True)
class Benchmark:
    """A benchmark and what the command ``bench`` needs to know of it.

    ``minutes`` are of the default rounds on two idle cores, about. ``needs`` are the arguments that
    a user has to give, without which it cannot run. ``rounds`` is whether it takes ``--rounds``.
    """

    summary: str
    minutes: float
    peers: Sequence[Peer] = ()
    ratios: Sequence[Ratio] = ()
    quick: bool = False
    rounds: bool = True
    needs: str = ""


PYTHAE = Peer("pythae", "pythae==0.1.2")
TRANSFORMERS = Peer("transformers", "transformers>=4.44")
SENTENCE_TRANSFORMERS = Peer("sentence_transformers", "sentence-transformers>=5")
MTEB = Peer("mteb", "mteb>=2.26")
USEARCH = Peer("usearch", "usearch>=2.12")
FAISS = Peer("faiss", "faiss-cpu>=1.9")

CPU = "processor_milliseconds"
ALONE = "milliseconds_per_query_alone"
AT_EQUAL_ERROR = "time_of_baseline_over_time_at_its_error"

BENCHMARKS: Mapping[str, Benchmark] = {
    "two_streams": Benchmark(
        "training step of a text VAE",
        1,
        ratios=[
            Ratio(
                "speed of a training step, 128 wide, 6 layers, 2 of them latent, texts of 32 / 128 "
                "/ 512 tokens",
                "dense (2n)² mask, same weights and outputs",
                [(row, "two_streams", "ratio") for row in range(3)],
            )
        ],
        quick=True,
    ),
    "generation": Benchmark(
        "sampling of texts",
        1,
        [TRANSFORMERS],
        [
            Ratio(
                "speed of sampling, 64 wide, 2 layers, batch 1 / batch 32; 256 wide, 4 layers, "
                "batch 32",
                "transformers' generate with its cache",
                [(row, "univae", "ratio") for row in range(3)],
            )
        ],
        quick=True,
    ),
    "text_likelihood": Benchmark(
        "likelihood of texts",
        1,
        ratios=[
            Ratio(
                "speed of a likelihood with 128 samples, 8 of 12 layers below the latents",
                "the same model, text repeated for every sample",
                [("speed", "shared", "ratio")],
            ),
            Ratio(
                "peak memory with 1024 samples",
                "with 64 samples",
                [("memory", "ratio")],
            ),
        ],
        quick=True,
    ),
    "text_head": Benchmark(
        "log-probabilities of tokens",
        1,
        ratios=[
            Ratio(
                "speed of the output head by blocks, vocabularies of 300 / 4,096 / 10,000 / 8,192 "
                "/ 13,584",
                "all logits at once",
                [(row, "by blocks", "ratio") for row in range(5)],
            )
        ],
        quick=True,
    ),
    "likelihood": Benchmark(
        "likelihood of images",
        1,
        [PYTHAE],
        [
            Ratio(
                "speed of the likelihood of an image with 1000 samples / with one, MLP VAE, one "
                "thread",
                "pythae's get_nll, same weights (asked for one sample it draws 100)",
                [("K=1000", "estimate", "ratio"), ("K=1", "estimate", "ratio")],
            ),
            Ratio(
                "peak memory with 5000 samples",
                "with 500 samples",
                [("memory", "ratio")],
            ),
        ],
        quick=True,
    ),
    "optimizers": Benchmark(
        "updates of optimizers, and memory of folding",
        2,
        ratios=[
            Ratio(
                "time of a step at 10 M parameters in 200 tensors: AccumulatedAdamW / EGDD / Tiger",
                "torch.optim.AdamW(foreach=True)",
                [
                    ("steps", name, "time_over_reference")
                    for name in ("AccumulatedAdamW", "EGDD", "Tiger")
                ],
                partial=True,
            ),
            Ratio(
                "time of a step of AccumulatedAdamW",
                "torch.optim.AdamW(fused=True)",
                [("fused", "AccumulatedAdamW", "time_over_reference")],
                partial=True,
            ),
            Ratio(
                "processor time of an update of four micro-gradients folded into the moments: "
                "corrected / unbiased / summed / plain",
                "summed, then torch.optim.AdamW(foreach=True)",
                [
                    ("second_moments", rule, "time_over_reference")
                    for rule in ("corrected", "unbiased", "summed", "plain")
                ],
                partial=True,
            ),
            Ratio(
                "copies of the gradients saved by folding in the backward pass",
                "gradients summed in .grad",
                [("memory", "copies_saved")],
                partial=True,
            ),
        ],
        quick=True,
    ),
    "gan_step": Benchmark(
        "steps of a WGAN",
        1,
        ratios=[
            Ratio(
                "time of the critic's step of GN, convolutional critic of 28x28",
                "WGAN-GP's",
                [("critic", "GN", "time_over_reference")],
            ),
            Ratio(
                "time of an iteration of GN",
                "spectral norm's",
                [("iteration", "GN", "time_over_reference")],
            ),
            Ratio(
                "time of the generator's step of GN",
                "without normalisation",
                [("generator", "GN, one pass", "time_over_reference")],
            ),
            Ratio(
                "time of the generator's second-order step, as the authors take it",
                "GN's exact one-pass step",
                [("published", "second order over one pass")],
            ),
            Ratio(
                "time of the critic's step of GN through torch.func.vjp, compiled",
                "the same, eager autograd",
                [("compiled", "vjp, compiled", "time_over_reference")],
            ),
        ],
        quick=True,
    ),
    "contrastive": Benchmark(
        "exact contrastive gradients in chunks",
        3,
        [SENTENCE_TRANSFORMERS],
        [
            Ratio(
                "time of 128 texts in chunks of 16, exact gradient, no graph kept / half kept",
                "one backward pass of the whole batch",
                [
                    ("fixed", "no graph kept", "over_direct"),
                    ("fixed", "half kept", "over_direct"),
                ],
            ),
            Ratio(
                "the same, texts of mixed lengths in chunks of equal tokens",
                "sentence-transformers' cached loss, same encoder, 16 texts a chunk",
                [
                    ("mixed", "no graph kept", "over_peer"),
                    ("mixed", "half kept", "over_peer"),
                ],
            ),
            Ratio(
                "the same, in chunks of equal rows",
                "sentence-transformers' cached loss, same encoder, 16 texts a chunk",
                [
                    ("mixed", "no graph kept, by rows", "over_peer"),
                    ("mixed", "half kept, by rows", "over_peer"),
                ],
            ),
            Ratio(
                "speed of InfoNCE of 4,096 rows in tiles, 16 features",
                "the dense loss",
                [("tiles", "4096", "tiles", "ratio")],
            ),
        ],
        quick=True,
    ),
    "attention_critics": Benchmark(
        "ways to the gradient of a critic with attention",
        8,
        ratios=[
            Ratio(
                "time of the critic's step of GN: own second derivatives / PyTorch's",
                "without normalisation",
                [("critic", "own", "over_bare"), ("critic", "composed", "over_bare")],
            ),
            Ratio(
                "time of an iteration: GN / GraN",
                "without normalisation",
                [("iteration", "GN", "over_bare"), ("iteration", "GraN", "over_bare")],
            ),
        ],
    ),
    "sampling_efficiency": Benchmark(
        "samples that a proposal needs",
        10,
        ratios=[
            Ratio(
                "samples that Sobol points, widened by 1.2, need on a VAE of digits",
                "the error of 256 plain ones",
                [("proposals", -1, "samples_needed")],
            )
        ],
        rounds=False,
    ),
    "equal_error": Benchmark(
        "time of likelihoods at the same error",
        60,
        [PYTHAE],
        [
            Ratio(
                "speed of the likelihood of an image with Sobol points, at the error of 100 / "
                "1000 / 5000 samples",
                "pythae's get_nll, same weights",
                [("images", AT_EQUAL_ERROR, "pythae", "sobol", row, "ratio") for row in range(3)],
                partial=True,
            ),
            Ratio(
                "speed of the likelihood of a text, posterior calibrated, at the error of 16 / 64 "
                "/ 256 samples (at least)",
                "text repeated for every sample, posterior of training",
                [
                    ("texts", AT_EQUAL_ERROR, "repeated", "posterior, calibrated", row, "ratio")
                    for row in range(3)
                ],
                partial=True,
            ),
        ],
        rounds=False,
        needs="--images FILE --runs FOLDER",
    ),
    "codec": Benchmark(
        "bits-back coding of binarised images",
        2,
        ratios=[
            Ratio(
                "speed of encoding / of decoding an image, tiles of one",
                "published times on the same class of machine",
                [(0, "times_published", "encode"), (0, "times_published", "decode")],
            )
        ],
    ),
    "pixel_coding": Benchmark(
        "coding of autoregressive pixels",
        5,
        ratios=[
            Ratio(
                "speed of encoding / of decoding an image of autoregressive pixels in waves, tiles "
                "of 4",
                "in raster order",
                [("binary", "coding", 1, "raster", way, CPU) for way in ("encode", "decode")],
                over=[("binary", "coding", 1, "waves", way, CPU) for way in ("encode", "decode")],
            )
        ],
    ),
    "image_reading": Benchmark(
        "reading a folder of small images",
        1,
        ratios=[
            Ratio(
                "speed of reading 5,000 small images / of reading them from the cache",
                "a loop over Pillow in one thread",
                [(0, "reader", "ratio"), (0, "cached", "ratio")],
            )
        ],
    ),
    "vector_index": Benchmark(
        "indices among vectors",
        8,
        [USEARCH, FAISS],
        [
            Ratio(
                "speed of a query alone among 100,000 vectors: usearch / faiss, recall above 99%",
                "the exact search",
                [(0, "exact", ALONE)] * 2,
                over=[(0, "usearch", ALONE), (0, "faiss", ALONE)],
            )
        ],
        rounds=False,
    ),
    "import_parity": Benchmark(
        "imported checkpoints against transformers: the largest error",
        1,
        [TRANSFORMERS],
        rounds=False,
    ),
    "mteb_sts": Benchmark(
        "STS tasks of MTEB",
        5,
        [MTEB, SENTENCE_TRANSFORMERS],
        rounds=False,
        needs="RUN --tasks NAME ...",
    ),
    "contention": Benchmark(
        "training beside busy programs",
        5,
        ratios=[
            Ratio(
                "speed of a small training beside 0 / 1 / 2 / 4 busy programs, commands' waiting "
                "policy",
                "PyTorch's own policy",
                [("commands", str(count), "gain") for count in (0, 1, 2, 4)],
            )
        ],
    ),
    "compiled_steps": Benchmark("training steps: eager, compiled, recomputed", 20),
    "roofline": Benchmark("where the time of a training step goes", 10),
    "growth": Benchmark("time and memory by the size of the model and its data", 20),
    "contrastive_rows": Benchmark("InfoNCE by the number of rows", 60, rounds=False),
    "corpus_memory": Benchmark("memory and time of preparing texts", 15, rounds=False),
    "evaluation_memory": Benchmark("memory of scoring and encoding by texts", 15, rounds=False),
    "image_folder_memory": Benchmark("memory and time of folders of images", 5, rounds=False),
    "search_memory": Benchmark("memory and time of an exact search", 3, rounds=False),
    "steady_memory": Benchmark(
        "memory of a training, early and late",
        60,
        ratios=[
            Ratio(
                "memory at step 5000: train-text / -density / -gan / -similar",
                "at an early step",
                [(f"train-{kind}", "ratio") for kind in ("text", "density", "gan", "similar")],
            )
        ],
        rounds=False,
    ),
}
