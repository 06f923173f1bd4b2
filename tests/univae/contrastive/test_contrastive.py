"""Losses of pairs: closed values, invariances, and the readable twins that hold every matrix."""

import itertools
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from univae.contrastive.losses import info_nce, paired_info_nce, partners
from univae.contrastive.ranking import cosent
from univae.errors import InputError


def unit(*shape: int) -> Tensor:
    return F.normalize(torch.randn(*shape), dim=-1).requires_grad_()


def roformer_sim(v: Tensor, scale: float = 20.0, diagonal: float = -1e12) -> Tensor:
    """As published: one matrix, a large negative diagonal, labels i XOR 1."""
    s = (v @ v.T + torch.eye(len(v)) * diagonal) * scale
    return F.cross_entropy(s, torch.arange(len(v)) ^ 1)


def plain_nce(
    q: Tensor, k: Tensor, scale: Tensor, extra: Tensor, g: Tensor, extra_g: Tensor
) -> Tensor:
    """Query by query and key by key."""
    keys = torch.cat((k, extra))
    ids = torch.cat((g, extra_g))
    total = torch.zeros(())
    for i in range(len(q)):
        seen = [j for j in range(len(keys)) if j == i or ids[j] != g[i]]
        s = torch.stack([scale * (q[i] @ keys[j]) for j in seen])
        total = total - s.log_softmax(0)[seen.index(i)]
    return total / len(q)


def plain_cosent(c: Tensor, y: Tensor, scale: float = 20.0, g: Tensor | None = None) -> Tensor:
    terms = [0 * c.sum()]
    for p, q in itertools.product(range(len(c)), repeat=2):
        if y[p] > y[q] and (g is None or g[p] == g[q]):
            terms.append(scale * (c[q] - c[p]))
    return torch.stack(terms).logsumexp(0)


def gradients(loss: Tensor, *inputs: Tensor) -> list[Tensor]:
    return [loss.detach(), *torch.autograd.grad(loss, inputs)]


def assert_same(ours: list[Tensor], theirs: list[Tensor], tolerance: float = 1e-12) -> None:
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


ROWS = pytest.mark.parametrize("rows", [None, 1, 3, 8, 100])


def test_partners_are_i_xor_one() -> None:
    assert partners(4).tolist() == [1, 0, 3, 2]


@ROWS
def test_the_loss_of_pairs_is_the_published_one_in_value_and_gradient(rows: int | None) -> None:
    v = unit(10, 4)
    assert_same(gradients(paired_info_nce(v, rows=rows), v), gradients(roformer_sim(v), v), 1e-11)


@ROWS
def test_equal_rows_give_log_b_minus_one_and_orthogonal_pairs_what_is_left(
    rows: int | None,
) -> None:
    for b in (2, 8, 24 if rows == 1 else 96):
        equal = torch.ones(b, 3) / math.sqrt(3)
        assert paired_info_nce(equal, rows=rows).item() == pytest.approx(math.log(b - 1), abs=1e-12)
    v = torch.eye(4).repeat_interleave(2, dim=0)
    assert paired_info_nce(v, rows=rows).item() == pytest.approx(
        math.log1p(6 * math.exp(-20)), rel=1e-6
    )


def test_cosines_ignore_lengths_rotations_order_of_pairs_and_the_order_within() -> None:
    x = torch.randn(12, 5)
    loss = paired_info_nce(F.normalize(x, dim=-1))
    turn, _ = torch.linalg.qr(torch.randn(5, 5))
    shuffled = x.unflatten(0, (6, 2))[torch.randperm(6)].flatten(0, 1)
    for other in (x * torch.rand(12, 1).add(0.1), x @ turn, x[partners(12)], shuffled):
        torch.testing.assert_close(
            paired_info_nce(F.normalize(other, dim=-1)), loss, rtol=1e-12, atol=0
        )
    # partners torn apart
    assert (paired_info_nce(F.normalize(x.roll(1, 0), dim=-1)) - loss).abs() > 1e-3


@ROWS
def test_the_diagonal_is_ignored_in_half_precision_too(rows: int | None) -> None:
    v = unit(8, 6)
    minus_infinity = F.cross_entropy((v @ v.T).fill_diagonal_(-math.inf) * 20, partners(8))
    torch.testing.assert_close(paired_info_nce(v, rows=rows), minus_infinity, rtol=1e-12, atol=0)
    half = v.detach().bfloat16().requires_grad_()
    loss = paired_info_nce(half, rows=rows)
    (grad,) = torch.autograd.grad(loss, half)
    assert loss.dtype == torch.float32
    assert grad.isfinite().all()
    torch.testing.assert_close(
        loss.double(), roformer_sim(half.detach().double()), rtol=1e-5, atol=1e-6
    )


