"""`evaluate --features inception`: the protocol of torch-fidelity, and when a distance is an FID."""

import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from experiments import evaluate, evaluate_gan, train_gan
from experiments.cli.results import result_table
from experiments.data.readers import read
from experiments.gans import fid, inception
from experiments.gans.features import open_feature_space
from experiments.gans.inception import Extractor, open_extractor, rgb_images
from experiments.training.task import reseed
from gan.metrics import prdc
from gan.trained import TrainedGan
from tests.peer_fidelity import fidelity
from univae.checksums import file_digest
from univae.devices import pick_device
from univae.errors import InputError

WIDTH = 6
COUNT = 120


class Tiny(nn.Module):
    """A random network in the place of Inception."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.body = nn.Sequential(nn.Conv2d(3, WIDTH, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.float()

    def forward(self, x: Tensor) -> Tensor:
        assert x.dtype == torch.uint8
        assert x.shape[1] == 3
        features: Tensor = self.body(x.float() / 255).flatten(1)
        return features


@pytest.fixture(autouse=True)
def _single_precision() -> None:
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a GAN of grey digits, one of three channels, and one of a table."""
    torch.set_default_dtype(torch.float32)
    out = tmp_path_factory.mktemp("runs")
    draw = np.random.default_rng(0)
    np.save(out / "colours.npy", draw.integers(0, 256, (90, 8, 8, 3), dtype=np.uint8))
    np.save(out / "two.npy", draw.integers(0, 256, (90, 2, 8, 8), dtype=np.uint8))
    kinds = {"grey": "digits", "colours": str(out / "colours.npy"), "table": "wine"}
    for name, data in kinds.items():
        config = train_gan.Config.of(
            data=data, out=out / name, steps=2, batch_size=16, width=4, latent=8, hidden=(8,),
            feature_steps=3, validation_data=40, threads=1,
        )  # fmt: skip
        train_gan.train(config)
    return {name: out / name for name in kinds}


