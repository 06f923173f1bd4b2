"""Every command works for a run, or names the kinds for which it does; every table has its rows."""

import importlib
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from golden import make

from experiments.cli.commands import COMMANDS
from experiments.edit import EDITORS
from experiments.evaluate import EVALUATORS
from experiments.evaluation.abilities import NOT_FOR, commands_for, refusal
from experiments.evaluation.estimators import Importance
from experiments.evaluation.score_columns import ScoreColumns
from experiments.evaluation.scorer import ScoringTask
from experiments.examples import command_matrix
from experiments.examples.command_matrix import ARGUMENTS, WORKS, Trial, attempt, trial
from experiments.explore import EXPLORERS
from experiments.interpolate import INTERPOLATORS
from experiments.kinds import CODECS, ENCODERS, SCORERS, open_codec, row_of_kind
from experiments.reconstruct import RECONSTRUCTORS
from experiments.sample import SAMPLERS
from experiments.stretch import MODELS
from univae import kinds
from univae.errors import InputError
from univae.trained import Trained

TABLES: dict[str, Mapping[type[Trained], Any]] = {
    "compress": CODECS,
    "likelihood": SCORERS,
    "encode": ENCODERS,
    "sample": SAMPLERS,
    "reconstruct": RECONSTRUCTORS,
    "interpolate": INTERPOLATORS,
    "edit": EDITORS,
    "evaluate": EVALUATORS,
    "explore": EXPLORERS,
    "stretch": MODELS,
}
USES = ("sample", "reconstruct", "interpolate", "edit", "evaluate", "explore")  # tables of Use
UPLOADS = {"push"}  # to a server: tests/experiments/test_push.py
SERVES = {"explore"}  # until Ctrl-C: tests/experiments/test_explore.py
WITHOUT_RUN = {"demo", "doctor", "train-text", "train-density", "train-gan", "train-similar"}
WITHOUT_RUN |= {"import-weights", "bench"}

# What these runs cannot do, though others of their kind can.
OWN_REASONS = {
    ("impute", "images"): "was not trained on a table with named columns",
    ("impute", "neighbours"): "was not trained on a table with named columns",
    ("impute", "table"): "was not trained on a table with named columns",
    ("edit", "images"): "has one latent layer",
    ("edit", "neighbours"): "has one latent layer",
    ("edit", "table"): "has one latent layer",
    ("edit", "columns"): "has one latent layer",
    ("compress", "columns"): "has columns of several kinds, which are not coded",
    ("decompress", "columns"): "is no file",
    ("compress", "text_vmf"): "train with --latent gaussian",
    ("decompress", "text_vmf"): "is no file",
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


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trial]:
    """Copies of the golden runs, of every kind."""
    found = {}
    for name in make.RUNS:
        scratch = tmp_path_factory.mktemp(name)
        found[name] = trial(make.HERE / name / "run", scratch)
    return found


# Runs whose kind another run has, too: what works for both is slow for these.
LIKE_ANOTHER = ("columns", "gan_table", "neighbours", "table", "text_vmf")


def combinations() -> list[Any]:
    """Return every run and command; slow are those that work for another run of the kind."""
    cases = []
    for name, command in itertools.product(sorted(make.RUNS), ARGUMENTS):
        is_refused = make.RUNS[name][0] in NOT_FOR[command] or (command, name) in OWN_REASONS
        is_slow = name in LIKE_ANOTHER and not is_refused and command != "impute"
        marks = [pytest.mark.slow] if is_slow else []
        cases.append(pytest.param(name, command, id=f"{name}-{command}", marks=marks))
    return cases


@pytest.mark.parametrize(("name", "command"), combinations())
def test_a_command_works_or_names_the_kinds_for_which_it_does(
    name: str, command: str, trials: dict[str, Trial], capsys: pytest.CaptureFixture[str]
) -> None:
    tried = trials[name]
    with make.inside(DATA):
        outcome = attempt(command, tried)
    capsys.readouterr()
    if (command, name) in OWN_REASONS:
        assert OWN_REASONS[command, name] in outcome
        return
    reason = NOT_FOR[command].get(tried.kind)
    if reason is None:
        assert outcome == WORKS
        return
    assert "\n" not in outcome
    assert reason in outcome
    for kind in kinds.LIBRARY_KINDS:
        description = kinds.kinds()[kind].load().description
        takes = outcome.partition(" takes one of ")[2].partition(": ")[0]
        assert (description in takes) == (kind not in NOT_FOR[command])
    (listed,) = outcome.rpartition("for this run there are univae ")[2:]
    assert {*listed.split(", "), "report", "compare"} == {*commands_for(tried.kind)}


