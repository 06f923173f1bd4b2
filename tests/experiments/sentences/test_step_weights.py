"""A step of several processes, or of several micro-batches, is the step of their union."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from experiments.data.pairs import Groups, group_up
from experiments.sentences.batch import Batch, Examples, SentenceObjective
from experiments.sentences.label_task import LabelTask
from experiments.sentences.pair_task import PairTask, pair_steps
from experiments.training.distributed import World
from experiments.training.gradient_steps import GradientSteps
from experiments.training.settings import Settings
from experiments.training.task import Progress, WeighingTask, reseed
from univae.sentence.config import RoFormerSimConfig
from univae.sentence.model import RoFormerSim
from univae.sentence.tokenizer import SimilarText
from univae.text.corpus import Corpus
from univae.text.noise import Noise, WordNoise
from univae.text.tokenizers import train_tokenizer

PAIRS = 9
LENGTHS = (1, 2, 1, 2, 9, 8, 9, 7, 9)  # words of the texts of a pair
SHORT = [0, 1, 2, 3]
LONG = [4, 5, 6]
OTHER_FILE = [7, 8]
CASES: dict[str, tuple[dict[str, object], list[list[int]]]] = {
    "pretrain": ({"stage": "pretrain"}, [SHORT, LONG]),
    "chunks": ({"stage": "pretrain", "chunk_size": 3}, [SHORT, LONG]),
    "distil": ({"stage": "distil"}, [SHORT, LONG]),
    "one file": ({"stage": "finetune"}, [SHORT, LONG]),
    "two files": ({"stage": "finetune"}, [SHORT, OTHER_FILE]),
    "three micro-batches": ({"stage": "finetune"}, [SHORT, LONG, OTHER_FILE, LONG[:2]]),
}


def groups() -> Groups:
    texts = [[f"w{i} " * n + "here", f"w{i} " * n + "there"] for i, n in enumerate(LENGTHS)]
    labels = [0.1, 0.9, 0.4, 0.6, 0.3, 0.8, 0.5, 2.0, 1.0]
    return group_up(texts, labels, [0] * 7 + [1] * 2)


def steps(
    folder: Path, world: World, accumulate: int = 1, **options: object
) -> GradientSteps[np.ndarray, Batch]:
    """The steps of a small model without noise, the same in every process."""
    torch.set_default_dtype(torch.float64)
    examples = groups()
    tokenizer = train_tokenizer("words", examples.texts, 60)
    text = SimilarText(tokenizer, 16)
    corpus = Corpus.build(examples.texts, text, folder / f"corpus{world.rank}", max_length=16)
    reseed(1)
    model = RoFormerSim(
        RoFormerSimConfig(text.vocab_size, width=8, heads=2, layers=1, max_length=16, dropout=0.0)
    )
    teacher = torch.nn.functional.normalize(torch.randn(len(examples.texts), 4), dim=-1).numpy()
    objective = SentenceObjective(**{"noise_rows": 0.0, "gather": world.size > 1, **options})
    kept = Examples(examples, corpus, np.arange(PAIRS), np.arange(0), teacher)
    settings = Settings(optimizer="sgd", lr=1e-3, clip=0.0, accumulate=accumulate)
    if objective.stage == "finetune":
        return GradientSteps(LabelTask(model, objective, 0, kept), settings, world)
    noise = WordNoise(tokenizer, model.mask, Noise(rows=0.0))
    return pair_steps(model, objective, settings, kept, noise, world)


def item(stepper: GradientSteps[np.ndarray, Batch], pairs: list[int]) -> np.ndarray:
    """The item of some pairs, as the task's own batches name them."""
    rows = np.array(pairs)
    return groups().pairs[rows] if isinstance(stepper.task, PairTask) else rows


def gradient(
    stepper: GradientSteps[np.ndarray, Batch], parts: list[list[int]]
) -> tuple[Tensor, dict[str, float]]:
    """The gradient that a step on these items leaves, and the means that it logs."""
    stepped = stepper.step([item(stepper, pairs) for pairs in parts], Progress(0, 0.0))
    gradients = [p.grad for p in stepper.parameters if p.grad is not None]
    means = {name: value / stepped.sums["weight"] for name, value in stepped.sums.items()}
    return torch.cat([g.flatten() for g in gradients]), means


def of_processes(rank: int, folder: Path) -> dict[str, tuple[Tensor, dict[str, float]]]:
    """The gradients of one of two processes, by case."""
    world = World(rank, 2, torch.device("cpu"))
    results = {}
    for name, (options, parts) in CASES.items():
        stepper = steps(folder / name, world, accumulate=len(parts) // 2, **options)
        results[name] = gradient(stepper, parts)
    return results


_SCRIPT = """
import gc, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import torch
import torch.distributed as dist
import test_step_weights as tests
dist.init_process_group("gloo")
results = tests.of_processes(dist.get_rank(), Path({folder!r}))
torch.save(results, Path({folder!r}) / f"{{dist.get_rank()}}.pt")
dist.barrier()
gc.collect()  # what holds threads of the group must not outlive it
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def together(
    tmp_path_factory: pytest.TempPathFactory,
) -> list[dict[str, tuple[Tensor, dict[str, float]]]]:
    """The results of two processes."""
    folder = tmp_path_factory.mktemp("together")
    for name in CASES:
        (folder / name).mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    tests = Path(__file__).parent
    variables = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    variables |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(tests.parents[2])}
    script = _SCRIPT.format(tests=str(tests), folder=str(folder))
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            env=os.environ | variables | {"RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=150)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if name != "three micro-batches"])
def test_two_processes_have_the_gradient_of_one_over_the_union(
    name: str, together: list[dict[str, tuple[Tensor, dict[str, float]]]], tmp_path: Path
) -> None:
    options, parts = CASES[name]
    alone = steps(tmp_path, World(0, 1, torch.device("cpu")), **{**options, "gather": True})
    expected, means = gradient(alone, [[pair for part in parts for pair in part]])
    assert expected.norm() > 1e-3
    for results in together:
        ours, logged = results[name]
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-11)
        assert logged == pytest.approx(means, rel=1e-10)


@pytest.mark.slow
def test_pairs_are_compared_in_each_micro_batch_of_all_processes(
    together: list[dict[str, tuple[Tensor, dict[str, float]]]], tmp_path: Path
) -> None:
    options, parts = CASES["three micro-batches"]
    world = World(0, 1, torch.device("cpu"))
    alone = steps(tmp_path, world, accumulate=2, **{**options, "gather": True})
    expected, means = gradient(alone, [parts[0] + parts[1], parts[2] + parts[3]])
    for results in together:
        ours, logged = results["three micro-batches"]
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-11)
        assert logged == pytest.approx(means, rel=1e-10)


def test_micro_batches_generate_every_token_with_the_same_weight(tmp_path: Path) -> None:
    world = World(0, 1, torch.device("cpu"))
    gradients = []
    nats = []
    for name, parts in (("union", [SHORT + LONG]), ("parts", [SHORT, LONG])):
        by_weight = []
        for weight in (1.0, 3.0):  # the contrastive loss of parts is another one, and cancels
            folder = tmp_path / f"{name}{weight}"
            folder.mkdir()
            stepper = steps(folder, world, accumulate=len(parts), generation=weight)
            assert isinstance(stepper.task, WeighingTask)
            value, means = gradient(stepper, parts)
            by_weight.append(value)
        gradients.append((by_weight[1] - by_weight[0]) / 2)
        nats.append(means["generation_nats_per_token"])
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-11)
    assert nats[0] == pytest.approx(nats[1], rel=1e-12)