@pytest.fixture
def slot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the tiny network in the place of the published one, and take 100 images for an FID."""
    monkeypatch.setattr(evaluate_gan, "open_extractor", lambda *_: Extractor(Tiny().eval(), True))
    monkeypatch.setattr(fid, "COUNT", COUNT)
    monkeypatch.setattr(fid, "SUBSET", 50)


def evaluated(run: Path, **options: Any) -> dict[str, Any]:
    config = evaluate.Config(run=run, features="inception", device="cpu", **options)
    return evaluate.main(config)


def images_of(run: Path, count: int, levels: int) -> Tensor:
    """Return images as they are drawn, as 8 bits in three channels, written out."""
    model = TrainedGan.open(run, "cpu")
    reseed(0, "evaluate")
    rows = model.sample(count).astype(np.float64)
    grey = np.round(rows * 255 / (levels - 1)).astype(np.uint8)
    return torch.from_numpy(np.repeat(grey, 3 // grey.shape[1], axis=1))


@pytest.mark.parametrize(("name", "levels"), [("grey", 17), ("colours", 256)])
def test_the_numbers_are_those_of_torch_fidelity_on_the_images(
    runs: dict[str, Path], slot: None, name: str, levels: int
) -> None:
    result = evaluated(runs[name])
    data = read("digits" if name == "grey" else str(runs[name].parent / "colours.npy"))
    real_grey = np.round(data.values.astype(np.float64) * 255 / (levels - 1)).astype(np.uint8)
    real_images = torch.from_numpy(np.repeat(real_grey, 3 // real_grey.shape[1], axis=1))
    with torch.no_grad():
        fake, real = (Tiny()(x) for x in (images_of(runs[name], COUNT, levels), real_images))

    peer = fidelity("metric_fid")
    statistics = [peer.fid_features_to_statistics(x.double()) for x in (fake, real)]
    expected = peer.fid_statistics_to_metric(*statistics, False)["frechet_inception_distance"]
    assert result["fid"] == pytest.approx(expected, rel=1e-6)
    kid = fidelity("metric_kid").kid_features_to_metric(
        fake.double(), real.double(), kid_subset_size=50, verbose=False
    )
    assert result["kid"] == pytest.approx(kid["kernel_inception_distance_mean"], rel=1e-6)
    assert result["kid_deviation"] == pytest.approx(kid["kernel_inception_distance_std"], rel=1e-6)
    assert (result["count"], result["feature_space"]) == (COUNT, "inception-v3-2048")
    assert result["reference"] == f"all {len(data)} images of {data.name}"
    assert "frechet_distance" not in result
    assert re.search(r"\n +FID +\d", "\n" + result_table(result))
    if name == "colours":  # fewer real images than generated ones: all of them are compared
        manifold = prdc(real, fake[: len(real)])
        assert result["coverage"] == pytest.approx(manifold.coverage)
        assert result["precision"] == pytest.approx(manifold.precision)
    assert "FID" in (runs[name] / "report.html").read_text()
    item = json.loads((runs[name] / "samples" / "inception.json").read_text())
    assert [label for label, _ in item["rows"]][:2] == ["FID", "KID"]


def test_a_distance_of_another_protocol_is_not_called_fid(
    runs: dict[str, Path], slot: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    few = evaluated(runs["grey"], count=COUNT - 1)
    assert "fid" not in few
    assert few["frechet_distance"] == few["frechet[inception-v3-2048]"]
    assert any(f"it is of {COUNT - 1} generated images, not {COUNT}" in n for n in few["notes"])

    np.save(tmp_path / "other.npy", read("digits").values[:300, 0])
    other = evaluated(runs["grey"], data=str(tmp_path / "other.npy"))
    assert "fid" not in other
    assert any("against all 300 images of other, not the training set" in n for n in other["notes"])

    monkeypatch.setattr(evaluate_gan, "open_extractor", lambda *_: Extractor(Tiny().eval(), False))
    unpublished = evaluated(runs["grey"])
    assert not {"fid", "kid"} & unpublished.keys()
    assert any("weights of the network are not the published" in n for n in unpublished["notes"])
    assert unpublished["kernel_distance_deviation"] > 0


def test_too_few_images_for_a_subset_have_no_kid(runs: dict[str, Path], slot: None) -> None:
    result = evaluated(runs["grey"], count=40)
    assert result["kid"] is None
    assert any(
        "no kid: its subsets are of 50 images a side; there are 40" in n for n in result["notes"]
    )


def test_statistics_of_a_file_are_the_reference_without_the_training_data(
    runs: dict[str, Path], slot: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = evaluated(runs["grey"])
    real = read("digits")
    with torch.no_grad():
        features = Tiny()(rgb_images(2 * torch.from_numpy(real.values) / 16 - 1, real))
    file = tmp_path / "digits.npz"
    statistics = fidelity("metric_fid").fid_features_to_statistics(features.double())
    np.savez(file, **statistics)
    monkeypatch.setattr(evaluate_gan, "_rows", None)  # not read
    result = evaluated(runs["grey"], reference_statistics=file)
    assert result["fid"] == pytest.approx(own["fid"], rel=1e-6)
    assert not {"kid", "precision"} & result.keys()
    assert result["reference"] == str(file)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mu": np.zeros(6)}, "cannot be read"),
        ({"mu": np.zeros(6), "sigma": np.zeros((6, 5))}, r"have shapes \(6,\) and \(6, 5\)"),
        ({"mu": np.zeros((6, 1)), "sigma": np.eye(6)}, r"have shapes \(6, 1\)"),
        ({"mu": np.zeros(6, int), "sigma": np.eye(6)}, "holds int64 and float64"),
        ({"mu": np.full(6, np.nan), "sigma": np.eye(6)}, "holds NaN or infinity"),
        ({"mu": np.zeros(5), "sigma": np.eye(5)}, "of 5 features; inception-v3-2048 has 6"),
    ],
)
def test_statistics_that_are_none_are_refused(
    runs: dict[str, Path], slot: None, arrays: Any, message: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "statistics.npz", **arrays)
    with pytest.raises(InputError, match=message):
        evaluated(runs["grey"], reference_statistics=tmp_path / "statistics.npz")


def test_a_file_of_statistics_that_is_missing_or_no_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be read.*No such file"):
        fid.read_statistics(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("text")
    with pytest.raises(InputError, match=r"cannot be read.*not a zip file"):
        fid.read_statistics(tmp_path / "text.npz")


def test_options_that_do_not_belong_together_are_refused(runs: dict[str, Path]) -> None:
    grey = runs["grey"]
    with pytest.raises(InputError, match="inception_weights is for --features inception; got"):
        evaluate_gan.Config(run=grey, inception_weights=grey)
    with pytest.raises(InputError, match="not both"):
        evaluate_gan.Config(run=grey, features="inception", data="a", reference_statistics=grey)
    with pytest.raises(InputError, match=r"count must be 0 \(the default\), or at least 10"):
        evaluate.Config(run=grey, count=3)
    with pytest.raises(InputError, match=r"for images; .* generates rows of a table"):
        evaluated(runs["table"])
    with pytest.raises(InputError, match="inception is for univae evaluate"):
        open_feature_space(read("digits"), grey, "inception")


def test_images_of_two_channels_are_refused(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    np.save(tmp_path / "two.npy", draw.integers(0, 256, (9, 2, 8, 8), dtype=np.uint8))
    with pytest.raises(InputError, match="the images of run have 2"):
        inception.require_rgb(read(str(tmp_path / "two.npy")), Path("run"))


# The network itself.


def random_weights(path: Path) -> None:
    """Write weights of the network's shapes that are not the published ones."""
    module = fidelity("feature_extractor_inceptionv3")
    network = module.FeatureExtractorInceptionV3.__new__(module.FeatureExtractorInceptionV3)
    state: dict[str, Tensor] = {}
    original = module.FeatureExtractorInceptionV3.load_state_dict
    download = module.load_state_dict_from_url
    module.load_state_dict_from_url = lambda *_, **__: {}
    module.FeatureExtractorInceptionV3.load_state_dict = lambda *_: None
    try:
        network.__init__("random", ["2048"])
        state = nn.Module.state_dict(network)
    finally:
        module.FeatureExtractorInceptionV3.load_state_dict = original
        module.load_state_dict_from_url = download
    torch.save(state, path)