def test_the_matrix_says_what_works_and_why_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = {command: ARGUMENTS[command] for command in ("sample", "audit")}
    monkeypatch.setattr(command_matrix, "ARGUMENTS", few)
    path = make.HERE / "text" / "run"
    reason = NOT_FOR["audit"]["train-text"]
    table = command_matrix.main(command_matrix.Config(runs=(path,)))["table"]
    assert table == {"sample": {str(path): WORKS}, "audit": {str(path): reason}}
    assert f"| audit | {reason} |" in capsys.readouterr().err


def test_every_command_of_a_run_is_in_the_list_of_abilities() -> None:
    assert NOT_FOR.keys() == COMMANDS.keys() - WITHOUT_RUN
    assert ARGUMENTS.keys() == NOT_FOR.keys() - UPLOADS - SERVES
    for command, refused in NOT_FOR.items():
        assert refused.keys() < kinds.LIBRARY_KINDS.keys(), command


@pytest.mark.parametrize("table", TABLES)
def test_a_table_has_a_row_for_each_kind_that_its_command_takes(table: str) -> None:
    rows = {trained.kind for trained in TABLES[table]}
    assert rows == kinds.LIBRARY_KINDS.keys() - NOT_FOR[table].keys()


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("kind", sorted(kinds.LIBRARY_KINDS))
def test_a_run_has_the_row_of_its_kind_or_is_refused(table: str, kind: str, tmp_path: Path) -> None:
    rows = {trained.kind: row for trained, row in TABLES[table].items()}
    folder = make.copy_run(GOLDEN[kind], tmp_path)
    if kind in rows:
        assert row_of_kind(folder, TABLES[table], table) is rows[kind]
        return
    with pytest.raises(InputError, match=f"and univae {table} takes one of "):
        row_of_kind(folder, TABLES[table], table)


def test_a_run_of_an_unknown_kind_is_told_what_to_give(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"command": "train-flow"}')
    with pytest.raises(InputError, match="is not the run of a text model; give the --out of"):
        row_of_kind(tmp_path, SAMPLERS, "sample")


def test_a_command_without_reasons_names_the_kind_that_it_takes(tmp_path: Path) -> None:
    folder = make.copy_run("text", tmp_path)
    (gan,) = (trained for trained in SAMPLERS if trained.kind == "train-gan")
    message = str(refusal(folder, gan))
    assert "this command takes one of a GAN: give the --out of train-gan" in message


@pytest.mark.parametrize("kind", sorted(trained.kind for trained in CODECS))
def test_every_codec_names_the_run_by_its_weights(kind: str, tmp_path: Path) -> None:
    folder = make.copy_run(GOLDEN[kind], tmp_path)
    codec = open_codec(folder)
    assert codec.rate.startswith("bits_per_")
    assert codec.fingerprint == open_codec(folder).fingerprint
    assert 1 <= codec.default_tile(1, 4096) <= codec.default_tile(10**6, 4096)
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
    rates = scorer.rates(ScoreColumns.of(rows), mean)
    assert rates["data"] in (str(data), data.stem)
    assert any(name.startswith("bits_per_") for name in rates)


@pytest.mark.parametrize("kind", sorted(trained.kind for trained in ENCODERS))
def test_every_encoder_returns_a_row_a_datum(kind: str, tmp_path: Path) -> None:
    folder = make.copy_run(GOLDEN[kind], tmp_path)
    encode = row_of_kind(folder, ENCODERS)
    data = DATA / make.COMPRESSED.get(GOLDEN[kind], "corpus.txt")
    codes = encode(folder, "cpu", str(data), 2)
    (block,) = map(codes.encode, codes.blocks)
    assert len(block.values) == 2
    assert block.tally.texts == 2
    assert codes.run_notes == []


@pytest.mark.parametrize("table", USES)
def test_every_use_has_options_of_its_command(table: str) -> None:
    module = importlib.import_module(COMMANDS[table][0])
    for trained, use in TABLES[table].items():
        assert use.trained is trained
        for name in use.options:
            assert hasattr(module.Config, name)
