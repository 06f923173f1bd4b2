"""Sessions of ``nox``: tests on every supported Python, and the packages that a release uploads.

``nox`` runs all of them, ``nox --session tests-3.12`` one; words after ``--`` go to pytest. Pythons
that the machine lacks are skipped.
"""

import nox

PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
TESTS = ["python", "-m", "pytest", "-n", "auto", "--dist", "loadfile", "-m", "not slow"]

nox.options.error_on_missing_interpreters = False
nox.options.reuse_existing_virtualenvs = True


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests of ``make test`` with the newest dependencies."""
    session.install("torch==2.13.0")
    session.install("-e", ".[test]")
    session.run(*TESTS, *session.posargs)


@nox.session(python="3.11")
def package(session: nox.Session) -> None:
    """Build wheel and sdist, check both, install the wheel and run its command."""
    session.install("build", "twine", "check-wheel-contents")
    output = session.create_tmp()
    session.run("python", "-m", "build", "--outdir", output, ".")
    session.run("python", "-m", "tests.release", output)
