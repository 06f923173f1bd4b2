"""What a release says of itself is said once, or equal wherever it is said."""

import configparser
import re
from pathlib import Path

import univae
from experiments.version import version

ROOT = Path(__file__).parents[1]
SETTINGS = configparser.ConfigParser()
SETTINGS.read(ROOT / "setup.cfg", encoding="utf-8")
VERSION = SETTINGS["metadata"]["version"]
PYTHON = "Programming Language :: Python :: 3."


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def pythons() -> list[str]:
    """Return the versions of Python that setup.cfg names, such as 3.12."""
    classifiers = SETTINGS["metadata"]["classifiers"].splitlines()
    return [f"3.{line[len(PYTHON) :]}" for line in classifiers if line.startswith(PYTHON)]


def test_the_installed_version_is_that_of_the_settings() -> None:
    assert univae.__version__ == version() == VERSION


def test_citation_and_changelog_name_the_version() -> None:
    assert re.search(rf"^version: {re.escape(VERSION)}$", read("CITATION.cff"), re.MULTILINE)
    headings = re.findall(r"^## \[?([^]\n ]+)", read("CHANGELOG.md"), re.MULTILINE)
    assert headings[:2] == ["Unreleased", VERSION]


def test_sections_of_the_changelog_are_those_of_keep_a_changelog() -> None:
    sections = set(re.findall(r"^### (.+)$", read("CHANGELOG.md"), re.MULTILINE))
    assert sections <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_every_python_is_tested_by_nox_and_by_the_workflow() -> None:
    nox = re.search(r"^PYTHONS = \[(.+)\]$", read("noxfile.py"), re.MULTILINE)
    assert nox is not None
    assert re.findall(r'"(.+?)"', nox[1]) == pythons()
    workflow = read(".github/workflows/test.yml")
    assert set(re.findall(r'"(3\.\d+)"', workflow)) == set(pythons())
    assert f">={pythons()[0]}" == SETTINGS["options"]["python_requires"]


def test_the_workflow_runs_what_continuous_integration_runs() -> None:
    assert "run: .ci/run" in read(".github/workflows/test.yml")
    assert "make test" in read(".ci/run")


def test_containers_install_the_tested_torch() -> None:
    (pinned,) = re.findall(r"^torch==(.+)$", read("constraints.txt"), re.MULTILINE)
    for name in ("Containerfile", "Containerfile.cuda"):
        assert f'"torch=={pinned}"' in read(name)
