"""A wheel built from the tree holds everything, and its command runs in an empty folder."""

import configparser
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from setuptools import find_packages

ROOT = Path(__file__).parents[1]


def run(*command: object, cwd: Path, **environment: str) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_settings_name_every_package_and_template() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    patterns = settings["options.packages.find"]["include"].split()
    packages = {package.replace(".", "/") for package in find_packages(str(ROOT), include=patterns)}
    top = ("univae", "density", "gan", "experiments")
    modules = {path.relative_to(ROOT) for name in top for path in (ROOT / name).rglob("*.py")}
    assert {path.parent.as_posix() for path in modules} == packages

    data = settings["options.package_data"]
    assert all(data[name].strip() == "py.typed" for name in ("univae", "density", "gan"))
    held = {
        path for each in data["experiments"].split() for path in ROOT.glob(f"experiments/{each}")
    }
    templates = ROOT / "experiments" / "reports" / "templates"
    assert {path for path in templates.rglob("*.*") if path.is_file()} <= held


@pytest.mark.slow
def test_the_wheel_holds_every_module_and_runs_where_the_tree_is_not(tmp_path: Path) -> None:
    copy, empty, target = (tmp_path / name for name in ("copy", "empty", "target"))
    empty.mkdir()
    listed = run(
        "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT
    ).split("\0")
    for name in filter(None, listed):  # a copy, so that the build leaves nothing in the tree
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, cwd=copy)
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    for package in ("univae", "density", "gan", "experiments"):
        modules = {str(path.relative_to(copy)) for path in (copy / package).rglob("*.py")}
        assert modules <= held, modules - held
    templates = (copy / "experiments" / "reports" / "templates").rglob("*.*")
    assert {str(path.relative_to(copy)) for path in templates} <= held
    assert {"univae/py.typed", "density/py.typed", "gan/py.typed"} <= held
    assert not any(name.startswith("tests/") for name in held)
    run(
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--target",
        target,
        wheel,
        cwd=empty,
    )
    said = run(target / "bin" / "univae", "--help", cwd=empty, PYTHONPATH=str(target))
    assert "train-text" in said
    (empty / "experiments").mkdir()  # a user's own package of the name of the commands'
    (empty / "experiments" / "__init__.py").write_text("")
    where = run(
        sys.executable,
        "-c",
        "import univae, density; print(univae.__file__); "
        f"r = univae.load({str(ROOT / 'tests' / 'golden' / 'text' / 'run')!r}, 'cpu'); "
        "print(len(r.sample(3)), density.score(r, ['a text']).count)",
        cwd=empty,
        PYTHONPATH=str(target),
    )
    assert str(target) in where
    assert where.splitlines()[-1] == "3 1"
    version = run(sys.executable, "-m", "univae", "--version", cwd=empty, PYTHONPATH=str(target))
    assert version.startswith("univae ")
