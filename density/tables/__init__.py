"""Tables with columns of several kinds: schema, reading of cells, baselines, imputation."""

from typing import TYPE_CHECKING

from univae._lazy import lazy_exports

__all__ = ["COLUMN_KINDS", "Choice", "Column", "Columns", "RawTable", "from_frame", "infer"]

if TYPE_CHECKING:
    from density.tables.columns import Column, Columns
    from density.tables.frames import from_frame
    from density.tables.inference import Choice, infer
    from density.tables.kinds import COLUMN_KINDS
    from density.tables.raw import RawTable
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "columns": ["Column", "Columns"],
            "frames": ["from_frame"],
            "inference": ["Choice", "infer"],
            "kinds": ["COLUMN_KINDS"],
            "raw": ["RawTable"],
        },
    )
