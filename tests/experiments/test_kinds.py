"""Every table of kinds has rows that work on their runs and refuses all others."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from golden import make

from experiments.evaluation.estimators import Importance
from experiments.evaluation.scorer import ScoringTask
from experiments.kinds import CODECS, ENCODERS, SCORERS, open_codec, row_of_kind
from experiments.sample import SAMPLERS
from experiments.sample import Config as SampleConfig
from univae import kinds
from univae.errors import InputError
from univae.trained import Trained

TABLES: dict[str, Mapping[type[Trained], object]] = {
    "codecs": CODECS,
    "scorers": SCORERS,
    "encoders": ENCODERS,
    "samplers": SAMPLERS,
}
GOLDEN = {
    "train-text": "text",
    "train-density": "images",
    "train-gan": "gan_images",
    "train-similar": "similar",
}
DATA = Path(make.__file__).parent / "data"


@pytest.fixture(autouse=True)
def _single_precision() -> None:
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("kind", sorted(kinds.LIBRARY_KINDS))
def test_a_run_has_the_row_of_its_kind_or_is_refused(table: str, kind: str, tmp_path: Path) -> None:
    rows = {trained.kind: row for trained, row in TABLES[table].items()}
    folder = make.copy_run(GOLDEN[kind], tmp_path)
    if kind in rows:
        assert row_of_kind(folder, TABLES[table]) is rows[kind]
        return
    with pytest.raises(InputError, match="is not the run of a text model; give the --out of"):
        row_of_kind(folder, TABLES[table])


@pytest.mark.parametrize("kind", sorted(trained.kind for trained in CODECS))
def test_every_codec_names_the_run_by_its_weights(kind: str, tmp_path: Path) -> None:
    folder = make.copy_run(GOLDEN[kind], tmp_path)
    codec = open_codec(folder)
    assert codec.rate.startswith("bits_per_")
    assert codec.fingerprint == open_codec(folder).fingerprint
    assert 1 <= codec.default_tile(1) <= codec.default_tile(10**6)
    assert codec.run_notes == []


@pytest.mark.parametrize("kind", sorted(trained.kind for trained in SCORERS))
def test_every_scorer_fills_its_columns(kind: str, tmp_path: Path) -> None:
    data = DATA / make.COMPRESSED[GOLDEN[kind]]
    folder = make.copy_run(GOLDEN[kind], tmp_path)
    task = ScoringTask(folder, "cpu", str(data), limit=3, estimator=Importance(4, "posterior"))
    scorer = row_of_kind(folder, SCORERS)(task)
    rows = list(scorer.rows())
    assert len(rows) == 3
    for row in rows:
        assert row.keys() >= {"log_likelihood", "elbo", *scorer.columns}
    mean = sum(row["log_likelihood"] for row in rows) / 3
    rates = scorer.rates(rows, mean)
    assert rates["data"] in (str(data), data.stem)
    assert any(name.startswith("bits_per_") for name in rates)


@pytest.mark.parametrize("kind", sorted(trained.kind for trained in ENCODERS))
def test_every_encoder_returns_a_row_a_text(kind: str, tmp_path: Path) -> None:
    folder = make.copy_run(GOLDEN[kind], tmp_path)
    encode = row_of_kind(folder, ENCODERS)
    codes = encode(folder, "cpu", "corpus", ["a man sees a ball", "the dog"])
    assert len(codes.values) == 2
    assert codes.run_notes == []


def test_every_sampler_has_options_of_the_command() -> None:
    for trained, sampler in SAMPLERS.items():
        assert sampler.trained is trained
        for name in sampler.options:
            assert hasattr(SampleConfig, name)
