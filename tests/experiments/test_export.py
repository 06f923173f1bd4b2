"""An export replaces its run folder, has the same bytes every time, and holds no other files."""

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from golden import make

import univae
from experiments import compress, decompress, export
from tests.damage import flip_a_bit
from univae.checksums import write_checksums
from univae.errors import InputError
from univae.exported import open_export

DATA = Path(make.__file__).parent / "data"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_default_dtype(torch.float32)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def exported(name: str, folder: Path, out: str = "key.univae") -> Path:
    run = make.copy_run(name, folder)
    export.main(export.Config(run=run, out=folder / out))
    return folder / out


@pytest.mark.parametrize("name", ["text", "images", "table", "similar"])
def test_an_export_opens_in_place_of_its_run(name: str, tmp_path: Path) -> None:
    file = exported(name, tmp_path)
    again = univae.load(str(file), device="cpu")
    run = univae.load(tmp_path / name, device="cpu")
    assert type(again) is type(run)
    assert again.config == run.config
    weights = run.model.state_dict()
    for key, weight in again.model.state_dict().items():
        assert torch.equal(weight, weights[key])


@pytest.mark.parametrize("name", [pytest.param("text", marks=pytest.mark.slow), "images"])
def test_an_export_opens_the_files_of_its_run_and_the_run_those_of_the_export(
    name: str, tmp_path: Path
) -> None:
    file = exported(name, tmp_path)
    original = DATA / make.COMPRESSED[name]
    golden = Path(make.__file__).parent / name / "data.bits"
    back = tmp_path / f"back{original.suffix}"
    decompress.main(decompress.Config(run=file, data=golden, out=back))
    assert back.read_bytes() == original.read_bytes()
    bits = tmp_path / "new.bits"
    compress.main(
        compress.Config(run=file, data=str(original), out=bits, ideal_samples=0, store=False)
    )
    decompress.main(decompress.Config(run=tmp_path / name, data=bits, out=back, overwrite=True))
    assert back.read_bytes() == original.read_bytes()


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    first = exported("text", tmp_path)
    run = tmp_path / "text"
    for path in run.rglob("*"):
        path.touch()
    (run / "metrics.jsonl").write_text("")
    export.main(export.Config(run=run, out=tmp_path / "second"))
    assert first.read_bytes() == (tmp_path / "second").read_bytes()
    with zipfile.ZipFile(first) as archive:
        assert archive.namelist() == [
            "checkpoints/best/model.safetensors",
            "checkpoints/best/state.json",
            "config.json",
            "tokenizer.json",
        ]
    again = export.Config(run=first, out=tmp_path / "third")
    export.main(again)
    assert (tmp_path / "third").read_bytes() == first.read_bytes()


def test_what_two_calibrations_replaced_opens_again(tmp_path: Path) -> None:
    run = make.copy_run("text", tmp_path)
    checkpoints = run / "checkpoints"
    for name in ("uncalibrated", "uncalibrated-2"):
        shutil.copytree(checkpoints / "best", checkpoints / name)
    export.main(export.Config(run=run, out=tmp_path / "key.univae"))
    again = univae.load(tmp_path / "key.univae", device="cpu")
    assert again.folder.uncalibrated() == ["uncalibrated", "uncalibrated-2"]


def test_weights_that_have_changed_are_not_exported(tmp_path: Path) -> None:
    run = make.copy_run("table", tmp_path)
    best = run / "checkpoints" / "best"
    write_checksums(best, run)
    flip_a_bit(best / "model.safetensors")
    with pytest.raises(InputError, match=r"model\.safetensors: has changed since"):
        export.main(export.Config(run=run, out=tmp_path / "key"))
    assert not (tmp_path / "key").exists()


def test_what_no_export_holds_is_refused_and_nothing_is_unpacked(tmp_path: Path) -> None:
    file = tmp_path / "bad.univae"
    for name in ("../evil", "/etc/evil", "checkpoints/best/optimizer.pt", "x.py"):
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("config.json", "{}")
            archive.writestr(name, "x")
        with pytest.raises(InputError, match="is not a file of univae export"):
            univae.load(file)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", " " * 1000)
    with pytest.raises(InputError, match="is not a file of univae export"):
        univae.load(file)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["bad.univae"]


def test_a_damaged_export_is_refused(tmp_path: Path) -> None:
    file = exported("table", tmp_path)
    flip_a_bit(file, file.stat().st_size // 2)
    with pytest.raises(InputError, match="the file is damaged"):
        univae.load(file)
    assert list((tmp_path / "cache" / "univae" / "exports").iterdir()) == []


def test_an_export_is_unpacked_once(tmp_path: Path) -> None:
    file = exported("table", tmp_path)
    folder = open_export(file)
    (folder / "mark").write_text("")
    assert open_export(shutil.copy(file, tmp_path / "copy")) == folder
    assert (folder / "mark").exists()


def test_a_cache_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = exported("table", tmp_path)
    (tmp_path / "no_folder").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "no_folder"))
    with pytest.raises(InputError, match="set XDG_CACHE_HOME to a folder that can be written"):
        univae.load(file)


def test_a_gan_and_an_existing_file_are_refused(tmp_path: Path) -> None:
    run = make.copy_run("gan_table", tmp_path)
    with pytest.raises(InputError, match=r"is the run of a GAN.*copy the run folder instead"):
        export.main(export.Config(run=run, out=tmp_path / "key"))
    file = exported("table", tmp_path)
    before = file.read_bytes()
    with pytest.raises(InputError, match="it exists; give another name, or --overwrite"):
        export.main(export.Config(run=tmp_path / "table", out=file))
    assert file.read_bytes() == before
    np.save(tmp_path / "x.npy", np.zeros(3))
    with pytest.raises(InputError, match="is not a run folder"):
        univae.load(tmp_path / "x.npy")
