"""Several processes have the gradient of one with the whole batch, and average once a step."""

import functools
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from univae.contrastive.all_gather import gather as gather_rows
from univae.contrastive.all_gather import rows_of_all
from univae.contrastive.gradient_cache import cached_backward
from univae.contrastive.losses import info_nce, paired_info_nce
from univae.contrastive.ranking import cosent
from univae.errors import InputError
from univae.sentence.losses import distillation_loss, vector_loss

WIDTH = 5


class Encoder(nn.Module):
    """With a temperature that only the loss reads, as contrastive models have."""

    def __init__(self, seed: int = 3) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first = nn.Linear(WIDTH, 8)
        self.second = nn.Linear(8, 4)
        self.log_scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.second(self.first(x).tanh()), dim=-1)


class Counted:
    """A model whose gradients are averaged in several buckets, and which of them were."""

    def __init__(self, model: nn.Module, **options: Any) -> None:
        self.model = model
        self.buckets = list[int]()
        self.ddp = DistributedDataParallel(model, bucket_cap_mb=1e-4, **options)
        self.ddp.register_comm_hook(None, self._average)

    def _average(self, _: None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        self.buckets.append(bucket.index())
        return allreduce_hook(dist.group.WORLD, bucket)

    def averaged(self) -> int:
        """How many buckets were averaged since the last call, each of them once."""
        count = len(self.buckets)
        assert sorted(self.buckets) == list(range(count)), self.buckets
        self.buckets.clear()
        return count


def grads(model: nn.Module) -> list[Tensor]:
    gradients = [p.grad for p in model.parameters()]
    model.zero_grad()
    return gradients


def batch(seed: int, rows: int) -> Tensor:
    return torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(seed))


def share(x: Tensor) -> Tensor:
    """Own rows: two for the first process, four for the next, and so on; all even for pairs."""
    counts = [2 * (r + 1) for r in range(dist.get_world_size())]
    return x.split(counts)[dist.get_rank()]


def total() -> int:
    size = dist.get_world_size()
    return size * (size + 1)


