"""Two passes over chunks give the gradient of one pass over the batch."""

import functools
import math
import random
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cached_encoders import WIDTH, assert_same, direct, distance, encoder, grads
from torch import Tensor, nn

from univae.contrastive.chunking import by_mean_tokens, by_tokens
from univae.contrastive.gradient_cache import cached_backward
from univae.contrastive.losses import info_nce, paired_info_nce
from univae.errors import InputError


@pytest.mark.parametrize("keep", [0, 1, 2, 100])
@pytest.mark.parametrize("chunk", [1, 4, 5, 7, 12, 24, 50])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_the_gradient_is_that_of_the_whole_batch_at_every_chunk_size(
    keep: int, chunk: int, dtype: torch.dtype, tolerance: float
) -> None:
    model = encoder().to(dtype)
    x = torch.randn(24, WIDTH, dtype=dtype)
    expected = direct(model, x, paired_info_nce)
    value = cached_backward(model, x, paired_info_nce, chunk, keep=keep)
    assert not value.requires_grad
    assert distance([value, *grads(model)], expected) < tolerance


def test_a_mean_over_parts_of_the_batch_is_another_loss() -> None:
    model = encoder()
    x = torch.randn(24, WIDTH)
    expected = direct(model, x, paired_info_nce)[1:]
    for part in x.split(6):
        (paired_info_nce(model(part)) / 4).backward()
    assert distance(grads(model), expected) > 0.1


@pytest.mark.parametrize("keep", [0, 1, 2, 3])
@pytest.mark.parametrize("tied", [True, False])
def test_two_columns_have_one_encoder_or_two(tied: bool, keep: int) -> None:
    f = encoder(0.2)
    g = f if tied else encoder(0.2, seed=4)
    x = torch.randn(9, WIDTH)
    y = torch.randn(9, WIDTH)
    modules = [f] if tied else [f, g]
    loss = functools.partial(info_nce, symmetric=True)
    torch.manual_seed(1)
    q = torch.cat([f(part) for part in x.split(4)])
    loss(q, torch.cat([g(part) for part in y.split(4)])).backward()
    expected = grads(*modules)
    for module in modules:
        module.zero_grad()
    torch.manual_seed(1)
    cached_backward([f, g], (x, y), loss, 4, keep=keep)
    assert_same(grads(*modules), expected)


