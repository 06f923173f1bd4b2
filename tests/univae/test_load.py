"""``univae.load`` opens a run folder of every kind, wherever the working directory is."""

import configparser
import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden import make

import univae
from density.trained import TrainedDensity
from gan.trained import TrainedGan
from univae import entry_points, kinds
from univae.decoding.sampling import Sampling
from univae.errors import InputError
from univae.run_folder import RunFolder
from univae.sentence.trained import TrainedSimilar
from univae.trained import Trained
from univae.vae.trained import TrainedText

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "golden" / "data"
CLASSES = {
    "text": TrainedText,
    "text_vmf": TrainedText,
    "images": TrainedDensity,
    "neighbours": TrainedDensity,
    "table": TrainedDensity,
    "columns": TrainedDensity,
    "gan_images": TrainedGan,
    "gan_table": TrainedGan,
    "similar": TrainedSimilar,
}


@pytest.fixture(autouse=True)
def _single_precision() -> None:
    torch.set_default_dtype(torch.float32)


def opened(name: str, tmp_path: Path) -> Trained:
    """Open a copy of a golden run."""
    return univae.load(make.copy_run(name, tmp_path), "cpu")


@pytest.mark.parametrize("name", sorted(make.RUNS))
@pytest.mark.parametrize("path_type", [str, Path])
def test_every_kind_of_run_opens_as_its_class(
    name: str, path_type: type[str | Path], tmp_path: Path
) -> None:
    folder = make.copy_run(name, tmp_path)
    run = univae.load(path_type(folder), "cpu", "last")
    assert type(run) is CLASSES[name]
    assert run.path == folder
    assert run.config == json.loads((folder / "config.json").read_text())
    assert run.config["command"] == run.kind
    assert run.weights == folder / "checkpoints" / "last" / "model.safetensors"
    assert run.device == torch.device("cpu")
    assert run.notes == []


def test_the_entry_points_are_the_kinds_of_the_library() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = settings["options.entry_points"][kinds.GROUP].split("\n")
    declared = dict(line.split(" = ") for line in lines if line)
    assert declared == kinds.LIBRARY_KINDS
    assert kinds.kinds().keys() >= declared.keys()


@pytest.mark.parametrize("kind", sorted(kinds.LIBRARY_KINDS))
def test_every_kind_knows_its_name(kind: str) -> None:
    trained = kinds.kinds()[kind].load()
    assert issubclass(trained, Trained)
    assert trained.kind == kind
    assert trained.description.split()[0] in ("a", "an")


def test_another_distribution_adds_a_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"command": "train-flow"}))
    point = EntryPoint("train-flow", "univae.vae.trained:TrainedText", kinds.GROUP)
    monkeypatch.setattr(entry_points, "entry_points", lambda group: [point])
    entry_points.points.cache_clear()
    try:
        assert kinds.trained_class(RunFolder.open(tmp_path)) is TrainedText
    finally:
        monkeypatch.undo()
        entry_points.points.cache_clear()


def test_a_folder_called_experiments_does_not_matter(tmp_path: Path) -> None:
    names = ("text", "similar", "images", "gan_images")
    folders = [str(make.copy_run(name, tmp_path)) for name in names]
    foreign = tmp_path / "experiments"
    foreign.mkdir()
    (foreign / "__init__.py").write_text("raise ImportError('not the library')\n")
    code = f"import univae\nfor folder in {folders!r}:\n"
    code += "    print(type(univae.load(folder, 'cpu')).__name__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [CLASSES[name].__name__ for name in names]


# Damaged folders.


@pytest.mark.parametrize("command", [None, "train", 3, ["train-text"]])
def test_an_unknown_kind_is_refused_with_the_known_ones(tmp_path: Path, command: object) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"command": command}))
    with pytest.raises(InputError, match=r"has command=.*train-text, train-density, train-gan"):
        univae.load(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "holds no config.json"), ("[]", "not a JSON object"), ("{", "not a readable JSON")],
)
def test_a_folder_that_is_no_run_is_refused_in_one_line(
    tmp_path: Path, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=message) as error:
        univae.load(tmp_path)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="does not exist; give the folder a training command"):
        univae.load(tmp_path / "nowhere")


def test_a_missing_checkpoint_names_those_that_exist(tmp_path: Path) -> None:
    folder = make.copy_run("text", tmp_path)
    (folder / "checkpoints" / ".best.new").mkdir()
    with pytest.raises(InputError, match=r"holds no checkpoint 'nope'; .*: best, last$"):
        univae.load(folder, "cpu", "nope")
    shutil.rmtree(folder / "checkpoints")
    with pytest.raises(InputError, match="'nope': its training stopped before the first was saved"):
        univae.load(folder, "cpu", "nope")


@pytest.mark.usefixtures("unchecked")
def test_what_is_no_path_is_refused(tmp_path: Path) -> None:
    run: Any = opened("text", tmp_path)
    nothing: Any = None
    with pytest.raises(InputError, match=r"path of a run folder; got NoneType$"):
        univae.load(nothing)
    with pytest.raises(InputError, match=r"got TrainedText; it is open already$"):
        univae.load(run)


