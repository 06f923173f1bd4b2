"""Images of a data set of a hub: those of a local folder, read by the hub's library."""

import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.data.hub_sets import is_hub, name_and_split
from experiments.data.image_cache import ImageCache
from experiments.data.image_files import ImageFiles
from experiments.data.image_options import ImageReading
from experiments.data.readers import read, read_training_set
from experiments.data.sources import resolved
from tests.experiments.data.test_image_files import grey, saved
from univae.errors import InputError


def test_the_name_of_a_hub_set_has_a_split_or_the_training_set() -> None:
    assert name_and_split("hub:mnist") == ("mnist", "train")
    assert name_and_split("hub:org/mnist:test") == ("org/mnist", "test")
    for source in ("hub:", "hub:a:b:c"):
        with pytest.raises(InputError, match=f"^{source}: give hub:NAME or hub:NAME:SPLIT$"):
            name_and_split(source)


def test_a_hub_name_stays_as_it_is_and_a_local_folder_becomes_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    assert resolved("hub:org/mnist:test") == "hub:org/mnist:test"
    assert resolved("hub:pictures:test") == f"hub:{tmp_path}/pictures:test"
    (tmp_path / "hub:mine").mkdir()
    assert not is_hub("hub:mine")
    assert resolved("hub:mine") == f"{tmp_path}/hub:mine"


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"^hub:mnist: needs the extra hub: pip install 'univae"):
        read("hub:mnist")


def test_images_of_a_local_hub_set_are_those_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "hub"))
    for number, image in enumerate(grey(6, 8, 6, 3)):
        saved(tmp_path / "set" / ("cat", "dog")[number % 2] / f"{number}.png", image)
    source = f"hub:{tmp_path / 'set'}"
    plain = read(tmp_path / "set")
    data = read(source)
    assert np.array_equal(data.values, plain.values)
    assert np.array_equal(data.labels, plain.labels)
    assert (data.name, data.class_names) == ("set", ("cat", "dog"))
    small = ImageFiles(ImageReading(size=4), ImageCache(tmp_path / "cache"))
    for _ in range(2):
        assert read_training_set(source, small).shape == (3, 4, 4)
    with pytest.raises(InputError, match=r"cannot be loaded \(.*\); check name and split"):
        read(f"{source}:nothing")
