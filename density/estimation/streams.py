r"""Random draws that depend on a seed and on the datum itself, not on the data beside it.

Monte Carlo draws of a batch usually come from one generator, so that a datum's draws depend on
which data precede it. Within :func:`own_streams` every datum has its own streams instead: their key
is a hash of the seed, the datum's values and the place that draws. A file, its halves, its lines in
another order and a split over machines get the same draws; so do equal data, whose errors are then
the same as well (:mod:`density.estimation.mean_errors`).

Random functions of PyTorch are redirected, because a posterior draws inside ``sample()``:
``randn``, ``rand``, ``randn_like``, ``rand_like``, ``normal``, ``bernoulli``, ``normal_`` and
``uniform_``, of real numbers and with no options but dtype and device. Others, as those of
categorical or gamma latents, draw from the global generator, and their draws depend on the batch.
Which tensors are of the data is told by their shape, (K, B, ...); see
:class:`density.model.LatentModel`.

References:
    Parallel Random Numbers: As Easy as 1, 2, 3 (Salmon et al., 2011), the generator Philox
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from hashlib import blake2b
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Int
from torch import Size, Tensor
from torch.overrides import TorchFunctionMode

from univae.seeds import seed_of

__all__ = [
    "STREAM",
    "own_draws",
    "own_streams",
    "rows_with_streams",
    "shared_seed",
]

STREAM = "likelihood"  # what the seed of scores is hashed with, in commands and functions alike

KEY_BYTES = 16  # of a key of Philox
NUMBER_BYTES = 8  # of the number of a datum

Argument: TypeAlias = Any  # of a function of PyTorch, or its result

_current: ContextVar["_Streams | None"] = ContextVar("streams", default=None)


@contextmanager
def own_streams(seed: int, x: Tensor | None = None, count: int = 0) -> Iterator[list[int]]:
    """Give each datum of one batch its own streams of ``seed``, which start with the block.

    Rows of ``x`` beyond the first ``count`` repeat one of them to fill the batch; each has streams
    of its own. Yield a number of 64 bits with its sign for each of the first ``count`` data, the
    same for equal data.
    """
    streams = _Streams(seed)
    numbers: list[int] = []
    if x is not None:
        rows = torch.arange(len(x)).clamp_max(count - 1)
        streams.keep(x, x, rows)
        for key in streams.keys(x)[:count]:
            numbers.append(int.from_bytes(key[:NUMBER_BYTES], "little", signed=True))
    token = _current.set(streams)
    try:
        yield numbers
    finally:
        _current.reset(token)


def own_draws(x: Tensor | None, place: str, axis: int = 1) -> AbstractContextManager[object]:
    """Draw tensors (K, B, ...) inside the block from the streams of the B data ``x``.

    Outside of :func:`own_streams`, or without ``x``, the block draws as usual. Chunks of K draws
    continue each other: a place that draws the same functions in every block gets the same numbers
    from chunks of any size.

    Args:
        x: the data (B, ...). Zeros at the end of a datum, as the padding of texts, do not count.
        place: a name of the place that draws; streams of different places are unrelated.
        axis: the axis of the data in what is drawn; other tensors are drawn as usual.
    """
    streams = _current.get()
    if streams is None or x is None:
        return nullcontext()
    return _Redirected(streams, x, place, axis)


def rows_with_streams(x: Tensor, rows: Int[Tensor, "rows"]) -> Tensor:
    """Return ``x[rows]``, each row with its streams; one that repeats has new ones each time."""
    part = x[rows.to(x.device)]
    streams = _current.get()
    if streams is not None:
        streams.keep(part, x, rows)
    return part


def shared_seed(place: str, index: int = 0) -> int | None:
    """Return a seed that all data share within :func:`own_streams`; None outside of it."""
    streams = _current.get()
    return None if streams is None else seed_of(streams.seed, place, index) >> 1


class _Streams:
    """The generators of the data of one batch, by the key of the datum and the place."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._generators: dict[tuple[bytes, str], np.random.Generator] = {}
        # the data are kept beside their keys, so that no other tensor takes their identity
        self._keys: dict[int, tuple[Tensor, list[bytes]]] = {}

    def keys(self, x: Tensor) -> list[bytes]:
        """Return a key of each datum: a hash of its values, or what :meth:`keep` has kept."""
        if id(x) not in self._keys:
            self._keys[id(x)] = (x, _hashes(x))
        return self._keys[id(x)][1]

    def keep(self, part: Tensor, x: Tensor, rows: Int[Tensor, "rows"]) -> None:
        """Give ``part``, some rows of x, their keys; each repetition of a row has its own."""
        keys = self.keys(x)
        times: Counter[int] = Counter()
        kept = []
        for row in rows.tolist():
            again = times[row]
            key = keys[row]
            kept.append(_hash(key + again.to_bytes(NUMBER_BYTES, "little")) if again else key)
            times[row] += 1
        self._keys[id(part)] = (part, kept)

    def generator(self, key: bytes, place: str) -> np.random.Generator:
        """Return the generator of a datum at a place, as its last draw has left it."""
        if (key, place) not in self._generators:
            text = f"{self.seed} {place}".encode()
            hashed = blake2b(text, key=key, digest_size=KEY_BYTES).digest()
            philox = np.random.Philox(key=int.from_bytes(hashed, "little"))
            self._generators[key, place] = np.random.Generator(philox)
        return self._generators[key, place]


