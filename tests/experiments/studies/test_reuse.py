"""Finished runs are reused with the options that they were trained with, and refused with others."""

import os
from argparse import Namespace
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from experiments import train_text
from experiments.studies import lengths
from experiments.studies.harness import Job, run_all, run_here
from experiments.studies.multi_scale_corpus import Corpus, lines_of
from experiments.studies.reuse import bad_input_ends, require_same_options
from tests.golden import make
from univae.checkpoint import read_json, write_json
from univae.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """A job that writes no configuration."""

    out: Path
    run: Path
    samples: int = 8
    threads: int = 1
    resume: bool = False
    device: str = "auto"


def score(config: Scoring) -> None:
    config.out.mkdir(parents=True)
    write_json(config.out / "DONE", {"samples": config.samples})


def scoring(folder: Path, **options: Any) -> Job:
    config = Scoring(out=folder / "scores", run=folder / "run")
    return Job("scores", score, replace(config, **options))


def test_a_job_with_other_options_is_refused_and_none_is_started(tmp_path: Path) -> None:
    assert run_here([scoring(tmp_path)]) == {"scores": {"samples": 8}}
    other = Job("new", score, Scoring(out=tmp_path / "new", run=tmp_path / "run"))
    message = (
        rf"{tmp_path / 'scores'} was finished with samples=8, now samples=16; "
        "give another --out, or remove the folder"
    )
    for run in (run_here, lambda jobs: run_all(jobs, 1)):
        with pytest.raises(InputError, match=message):
            run([other, scoring(tmp_path, samples=16)])
    assert not (tmp_path / "new").exists()


def test_options_that_change_no_result_are_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_here([scoring(tmp_path)])
    monkeypatch.chdir(tmp_path)
    same = scoring(
        Path("."), threads=2, resume=True, device="cpu", run=tmp_path / "a" / ".." / "run"
    )
    assert run_here([same]) == {"scores": {"samples": 8}}
    os.rename(tmp_path, tmp_path.with_name("moved"))
    assert run_here([scoring(tmp_path.with_name("moved"))]) == {"scores": {"samples": 8}}


def test_an_option_that_the_data_have_decided_is_not_compared(tmp_path: Path) -> None:
    require_same_options(tmp_path, {"binarisation": "dynamic"}, {"binarisation": "auto"})
    with pytest.raises(InputError, match="binarisation=dynamic, now binarisation=static"):
        require_same_options(tmp_path, {"binarisation": "dynamic"}, {"binarisation": "static"})


def test_a_run_without_a_record_is_reused(tmp_path: Path) -> None:
    run_here([scoring(tmp_path)])
    (tmp_path / "scores" / "options.json").unlink()
    assert run_here([scoring(tmp_path, samples=16)]) == {"scores": {"samples": 8}}


def test_an_option_newer_than_the_run_has_the_value_of_its_time(tmp_path: Path) -> None:
    require_same_options(tmp_path, {"lr": 1e-3}, {"lr": 1e-3, "softmax": "full"})
    with pytest.raises(InputError, match="softmax=full, now softmax=adaptive"):
        require_same_options(tmp_path, {"lr": 1e-3}, {"softmax": "adaptive"})


def test_the_configuration_of_a_training_is_compared(tmp_path: Path) -> None:
    data = Path(make.__file__).parent / "data" / "texts.txt"
    config = train_text.Config.of(
        text=os.path.relpath(data),
        out=tmp_path / "run",
        steps=1,
        width=8,
        heads=1,
        layers=2,
        calibration=0.0,
        threads=1,
    )
    (result,) = run_here([Job("text", train_text.train, config)]).values()
    assert result["steps"] == 1
    assert run_here([Job("text", train_text.train, config)]) == {"text": result}
    with pytest.raises(InputError, match=r"steps=1, now steps=2, lr=0\.001, now lr=0\.01"):
        run_here([Job("text", train_text.train, config.change(steps=2, lr=0.01))])


def corpus(folder: Path, count: int) -> tuple[Corpus, Path]:
    path = folder / "captions.txt"
    path.write_text("\n".join(f"a man sees {word}" for word in "abcdefghijklmnopqrst"[:count]))
    return Corpus("captions", "words", folder / "runs" / "captions"), path


def test_a_corpus_with_other_options_or_texts_is_refused(tmp_path: Path) -> None:
    written, path = corpus(tmp_path, 20)
    written.write(path, 4, 12, 100)
    held_out = lines_of(written.held_out)
    written.write(path, 4, 12, 100)
    with pytest.raises(InputError, match=r"runs/captions was .* texts=4, now texts=5; give ano"):
        written.write(path, 5, 12, 100)
    with pytest.raises(InputError, match="vocabulary=100, now vocabulary=90"):
        written.write(path, 4, 12, 90)
    _, shorter = corpus(tmp_path, 19)
    with pytest.raises(InputError, match=r"held_out.txt was written from other texts than .*\.txt"):
        written.write(shorter, 4, 12, 100)
    assert lines_of(written.held_out) == held_out


def test_a_corpus_without_a_record_is_compared_by_its_texts(tmp_path: Path) -> None:
    written, path = corpus(tmp_path, 20)
    written.write(path, 4, 12, 100)
    (written.folder / "options.json").unlink()
    with pytest.raises(InputError, match="texts=4, now texts=5"):
        written.write(path, 5, 12, 100)
    written.write(path, 4, 12, 100)
    assert read_json(written.folder / "options.json")["texts"] == 4


def test_bad_input_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error, bad_input_ends("window"):
        raise InputError("runs/a was finished with lr=1, now lr=2")
    assert error.value.code == 2
    assert capsys.readouterr().err == "window: runs/a was finished with lr=1, now lr=2\n"


def test_a_result_of_the_study_of_lengths_is_of_its_minutes(tmp_path: Path) -> None:
    write_json(tmp_path / "a-masked-sqrt-0.json", {"asked": {"minutes": 3.0}})
    options = Namespace(out=tmp_path, minutes=1.0)
    with pytest.raises(InputError, match=r"a-masked-sqrt-0.json was .* minutes=3.0, now minutes=1"):
        lengths.job(tmp_path / "a.txt", options, "masked", "sqrt", 0)
