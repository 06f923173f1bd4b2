"""``univae explore`` as a command: it serves until Ctrl-C, and refuses as commands do."""

import importlib.util
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from explorer_data import explored
from golden import make

from experiments.explore import EXPLORERS, Config, main
from experiments.explorer.page import FIRST_PORT, serving
from experiments.kinds import use_of
from univae.errors import InputError

needs_gradio = pytest.mark.skipif(
    importlib.util.find_spec("gradio") is None, reason="gradio is not installed"
)


@contextmanager
def explored_beside(other: socket.socket, run: Path) -> Iterator[tuple[str, bool]]:
    """Yield the address of an explorer, and whether ``other`` has its first port.

    An explorer of another test may have it.
    """
    is_bound = False
    with suppress(OSError):
        other.bind(("127.0.0.1", FIRST_PORT))
        other.listen()
        is_bound = True
    with explored(run) as address:
        yield address, is_bound


def foreign_requests(address: str) -> list[urllib.request.Request]:
    """Return what a page of another site might send: under its own name, and a file to keep."""
    named = urllib.request.Request(f"{address}config", headers={"Host": "other.example"})
    mark = "boundary"
    head = 'Content-Disposition: form-data; name="files"; filename="a.txt"'
    body = f"--{mark}\r\n{head}\r\n\r\nsome text\r\n--{mark}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={mark}"}
    return [named, urllib.request.Request(f"{address}gradio_api/upload", body, kind)]


@needs_gradio
def test_it_serves_this_machine_alone_and_leaves_nothing_behind(tmp_path: Path) -> None:
    run = make.copy_run("text", tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with socket.socket() as other, explored_beside(other, run) as (address, is_bound):
        assert opener.open(address).status == 200
        port = int(address.rstrip("/").rpartition(":")[2])
        assert port > FIRST_PORT or not is_bound
        for request in foreign_requests(address):
            with pytest.raises(urllib.error.HTTPError, match=r"400|413"):
                opener.open(request)
        others = {each[4][0] for each in socket.getaddrinfo(socket.gethostname(), None)}
        for host in others - {"127.0.0.1", "::1"}:
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as trial:
                assert trial.connect_ex((host, port)) != 0
    with socket.socket() as trial:
        assert trial.connect_ex(("127.0.0.1", port)) != 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@needs_gradio
def test_a_port_of_another_program_is_refused() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with (
            pytest.raises(InputError, match=f"--port {port}: another program has it"),
            serving("title", "about", [], port),
        ):
            pass


@needs_gradio
def test_a_gan_takes_no_data_and_a_missing_run_or_file_is_named(tmp_path: Path) -> None:
    run = make.copy_run("gan_images", tmp_path)
    with pytest.raises(InputError, match="explore: data is an option for"):
        use_of(Config(run=run, data="digits"), EXPLORERS, "explore")
    with pytest.raises(InputError, match="no-such"):
        main(Config(run=tmp_path / "no-such"))
    texts = make.copy_run("text", tmp_path)
    with pytest.raises(InputError, match=r"missing\.txt"):
        main(Config(run=texts, data=str(tmp_path / "missing.txt")))


def test_without_the_extra_a_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(InputError, match=r"extra explore: pip install 'univae\[explore\]'"):
        main(Config(run=tmp_path))