class _Redirected(TorchFunctionMode):
    """Random functions of PyTorch that draw from the streams of the data of a batch."""

    def __init__(self, streams: _Streams, x: Tensor, place: str, axis: int) -> None:
        super().__init__()
        self._streams = streams
        self._keys = streams.keys(x)
        self._place = place
        self._axis = axis
        self._calls = 0  # of random functions so far

    def __torch_function__(
        self,
        func: Callable[..., Argument],
        types: object,
        args: tuple[Argument, ...] = (),
        kwargs: Mapping[str, Argument] | None = None,
    ) -> Argument:
        """Call a function of PyTorch, or draw in its place."""
        kwargs = kwargs or {}
        draw = _DRAWS.get(func)
        result = None if draw is None else self._draw(draw, args, kwargs)
        return func(*args, **kwargs) if result is None else result

    def _draw(
        self, draw: "_Draw", args: tuple[Argument, ...], kwargs: Mapping[str, Argument]
    ) -> Tensor | None:
        """Return the draws of a call; None where it is to be drawn as usual."""
        if draw.names == SIZE and args:
            args = (_shape(*args),)
        if len(args) > len(draw.names):
            return None
        given = {**dict(zip(draw.names, args, strict=False)), **kwargs}
        parameters = zip(draw.names, draw.defaults, strict=True)
        values = [given.pop(name, default) for name, default in parameters]
        options = {
            name: value for name, value in given.items() if value is not None and value is not False
        }
        if not options.keys() <= OPTIONS:
            return None
        return draw.method(self, *values, **options)

    def normals(self, size: Sequence[int], **options: Argument) -> Tensor | None:
        """Draw as ``torch.randn``."""
        return self._drawn("standard_normal", Size(size), **options)

    def uniforms(self, size: Sequence[int], **options: Argument) -> Tensor | None:
        """Draw as ``torch.rand``."""
        return self._drawn("random", Size(size), **options)

    def normals_like(self, like: Tensor, **options: Argument) -> Tensor | None:
        """Draw as ``torch.randn_like``."""
        return self._drawn("standard_normal", like.shape, **_as(like, options))

    def uniforms_like(self, like: Tensor, **options: Argument) -> Tensor | None:
        """Draw as ``torch.rand_like``."""
        return self._drawn("random", like.shape, **_as(like, options))

    def normal(self, mean: Argument, std: Argument, **options: Argument) -> Tensor | None:
        """Draw as ``torch.normal`` of tensors."""
        if options or not (isinstance(mean, Tensor) and isinstance(std, Tensor)):
            return None
        shape = torch.broadcast_shapes(mean.shape, std.shape)
        noise = self._drawn("standard_normal", shape, **_as(mean, {}))
        return None if noise is None else mean + std * noise

    def normal_in_place(self, values: Tensor, mean: float, std: float) -> Tensor | None:
        """Draw as ``Tensor.normal_``."""
        noise = self._drawn("standard_normal", values.shape, **_as(values, {}))
        return None if noise is None else values.copy_(mean + std * noise)

    def uniform_in_place(self, values: Tensor, low: float, high: float) -> Tensor | None:
        """Draw as ``Tensor.uniform_``."""
        uniforms = self._drawn("random", values.shape, **_as(values, {}))
        return None if uniforms is None else values.copy_(low + (high - low) * uniforms)

    def bernoulli(self, probability: Tensor) -> Tensor | None:
        """Draw as ``torch.bernoulli``."""
        uniforms = self._drawn("random", probability.shape, **_as(probability, {}))
        return None if uniforms is None else (uniforms < probability).to(probability)

    def _drawn(
        self,
        law: str,
        shape: Size,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor | None:
        """Return draws of NumPy's ``law``; None where the axis is not that of the data."""
        dtype = dtype or torch.get_default_dtype()
        place = f"{self._place} {self._calls}"
        self._calls += 1  # also for others: a place then draws alike beside any number of data
        axis = self._axis
        is_of_data = len(shape) > axis and shape[axis] == len(self._keys)
        if not is_of_data or not dtype.is_floating_point:
            return None
        drawn = torch.float64 if dtype == torch.float64 else torch.float32
        unique = {key: i for i, key in enumerate(dict.fromkeys(self._keys))}
        rest = (*shape[:axis], *shape[axis + 1 :])
        rows = torch.empty(len(unique), *rest, dtype=drawn)
        array = rows.numpy()
        for key, i in unique.items():
            generator = self._streams.generator(key, place)
            getattr(generator, law)(out=array[i, ...], dtype=array.dtype)
        if len(unique) < len(self._keys):
            rows = rows[[unique[key] for key in self._keys]]
        values = rows.movedim(0, axis).to(device, dtype).contiguous()
        if law == "random" and dtype != drawn:
            values.clamp_(max=1 - torch.finfo(dtype).eps / 2)  # a rounded draw may be 1
        return values


class _Draw(NamedTuple):
    """How a random function is redirected: its method, and what that takes by PyTorch's names."""

    method: Callable[..., Tensor | None]
    names: tuple[str, ...]
    defaults: tuple[float | None, ...] = (None,)


SIZE = ("size",)
LIKE = ("input",)
OPTIONS = {"dtype", "device"}  # a call with others is drawn as usual
_DRAWS: Mapping[Callable[..., Argument], _Draw] = {
    torch.randn: _Draw(_Redirected.normals, SIZE),
    torch.rand: _Draw(_Redirected.uniforms, SIZE),
    torch.randn_like: _Draw(_Redirected.normals_like, LIKE),
    torch.rand_like: _Draw(_Redirected.uniforms_like, LIKE),
    torch.normal: _Draw(_Redirected.normal, ("mean", "std"), (0.0, 1.0)),
    torch.bernoulli: _Draw(_Redirected.bernoulli, LIKE),
    Tensor.normal_: _Draw(_Redirected.normal_in_place, ("self", "mean", "std"), (None, 0.0, 1.0)),
    Tensor.uniform_: _Draw(_Redirected.uniform_in_place, ("self", "from", "to"), (None, 0.0, 1.0)),
}


def _hashes(x: Tensor) -> list[bytes]:
    """Return a hash of the values of each datum."""
    values = x.detach().to("cpu", torch.float64).reshape(len(x), -1) + 0.0  # no -0.0
    return [_hash(row.tobytes().rstrip(b"\0")) for row in values.numpy()]


def _hash(content: bytes) -> bytes:
    return blake2b(content, digest_size=KEY_BYTES).digest()


def _shape(*size: Argument) -> Size:
    return Size(size if all(isinstance(entry, int) for entry in size) else size[0])


def _as(like: Tensor, options: Mapping[str, Argument]) -> dict[str, Argument]:
    return {"dtype": like.dtype, "device": like.device, **options}