class Judge(nn.Module):
    """A loss with parameters of its own: a head, a temperature and a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.log_scale = nn.Parameter(torch.tensor(1.5))
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, v: Tensor) -> Tensor:
        return paired_info_nce(self.head(v) + self.bias, self.log_scale.exp(), rows=self.rows)

    rows: int | None = None


@pytest.mark.parametrize("keep", [0, 1, 9])
@pytest.mark.parametrize("rows", [None, 4])
def test_the_parameters_of_the_loss_get_their_gradient_once(keep: int, rows: int | None) -> None:
    model = encoder()
    judge = Judge()
    x = torch.randn(24, WIDTH)
    judge.rows = rows
    judge(model(x)).backward()
    expected = grads(model, judge)
    model.zero_grad()
    judge.zero_grad()
    cached_backward(model, x, judge, 5, keep=keep)
    assert_same(grads(model, judge), expected)


@pytest.mark.parametrize("keep", [0, 1, 9])
def test_gradients_add_to_those_that_are_there(keep: int) -> None:
    model = encoder()
    x = torch.randn(12, WIDTH)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    cached_backward(model, x, paired_info_nce, 5, keep=keep)
    twice = grads(model)
    for p, g in zip(model.parameters(), direct(model, x, paired_info_nce)[1:], strict=True):
        torch.testing.assert_close(twice.pop(0), 1 + g)
        assert p.grad is None


def test_the_published_gradient_of_a_symmetric_softmax_is_that_at_the_representations() -> None:
    # htilde_i = 2 sum_j (pbar_ij - t_ij) h_j, with p of the masked rows, t symmetric and the mean's
    # 1/B.
    h = torch.randn(10, 4, requires_grad=True)
    b = 10
    scale = 3.0
    (ours,) = torch.autograd.grad(paired_info_nce(h, scale), h)
    with torch.no_grad():
        s = (scale * h @ h.T).fill_diagonal_(-torch.inf)
        p = s.softmax(-1)
        t = torch.eye(b)[torch.arange(b) ^ 1]
        published = 2 * scale * ((p + p.T) / 2 - t) @ h / b
    torch.testing.assert_close(ours, published, rtol=1e-12, atol=1e-12)


def test_the_surrogate_of_a_cosine_loss_is_zero() -> None:
    h = torch.randn(10, 4, requires_grad=True)
    (g,) = torch.autograd.grad(paired_info_nce(F.normalize(h, dim=-1)), h)
    assert abs((g * h).sum()) < 1e-10
    assert g.norm() > 0.1


@pytest.mark.parametrize("keep", [0, 1, 9])
def test_every_chunk_is_padded_for_itself_and_rows_return_to_their_order(keep: int) -> None:
    table = nn.Embedding(50, 4)
    items = [torch.randint(1, 50, (n,)) for n in (9, 2, 5, 3, 9, 1, 2, 4)]
    widths = []

    def pad(parts: list[Tensor]) -> Tensor:
        widths.append((len(parts), max(len(part) for part in parts)))
        return nn.utils.rnn.pad_sequence(parts, batch_first=True)

    def encode(ids: Tensor) -> Tensor:
        return (table(ids) * (ids > 0)[..., None]).sum(1).tanh()

    paired_info_nce(encode(pad(items))).backward()
    expected = [table.weight.grad]
    for size in (3, by_tokens(12)):
        table.zero_grad()
        widths.clear()
        cached_backward(encode, items, paired_info_nce, size, collate=pad, keep=keep)
        assert_same([table.weight.grad], expected)
    assert widths == [(4, 3), (2, 5), (1, 9), (1, 9)]  # collated once
    table.zero_grad()
    cached_backward(encode, [pad(items[:3]), pad(items[3:])], paired_info_nce, None, keep=keep)
    assert_same([table.weight.grad], expected)


def test_chunks_by_tokens_hold_every_item_once_and_never_too_many() -> None:
    lengths = [random.Random(n).randint(1, 30) for n in range(200)]
    groups = by_tokens(64, lambda n: n)(lengths)
    assert sorted(row for group in groups for row in group) == list(range(200))
    assert all(len(group) * max(lengths[i] for i in group) <= 64 for group in groups)
    assert by_tokens(4)(["a" * 9]) == [[0]]
    with pytest.raises(InputError, match="tokens=0"):
        by_tokens(0)


def test_chunks_of_mean_tokens_have_at_most_eight_times_as_many_rows() -> None:
    lengths = [1] * 900 + [500] * 100
    groups = by_mean_tokens(32, int)(lengths)
    assert max(map(len, groups)) == 8 * 32
    assert sorted(row for group in groups for row in group) == list(range(1000))


def test_chunks_of_mean_tokens_hold_as_many_tokens_as_rows_have_on_average() -> None:
    lengths = [random.Random(n).randint(1, 30) for n in range(200)]
    groups = by_mean_tokens(8, lambda n: n)(lengths)
    assert groups == by_tokens(math.ceil(8 * sum(lengths) / 200), lambda n: n)(lengths)
    assert by_mean_tokens(2)(["ab", "cd", "ef"]) == [[0, 1], [2]]  # of one length: rows in order
    features = [{"ids": [7, 8, 9], "label": 1}, {"ids": [7], "label": 0}, {}]
    assert by_mean_tokens(2)(features) == [[1, 2], [0]]
    assert by_mean_tokens(2)([1.0, torch.tensor(2.0), ""]) == [[0, 1], [2]]  # one token each
    assert by_mean_tokens(3)(["abcdef", "a", "b"]) == [[0, 1, 2]]  # the batch is one chunk
    with pytest.raises(InputError, match="rows=0"):
        by_mean_tokens(0)


def test_parts_that_are_padded_separately_are_sorted_separately() -> None:
    pairs = [(2, 9), (9, 2), (3, 8), (8, 3)]
    groups = by_mean_tokens(3, tuple)(pairs)
    assert groups == [[0, 2], [3, 1]]
    assert [[max(pairs[i][part] for i in group) for part in (0, 1)] for group in groups] == [
        [3, 9],
        [9, 3],
    ]


@pytest.mark.parametrize("keep", [0, 2, 99])
def test_with_collate_a_number_of_rows_is_one_of_mean_tokens_also_with_dropout(keep: int) -> None:
    table = nn.Sequential(nn.Embedding(50, 4), nn.Dropout(0.3))
    items = [torch.randint(1, 50, (n,)) for n in (9, 2, 5, 3, 9, 1, 2, 4)]

    def pad(parts: list[Tensor]) -> Tensor:
        return nn.utils.rnn.pad_sequence(parts, batch_first=True)

    def encode(ids: Tensor) -> Tensor:
        return (table(ids) * (ids > 0)[..., None]).sum(1).tanh()

    groups = by_mean_tokens(3)(items)
    order = torch.tensor([row for group in groups for row in group])
    torch.manual_seed(1)
    vectors = torch.cat([encode(pad([items[row] for row in group])) for group in groups])
    paired_info_nce(vectors[order.argsort()]).backward()
    expected = grads(table)
    table.zero_grad()
    torch.manual_seed(1)
    cached_backward(encode, items, paired_info_nce, 3, collate=pad, keep=keep, modules=[table])
    assert_same(grads(table), expected)


def test_structures_are_cut_and_what_has_no_rows_is_in_every_chunk() -> None:
    model = encoder()
    x = torch.randn(7, WIDTH)
    seen = []

    def encode(batch: dict[str, Any]) -> Tensor:
        seen.append(batch)
        return model(batch["x"]) * batch["pair"][0][:, None] * batch["factor"]

    batch = {
        "x": x,
        "pair": (torch.ones(7), [torch.ones(7)]),
        "factor": 2.0,
        "flag": torch.tensor(1),
    }
    cached_backward(encode, batch, lambda v: info_nce(v, v, 1.0, symmetric=True), 3, keep=0)
    assert [len(part["pair"][1][0]) for part in seen] == [3, 3, 1] * 2
    ours = grads(model)
    assert_same(ours, direct(model, x, lambda v: info_nce(2 * v, 2 * v, 1.0))[1:])
    model.zero_grad()
    cached_backward(
        encode,
        batch,
        lambda v: info_nce(v, v, 1.0),
        lambda batch: [[5, 0], [1, 6, 2], [4, 3]],
        keep=0,
    )
    assert_same(grads(model), ours)


def test_an_encoder_may_give_several_tensors() -> None:
    model = encoder(0.1)
    x = torch.randn(8, WIDTH)

    def encode(part: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        v = model(part)
        return v, v.square().sum(-1), torch.arange(len(part))

    def loss(outputs: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        v, energy, rows = outputs
        assert rows.tolist() == [0, 1, 2] * 2 + [0, 1]
        return paired_info_nce(v) + 0.1 * energy.mean()

    torch.manual_seed(2)
    expected = direct(model, x, lambda v: paired_info_nce(v) + 0.1 * v.square().sum(-1).mean(), 3)
    torch.manual_seed(2)
    assert_same([cached_backward(encode, x, loss, 3), *grads(model)], expected)


@pytest.mark.parametrize("keep", [0, 1, 2, 9])
def test_both_passes_run_under_the_autocast_of_the_caller(keep: int) -> None:
    model = encoder(0.2).float()
    x = torch.randn(12, WIDTH, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        torch.manual_seed(1)
        expected = direct(model, x, lambda v: paired_info_nce(v.float()), 4)
        torch.manual_seed(1)
        value = cached_backward(model, x, paired_info_nce, 4, keep=keep)
    assert len(grads(model)) == 4
    # bfloat16 weights' gradients are summed in other orders
    assert distance([value, *grads(model)], expected) < 5e-3
    first = model.first.weight.grad
    torch.testing.assert_close(
        first, expected[1], rtol=0.05, atol=float(expected[1].abs().max()) * 0.01
    )


def test_weights_cast_in_the_first_pass_are_forgotten_before_the_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = encoder().float()
    forgotten = []
    monkeypatch.setattr(torch, "clear_autocast_cache", lambda: forgotten.append(len(model.rows)))
    with torch.autocast("cpu", torch.bfloat16):
        cached_backward(
            model, torch.randn(6, WIDTH, dtype=torch.float32), paired_info_nce, 2, keep=0
        )
    assert forgotten[0] == 3  # after as many chunks, before the loss


@pytest.mark.parametrize("keep", [0, 1, 9])
def test_a_scaler_scales_once(keep: int) -> None:
    model = encoder(0.2).float()
    judge = Judge().float()
    x = torch.randn(12, WIDTH, dtype=torch.float32)
    torch.manual_seed(1)
    value = cached_backward(model, x, judge, 5, keep=keep)
    expected = grads(model, judge)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizer = torch.optim.SGD([*model.parameters(), *judge.parameters()], lr=0.1)
    optimizer.zero_grad()
    torch.manual_seed(1)
    assert torch.equal(cached_backward(model, x, judge, 5, keep=keep, scaler=scaler), value)
    scaler.unscale_(optimizer)
    assert_same(grads(model, judge), expected, 1e-6)
    before = model.first.weight.detach().clone()
    scaler.step(optimizer)
    scaler.update()
    torch.testing.assert_close(model.first.weight, before - 0.1 * expected[0])


def test_a_frozen_encoder_is_passed_through_once_but_for_a_chunk() -> None:
    f = encoder()
    g = encoder(seed=4)
    x = torch.randn(12, WIDTH)
    y = torch.randn(12, WIDTH)
    g.requires_grad_(False)
    info_nce(f(x), g(y)).backward()
    expected = grads(f)
    f.zero_grad()
    f.rows.clear()
    g.rows.clear()
    cached_backward([f, g], (x, y), info_nce, 3)
    assert_same(grads(f), expected)
    assert len(f.rows) == 8
    assert (
        len(g.rows) == 4
    )  # the last chunk's graph, which is kept, already shows that there is nothing to differentiate
    assert not grads(g)


X = torch.ones(4, WIDTH)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"batch": X[:0]}, "at least one row"),
        ({"batch": [], "chunk_size": None}, "at least one chunk"),
        ({"batch": ["a", "b"]}, "give collate= for a sequence"),
        ({"batch": (X, X[:3])}, r"as many rows; they have \[3, 4\]"),
        ({"chunk_size": 0}, "at least one row; got chunk_size=0"),
        ({"chunk_size": lambda x: [[0, 1], [1, 2, 3]]}, "each of the 4 rows once"),
        ({"chunk_size": lambda x: [[0, 1, 2, 3], []]}, "none may be empty"),
        ({"encode": [encoder(), encoder()]}, "2 encoders take as many columns; got 4"),
        ({"encode": lambda x: x[:1]}, r"one row for each of a chunk; got \[1, 2\] rows"),
        (
            {"encode": lambda x: {"vectors": x}},
            "encode returned a dict; return a tensor or a tuple",
        ),
        (
            {"encode": lambda x: OrderedDict(a=x)},
            "encode returned a OrderedDict; return a tensor or a tuple",
        ),
        ({"encode": lambda x: None}, "encode returned nothing; return a tensor or a tuple"),
        ({"encode": lambda x: ()}, "encode returned a tuple of nothing; return"),
        ({"encode": lambda x: (x, "a")}, "encode returned a tuple of a str, a tensor; return"),
        ({"encode": lambda x: x.sum()}, "encode returned a tensor without rows; return"),
        ({"encode": lambda x: x.numpy()}, "encode returned a ndarray; return"),
        ({"loss": lambda v: v.sum(-1)}, r"must be a scalar.*got shape \(4,\)"),
        ({"loss": lambda v: torch.ones(())}, "requires_grad=False"),
    ],
)
def test_bad_input_is_named(arguments: dict[str, Any], words: str) -> None:
    call = {
        "encode": encoder(),
        "batch": X.double(),
        "loss": paired_info_nce,
        "chunk_size": 2,
    } | arguments
    with pytest.raises(InputError, match=words):
        cached_backward(**call)


def test_any_integer_is_a_chunk_size() -> None:
    model = encoder()
    x = torch.randn(6, WIDTH)
    value = cached_backward(model, x, paired_info_nce, np.int64(4))
    assert value == cached_backward(model, x, paired_info_nce, 4)
    with pytest.raises(InputError, match="got chunk_size=0"):
        cached_backward(model, x, paired_info_nce, np.int64(0))
