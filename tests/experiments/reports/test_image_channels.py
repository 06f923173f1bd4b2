"""Grids of images with alpha: PNG files of as many channels as the images have."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.reports.image_grid import png


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")])
def test_a_grid_has_the_channels_of_its_images(channels: int, mode: str) -> None:
    images = torch.randint(0, 256, (3, channels, 40, 40)).float()
    with Image.open(BytesIO(png(images, 256, columns=2))) as picture:
        assert picture.mode == mode
        pixels = np.asarray(picture).reshape(picture.height, picture.width, channels)
    first = np.moveaxis(images[0].numpy(), 0, -1)
    assert np.array_equal(pixels[1:41, 1:41], first)
