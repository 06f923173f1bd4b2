r"""The network of autoregressive pixels on a tile of images, wave by wave, with little overhead.

A wave is a few pixels an image, so its cost is that of the calls. Everything is allocated
once for many tiles: padded images, of which the windows of a wave are one strided view, and the
arrays between the layers. Biases are a last row of the weights, against a column of ones.

Products of matrices are PyTorch's, whose number of threads :func:`density.coding.exact.exactly`
sets; all else is element by element. Arrays have the same shapes whenever a wave is
computed, so encoder and decoder compute the same numbers.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.lib.stride_tricks import as_strided
from scipy.special import ndtr
from torch import Tensor, nn

from density.likelihoods.autoregressive import Causal, CausalPixels, Wave, waves
from density.likelihoods.head import Output

__all__ = ["WaveNetwork", "WaveStep"]

DTYPE = torch.float64  # of models that are prepared for coding


class _Arrays:
    """The arrays between the layers for waves of some pixels, and the same as tensors."""

    def __init__(self, network: "WaveNetwork", pixels: int) -> None:
        tile, channels = network.padded.shape[:2]
        width = network.net.width
        rows = tile * pixels

        # a last column of ones, for the bias
        self.inputs = torch.ones(rows, len(network.near), dtype=DTYPE)
        self.near = torch.empty(rows, channels * width, dtype=DTYPE)
        self.near_gelu = torch.ones(rows, channels * width + 1, dtype=DTYPE)
        self.sums = self.near.view(rows * channels, width)
        self.sums_gelu = torch.ones(rows * channels, width + 1, dtype=DTYPE)
        self.numbers = torch.empty(len(network.last), rows * channels, dtype=DTYPE)

        self.near_array = self.near.numpy()
        self.near_gelu_array = self.near_gelu.numpy()[:, :-1]
        self.near_by_pixel = self.near_array.reshape(tile, pixels, channels, width)
        self.sums_array = self.sums.numpy()
        self.sums_gelu_array = self.sums_gelu.numpy()[:, :-1]
        self.sums_gelu_columns = self.sums_gelu.mT
        self.numbers_array = self.numbers.numpy()
        self.numbers_by_pixel = self.numbers_array.reshape(-1, tile, pixels, channels)


class WaveStep(NamedTuple):
    """The views of a wave of P pixels on the arrays of a network."""

    arrays: _Arrays
    windows: np.ndarray  # (tile, P, channels, rows, columns) of the padded images
    inputs: np.ndarray  # of the same shape
    features: np.ndarray  # (tile, P, channels, width)
    bias: np.ndarray  # (numbers, 1, P, channels)
    pixels: np.ndarray  # (tile, P, channels) of the padded images: those of the wave
    rows: slice  # of the wave, in the order of WaveNetwork.order


class WaveNetwork:
    """The networks and the images of a tile: :meth:`start`, then each of ``steps`` in order.

    ``images`` (tile, channels, height, width) are levels. Those of later waves have no effect, so
    that an encoder may set all of them at once, and a decoder the ``pixels`` of each step.

    Args:
        joint: the distribution of a tile of images, in float64 on the CPU.
        head: its distributions of pixels.
        tile: the images of a tile.
    """

    def __init__(self, joint: CausalPixels, head: Output, tile: int) -> None:
        net = joint.net
        channels, height, width = joint.event_shape
        reach = net.reach
        self.net = net
        self.reach = reach
        self._read_weights(net, float(head.spread.max()))

        self.padded = np.zeros((tile, channels, height + reach, width + 2 * reach))
        self.images = self.padded[:, :, reach:, reach : reach + width]
        self.features = np.empty((tile, net.width, channels, height, width))

        self.arrays: dict[int, _Arrays] = {}
        self.steps: list[WaveStep] = []
        places = np.arange(self.images.size).reshape(self.images.shape)
        indices = []
        first = 0
        for wave in waves(height, width, reach):
            pixels = places[..., list(wave.rows), list(wave.columns)].swapaxes(1, 2)
            rows = slice(first, first + pixels.size)
            self.steps.append(self._step(wave, head, rows))
            indices.append(pixels.ravel())
            first = rows.stop
        # of every row of every wave, its place in an array (tile, channels, height, width)
        self.order = np.concatenate(indices)

    def start(self, joint: CausalPixels) -> None:
        """Set the features of a tile, and clear its images."""
        self.features[...] = joint.features.numpy()
        self.padded[...] = 0

    def numbers(self, step: WaveStep) -> np.ndarray:
        """Return the numbers (numbers, tile P channels) of a wave, given the pixels before it.

        The array is overwritten by the next wave.
        """
        arrays = step.arrays
        step.inputs[...] = step.windows
        torch.mm(arrays.inputs, self.near, out=arrays.near)
        _gelu(arrays.near_array, arrays.near_gelu_array)
        np.add(arrays.near_by_pixel, step.features, out=arrays.near_by_pixel)
        arrays.near.addmm_(arrays.near_gelu, self.further)

        _gelu(arrays.sums_array, arrays.sums_gelu_array)
        arrays.sums.addmm_(arrays.sums_gelu, self.mix)
        _gelu(arrays.sums_array, arrays.sums_gelu_array)
        torch.mm(self.last, arrays.sums_gelu_columns, out=arrays.numbers)

        np.add(arrays.numbers_by_pixel, step.bias, out=arrays.numbers_by_pixel)
        return arrays.numbers_array

    def _read_weights(self, net: Causal, spread: float) -> None:
        """Set the weights (inputs + 1, outputs), with features ordered by channel, then width.

        Inputs of the network are levels divided by ``spread``, those of a wave levels.
        """
        width = net.width
        channels = net.channels
        masked = (net.masked_weight() / spread).unflatten(0, (width, channels)).transpose(0, 1)
        weight = net.further.weight.view(width, channels, width, channels)
        weight = weight.permute(1, 0, 3, 2).flatten(2).flatten(0, 1)
        biases = []
        for convolution in (net.near, net.further):
            assert convolution.bias is not None
            biases.append(convolution.bias.view(width, channels).mT.flatten())

        self.near = _with_bias(masked.flatten(0, 1).flatten(1), biases[0])
        self.further = _with_bias(weight, biases[1])
        self.mix = _linear(net.mix)
        self.last = _linear(net.last).mT.contiguous()

    def _step(self, wave: Wave, head: Output, rows: slice) -> WaveStep:
        """Return the views of a wave."""
        pixels = len(wave.rows)
        if pixels not in self.arrays:
            self.arrays[pixels] = _Arrays(self, pixels)
        arrays = self.arrays[pixels]
        tile, channels = self.padded.shape[:2]
        row = wave.rows.start
        column = wave.columns.start
        diagonal = wave.columns.step

        image, plane, line, item = self.padded.strides
        windows = as_strided(
            self.padded[:, :, row:, column:],
            (tile, pixels, channels, self.reach + 1, 2 * self.reach + 1),
            (image, line + diagonal * item, plane, line, item),
        )
        inputs = arrays.inputs[:, :-1].view(windows.shape).numpy()
        own = as_strided(
            self.images[:, :, row:, column:],
            (tile, pixels, channels),
            (image, line + diagonal * item, plane),
        )
        image, feature, plane, line, item = self.features.strides
        features = as_strided(
            self.features[..., row:, column:],
            (tile, pixels, channels, self.net.width),
            (image, line + diagonal * item, plane, feature),
        )
        index = (..., list(wave.rows), list(wave.columns))
        return WaveStep(
            arrays,
            windows,
            inputs,
            features,
            head.bias.detach().numpy()[index].swapaxes(1, 2)[:, None].copy(),
            own,
            rows,
        )


def _gelu(u: np.ndarray, out: np.ndarray) -> None:
    r"""Write :math:`u\, \Phi(u)` to ``out``."""
    ndtr(u, out=out)
    np.multiply(out, u, out=out)


def _linear(layers: nn.Sequential) -> Tensor:
    """Return the weights of a GELU and a linear layer, of the latter."""
    linear = layers[-1]
    assert isinstance(linear, nn.Linear)
    return _with_bias(linear.weight, linear.bias)


def _with_bias(weight: Tensor, bias: Tensor) -> Tensor:
    """Return weights (outputs, inputs) as (inputs + 1, outputs), the bias last."""
    return torch.cat((weight.mT, bias[None])).detach().contiguous()