def test_a_run_outlives_its_folder_and_a_change_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("text", "gan_images"):
        make.copy_run(name, tmp_path)
    monkeypatch.chdir(tmp_path)
    run = univae.load("text", "cpu")
    generator: Any = univae.load(Path("gan_images"), "cpu")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run.path == tmp_path / "text"
    assert run.folder.rows()
    assert repr(run).endswith(" parameters, step 12, best)")
    shutil.rmtree(tmp_path / "text")
    assert repr(run).endswith(" parameters, step 12, best)")
    assert len(run.sample(2)) == 2
    shutil.rmtree(tmp_path / "gan_images")
    assert "step 12" in repr(generator)
    with pytest.raises(InputError, match="is not there any more"):
        generator.sample(2)


@pytest.mark.parametrize("name", ["text", "images", "gan_images", "similar"])
@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_damaged_file_is_named(name: str, file: str, tmp_path: Path) -> None:
    folder = make.copy_run(name, tmp_path)
    path = next(folder.glob("checkpoints/best/model.safetensors"))
    if file == "config.json":
        path = folder / ("model.json" if (folder / "model.json").exists() else "tokenizer.json")
    path.write_bytes(path.read_bytes()[:10])
    with pytest.raises(InputError, match=path.name):
        univae.load(folder, "cpu")


@pytest.mark.parametrize("name", ["text", "images", "gan_images", "similar"])
def test_a_class_refuses_runs_of_other_kinds(name: str, tmp_path: Path) -> None:
    folder = make.copy_run(name, tmp_path)
    for trained in set(CLASSES.values()) - {CLASSES[name]}:
        rule = f"is not the run of {trained.description}; give the --out of {trained.kind}"
        with pytest.raises(InputError, match=rule):
            trained.open(folder)


def test_a_device_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="device must be auto, cpu, or a device this machine has"):
        univae.load(make.copy_run("text", tmp_path), "abacus")


# Trained models in use.


def test_a_text_run_encodes_decodes_and_samples(tmp_path: Path) -> None:
    run = opened("text", tmp_path)
    assert isinstance(run, TrainedText)
    texts = (DATA / "texts.txt").read_text().splitlines()[:3]
    assert run.texts_of(run.token_ids(texts)) == texts
    codes = run.encode(texts)
    assert codes.shape == (3, run.model.config.latent_layers, run.model.config.latent_width)
    assert codes.dtype == np.float32
    assert run.decode(torch.from_numpy(codes)) == run.reconstruct(texts)
    torch.manual_seed(1)
    z = run.model.prior().sample(torch.Size((4,)))
    expected = run.decode(z, Sampling(temperature=0.0))
    torch.manual_seed(1)
    assert run.sample(4, Sampling(temperature=0.0)) == expected
    walk = run.interpolate(texts[0], texts[1], 3)
    assert [walk[0], walk[-1]] == run.reconstruct(texts[:2])
    with pytest.raises(InputError, match="steps must be at least 2"):
        run.interpolate(texts[0], texts[1], 1)


def test_an_edit_of_no_layer_keeps_every_word(tmp_path: Path) -> None:
    run = opened("text", tmp_path)
    assert isinstance(run, TrainedText)
    reconstruction, edits = run.edit("a cat", [], 2)
    for edit in edits:
        assert edit.text == reconstruction
        assert edit.kept == reconstruction.split()
        assert edit.share == 1


@pytest.mark.parametrize("name", ["images", "table"])
def test_a_density_run_encodes_and_samples_rows(name: str, tmp_path: Path) -> None:
    run = opened(name, tmp_path)
    assert isinstance(run, TrainedDensity)
    rows = run.sample(130)  # more than a batch
    shape = tuple(run.model.output.pixels.shape)
    assert rows.shape == (130, *shape)
    codes = run.encode(rows)
    assert len(codes) == 130
    np.testing.assert_allclose(run.encode(rows[:2]), codes[:2], atol=1e-5)
    again = run.reconstruct(rows[:3])
    assert again.shape == (3, *shape)
    assert np.isfinite(again).all()


@pytest.mark.parametrize("name", ["gan_images", "gan_table"])
def test_a_gan_generates_the_rows_of_its_latents(name: str, tmp_path: Path) -> None:
    run = opened(name, tmp_path)
    assert isinstance(run, TrainedGan)
    torch.manual_seed(2)
    rows = run.draw(3)
    torch.manual_seed(2)
    z = torch.randn(3, run.latent_width)
    assert torch.equal(rows, run.generate(z))
    assert run.has_average
    assert not torch.equal(rows, run.raw().generate(z))
    assert run.raw().raw().step == run.step > 0


def test_a_sentence_run_ranks_a_text_first_among_its_own_vectors(tmp_path: Path) -> None:
    run = opened("similar", tmp_path)
    assert isinstance(run, TrainedSimilar)
    texts = ["a man sees a ball", "the dog runs"]
    vectors = run.encode(texts)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert run.encode([]).shape == (0, run.model.config.width)
    for ranked in run.similar(texts, 3, samples=6):
        cosines = [cosine for _, cosine in ranked]
        assert cosines == sorted(cosines, reverse=True)
        assert len(ranked) <= 3
    with pytest.raises(InputError, match="the text has no word 'bird'"):
        run.similar(texts, 1, mask=["bird"])
