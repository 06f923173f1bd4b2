"""Features of torch-fidelity's Inception network, in which published FIDs are measured.

Images are given as 8 bits in three channels, and the network resizes them itself. The extra ``fid``
installs torch-fidelity; its weights are downloaded once, or read from a file.

References:
    High-fidelity performance metrics for generative models in PyTorch (Obukhov et al., 2020),
    https://github.com/toshas/torch-fidelity
"""

import pickle
import struct
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.data.arrays import Data
from experiments.gans.scaling import to_data_units, to_grey_levels
from experiments.training.progress_bar import RowBar
from univae.checksums import file_digest
from univae.errors import InputError

__all__ = [
    "INCEPTION",
    "WEIGHTS_DIGEST",
    "Extractor",
    "open_extractor",
    "require_rgb",
    "rgb_images",
]

INCEPTION = "inception"  # of --features
LAYER = "2048"
SPACE = f"inception-v3-{LAYER}"
RGB = 3  # channels
IMAGES_AT_ONCE = 64  # bounds the memory: they are resized to 299 x 299 pixels
LARGEST_GREY_LEVEL = 255

# SHA-256 of the weights that published FIDs are computed with.
WEIGHTS_DIGEST = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"

# What a file raises that holds no weights, and a download that fails.
NO_WEIGHTS = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    LookupError,
    AttributeError,
    TypeError,
    ArithmeticError,
    AssertionError,  # torch.load asserts what a file holds
    MemoryError,
    HTTPException,
    struct.error,
    pickle.UnpicklingError,
)


@dataclass(frozen=True)
class Extractor:
    """A map from images (N, 3, H, W) uint8 to features (N, d)."""

    map: Callable[[Tensor], Tensor]
    is_published: bool  # whether it has the weights of published FIDs
    name: str = SPACE

    @torch.no_grad()
    def features(self, blocks: Iterable[Tensor], count: int, action: str) -> Tensor:
        """Return the features (count, d) of images in blocks, float32 on the CPU.

        ``action`` is the name of the progress bar.
        """
        features = []
        with RowBar(count, action) as bar:
            for block in blocks:
                for images in torch.split(block, IMAGES_AT_ONCE):
                    features.append(self.map(images).float().cpu())
                    bar.add(len(images))
        return torch.cat(features)


def open_extractor(weights: Path | None, device: torch.device) -> Extractor:
    """Return the Inception network with the weights of a file, by default of its download.

    Raises:
        InputError: torch-fidelity is not installed, the file holds no such weights, or they cannot
            be downloaded.
    """
    new_network = _network_class()
    if weights is not None:
        _require_weights(weights)
    try:
        network = new_network(
            SPACE, [LAYER], feature_extractor_weights_path=None if weights is None else str(weights)
        )
    except NO_WEIGHTS as error:
        reason = _first_line(error)
        if weights is not None:
            raise InputError(
                f"--inception-weights {weights}: no weights of torch-fidelity's Inception "
                f"({reason}); give {_file_name()}"
            ) from error
        raise InputError(
            f"--features {INCEPTION}: the weights cannot be downloaded ({reason}); get "
            f"{_url()} where there is a network, and give --inception-weights FILE"
        ) from error
    network = network.to(device).eval()
    path = weights or Path(torch.hub.get_dir(), "checkpoints", _file_name())
    return Extractor(
        lambda x: network(x.to(device))[0], path.is_file() and file_digest(path) == WEIGHTS_DIGEST
    )


def require_rgb(data: Data, run: Path) -> None:
    """Raise InputError unless a run's data are images of one or three channels."""
    if not data.is_images:
        raise InputError(f"--features {INCEPTION}: for images; {run} generates rows of a table")
    if data.shape[0] not in (1, RGB):
        raise InputError(
            f"--features {INCEPTION}: for grey images and those of 3 channels; the images of {run} "
            f"have {data.shape[0]}"
        )


def rgb_images(x: Tensor, data: Data) -> Tensor:
    """Return images (N, 3, H, W) of 0..255 as uint8, those that files of ``univae sample`` hold.

    Grey ones are repeated in three channels.

    Args:
        x: images (N, 1 or 3, H, W) in the units of the networks.
        data: units of the images.
    """
    if data.levels is None:
        grey = to_grey_levels(x)
    else:
        levels = torch.from_numpy(to_data_units(x, data))
        grey = levels.double() * (LARGEST_GREY_LEVEL / (data.levels - 1))
    return grey.round().to(torch.uint8).expand(-1, RGB, -1, -1)


def _network_class() -> Any:
    """Return the class of torch-fidelity's network."""
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ModuleNotFoundError as error:
        raise InputError(
            f"--features {INCEPTION} needs the extra fid: pip install 'univae[fid]'"
        ) from error
    except (ImportError, RuntimeError, OSError) as error:
        raise InputError(
            f"--features {INCEPTION}: torch-fidelity cannot be imported ({_first_line(error)}); "
            "install torch and torchvision of one release and one build"
        ) from error
    return FeatureExtractorInceptionV3


def _require_weights(path: Path) -> None:
    """Raise InputError for a file that is no dictionary of tensors.

    torch-fidelity would run the code of a pickle, so that the file is read without it first.
    """
    if not path.is_file():
        raise InputError(f"--inception-weights {path}: there is no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unusual pickles
            state = torch.load(path, map_location="cpu", weights_only=True)
    except NO_WEIGHTS as error:
        raise InputError(
            f"--inception-weights {path}: no file of weights ({_first_line(error)}); "
            f"give {_file_name()}"
        ) from error
    if not isinstance(state, dict):
        raise InputError(
            f"--inception-weights {path}: no file of weights, it holds a {type(state).__name__}; "
            f"give {_file_name()}"
        )


def _url() -> str:
    """Return the address of the weights."""
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    return str(URL_INCEPTION_V3)


def _file_name() -> str:
    return _url().rpartition("/")[2]


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
