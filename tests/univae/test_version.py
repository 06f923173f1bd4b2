"""The version of the library is that of the installed package, read when it is asked for."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import univae
from univae._version import version


def test_the_version_is_that_of_the_installed_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: f"9.8.7 of {name}")
    assert version() == "9.8.7 of univae"


def test_a_source_tree_has_the_version_of_its_setup_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_installed(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", not_installed)
    lines = (Path(univae.__file__).parents[1] / "setup.cfg").read_text("utf-8").splitlines()
    assert f"version = {version()}" in lines


def test_the_version_is_read_without_importing_torch() -> None:
    code = "import sys, univae; print(univae.__version__, 'torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(univae.__file__).parents[1],
    )
    assert done.stdout.split() == [univae.__version__, "False"]
