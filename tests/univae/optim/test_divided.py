"""Parameters that are divided over processes move as whole ones do, by every rule of a window."""

from collections.abc import Callable, Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, distribute_tensor

from experiments.studies.processes import together
from univae.optim.accumulated import AccumulatedAdamW, AccumulatedSGD
from univae.optim.second_moments import SECOND_MOMENTS
from univae.optim.tiger import Tiger
from univae.optim.windowed import Windowed

Make = Callable[[list[Tensor]], Windowed]


def of_rule(rule: str, window: int) -> Make:
    return lambda params: AccumulatedAdamW(params, 0.1, window=window, second_moment=rule)


RULES: Mapping[str, Make] = {
    **{rule: of_rule(rule, 3) for rule in SECOND_MOMENTS},
    "a window of one": of_rule("summed", 1),
    "sgd": lambda params: AccumulatedSGD(params, 0.1, window=3),
    "tiger": lambda params: Tiger(params, 0.1, window=3),
}
NAN_AT = 4  # micro-step, inside the second window


def step_both(make: Make) -> None:
    """Step divided and whole parameters on the same gradients; compare them bit for bit."""
    torch.set_default_dtype(torch.float32)
    mesh = init_device_mesh("cpu", (2,))
    module = nn.Linear(3, 5)  # 3 rows here, 2 there
    start = [p.detach().clone() for p in module.parameters()]
    fully_shard(module, mesh=mesh)
    alone = torch.ones(4)  # no process has a part of it only
    parts = [*module.parameters(), alone.clone().requires_grad_()]
    whole = [x.requires_grad_() for x in (*start, alone)]
    of_parts = make(parts)
    of_whole = make(whole)
    generator = torch.Generator().manual_seed(1)
    for step in range(8):
        for i, (p, q) in enumerate(zip(parts, whole, strict=True)):
            q.grad = torch.randn(q.shape, generator=generator)
            if step == NAN_AT and i == 0:
                q.grad[4, 0] = torch.nan  # in the part of the second process
            p.grad = q.grad.clone()
            if i < len(start):
                placements = p.placements if step % 2 else [Replicate()]
                p.grad = distribute_tensor(q.grad, mesh, placements)
        of_parts.step()
        of_whole.step()
    of_parts.finish()
    of_whole.finish()
    for i, (p, q) in enumerate(zip(parts, whole, strict=True)):
        assert torch.equal(p.full_tensor() if i < len(start) else p, q)
        for name, value in of_whole.state[q].items():
            ours = of_parts.state[p][name]
            if isinstance(value, Tensor):
                assert i == len(start) or ours.to_local().numel() < value.numel()
                ours = ours.full_tensor() if i < len(start) else ours
                assert torch.equal(ours, value)
            else:
                assert ours == value


def step_all() -> None:
    for make in RULES.values():
        step_both(make)
    dist.barrier()


def test_divided_parameters_move_as_whole_ones_do() -> None:
    together(2, step_all)
