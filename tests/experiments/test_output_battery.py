"""Every command that writes to a path of the user's, in every situation that could cost the user a file.

``python -m tests.experiments.test_output_battery`` prints what happened as a table.
"""

import json
import os
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments import (
    compare,
    compress,
    decompress,
    encode,
    export,
    likelihood,
    sample,
    search,
    train_density,
    train_gan,
    train_similar,
    train_text,
)
from univae.errors import InputError

PRECIOUS = b"precious"
TRAINING: dict[str, Any] = {"steps": 2, "threads": 1, "validate_every": 0, "checkpoint_every": 0}
SHAPE: dict[str, Any] = {"width": 16, "heads": 2, "max_length": 24}


@dataclass(frozen=True)
class Command:
    """A command that writes, as ``run(out, overwrite)``, the suffix of its output, and what it reads."""

    run: Callable[[Path, bool], Any]
    suffix: str
    inputs: tuple[Path, ...]


def commands(folder: Path) -> dict[str, Command]:
    """Train a tiny run of each kind in ``folder`` and return the commands that write, by name."""
    texts = folder / "texts.txt"
    pairs = folder / "pairs.tsv"
    images = folder / "images.npy"
    lines = [
        f"{who} sees {what}"
        for who in ("a cat", "the dog", "one bird")
        for what in ("me", "you", "it", "us")
    ]
    texts.write_text("".join(f"{line}\n" for line in lines * 4))
    pairs.write_text("".join(f"{line}\t{line} .\n" for line in lines))
    np.save(images, (np.random.default_rng(0).random((40, 8, 8)) < 0.3).astype(np.uint8))
    shape = {**SHAPE, **TRAINING, "layers": 2}
    text = train_text.Config.of(
        text=str(texts), out=folder / "text", latent_layers=1, latent_width=4, batch_tokens=96,
        validation_texts=2, validation_samples=2, held_out=0.2, tokenizer="bytes", **shape,
    )  # fmt: skip
    train_text.train(text)
    similar = train_similar.Config.of(
        pairs=(pairs,),
        out=folder / "similar",
        batch_size=4,
        held_out=0.2,
        tokenizer="words",
        vocab_size=40,
        **shape,
    )
    train_similar.train(similar)
    density = train_density.Config.of(
        data=str(images),
        out=folder / "density",
        hidden=(8,),
        latents=(2,),
        validation_data=4,
        **TRAINING,
    )
    train_density.train(density)
    gan = train_gan.Config.of(
        data=str(images), out=folder / "gan", width=4, latent=4, batch_size=8, validation_data=10,
        **{name: value for name, value in TRAINING.items() if name != "checkpoint_every"},
    )  # fmt: skip
    train_gan.train(gan)
    (folder / "folder" / "sub").mkdir(parents=True)
    (folder / "folder" / "sub" / "a.txt").write_text("a cat")
    for data, run, name in (
        (texts, text, "texts.bits"),
        (images, density, "images.bits"),
        (folder / "folder", density, "folder.bits"),
    ):
        compress.main(
            compress.Config(run=run.out, data=str(data), out=folder / name, ideal_samples=0)
        )

    def score(run: Path, data: Path) -> Callable[[Path, bool], Any]:
        options = {"run": run, "data": str(data), "samples": 2, "limit": 3, "proposal": "posterior"}
        return lambda out, over: likelihood.main(
            likelihood.Config(out=out, overwrite=over, **options)
        )

    def unpack(run: Path, data: Path) -> Callable[[Path, bool], Any]:
        return lambda out, over: decompress.main(
            decompress.Config(run=run, data=data, out=out, overwrite=over)
        )

    def pack(out: Path, over: bool) -> Any:
        options = {"run": text.out, "data": str(texts), "ideal_samples": 0}
        return compress.main(compress.Config(out=out, overwrite=over, **options))

    def encoded(out: Path, over: bool) -> Any:
        return encode.main(encode.Config(run=text.out, data=str(texts), out=out, overwrite=over))

    def drawn(run: Path) -> Callable[[Path, bool], Any]:
        return lambda out, over: sample.main(
            sample.Config(run=run, count=2, out=out, overwrite=over)
        )

    def searched(out: Path, over: bool) -> Any:
        options: dict[str, Any] = {"run": similar.out, "text": "a cat", "corpus": texts, "count": 1}
        return search.main(search.Config(vectors=out, overwrite=over, **options))

    def compared(out: Path, over: bool) -> Any:
        return compare.main(compare.Config(runs=(text.out,), out=out, overwrite=over))

    def exported(out: Path, over: bool) -> Any:
        return export.main(export.Config(run=text.out, out=out, overwrite=over))

    def exported_encoder(out: Path, over: bool) -> Any:
        options: dict[str, Any] = {"out": out, "overwrite": over}
        return export.main(
            export.Config(run=similar.out, format="sentence-transformers", **options)
        )

    return {
        "likelihood of texts": Command(score(text.out, texts), ".csv", (texts, text.out)),
        "likelihood of images": Command(score(density.out, images), ".csv", (images, density.out)),
        "encode": Command(encoded, ".npy", (texts, text.out)),
        "sample texts": Command(drawn(text.out), ".txt", (text.out,)),
        "sample images": Command(drawn(gan.out), ".npz", (gan.out,)),
        "compress": Command(pack, ".bits", (texts, text.out)),
        "decompress texts": Command(
            unpack(text.out, folder / "texts.bits"), ".txt", (folder / "texts.bits", text.out)
        ),
        "decompress to .npy": Command(
            unpack(density.out, folder / "images.bits"),
            ".npy",
            (folder / "images.bits", density.out),
        ),
        "decompress to a folder": Command(
            unpack(density.out, folder / "images.bits"), "", (folder / "images.bits", density.out)
        ),
        "decompress a folder": Command(
            unpack(density.out, folder / "folder.bits"), "", (folder / "folder.bits", density.out)
        ),
        "export": Command(exported, ".univae", (text.out,)),
        "export to a folder": Command(exported_encoder, "", (similar.out,)),
        "search": Command(searched, ".npy", (texts, similar.out)),
        "compare": Command(compared, ".html", (text.out,)),
    }


