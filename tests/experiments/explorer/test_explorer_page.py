"""The widgets of the explorer's page, and one line without the extra."""

import sys

import pytest

from experiments.explorer import panels
from experiments.explorer.page import WIDGETS, require_library
from univae.errors import InputError


def test_without_gradio_a_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(InputError, match=r"extra explore: pip install 'univae\[explore\]'"):
        require_library()


def test_every_field_of_the_panels_has_a_widget() -> None:
    fields = {getattr(panels, name) for name in panels.__all__ if name.endswith("Field")}
    assert fields - {panels.Field} == WIDGETS.keys()