@ROWS
@pytest.mark.parametrize("symmetric", [False, True])
def test_all_options_equal_the_twin_that_goes_pair_by_pair(
    rows: int | None, symmetric: bool
) -> None:
    q = unit(7, 4)
    k = unit(7, 4)
    extra = unit(2, 3, 4)
    scale = torch.tensor(5.0, requires_grad=True)
    g = torch.tensor([0, 1, 1, 2, 3, 3, 3])
    extra_g = torch.tensor([[0, 9, 9], [3, 1, 8]])
    ours = info_nce(
        q,
        k,
        scale,
        symmetric=symmetric,
        negatives=extra,
        groups=g,
        negative_groups=extra_g,
        rows=rows,
    )
    theirs = plain_nce(q, k, scale, extra.flatten(0, 1), g, extra_g.flatten())
    if symmetric:
        theirs = (theirs + plain_nce(k, q, scale, q[:0], g, g[:0])) / 2
    inputs = (q, k, extra, scale)
    assert_same(gradients(ours, *inputs), gradients(theirs, *inputs))


@ROWS
def test_plain_info_nce_is_cross_entropy_on_the_diagonal(rows: int | None) -> None:
    q = unit(9, 4)
    k = unit(9, 4)
    assert_same(
        gradients(info_nce(q, k, rows=rows), q, k),
        gradients(F.cross_entropy(20 * q @ k.T, torch.arange(9)), q, k),
    )


@ROWS
def test_negatives_without_groups_are_nobodys_duplicates(rows: int | None) -> None:
    q = unit(4, 3)
    k = unit(4, 3)
    extra = unit(5, 3)
    g = torch.tensor([-1, -1, 0, 2])
    fresh = torch.tensor([7, 7, 8, 8, 9])
    assert_same(
        gradients(info_nce(q, k, negatives=extra, groups=g, rows=rows), q, k, extra),
        gradients(plain_nce(q, k, torch.tensor(20.0), extra, g, fresh), q, k, extra),
    )


@ROWS
def test_a_false_negative_has_no_say(rows: int | None) -> None:
    # the first two pairs hold one question
    v = unit(6, 4)
    groups = torch.tensor([0, 0, 0, 0, 1, 1])
    (grad,) = torch.autograd.grad(paired_info_nce(v[:4], groups=groups[:4], rows=rows), v)
    assert grad.abs().max() < 1e-13  # the partner is all that is left to pick
    with_third = paired_info_nce(v, groups=groups, rows=rows)
    s = 20 * v @ v.T
    seen = [[1, 4, 5], [0, 4, 5], [3, 4, 5], [2, 4, 5], [5, 0, 1, 2, 3], [4, 0, 1, 2, 3]]
    expected = torch.stack([-s[i, js].log_softmax(0)[0] for i, js in enumerate(seen)]).mean()
    assert_same(gradients(with_third, v), gradients(expected, v))


def test_autocast_does_not_reach_the_loss() -> None:
    q = unit(9, 4).float()
    k = unit(9, 4).float()
    c = torch.rand(9).float()
    y = torch.arange(9)
    plain = [
        info_nce(q, k, symmetric=True),
        paired_info_nce(q[:8]),
        info_nce(q, k, rows=4),
        cosent(c, y),
    ]
    with torch.autocast("cpu", torch.bfloat16):
        inside = [
            info_nce(q, k, symmetric=True),
            paired_info_nce(q[:8]),
            info_nce(q, k, rows=4),
            cosent(c, y),
        ]
    for a, b in zip(plain, inside, strict=True):
        assert torch.equal(a, b)


def test_tiles_survive_scores_that_overflow_an_exponential() -> None:
    q = 30 * unit(8, 3)
    k = 30 * unit(8, 3)
    assert_same(
        gradients(info_nce(q, k, 10.0, rows=3), q, k), gradients(info_nce(q, k, 10.0), q, k)
    )


@pytest.mark.parametrize("score", [-500.0, 500.0])
def test_tiles_survive_targets_far_below_and_above_other_scores(score: float) -> None:
    # One feature: the target of query 0 scores this, its other three keys 0.
    q = torch.tensor([[1.0], [0.0], [0.0], [0.0]]).float().requires_grad_()
    k = torch.tensor([[score], [0.0], [0.0], [0.0]]).float().requires_grad_()
    loss = info_nce(q, k, 1.0, rows=2)
    first = 0.0 if score > 0 else 500 + math.log(3)
    assert loss.item() == pytest.approx((first + 3 * math.log(4)) / 4, rel=1e-6)
    assert_same(gradients(loss, q, k), gradients(info_nce(q, k, 1.0), q, k), 1e-6)