NAMES = (
    "likelihood of texts",
    "likelihood of images",
    "encode",
    "sample texts",
    "sample images",
    "compress",
    "decompress texts",
    "decompress to .npy",
    "decompress to a folder",
    "decompress a folder",
    "export",
    "export to a folder",
    "search",
    "compare",
)


def content(folder: Path) -> dict[str, bytes | None]:
    """Return all files of a folder with their bytes, folders as ``None``."""
    paths = sorted(folder.rglob("*"))
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in paths
    }


def attempt(command: Command, out: Path, overwrite: bool = False) -> str:
    """Run a command; return ``written``, or its refusal."""
    try:
        command.run(out, overwrite)
    except (InputError, OSError) as error:
        return f"refused: {str(error).split(': ')[-1]}"
    return "written"


def new_file(command: Command, place: Path) -> str:
    out = place / f"out{command.suffix}"
    answer = attempt(command, out)
    assert answer == "written"
    assert out.exists()
    assert not [path for path in place.iterdir() if path.name.startswith(".")]
    return answer


def existing_file(command: Command, place: Path) -> str:
    out = place / f"out{command.suffix}"
    out.write_bytes(PRECIOUS)
    before = content(place)
    answer = attempt(command, out)
    assert answer.startswith("refused")
    assert content(place) == before
    return answer


def existing_file_and_overwrite(command: Command, place: Path) -> str:
    out = place / f"out{command.suffix}"
    out.write_bytes(PRECIOUS)
    (place / f".{out.name}.new").write_bytes(PRECIOUS)
    answer = attempt(command, out, overwrite=True)
    assert (place / f".{out.name}.new").read_bytes() == PRECIOUS
    assert (out.read_bytes() == PRECIOUS) == (command.suffix == "")
    return answer


def folder_with_foreign_files(command: Command, place: Path) -> str:
    out = place / f"out{command.suffix}"
    (out / "holiday").mkdir(parents=True)
    (out / "holiday" / "me.jpg").write_bytes(PRECIOUS)
    before = content(place)
    for overwrite in (False, True):
        answer = attempt(command, out, overwrite)
        assert answer.startswith("refused")
        assert content(place) == before
    return answer


def equal_to_an_input(command: Command, place: Path) -> str:
    answer = ""
    for source in command.inputs:
        before = content(source) if source.is_dir() else source.read_bytes()
        for overwrite in (False, True):
            answer = attempt(command, source, overwrite)
            assert answer.startswith("refused")
            assert (content(source) if source.is_dir() else source.read_bytes()) == before
    return answer


def link(command: Command, place: Path) -> str:
    out = place / f"out{command.suffix}"
    end = place / "elsewhere"
    end.mkdir()
    out.symlink_to(end / f"target{command.suffix}")
    answer = attempt(command, out)
    assert answer == "written"
    assert out.is_symlink()
    assert out.exists()
    return "the link stays, its target is written"


def device(command: Command, place: Path) -> str:
    out = place / f"out{command.suffix}"
    try:
        os.mknod(out, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except (AttributeError, PermissionError):
        pytest.skip("making a device node needs root")
    answer = attempt(command, out)
    assert stat.S_ISCHR(out.lstat().st_mode)
    return f"{answer}; still a device"


def read_only_folder(command: Command, place: Path) -> str:
    out = place / f"out{command.suffix}"
    access = os.access
    os.access = lambda path, mode, **_: access(path, mode) and Path(path) != place  # type: ignore[assignment]
    try:
        answer = attempt(command, out)
    finally:
        os.access = access
    assert answer.startswith("refused")
    assert content(place) == {}
    return answer


SITUATIONS: tuple[Callable[[Command, Path], str], ...] = (
    new_file,
    existing_file,
    existing_file_and_overwrite,
    folder_with_foreign_files,
    equal_to_an_input,
    link,
    device,
    read_only_folder,
)


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Command]:
    torch.set_default_dtype(torch.float32)
    return commands(tmp_path_factory.mktemp("battery"))


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_no_command_costs_the_user_a_file(
    ready: dict[str, Command], name: str, situation: Callable[[Command, Path], str], tmp_path: Path
) -> None:
    torch.set_default_dtype(torch.float32)
    place = Path(os.path.realpath(tmp_path)) / "place"
    place.mkdir()
    assert situation(ready[name], place)


def test_the_battery_names_every_command_it_has(ready: dict[str, Command]) -> None:
    assert tuple(ready) == NAMES


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        trained = commands(Path(folder))
        for name in NAMES:
            row = {}
            for situation in SITUATIONS:
                place = Path(os.path.realpath(tempfile.mkdtemp(dir=folder)))
                row[situation.__name__] = situation(trained[name], place)
            print(json.dumps({"command": name, **row}))
