"""The first process is rank 0 of ``torchrun``, or the only one."""

import pytest

from experiments.data.notes import print_notes
from experiments.training.distributed import World, pick_device
from experiments.training.processes import is_first_process


@pytest.mark.parametrize(("rank", "first"), [(None, True), ("0", True), ("1", False), ("7", False)])
def test_the_first_process_is_rank_0(
    rank: str | None, first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    assert is_first_process() is first
    assert World(int(rank or 0), 8, pick_device("cpu")).first is first


def test_only_the_first_process_prints_notes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    print_notes(["of the second process"])
    monkeypatch.setenv("RANK", "0")
    print_notes(["of the first process"])
    assert capsys.readouterr().err == "note: of the first process\n"