def test_features_are_those_of_the_network_of_torch_fidelity(tmp_path: Path) -> None:
    weights = tmp_path / "weights.pth"
    random_weights(weights)
    extractor = open_extractor(weights, torch.device("cpu"))
    assert not extractor.is_published
    module = fidelity("feature_extractor_inceptionv3")
    network = module.FeatureExtractorInceptionV3("peer", ["2048"], str(weights)).eval()
    images = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8)
    features = extractor.features([images[:2], images[2:]], 3, "features")
    with torch.no_grad():
        torch.testing.assert_close(features, network(images)[0])
    assert features.shape == (3, 2048)


class Harmful:
    """An object whose unpickling runs code."""

    def __reduce__(self) -> Any:
        return (exec, ("raise SystemExit('code of a weights file was run')",))


def test_a_file_of_no_weights_is_refused_and_its_code_is_not_run(tmp_path: Path) -> None:
    fidelity("feature_extractor_inceptionv3")
    device = torch.device("cpu")
    with pytest.raises(InputError, match="there is no such file"):
        open_extractor(tmp_path / "none.pth", device)
    path = tmp_path / "weights.pth"
    for content, message in (
        (Harmful(), "no file of weights"),
        ([1, 2], "it holds a list"),
        ({"a": torch.zeros(1)}, "no weights of torch-fidelity's Inception .Error"),
    ):
        torch.save(content, path)
        with pytest.raises(InputError, match=message) as refused:
            open_extractor(path, device)
        assert "\n" not in str(refused.value)
        assert "give weights-inception-2015-12-05-6726825d.pth" in str(refused.value)


def test_published_weights_are_known_by_their_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = fidelity("feature_extractor_inceptionv3")
    monkeypatch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
    torch.save({}, tmp_path / "weights.pth")
    assert not open_extractor(tmp_path / "weights.pth", torch.device("cpu")).is_published
    digest = file_digest(tmp_path / "weights.pth")
    monkeypatch.setattr(inception, "WEIGHTS_DIGEST", digest)
    assert open_extractor(tmp_path / "weights.pth", torch.device("cpu")).is_published
    name = re.search(r"-([0-9a-f]{8})\.pth", module.URL_INCEPTION_V3)
    monkeypatch.undo()
    assert name is not None
    assert inception.WEIGHTS_DIGEST.startswith(name[1])


def test_without_the_extra_or_a_network_one_line_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = fidelity("feature_extractor_inceptionv3")

    def offline(*_: Any, **__: Any) -> None:
        raise OSError("<urlopen error [Errno -2] Name or service not known>")

    monkeypatch.setattr(module, "load_state_dict_from_url", offline)
    with pytest.raises(InputError, match=r"cannot be downloaded .*Name or service.*; get https://"):
        open_extractor(None, torch.device("cpu"))
    name = "torch_fidelity.feature_extractor_inceptionv3"
    monkeypatch.setitem(sys.modules, name, ModuleType(name))
    with pytest.raises(InputError, match=r"torch-fidelity cannot be imported \(cannot import name"):
        open_extractor(None, torch.device("cpu"))
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r"needs the extra fid: pip install 'univae\[fid\]'"):
        open_extractor(None, torch.device("cpu"))


def test_statistics_that_are_no_covariance_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "statistics.npz"
    np.savez(path, mu=np.zeros(3, ">f8"), sigma=np.eye(3, dtype=">f8"))
    assert fid.read_statistics(path).moments.covariance.equal(torch.eye(3).double())
    for sigma in (-np.eye(3), np.triu(np.ones((3, 3)))):
        np.savez(path, mu=np.zeros(3), sigma=sigma)
        with pytest.raises(InputError, match="sigma is no covariance"):
            fid.read_statistics(path)
    np.savez(path, mu=np.zeros(0), sigma=np.zeros((0, 0)))
    with pytest.raises(InputError, match="is empty"):
        fid.read_statistics(path)


def test_a_device_without_values_is_refused() -> None:
    with pytest.raises(InputError, match="device must be auto, cpu, or a device this machine has"):
        pick_device("meta")
