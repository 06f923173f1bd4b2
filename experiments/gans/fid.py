"""The distances that papers report: FID and KID by torch-fidelity's protocol, on its features.

Features are not standardised, and the Fréchet distance is in float64. It is called FID where it is
of at least 50,000 generated images, and of the published weights of the network, against the whole
training set or a file of its statistics; otherwise it is a Fréchet distance.
"""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from experiments.data.arrays import Data
from experiments.data.numpy_files import read_member
from experiments.gans.inception import Extractor, rgb_images
from experiments.gans.scaling import gan_rows
from experiments.training.metric_names import METRICS, number_text
from gan.metrics import (
    Moments,
    frechet_distance_of_moments,
    kernel_distance_of_subsets,
    moments,
    prdc,
)
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.mapped_files import UNREADABLE_ARRAY

__all__ = ["COUNT", "RealFeatures", "distances", "read_statistics", "report_item"]

COUNT = 50_000  # generated images of an FID
SUBSET = 1000  # images of a subset of the KID
BLOCK = 256  # images read at once: bounds the memory
ROUNDING = 1e-6  # of the trace: by which a covariance in a file may miss its properties
MOST_NEIGHBOURS = 10_000  # images of each set among which neighbours are found: bounds the time


@dataclass(frozen=True)
class RealFeatures:
    """What generated images are compared with."""

    source: str  # in words
    moments: Moments
    features: Tensor | None  # (N, d); None for a file of statistics
    is_training_set: bool  # whole, or a file of statistics

    @classmethod
    def of(cls, data: Data, extractor: Extractor, *, is_training_set: bool) -> "RealFeatures":
        """Return the features of all images of a data set, with their moments."""
        blocks = (
            rgb_images(gan_rows(data, slice(start, start + BLOCK)).float(), data)
            for start in range(0, len(data), BLOCK)
        )
        features = extractor.features(blocks, len(data), "features of real images")
        source = f"all {len(data)} images of {data.name}"
        return cls(source, moments(features), features, is_training_set)


def read_statistics(path: Path) -> RealFeatures:
    """Read the ``mu`` and ``sigma`` of an .npz, as pytorch-fid, clean-fid and others write them.

    Raises:
        InputError: the file is missing, or holds no such arrays.
    """
    who = f"--reference-statistics {path}"
    way_out = "give an .npz with mu (d,) and sigma (d, d)"
    try:
        with zipfile.ZipFile(path) as archive:
            mean, covariance = (read_member(archive, name, path) for name in ("mu", "sigma"))
    except UNREADABLE_ARRAY as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).strip("\"'")
        raise InputError(f"{who}: cannot be read ({reason}); {way_out}") from error
    shapes = f"{mean.shape} and {covariance.shape}"
    if mean.ndim != 1 or covariance.shape != 2 * mean.shape:
        raise InputError(f"{who}: mu and sigma have shapes {shapes}; {way_out}")
    if mean.dtype.kind != "f" or covariance.dtype.kind != "f":
        raise InputError(f"{who}: holds {mean.dtype} and {covariance.dtype}; {way_out} of floats")
    mean, covariance = (np.asarray(part, dtype=np.float64) for part in (mean, covariance))
    found = Moments(torch.from_numpy(mean), torch.from_numpy(covariance))
    if not mean.size or not all(part.isfinite().all() for part in found):
        raise InputError(f"{who}: is empty, or holds NaN or infinity; {way_out} of finite numbers")
    if not _is_covariance(covariance):
        raise InputError(f"{who}: sigma is no covariance: symmetric, without negative eigenvalues")
    return RealFeatures(str(path), found, None, is_training_set=True)


def _is_covariance(matrix: np.ndarray) -> bool:
    """Return whether a matrix is symmetric, and has no negative eigenvalues, within rounding."""
    tolerance = ROUNDING * max(float(np.trace(matrix)), 0.0)
    is_symmetric = bool(np.abs(matrix - matrix.T).max() <= tolerance)
    return is_symmetric and float(np.linalg.eigvalsh(matrix)[0]) >= -tolerance


def distances(generated: Tensor, real: RealFeatures, extractor: Extractor) -> JsonObject:
    """Return the distances of generated features (N, d) to real ones, with notes on their names.

    Raises:
        InputError: the reference has another number of features.
    """
    if generated.shape[1] != len(real.moments.mean):
        raise InputError(
            f"{real.source}: statistics of {len(real.moments.mean)} features; {extractor.name} has "
            f"{generated.shape[1]}; give statistics of the same network"
        )
    notes = _reasons(len(generated), real, extractor)
    name = "frechet_distance" if notes else "fid"
    distance = frechet_distance_of_moments(moments(generated), real.moments)
    result: JsonObject = {name: distance, f"frechet[{extractor.name}]": distance}
    if notes:
        notes = [f"frechet_distance is no FID: {'; '.join(notes)}"]
    if real.features is None:
        notes.append("KID, precision and recall need real images, which statistics do not hold")
    else:
        compared, reason = _set_distances(generated, real.features, extractor)
        result |= compared
        notes += reason
    return {**result, "notes": notes}


def report_item(measured: JsonObject, note: str, notes: Sequence[str]) -> JsonObject:
    """Return the table of measured distances as an item of the run's report."""
    rows = []
    for name, value in measured.items():
        if name in METRICS and value is not None:
            rows.append([METRICS[name].titled, number_text(value)])
    return {
        "kind": "texts",
        "title": "Distances in Inception features",
        "note": " ".join([note, *(f"{reason}." for reason in notes)]),
        "columns": ["metric", "value"],
        "rows": rows,
    }


def _reasons(count: int, real: RealFeatures, extractor: Extractor) -> list[str]:
    """Return why a distance is no FID."""
    reasons = []
    if count < COUNT:
        reasons.append(f"it is of {count} generated images, not {COUNT}, and biased upwards")
    if not real.is_training_set:
        reasons.append(f"it is against {real.source}, not the training set")
    if not extractor.is_published:
        reasons.append("the weights of the network are not the published ones")
    return reasons


def _set_distances(
    generated: Tensor, real: Tensor, extractor: Extractor
) -> tuple[JsonObject, list[str]]:
    """Return KID, and precision, recall, density and coverage; and notes."""
    notes = []
    result: JsonObject = {}
    name = "kid" if extractor.is_published else "kernel_distance"
    fewest = min(len(generated), len(real))
    if fewest >= SUBSET:
        kernel = kernel_distance_of_subsets(generated, real, size=SUBSET)
        result |= {name: kernel.mean, f"{name}_deviation": kernel.deviation}
    else:
        result[name] = None
        notes.append(f"no {name}: its subsets are of {SUBSET} images a side; there are {fewest}")

    rows = min(fewest, MOST_NEIGHBOURS)
    if rows < fewest:
        notes.append(f"precision, recall, density and coverage are of {rows} images a side")
    manifold = prdc(_spread(real, rows), generated[:rows])
    return {**result, **manifold._asdict()}, notes


def _spread(features: Tensor, rows: int) -> Tensor:
    """Return ``rows`` features at random places, because files are often sorted by class."""
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(0))
    return features[order[:rows]]
