"""Values of configurations and metrics as text."""

import json
from collections.abc import Mapping

__all__ = ["brief", "flat"]

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


def brief(value: object) -> str:
    """Return a number with four digits, text unchanged and anything else as JSON."""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < LARGEST_FRACTION else f"{value:.0f}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
