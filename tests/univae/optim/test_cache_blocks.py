"""Updates in blocks against whole ones, of odd sizes, other orders in memory and mixed dtypes."""

from collections.abc import Callable

import pytest
import torch
from test_accumulated import FAMILY
from torch import Tensor, nn

from univae.optim import cache_chunks as chunking
from univae.optim.accumulated import AccumulatedAdamW
from univae.optim.cache_chunks import Scratch, cache_blocks, cache_chunks, memory_views
from univae.optim.egdd import EGDD

MAKE = FAMILY | {
    "plain": lambda p, **o: FAMILY["adamw"](p, second_moment="plain", **o),
    "egdd": lambda p, **o: EGDD(p),
}
SIZES = ((), (0,), (1,), (7,), (3, 5), (31,), (33, 3), (257,))
SMALL = 32  # elements of a thread's share


def contiguous(x: Tensor) -> Tensor:
    return x.clone(memory_format=torch.contiguous_format)


def channels_last(x: Tensor) -> Tensor:
    return x.clone(memory_format=torch.channels_last)


def transposed(x: Tensor) -> Tensor:
    return contiguous(x.transpose(0, 1)).transpose(0, 1)


def with_gaps(x: Tensor) -> Tensor:
    return torch.stack([x, x], dim=-1)[..., 0]


def train(
    name: str, start: list[Tensor], grads: list[list[Tensor | None]], window: int
) -> list[Tensor]:
    params = [p.clone(memory_format=torch.preserve_format).requires_grad_() for p in start]
    optimizer = MAKE[name](params, window=window)
    for step_grads in grads:
        for p, g in zip(params, step_grads, strict=True):
            p.grad = g
        optimizer.step()
    return [p.detach() for p in params]


def draw(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, dtype=torch.float64).to(dtype)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    def switch(on: bool) -> None:
        monkeypatch.setattr(chunking, "THREAD_ELEMENTS", SMALL if on else 2**18)

    return switch


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("window", [1, 3])
def test_blocks_change_nothing_for_odd_sizes_missing_and_infinite_gradients(
    name: str, window: int, small_blocks: Callable[[bool], None]
) -> None:
    start = [draw(shape) for shape in SIZES]
    grads: list[list[Tensor | None]] = [[draw(shape) for shape in SIZES] for _ in range(7)]
    grads[1][3] = None
    grads[4][7] = None
    if name != "egdd":
        grads[2][7] = torch.full_like(start[7], torch.inf)
    results = []
    for on in (False, True):
        small_blocks(on)
        results.append(train(name, start, grads, window))
    for p, q, old in zip(*results, start, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-7, atol=1e-7)
        assert p.numel() == 0 or not torch.equal(p, old)


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("order", [channels_last, transposed, with_gaps])
@pytest.mark.parametrize("grad_order", [contiguous, None])
def test_any_order_in_memory_gives_the_update_of_the_usual_one(
    name: str,
    window: int,
    small: bool,
    order: Callable[[Tensor], Tensor],
    grad_order: Callable[[Tensor], Tensor] | None,
    small_blocks: Callable[[bool], None],
) -> None:
    shape = (4, 3, 5, 2)
    start = draw(shape)
    grads = [draw(shape) for _ in range(6)]
    (expected,) = train(name, [start], [[g] for g in grads], window)
    small_blocks(small)
    ordered = [[(grad_order or order)(g)] for g in grads]
    p = order(start)
    (result,) = train(name, [p], ordered, window)
    torch.testing.assert_close(result, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("window", [1, 2])
def test_parameters_of_mixed_dtypes_are_updated_as_by_optimizers_of_their_own(
    name: str, window: int
) -> None:
    dtypes = (torch.float64, torch.bfloat16, torch.float32, torch.float64, torch.float16)
    start = [draw((5, 3), dtype) for dtype in dtypes]
    grads = [[draw((5, 3), dtype) for dtype in dtypes] for _ in range(4)]
    together = train(name, start, grads, window)
    for i, dtype in enumerate(dtypes):
        (alone,) = train(name, start[i : i + 1], [g[i : i + 1] for g in grads], window)
        assert together[i].dtype == dtype
        assert torch.equal(together[i], alone)


def test_blocks_cover_every_element_once_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunking, "THREAD_ELEMENTS", 4)
    limit = 4 * torch.get_num_threads()
    sizes = (1, limit + 1, 3, limit, 3 * limit + 2, 2)
    params = [torch.arange(n, dtype=torch.float32) for n in sizes]
    seen = []
    for chunk in cache_chunks(params):
        assert len(chunk) == 1 or sum(p.numel() for p in chunk) <= limit
        for xs, ys in cache_blocks([chunk, [-p for p in chunk]]):
            assert sum(x.numel() for x in xs) <= limit
            assert all(torch.equal(x, -y) for x, y in zip(xs, ys, strict=True))
            seen += xs
    assert torch.equal(torch.cat(seen), torch.cat(params))


def test_views_share_memory_and_one_order() -> None:
    x = channels_last(draw((2, 3, 4, 5)))
    y = channels_last(draw((2, 3, 4, 5)))
    views = memory_views([x, y])
    assert views is not None
    assert views[0].data_ptr() == x.data_ptr()
    assert torch.equal(views[0], x.permute(0, 2, 3, 1).reshape(-1))
    assert torch.equal(views[0] * views[1], (x * y).permute(0, 2, 3, 1).reshape(-1))
    assert memory_views([x, contiguous(y)]) is None
    assert memory_views([with_gaps(x)]) is None
    assert memory_views([x[:1].expand(2, 3, 4, 5)]) is None


def test_scratch_copies_are_views_of_one_flat_tensor() -> None:
    tensors = [draw((2, 3)), draw(()), draw((0,)), draw((4,))]
    flat, views = Scratch().copy(tensors)
    flat.add_(1)
    for x, view in zip(tensors, views, strict=True):
        assert torch.equal(view, x + 1)
    assert flat.shape == (11,)


def test_weights_that_have_grown_are_refused_and_not_read_by_a_kernel() -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer = AccumulatedAdamW([weight])
    weight.grad = torch.ones(3)
    optimizer.step()
    weight.data = torch.ones(2**18)
    weight.grad = torch.ones(2**18)
    with pytest.raises(RuntimeError, match="must match"):
        optimizer.step()