def same(ours: list[Tensor], theirs: list[Tensor]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


def mean_over_processes(x: Tensor) -> Tensor:
    x = x.detach().clone()
    dist.all_reduce(x)
    return x / dist.get_world_size()


def gathers_rows_and_sums_gradients() -> None:
    rank = dist.get_rank()
    size = dist.get_world_size()
    x = batch(0, total())
    rows_here = share(x).clone().requires_grad_()
    every = gather_rows(rows_here)
    assert torch.equal(every, x)
    (every * (rank + 1)).square().sum().backward()
    torch.testing.assert_close(
        rows_here.grad, 2 * rows_here.detach() * sum((r + 1) ** 2 for r in range(size))
    )
    assert torch.equal(gather_rows(share(torch.arange(total()))), torch.arange(total()))


def a_process_without_rows_is_refused_by_all() -> None:
    with pytest.raises(InputError, match=r"every process must hold rows; by rank they hold \[0, 1"):
        rows_of_all(dist.get_rank(), torch.device("cpu"))


def losses_are_shares_of_the_whole_batchs(rows: int | None) -> None:
    q, k, extra = (F.normalize(batch(seed, total()), dim=-1) for seed in range(3))
    groups = torch.arange(total()) // 3
    extra_groups = torch.arange(total()) % 4
    losses: list[Callable[..., Tensor]] = [
        lambda q, k, extra, groups, ids, **o: info_nce(q, k, 5.0, symmetric=True, rows=rows, **o),
        lambda q, k, extra, groups, ids, **o: info_nce(
            q,
            k,
            5.0,
            negatives=extra,
            groups=groups,
            negative_groups=ids,
            symmetric=True,
            rows=rows,
            **o,
        ),
        lambda q, k, extra, groups, ids, **o: info_nce(
            q, k, 5.0, negatives=extra, groups=groups, rows=rows, **o
        ),
        lambda q, k, extra, groups, ids, **o: paired_info_nce(
            q, 5.0, groups=groups, rows=rows, **o
        ),
        lambda q, k, extra, groups, ids, **o: distillation_loss(q, extra.detach(), 7.0, **o),
        lambda q, k, extra, groups, ids, **o: vector_loss(q, k.detach(), 7.0, **o),
        lambda q, k, extra, groups, ids, **o: cosent((q * k).sum(-1), ids, 5.0, **o),
        lambda q, k, extra, groups, ids, **o: cosent(
            (q * k).sum(-1), ids, extra.square().mean().detach(), groups=groups % 2, **o
        ),
    ]
    for loss in losses:
        whole = [x.clone().requires_grad_() for x in (q, k, extra)]
        value = loss(*whole, groups, extra_groups)
        expected = torch.autograd.grad(value, whole, materialize_grads=True)
        rows_here = [share(x).clone().requires_grad_() for x in (q, k, extra)]
        mine = loss(*rows_here, share(groups), share(extra_groups), gather=True)
        gradients = torch.autograd.grad(mine, rows_here, materialize_grads=True)
        same([mean_over_processes(mine)], [value.detach()])
        same([g / dist.get_world_size() for g in gradients], [share(g) for g in expected])


def a_gather_without_gradient_loses_some() -> None:
    model = Encoder()
    x = batch(1, total())
    y = batch(2, total())
    info_nce(model(x), model(y)).backward()
    expected = torch.cat([g.flatten() for g in grads(model) if g is not None])
    q = model(share(x))
    k = model(share(y))
    before = sum(2 * (r + 1) for r in range(dist.get_rank()))
    keys = torch.cat((k, gather_rows(k).detach()))
    targets = torch.arange(len(q))
    duplicate = before + len(k) + torch.arange(len(k))
    scores = (20 * q @ keys.T).index_fill(1, duplicate, -torch.inf)
    (F.cross_entropy(scores, targets, reduction="sum") * dist.get_world_size() / total()).backward()
    gradients = torch.cat([mean_over_processes(g).flatten() for g in grads(model) if g is not None])
    assert (gradients - expected).norm() > 0.05 * expected.norm()


def cached_steps(keep: int, rows: int | None, **options: Any) -> None:
    model = Encoder()
    counted = Counted(model, **options)
    alone = Encoder()
    rank = dist.get_rank()
    for step in range(3):  # buckets are formed anew in the second
        x = batch(step, total())
        y = batch(step + 9, total())
        value = info_nce(alone(x), alone(y), alone.log_scale.exp(), symmetric=True)
        value.backward()

        def loss(q: Tensor, k: Tensor) -> Tensor:
            return info_nce(q, k, model.log_scale.exp(), symmetric=True, gather=True, rows=rows)

        # From one chunk a column to four, and graphs kept or not, all differing between processes.
        mine = cached_backward(
            [counted.ddp] * 2, (share(x), share(y)), loss, 2, keep=keep + rank % 2
        )
        same([mean_over_processes(mine)], [value.detach()])
        same(grads(model), grads(alone))
        assert counted.averaged() >= (1 if step == 0 else 2)


def two_encoders(keep: int, keep_bytes: int) -> None:
    models = [Encoder(3), Encoder(4)]
    alone = [Encoder(3), Encoder(4)]
    counted = [Counted(model, find_unused_parameters=True) for model in models]
    for step in range(3):
        x = batch(step, total())
        y = batch(step + 9, total())
        info_nce(alone[0](x), alone[1](y), alone[0].log_scale.exp()).backward()

        def loss(q: Tensor, k: Tensor) -> Tensor:
            return info_nce(q, k, models[0].log_scale.exp(), gather=True)

        encoders = [counted[0].ddp, counted[1].ddp]
        cached_backward(encoders, (share(x), share(y)), loss, 3, keep=keep, keep_bytes=keep_bytes)
        for model, twin, each in zip(models, alone, counted, strict=True):
            ours, theirs = (
                [g for g in grads(m) if g is not None and g.any()] for m in (model, twin)
            )
            same(ours, theirs)
            assert each.averaged() >= 1


def cosent_of_all_pairs() -> None:
    alone = Encoder()
    x = batch(1, total())
    y = batch(2, total())
    labels = torch.arange(total()) % 3
    value = cosent((alone(x) * alone(y)).sum(-1), labels, alone.log_scale.exp())
    value.backward()
    model = Encoder()
    counted = Counted(model)

    def loss(q: Tensor, k: Tensor) -> Tensor:
        return cosent((q * k).sum(-1), share(labels), model.log_scale.exp(), gather=True)

    mine = cached_backward([counted.ddp] * 2, (share(x), share(y)), loss, 2)
    same([mine], [value.detach()])
    same(grads(model), grads(alone))


def labels_without_an_order_are_refused_by_all() -> None:
    labels = torch.tensor([0.0, torch.nan if dist.get_rank() == 0 else 1.0])
    with pytest.raises(InputError, match="cosent: labels must be finite"):
        cosent(torch.ones(2), labels, gather=True)


class Tracked(nn.Module):
    """Normalises each row by itself, and tracks statistics of the rows."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.linear = nn.Linear(WIDTH, 8)
        self.norm = nn.InstanceNorm1d(2, track_running_stats=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.linear(x).unflatten(1, (2, 4)).tanh()).flatten(1)


def running_statistics_move_once_a_chunk(keep: int) -> None:
    model = Tracked()
    alone = Tracked()
    local = Tracked()
    counted = Counted(model)
    x = batch(7, total())
    paired_info_nce(alone(x)).backward()
    for part in share(x).split(2):
        local(part)
    loss = functools.partial(paired_info_nce, gather=True)
    cached_backward(counted.ddp, share(x), loss, 2, keep=keep)
    same(grads(model), grads(alone))
    same(list(model.buffers()), list(local.buffers()))


def a_static_graph_is_refused() -> None:
    with pytest.raises(InputError, match="without static_graph=True"):
        cached_backward(Counted(Encoder(), static_graph=True).ddp, batch(0, 2), paired_info_nce, 1)


def functions_list_their_wrapped_modules() -> None:
    models = [Encoder(3), Encoder(4)]
    for keep in (0, 1, 100):
        alone = Encoder(3)
        counted = Counted(models[0])
        x = batch(5, total())
        paired_info_nce(alone(x), alone.log_scale.exp()).backward()

        def loss(v: Tensor) -> Tensor:
            return paired_info_nce(v, models[0].log_scale.exp(), gather=True)

        cached_backward(
            lambda rows, ddp=counted.ddp: ddp(rows),
            share(x),
            loss,
            2,
            keep=keep,
            modules=[counted.ddp],
        )
        same(grads(models[0]), grads(alone))
        assert counted.averaged() >= 1


def a_wrapped_module_that_is_not_listed_is_refused() -> None:
    ddp = Counted(Encoder()).ddp
    for keep in (0, 100):
        with pytest.raises(InputError, match="DistributedDataParallel that is not in modules="):
            cached_backward(lambda rows: ddp(rows), batch(0, 4), paired_info_nce, 2, keep=keep)
    assert all(p.grad is None for p in ddp.parameters())


def a_listed_module_that_is_not_called_is_refused() -> None:
    first = Counted(Encoder()).ddp
    second = Counted(Encoder()).ddp
    with pytest.raises(InputError, match="does not call a module under DistributedDataParallel"):
        cached_backward(
            [lambda rows: first(rows), lambda rows: second(rows)],
            (batch(0, 4), batch(1, 4)),
            info_nce,
            2,
            modules=[first, second],
        )


def all_theorems() -> None:
    gathers_rows_and_sums_gradients()
    losses_are_shares_of_the_whole_batchs(rows=3)
    cached_steps(keep=0, rows=3)
    if dist.get_world_size() > 2:
        return  # the rest does not depend on how many there are
    a_process_without_rows_is_refused_by_all()
    losses_are_shares_of_the_whole_batchs(rows=None)
    for keep in (1, 3, 100):
        cached_steps(keep, rows=None)
    cached_steps(1, None, find_unused_parameters=True)
    a_gather_without_gradient_loses_some()
    for keep, keep_bytes in ((0, 0), (1, 0), (0, 2000), (100, 0)):
        two_encoders(keep, keep_bytes)
    cosent_of_all_pairs()
    labels_without_an_order_are_refused_by_all()
    for keep in (0, 1, 100):
        running_statistics_move_once_a_chunk(keep)
    a_static_graph_is_refused()
    functions_list_their_wrapped_modules()
    a_wrapped_module_that_is_not_listed_is_refused()
    a_listed_module_that_is_not_called_is_refused()


_SCRIPT = """
import gc, sys
from datetime import timedelta
sys.path.insert(0, {tests!r})
import torch
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
import torch.distributed as dist
import test_contrastive_processes as tests
dist.init_process_group("gloo", timeout=timedelta(seconds=60))
tests.all_theorems()
print("held")
dist.barrier()
gc.collect()  # what holds threads of the group must not outlive it
dist.destroy_process_group()
"""


@pytest.mark.parametrize("size", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_together_have_the_gradient_of_one(size: int) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    tests = Path(__file__).parent
    variables = {
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "OMP_NUM_THREADS": "1",
    }
    variables |= {"PYTHONPATH": str(tests.parents[2])}
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error::FutureWarning", "-c", _SCRIPT.format(tests=str(tests))],
            env=os.environ | variables | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    outputs = [process.communicate(timeout=150) for process in processes]
    assert [process.returncode for process in processes] == [0] * size, "\n".join(
        err[-3000:] for _, err in outputs
    )
    assert [out for out, _ in outputs] == ["held\n"] * size
