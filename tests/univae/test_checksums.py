"""Checksums of checkpoints: a changed file is named, and folders without them open as before."""

from pathlib import Path

import pytest

from univae import checksums
from univae.atomic_files import replacing_folder
from univae.checksums import (
    CHECKSUMS,
    read_unchanged,
    require_unchanged,
    write_checksums,
)
from univae.errors import InputError

RUN_FILES = ("data.json", "model.json", "tokenizer.json")
TENSORS = ("model.safetensors", "optimizer.pt")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoints" / "last"
    folder.mkdir(parents=True)
    for name in RUN_FILES:
        (tmp_path / name).write_text("{}")
    for name in (*TENSORS, "state.json"):
        (folder / name).write_bytes(b"some bytes")
    write_checksums(folder, tmp_path)
    return folder


@pytest.mark.parametrize("change", [b"", b"some bytez", b"some bytes and more", None])
@pytest.mark.parametrize("name", [*RUN_FILES, *TENSORS])
def test_a_changed_or_missing_file_is_named(
    checkpoint: Path, tmp_path: Path, name: str, change: bytes | None
) -> None:
    require_unchanged(checkpoint, tmp_path, to_train=True)
    file = (checkpoint if name in TENSORS else tmp_path) / name
    file.unlink()
    if change is not None:
        file.write_bytes(change)
    state = "is missing" if change is None else "has changed"
    with pytest.raises(InputError, match=f"^{file}: {state} since the checkpoint 'last' was saved"):
        require_unchanged(checkpoint, tmp_path, to_train=True)

    (checkpoint / CHECKSUMS).unlink()  # the way out, and the state of earlier versions
    require_unchanged(checkpoint, tmp_path, to_train=True)


def test_a_use_does_not_read_the_state_of_the_optimizer(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "optimizer.pt").unlink()
    require_unchanged(checkpoint, tmp_path)


def test_the_state_may_be_rewritten(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "state.json").write_text("{}")
    require_unchanged(checkpoint, tmp_path, to_train=True)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        '{"checkpoint": {}, "run": {}}',
        '{"checkpoint": 1, "run": 2}',
        '{"checkpoint": {"model.safetensors": ""}, "run": {"../../etc/passwd": ""}}',
    ],
)
def test_damaged_checksums_are_refused(checkpoint: Path, tmp_path: Path, content: str) -> None:
    (checkpoint / CHECKSUMS).write_text(content)
    with pytest.raises(InputError, match=r"checksums\.json: (values|not a readable)"):
        require_unchanged(checkpoint, tmp_path)


def replace_checkpoint(checkpoint: Path, run: Path, content: bytes) -> None:
    with replacing_folder(checkpoint) as folder:
        for name in (*TENSORS, "state.json"):
            (folder / name).write_bytes(content)
        write_checksums(folder, run)


@pytest.mark.parametrize("replaced", ["before", "after"])
def test_a_checkpoint_that_a_training_replaces_while_it_is_read_is_read_again(
    checkpoint: Path, tmp_path: Path, replaced: str
) -> None:
    contents = iter([b"second", b"third"])

    def read() -> bytes:
        if replaced == "before":
            replace_checkpoint(checkpoint, tmp_path, next(contents, b"third"))
        value = (checkpoint / TENSORS[0]).read_bytes()
        if replaced == "after":
            for content in contents:
                replace_checkpoint(checkpoint, tmp_path, content)
        return value

    value = read_unchanged(lambda: [checkpoint], tmp_path, read)
    assert value == (checkpoint / TENSORS[0]).read_bytes() == b"third"


def test_a_checkpoint_that_is_replaced_while_it_is_compared_is_compared_again(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = checksums.read_json
    contents = iter([b"second"])

    def replacing(path: Path) -> object:
        stored = plain(path)
        for content in contents:
            replace_checkpoint(checkpoint, tmp_path, content)
        return stored

    monkeypatch.setattr(checksums, "read_json", replacing)
    read = (checkpoint / TENSORS[0]).read_bytes
    assert read_unchanged(lambda: [checkpoint], tmp_path, read) == b"second"


def test_a_checkpoint_that_nobody_replaces_is_refused_at_once(
    checkpoint: Path, tmp_path: Path
) -> None:
    (checkpoint / TENSORS[0]).write_bytes(b"damaged")
    with pytest.raises(InputError, match="has changed"):
        read_unchanged(lambda: [checkpoint], tmp_path, lambda: None)
