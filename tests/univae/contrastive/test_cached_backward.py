"""Two passes over chunks give the gradient of one pass over the batch."""

import functools
import gc
import random
import weakref
from collections import OrderedDict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from univae.contrastive.chunking import by_tokens
from univae.contrastive.gradient_cache import cached_backward
from univae.contrastive.losses import info_nce, paired_info_nce
from univae.contrastive.random_state import Generators, devices_of, modules_of
from univae.errors import InputError

WIDTH = 6


class Encoder(nn.Module):
    """Two layers and a cosine's unit rows; counts the graphs it builds and the rows it sees."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, 8)
        self.second = nn.Linear(8, 4)
        self.dropout = nn.Dropout(dropout)
        self.rows: list[tuple[int, bool]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.rows.append((len(x), torch.is_grad_enabled()))
        return F.normalize(self.second(self.dropout(self.first(x).tanh())), dim=-1)


def encoder(dropout: float = 0.0, seed: int = 3) -> Encoder:
    torch.manual_seed(seed)
    return Encoder(dropout)


def grads(*modules: nn.Module) -> list[Tensor]:
    return [p.grad.clone() for module in modules for p in module.parameters() if p.grad is not None]


def direct(
    model: nn.Module, x: Tensor, loss: Callable[..., Tensor], chunk: int | None = None
) -> list[Tensor]:
    """One graph of all, drawing random numbers chunk by chunk: the value, then the gradients."""
    value = loss(torch.cat([model(part) for part in x.split(chunk or len(x))]))
    model.zero_grad()
    value.backward()
    found = [value.detach(), *grads(model)]
    model.zero_grad()
    return found


def assert_same(ours: list[Tensor], theirs: list[Tensor], tolerance: float = 1e-12) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def distance(ours: list[Tensor], theirs: list[Tensor]) -> float:
    a, b = (torch.cat([x.flatten() for x in parts]) for parts in (ours, theirs))
    return ((a - b).norm() / b.norm()).item()


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


def test_dropout_is_replayed_and_without_replay_the_gradient_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = encoder(0.3)
    x = torch.randn(24, WIDTH)
    torch.manual_seed(7)
    expected = direct(model, x, paired_info_nce, 5)
    torch.manual_seed(7)
    value = cached_backward(model, x, paired_info_nce, 5)
    assert_same([value, *grads(model)], expected)
    model.zero_grad()
    monkeypatch.setattr(Generators, "restore", lambda self: None)
    with pytest.raises(
        InputError, match=r"other representations in the second pass.*relative distance of \d\.\d+"
    ):
        cached_backward(model, x, paired_info_nce, 5)
    assert distance(grads(model), expected[1:]) > 0.1


@pytest.mark.parametrize("keep", [0, 1, 3, 9])
def test_afterwards_the_generator_is_where_one_pass_and_the_loss_leave_it(keep: int) -> None:
    model = encoder(0.3)
    x = torch.randn(20, WIDTH)

    def loss(v: Tensor) -> Tensor:
        return paired_info_nce(v + 0.01 * torch.randn_like(v))

    torch.manual_seed(5)
    expected = direct(model, x, loss, 6)
    state = torch.get_rng_state()
    torch.manual_seed(5)
    assert_same([cached_backward(model, x, loss, 6, keep=keep), *grads(model)], expected)
    assert torch.equal(torch.get_rng_state(), state)


def test_an_error_in_the_second_pass_leaves_the_generator_there_too() -> None:
    model = encoder(0.3)
    x = torch.randn(6, WIDTH)
    calls = []

    def fails(part: Tensor) -> Tensor:
        calls.append(len(part))
        if len(calls) == 4:
            raise OSError
        return model(part)

    torch.manual_seed(5)
    for part in x.split(2):
        model(part)
    state = torch.get_rng_state()
    torch.manual_seed(5)
    with pytest.raises(OSError):
        cached_backward(fails, x, paired_info_nce, 2, keep=0)
    assert torch.equal(torch.get_rng_state(), state)


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
    assert sorted(place for group in groups for place in group) == list(range(200))
    assert all(len(group) * max(lengths[i] for i in group) <= 64 for group in groups)
    assert by_tokens(4)(["a" * 9]) == [[0]]
    with pytest.raises(InputError, match="tokens=0"):
        by_tokens(0)


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

    def loss(given: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        v, energy, places = given
        assert places.tolist() == [0, 1, 2] * 2 + [0, 1]
        return paired_info_nce(v) + 0.1 * energy.mean()

    torch.manual_seed(2)
    expected = direct(model, x, lambda v: paired_info_nce(v) + 0.1 * v.square().sum(-1).mean(), 3)
    torch.manual_seed(2)
    assert_same([cached_backward(encode, x, loss, 3), *grads(model)], expected)


@pytest.mark.parametrize(("keep", "graphs"), [(0, 6), (1, 6), (2, 6), (5, 6), (6, 6)])
def test_each_chunk_builds_one_graph_and_those_kept_run_once(keep: int, graphs: int) -> None:
    model = encoder()
    x = torch.randn(12, WIDTH)
    cached_backward(model, x, paired_info_nce, 2, keep=keep)
    assert sum(graph for _, graph in model.rows) == graphs
    assert sum(not graph for _, graph in model.rows) == 6 - keep


def test_graphs_are_kept_within_their_bytes() -> None:
    x = torch.randn(60, WIDTH)
    again = {}
    for limit in (0, 1, 6_000, 12_000, 10**9):
        model = encoder(0.2)
        torch.manual_seed(2)
        expected = direct(model, x, paired_info_nce, 10)
        model.rows.clear()
        torch.manual_seed(2)
        assert_same(
            [
                cached_backward(model, x, paired_info_nce, 10, keep=0, keep_bytes=limit),
                *grads(model),
            ],
            expected,
        )
        again[limit] = len(model.rows) - 6
    assert again[0] == again[1] == 6
    assert again[10**9] == 0
    assert 6 > again[6_000] > again[12_000] > 0


def test_the_graph_of_the_loss_is_gone_in_the_second_pass() -> None:
    model = encoder()
    x = torch.randn(12, WIDTH)
    alive = []
    held = []

    def loss(v: Tensor) -> Tensor:
        scores = v @ v.T
        held.append(weakref.ref(scores))
        return (scores.logsumexp(-1) - v.sum(-1)).mean()

    def encode(part: Tensor) -> Tensor:
        if held:
            alive.append(held[0]() is not None)
        return model(part)

    gc.disable()
    try:
        cached_backward(encode, x, loss, 3)
    finally:
        gc.enable()
    assert alive == [False] * 3


def live_peak(chunks: int, keep: int = 1) -> int:
    """The most bytes that tensors saved for backward passes held at once, loss excluded, at 8 rows a chunk."""
    torch.manual_seed(0)
    model = encoder()
    x = torch.randn(8 * chunks, WIDTH)
    held: dict[int, int] = {}
    peak = 0

    class Token:
        def __init__(self, x: Tensor) -> None:
            self.x = x

    def pack(x: Tensor) -> Token:
        nonlocal peak
        token = Token(x)
        held[id(token)] = x.numel() * x.element_size()
        weakref.finalize(token, held.pop, id(token))
        peak = max(peak, sum(held.values()))
        return token

    def encode(part: Tensor) -> Tensor:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda token: token.x):
            return model(part)

    cached_backward(encode, x, functools.partial(paired_info_nce, rows=256), 8, keep=keep)
    return peak


def test_what_graphs_hold_does_not_grow_with_the_batch() -> None:
    one = live_peak(4)
    assert live_peak(64) == live_peak(512) == one
    assert live_peak(4, keep=3) >= 2.9 * one


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


def test_noise_from_elsewhere_is_found_out() -> None:
    model = encoder()
    source = torch.Generator().manual_seed(1)

    def encode(x: Tensor) -> Tensor:
        return model(x + torch.randn(x.shape, generator=source))

    with pytest.raises(InputError, match="draw from torch's default generators alone"):
        cached_backward(encode, torch.randn(8, WIDTH), paired_info_nce, 4)


class FakeDevice:
    """The generator of a device this machine lacks: a counter."""

    state = 0

    def get_rng_state(self, device: torch.device) -> Tensor:
        return torch.tensor(self.state)

    def set_rng_state(self, state: Tensor, device: torch.device) -> None:
        self.state = int(state)


def test_the_generators_of_all_devices_are_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeDevice()
    monkeypatch.setattr(torch, "get_device_module", lambda device: fake)
    monkeypatch.setattr(
        "univae.contrastive.passes.devices_of", lambda *things: [torch.device("cuda", 1)]
    )
    model = encoder()
    drawn = []

    def encode(x: Tensor) -> Tensor:
        fake.state += 1
        drawn.append(fake.state)
        return model(x)

    cached_backward(encode, torch.randn(8, WIDTH), paired_info_nce, 2)
    assert drawn == [1, 2, 3, 4, 1, 2, 3]
    assert fake.state == 4


def test_devices_are_found_in_nested_inputs_and_in_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    class Elsewhere:  # a stand-in for a tensor on a device that this machine lacks
        def __init__(self, index: int) -> None:
            self.device = torch.device("cuda", index)

    monkeypatch.setattr("univae.contrastive.random_state.Tensor", Elsewhere)
    nested = {"a": [1, "b", (Elsewhere(0), None)], "c": SimpleNamespace(x={"y": Elsewhere(2)})}
    assert devices_of(nested, Elsewhere(0)) == [torch.device("cuda", 0), torch.device("cuda", 2)]
    model = nn.Linear(1, 1)
    monkeypatch.setattr(model, "parameters", lambda: iter([Elsewhere(3)]))
    assert devices_of([model]) == [torch.device("cuda", 3)]
    assert devices_of(torch.ones(1), [nn.Linear(2, 2)], "text", 3) == []


GLOBAL = nn.Linear(2, 2)


def mentions_a_global(x: Tensor) -> Tensor:
    return GLOBAL(x)


class Holder:
    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def encode(self, x: Tensor) -> Tensor:
        return self.model(x)

    __call__ = encode


def test_modules_are_found_behind_callables() -> None:
    model = nn.Linear(2, 2)

    def outer(x: Tensor) -> Tensor:
        return inner(x)

    def inner(x: Tensor) -> Tensor:
        return model(x)

    for callable_ in (
        model, model.forward, lambda x: model(x), functools.partial(inner), outer, Holder(model), Holder(model).encode,
        lambda x, given=model: given(x), functools.partial(lambda m, x: m(x), model), lambda x: [model][0](x),
    ):  # fmt: skip
        assert modules_of(callable_) == [model], callable_
    for callable_ in (mentions_a_global, lambda x: torch.stack([GLOBAL(part) for part in x])):
        assert modules_of(callable_) == [GLOBAL]
    assert modules_of(torch.tanh, F.normalize) == []


X = torch.ones(4, WIDTH)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"batch": X[:0]}, "holds no row"),
        ({"batch": [], "chunk_size": None}, "holds no chunk"),
        ({"batch": ["a", "b"]}, "give collate= for a sequence"),
        ({"batch": (X, X[:3])}, r"as many rows; they have \[3, 4\]"),
        ({"chunk_size": 0}, "at least one row; got chunk_size=0"),
        ({"chunk_size": lambda x: [[0, 1], [1, 2, 3]]}, "each of the 4 rows once"),
        ({"chunk_size": lambda x: [[0, 1, 2, 3], []]}, "none be empty"),
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
    given = {
        "encode": encoder(),
        "batch": X.double(),
        "loss": paired_info_nce,
        "chunk_size": 2,
    } | arguments
    with pytest.raises(InputError, match=words):
        cached_backward(**given)


@pytest.mark.parametrize("tracked", [True, False])
@pytest.mark.parametrize(
    "wrap", [lambda model: model, lambda model: model.forward, lambda model: lambda x: model(x)]
)
def test_an_encoder_that_normalises_with_its_batch_is_refused(
    wrap: Callable[[Any], Any], tracked: bool
) -> None:
    model = nn.Sequential(nn.Linear(WIDTH, 4), nn.BatchNorm1d(4, track_running_stats=tracked))
    message = "encode must give each row from that row alone; got BatchNorm1d 1, which mixes the rows of a chunk"
    for columns in (wrap(model), [wrap(model), torch.nn.Linear(WIDTH, 4)]):
        batch = X.double() if callable(columns) else [X.double(), X.double()]
        with pytest.raises(InputError, match=message):
            cached_backward(columns, batch, lambda *r: r[0].sum(), 2)
        with pytest.raises(InputError, match=message):
            cached_backward(columns, batch, lambda *r: r[0].sum(), 2, keep=9)
    assert all(p.grad is None for p in model.parameters())


def test_statistics_of_one_whole_chunk_are_those_of_the_batch() -> None:
    model = nn.Sequential(nn.Linear(WIDTH, 4), nn.BatchNorm1d(4))
    x = torch.randn(8, WIDTH)
    expected = direct(model, x, paired_info_nce)
    assert_same([cached_backward(model, x, paired_info_nce, 8), *grads(model)], expected)


def test_a_batch_norm_that_evaluates_gives_each_row_from_itself() -> None:
    model = nn.Sequential(nn.Linear(WIDTH, 4), nn.BatchNorm1d(4)).eval()
    x = torch.randn(8, WIDTH)
    expected = direct(model, x, paired_info_nce)
    assert_same([cached_backward(model, x, paired_info_nce, 3), *grads(model)], expected)


def test_any_integer_is_a_chunk_size() -> None:
    model = encoder()
    x = torch.randn(6, WIDTH)
    value = cached_backward(model, x, paired_info_nce, np.int64(4))
    assert value == cached_backward(model, x, paired_info_nce, 4)
    with pytest.raises(InputError, match="got chunk_size=0"):
        cached_backward(model, x, paired_info_nce, np.int64(0))
