"""The explorer as a process of its own, and what its answers show."""

import json
import os
import re
import signal
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from golden import make

__all__ = ["DATA", "explored", "picture_of"]

DATA = Path(make.__file__).parent / "data"
ROOT = Path(__file__).parents[1]
INTERRUPTED = 130


@contextmanager
def explored(*arguments: object) -> Iterator[str]:
    """Yield the address of ``univae explore`` with these arguments, and end it by Ctrl-C.

    A proxy is named that nobody answers at: nothing may ask for it.
    """
    command = [sys.executable, "-m", "experiments.cli", "explore", *map(str, arguments)]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "HTTP_PROXY": "http://127.0.0.1:9",
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "NO_PROXY": "",
    }
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if line.startswith("http"):
                break
        url = lines[-1].partition(" ")[0]
        assert url.startswith("http://127.0.0.1:"), lines
        try:
            yield url
        finally:
            process.send_signal(signal.SIGINT)
            out, error = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED, error
    assert error == "univae explore: ended\n"
    assert json.loads(out)["url"] == url


def picture_of(answer: str) -> bytes:
    """Return the PNG of an answer."""
    (encoded,) = re.findall(r'src="data:image/png;base64,([^"]+)"', answer)
    return b64decode(encoded)
