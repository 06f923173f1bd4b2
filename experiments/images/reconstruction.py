"""Reconstructions of images and rows beside the originals, and how far apart they are."""

import numpy as np

from density.tables.columns import Columns
from density.trained import TrainedDensity
from experiments.data.array_outputs import Contents
from experiments.images.row_outputs import pairs_picture
from univae.checkpoint import JsonObject

__all__ = ["errors", "pair_contents"]


def errors(run: TrainedDensity, originals: np.ndarray, again: np.ndarray) -> JsonObject:
    r"""Return mean errors per dimension of reconstructions (N, \*shape), in the unit of the data.

    Tables have those of each column, too: their units differ. Named columns have no common error;
    those of categories have the share of wrong values. Missing cells are left out.
    """
    if run.columns is not None:
        return _errors_by_name(run.columns, originals, again)
    difference = again.astype(np.float64) - originals
    result: JsonObject = {
        "mean_absolute_error": float(np.abs(difference).mean()),
        "root_mean_squared_error": float(np.sqrt(np.square(difference).mean())),
    }
    if not run.units.is_images:
        by_column = run.by_column(np.abs(difference))
        result["mean_absolute_error_of_columns"] = {
            name: float(column.mean()) for name, column in by_column.items()
        }
    return result


def _errors_by_name(columns: Columns, originals: np.ndarray, again: np.ndarray) -> JsonObject:
    """Return the mean errors of numbers, and the shares of wrong categories, by column.

    They are those of the observed cells, null where there are none.
    """
    absolute: JsonObject = {}
    wrong: JsonObject = {}
    for i, column in enumerate(columns):
        difference = np.abs(again[:, i].astype(np.float64) - originals[:, i])
        observed = difference[~np.isnan(difference)]
        if column.categories:
            wrong[column.name] = float((observed > 0).mean()) if len(observed) else None
        else:
            absolute[column.name] = float(observed.mean()) if len(observed) else None
    return {"mean_absolute_error_of_columns": absolute, "wrong_share_of_columns": wrong}


def pair_contents(run: TrainedDensity, originals: np.ndarray, again: np.ndarray) -> Contents:
    """Return originals and reconstructions as contents of a file.

    Images are in a grid, each row above its reconstructions. Every column of a table is followed by
    its reconstruction.
    """
    if run.units.is_images:
        arrays = {"images": again, "originals": originals}
        return Contents(arrays=arrays, picture=pairs_picture(run, originals, again))
    columns = {}
    reconstructed = run.by_column(again)
    for name, column in run.by_column(originals).items():
        columns[name] = column
        columns[f"{name}_reconstruction"] = reconstructed[name]
    return Contents(arrays={"x": again, "originals": originals}, columns=columns)
