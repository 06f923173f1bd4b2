"""Check the packages of a release: ``python -m tests.release FOLDER`` with a wheel and an sdist.

Their metadata and contents are checked by twine and check-wheel-contents; the wheel is installed
in a new environment, where its command must run and its version be that of the sdist's name. The
last line is a JSON object with the sizes of the packages and of the environment.
"""

import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
TOP_LEVEL = "univae,density,gan,experiments"
PROGRAM = "import time; t = time.perf_counter(); import univae; print(time.perf_counter() - t)"


def only(folder: Path, pattern: str) -> Path:
    """Return the one file of a pattern."""
    (path,) = folder.glob(pattern)
    return path


def size(folder: Path) -> int:
    """Return the bytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def output_of(*command: object, cwd: Path | None = None) -> str:
    """Run a command without the environment's Python paths, and return what it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [str(word) for word in command]
    return subprocess.run(
        words, check=True, stdout=subprocess.PIPE, text=True, cwd=cwd, env=environment
    ).stdout


def check(folder: Path) -> dict[str, object]:
    """Check wheel and sdist of a folder, and return their sizes in bytes.

    Raises:
        CalledProcessError: a check failed.
        ValueError: the folder has no wheel, or more than one, or the installed version differs.
    """
    wheel = only(folder, "*.whl")
    sdist = only(folder, "*.tar.gz")
    output_of(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist)
    output_of(sys.executable, "-m", "check_wheel_contents", "--toplevel", TOP_LEVEL, wheel)

    with tempfile.TemporaryDirectory() as name:
        environment = Path(name) / "environment"
        venv.create(environment, with_pip=True)
        python = environment / "bin" / "python"
        before = size(environment)
        constraints = ROOT / "constraints.txt"
        output_of(python, "-m", "pip", "install", "-q", "-c", constraints, wheel)
        installed = size(environment) - before

        version = output_of(environment / "bin" / "univae", "--version", cwd=Path(name)).split()[-1]
        if f"-{version}." not in sdist.name:
            raise ValueError(f"{sdist.name} holds version {version}")
        output_of(environment / "bin" / "univae", "doctor", cwd=Path(name))
        seconds = float(output_of(python, "-c", PROGRAM, cwd=Path(name)))
    return {
        "version": version,
        "wheel_bytes": wheel.stat().st_size,
        "sdist_bytes": sdist.stat().st_size,
        "installed_bytes": installed,
        "import_seconds": round(seconds, 3),
    }


if __name__ == "__main__":
    print(json.dumps(check(Path(sys.argv[1]))))
