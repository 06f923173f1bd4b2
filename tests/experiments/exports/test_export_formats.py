"""Every format writes the runs of its kinds, and refuses the others with one line."""

from pathlib import Path

import pytest
from golden import make

from experiments import export
from experiments.exports.formats import FORMATS
from univae.errors import InputError
from univae.kinds import LIBRARY_KINDS
from univae.run_folder import RunFolder


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_for_kinds_of_runs_of_the_library(name: str) -> None:
    form = FORMATS[name]
    assert form.kinds
    assert {kind.kind for kind in form.kinds} <= set(LIBRARY_KINDS)
    assert form.summary


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("run_name", sorted(make.RUNS))
def test_a_run_of_another_kind_is_refused_with_the_formats_for_it(
    run_name: str, name: str, tmp_path: Path
) -> None:
    path = make.HERE / run_name / "run"
    folder = RunFolder.open(path)
    able = [row for row, form in FORMATS.items() if any(k.opens(folder) for k in form.kinds)]
    assert able
    if name in able:
        return
    with pytest.raises(InputError) as refusal:
        export.main(export.Config(run=path, out=tmp_path / "out", format=name))
    message = str(refusal.value)
    assert "\n" not in message
    assert f"--format {able[0]}" in message
    assert list(tmp_path.iterdir()) == []
