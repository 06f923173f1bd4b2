"""Every row of PENALTIES has an option of ``train-gan`` with its help, that reaches the recipe."""

from typing import get_args

import pytest
from typing_extensions import Doc

from experiments.gans.config import PENALTY_OPTIONS, GanOptions
from experiments.training.configuration import options_of
from gan.penalties import PENALTIES


@pytest.mark.parametrize("name", PENALTIES)
def test_a_penalty_has_an_option_with_its_help(name: str) -> None:
    option = options_of(GanOptions)[PENALTY_OPTIONS[name]]
    marks = get_args(option.hint)
    assert [mark.documentation for mark in marks if isinstance(mark, Doc)] == [PENALTIES[name].help]
    assert option.default == 0


@pytest.mark.parametrize("name", PENALTIES)
def test_the_option_of_a_penalty_sets_its_weight(name: str) -> None:
    losses = PENALTIES[name].losses
    options = {PENALTY_OPTIONS[name]: 0.5, "normalization": "none"}
    if losses:
        options["loss"] = losses[0]
    recipe = GanOptions(**options).recipe()  # type: ignore[arg-type]
    assert recipe.penalties.weights() == {name: 0.5}