@pytest.mark.parametrize("levels", [2, 6, 1000])
@pytest.mark.parametrize("pairs", [1, 2, 33])
def test_cosent_by_sorting_equals_the_sum_over_pairs_of_pairs(levels: int, pairs: int) -> None:
    c = torch.rand(pairs).mul(2).sub(1).requires_grad_()
    y = torch.randint(0, levels, (pairs,)).double() / levels
    scale = torch.tensor(20.0, requires_grad=True)
    ours = cosent(c, y, scale)
    theirs = plain_cosent(c, y)
    assert_same(gradients(ours, c), gradients(theirs, c), 1e-10)
    step = 1e-5
    slope = (plain_cosent(c, y, 20 + step) - plain_cosent(c, y, 20 - step)) / (2 * step)
    (to_scale,) = torch.autograd.grad(cosent(c, y, scale), scale)
    torch.testing.assert_close(to_scale, slope, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("count", [1, 3, 33])
def test_cosent_compares_labels_within_a_group(count: int) -> None:
    c = torch.rand(33).mul(2).sub(1).requires_grad_()
    y = torch.randint(0, 5, (33,))
    g = torch.randint(0, count, (33,)) - 1
    ours = gradients(cosent(c, y, 7.0, groups=g), c)
    assert_same(ours, gradients(plain_cosent(c, y, 7.0, g), c), 1e-11)
    if count == 1:
        assert_same(ours, gradients(cosent(c, y, 7.0), c))


def test_cosent_sees_differences_of_scores_and_the_order_of_labels_alone() -> None:
    c = torch.rand(20)
    y = torch.randint(0, 5, (20,))
    loss = cosent(c, y)
    for scores, labels in ((c + 3.7, y), (c, y.double().exp()), (c, y**3 - 100)):
        torch.testing.assert_close(cosent(scores, labels), loss, rtol=1e-12, atol=0)


def test_cosent_has_its_closed_values() -> None:
    assert cosent(torch.zeros(4), torch.tensor([1, 0, 1, 0])).item() == pytest.approx(
        math.log(5), rel=1e-12
    )
    for gap in (0.0, 0.1, 0.5):
        # 6 ordered pairs of pairs
        c = torch.tensor([gap, 0, gap, 0, 0])
        y = torch.tensor([1, 0, 1, 0, 0])
        assert cosent(c, y).item() == pytest.approx(math.log1p(6 * math.exp(-20 * gap)), rel=1e-9)
    c = torch.rand(5, requires_grad=True)
    value, grad = gradients(cosent(c, torch.ones(5)), c)  # nothing is ordered
    assert value == 0
    assert torch.equal(grad, torch.zeros(5))


def test_cosent_pushes_the_highest_up_and_the_lowest_down() -> None:
    for _ in range(50):
        c = torch.rand(8, requires_grad=True)
        y = torch.randperm(8)
        _, grad = gradients(cosent(c, y), c)
        assert grad[y.argmax()] <= 0
        assert grad[y.argmin()] >= 0
        assert abs(grad.sum()) < 1e-9


def test_cosent_of_many_pairs_holds_no_matrix() -> None:
    # B x B would be 320 GB
    c = torch.rand(200_000, requires_grad=True)
    y = torch.rand(200_000)
    value, grad = gradients(cosent(c, y), c)
    assert value.isfinite()
    assert grad.isfinite().all()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: info_nce(torch.ones(0, 2), torch.ones(0, 2)),
            "info_nce: a batch must hold at least one row",
        ),
        (
            lambda: info_nce(torch.ones(2, 2), torch.ones(3, 2)),
            r"one shape; got \(2, 2\) and \(3, 2\)",
        ),
        (
            lambda: info_nce(torch.ones(2, 2), torch.ones(2, 2), rows=0),
            "at least one row; got rows=0",
        ),
        (
            lambda: info_nce(torch.ones(2, 2), torch.ones(2, 2), negative_groups=torch.ones(1)),
            "negatives and groups",
        ),
        (lambda: paired_info_nce(torch.ones(3, 2)), "even number; got 3"),
        (lambda: cosent(torch.ones(2), torch.tensor([1.0, math.nan])), "labels must be finite"),
    ],
)
def test_bad_input_is_named(call: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        call()


def largest_tensor(run: Any) -> int:
    """Elements of the largest tensor that any operation gives."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):
        largest = 0

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            out = func(*args, **(kwargs or {}))
            for x in out if isinstance(out, tuple | list) else (out,):
                if isinstance(x, Tensor):
                    self.largest = max(
                        self.largest, x.untyped_storage().nbytes() // x.element_size()
                    )
            return out

    with Watch() as watch:
        run()
    return watch.largest


@pytest.mark.parametrize(("queries", "keys"), [(1024, 1024), (4096, 4096), (1024, 65536)])
def test_no_tensor_of_the_tiled_loss_exceeds_a_tile_or_the_vectors(queries: int, keys: int) -> None:
    # Counts the elements of every tensor that an operation returns, forward and backward.
    q, k = (unit(n, 4).detach().float().requires_grad_() for n in (queries, keys))

    def run() -> None:
        info_nce(q, k[:queries], negatives=k[queries:], rows=512).backward()

    largest = largest_tensor(run)
    assert largest <= max(512 * 512, 4 * keys)
    assert q.grad is not None
    assert k.grad is not None
    assert largest_tensor(lambda: info_nce(q[:1024], k[:1024])) >= 1024**2  # what is avoided
