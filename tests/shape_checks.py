"""The type checker of ``experiments`` in tests: beartype, for which an int is a float too.

Options and measurements are annotated as floats and written as whole numbers where they are whole,
as PEP 484 allows. The import hook of ``conftest.py`` names :func:`checked` by its dotted path.
"""

from collections.abc import Callable
from typing import TypeVar

from beartype import BeartypeConf, beartype

__all__ = ["checked"]

Checked = TypeVar("Checked", bound=Callable[..., object])

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
