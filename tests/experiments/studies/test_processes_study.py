"""Several processes have the weights of one, also where others continue."""

from pathlib import Path

import pytest
import torch

from experiments.studies.processes import CONTINUATIONS, KINDS, TRAININGS, differences

ROUNDING = 1e-6  # of float32 in six steps
FAST = ((2, 1), (1, 2))


@pytest.fixture(autouse=True)
def _single_precision() -> None:
    torch.set_default_dtype(torch.float32)


def require_rounding(table: dict[str, dict[str, float]]) -> None:
    for row in table.values():
        moved = row.pop("moved")
        assert moved > 1e-4
        assert all(difference < ROUNDING for difference in row.values()), table


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_have_the_weights_of_one_also_resumed_by_the_other_number(
    kind: str, tmp_path: Path
) -> None:
    table = differences(tuple(TRAININGS), tmp_path, FAST, **KINDS[kind])
    assert all(len(row) == 1 + len(FAST) for row in table.values())
    require_rounding(table)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_four_processes_have_the_weights_of_one(kind: str, tmp_path: Path) -> None:
    four = [pair for pair in CONTINUATIONS if 4 in pair]
    require_rounding(differences(tuple(TRAININGS), tmp_path, four, **KINDS[kind]))
