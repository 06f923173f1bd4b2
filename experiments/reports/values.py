"""Values of configurations and metrics as text."""

import json
from collections.abc import Mapping

__all__ = ["NO_DATA", "brief", "flat", "spread_text"]

NO_DATA = ("tokenizer", "from")  # entries of data.json that name no data
LARGEST_SPREAD = 100  # larger ones are written without decimals
LARGEST_FRACTION = 1e4  # larger numbers are written without decimals


def flat(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Return nested settings under dotted names."""
    settings: dict[str, object] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            settings |= flat(value, f"{prefix}{name}.")
        else:
            settings[prefix + name] = value
    return settings


def spread_text(value: float) -> str:
    """Return a deviation or an error with two digits, from 100 on as a whole number.

    >>> spread_text(0.2091), spread_text(140.2)
    ('0.21', '140')
    """
    return f"{value:.0f}" if value >= LARGEST_SPREAD else f"{value:.2g}"


def brief(value: object) -> str:
    """Return a number with four digits, text unchanged and anything else as JSON."""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < LARGEST_FRACTION else f"{value:.0f}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
