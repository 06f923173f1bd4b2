"""Every option of every command has a rule, also at its edges.

What breaks it is one line, and leaves no folder.
"""

import dataclasses
import importlib
import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch

from density.trained import TrainedDensity
from experiments import demo, train_density, train_gan, train_similar, train_text
from experiments.cli import commands as cli
from experiments.cli.options import parse, stored
from experiments.training import command as training_command
from experiments.training.configuration import compose, flatten, options_of
from experiments.training.run_folder import Run
from experiments.training.stopping import Interrupted, TrainingFailed
from gan.networks.registry import build as build_network
from gan.trained import TrainedGan
from univae.errors import InputError
from univae.rules import broken, rules_of
from univae.sentence.model import RoFormerSimConfig
from univae.sentence.trained import TrainedSimilar
from univae.vae.model import UniVAEConfig
from univae.vae.trained import TrainedText

EDGES = (-1, 0, math.nan, math.inf, -math.inf, 1e300, 10**12)
CONFIGS = {
    name: importlib.import_module(module).Config for name, (module, _) in cli.COMMANDS.items()
}
REQUIRED = {
    "layers": "0",
    "pairs": (Path("pairs.tsv"),),
    "runs": (Path("run"),),
    "name": "org/name",
    "length": 128,
}


@cache
def plain_hints(kind: type) -> dict[str, Any]:
    options = options_of(kind)
    hints = {option.owner: get_type_hints(option.owner) for option in options.values()}
    return {name: hints[option.owner][name] for name, option in options.items()}


def number_of(hint: Any) -> type | None:
    """The kind of number that a field holds, itself or as a sequence."""
    kinds = {part for part in (hint, *get_args(hint)) if part in (int, float)}
    return kinds.pop() if kinds else None


def built(kind: type, **changes: Any) -> Any:
    values: dict[str, Any] = {}
    for name, option in options_of(kind).items():
        # the text of search and similar has a default, because --queries or --texts replaces it
        if option.default is dataclasses.MISSING or name == "text":
            hint = plain_hints(kind)[name]
            default = "x" if str in (hint, *get_args(hint)) else Path("x")
            values[name] = REQUIRED.get(name, default)
    return compose(kind, values | changes)


def refused(kind: type, name: str, value: Any) -> str | None:
    try:
        built(kind, **{name: value})
    except InputError as error:
        return str(error)
    return None


def numeric_fields() -> Iterator[Any]:
    for command, kind in CONFIGS.items():
        for name, hint in plain_hints(kind).items():
            if number_of(hint) is not None:
                yield pytest.param(kind, name, hint, id=f"{command}-{name}")


@pytest.mark.parametrize("command", CONFIGS)
def test_the_defaults_of_a_command_keep_its_rules(command: str) -> None:
    built(CONFIGS[command])


@pytest.mark.parametrize(("kind", "name", "hint"), list(numeric_fields()))
def test_a_number_is_kept_within_its_rule_or_refused_by_name(
    kind: type, name: str, hint: Any
) -> None:
    owner = options_of(kind)[name].owner
    assert name in rules_of(owner), f"declare what {name} may be"
    for edge in EDGES:
        if number_of(hint) is int and not isinstance(edge, int):
            continue
        number = number_of(hint)(edge)
        value = (number,) if get_origin(hint) is tuple else number
        refusal = broken(owner, name, value)
        assert refusal or math.isfinite(edge), f"{name}={edge} keeps the rule"
        message = refused(kind, name, value)
        assert (message is not None) or not refusal
        if message is not None:
            assert "\n" not in message
            assert re.search(rf"\b{name}\b", message), message


@pytest.mark.parametrize("command", CONFIGS)
def test_a_value_of_another_type_is_refused_by_name(command: str, unchecked: None) -> None:
    kind = CONFIGS[command]
    for name, hint in plain_hints(kind).items():
        if {int, str} <= {*get_args(hint)}:
            continue  # a number or a name
        is_text = hint in (str, bool, Path) or str in get_args(hint)
        wrong = 5 if is_text or get_origin(hint) is tuple else "five"
        if isinstance(wrong, str) and Path in get_args(hint):
            continue
        with pytest.raises(InputError, match=rf"^{name} must be .*; got {name}="):
            built(kind, **{name: wrong})


def test_a_seed_is_the_same_for_all_commands() -> None:
    for kind in CONFIGS.values():
        if "seed" in plain_hints(kind):
            assert flatten(built(kind, seed=2**63 - 1))["seed"] == 2**63 - 1
            for seed in (-1, 2**63):
                with pytest.raises(InputError, match=rf"^seed must be at .*; got seed={seed}$"):
                    built(kind, seed=seed)


def presets() -> Iterator[Any]:
    for command, (module, _) in cli.COMMANDS.items():
        for name in getattr(importlib.import_module(module), "PRESETS", {}):
            yield pytest.param(command, module, name, id=f"{command}-{name}")


@pytest.mark.parametrize(("command", "module", "name"), list(presets()))
def test_every_key_of_a_preset_is_an_option_and_keeps_its_rule(
    command: str, module: str, name: str
) -> None:
    preset = importlib.import_module(module).PRESETS[name]
    assert preset.keys() <= plain_hints(CONFIGS[command]).keys()
    built(CONFIGS[command], **preset)


def test_a_misspelt_key_of_a_preset_is_refused() -> None:
    with pytest.raises(InputError, match="preset tiny has batch_sise, which is no option"):
        parse(train_gan.Config, ["--preset", "tiny"], {"tiny": {"batch_sise": 3}}, "train-gan")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UniVAEConfig(9, width=0), "width must be at least 1; got width=0"),
        (lambda: UniVAEConfig(9, heads=0), "heads must be at least 1"),
        (
            lambda: UniVAEConfig(9, width=12, heads=5),
            "width must be an even multiple of heads.*width=12, heads=5",
        ),
        (lambda: UniVAEConfig(9, layers=10**6), "layers must be at most 1024; got layers=1000000"),
        (lambda: UniVAEConfig(9, latent_width=0), "latent_width must be at least 1"),
        (lambda: UniVAEConfig(9, dropout=1.5), r"dropout must be in \[0, 1\); got dropout=1.5"),
        (
            lambda: UniVAEConfig(9, word_dropout=math.nan),
            r"word_dropout must be in \[0, 1\]; got word_dropout=nan",
        ),
        (
            lambda: UniVAEConfig(9, bn_gamma=math.inf),
            "bn_gamma must be at most 1000; got bn_gamma=inf",
        ),
        (lambda: UniVAEConfig(2), "vocab_size must be at least 4"),
        (lambda: RoFormerSimConfig(9, heads=-1), "heads must be at least 1"),
        (lambda: RoFormerSimConfig(9, attention_dropout=math.nan), "attention_dropout must be in"),
        (
            lambda: build_network({"network": "ConvCritic", "shape": (1, 8, 8), "width": 0}),
            "width must be at least 1",
        ),
        (
            lambda: build_network({"network": "MLPGenerator", "shape": (2,), "latent": 0}),
            "latent must be at least 1",
        ),
        (
            lambda: build_network({"network": "MLPCritic", "shape": (2,), "hidden": [0]}),
            "hidden must be at least 1",
        ),
    ],
)
def test_a_shape_built_in_python_keeps_the_rules_too(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def ending(capsys: Any, *argv: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as end:
        cli.main([str(word) for word in argv])
    return int(end.value.code or 0), capsys.readouterr().err


SMALL = (
    "--width",
    8,
    "--heads",
    2,
    "--layers",
    2,
    "--latent-width",
    4,
    "--steps",
    1,
    "--tokenizer",
    "bytes",
)
TEXT = ("train-text", "--text", "texts.txt", "--out", "new", *SMALL)
DIGITS = ("train-density", "--data", "digits", "--out", "new", "--steps", 1)
GAN = ("train-gan", "--data", "digits", "--out", "new", "--preset", "tiny", "--steps", 1)
PAIRS = (
    "train-similar",
    "--pairs",
    "pairs.tsv",
    "--out",
    "new",
    "--width",
    8,
    "--heads",
    2,
    "--layers",
    1,
)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            (*TEXT, "--validation-texts", 0),
            "validation_texts must be at least 2; got validation_texts=0",
        ),
        ((*TEXT, "--latent-width", 0), "latent_width must be at least 1; got latent_width=0"),
        ((*TEXT, "--dropout", 1.5), "dropout must be in [0, 1); got dropout=1.5"),
        ((*TEXT, "--word-dropout", "nan"), "word_dropout must be in [0, 1]; got word_dropout=nan"),
        ((*TEXT, "--bn-gamma", "nan"), "bn_gamma must be 0 (off) or more; got bn_gamma=nan"),
        ((*TEXT, "--heads", 3), "width must be an even multiple of heads"),
        (
            (*TEXT, "--held-out", 0),
            "held_out must be in (0, 1), a share of the texts; got held_out=0.0",
        ),
        ((*TEXT, "--seed", -1), "seed must be at least 0; got seed=-1"),
        ((*TEXT, "--threads", 5000), "threads must be at most 1024; got threads=5000"),
        (
            (*TEXT, "--eps", 1e-300),
            "eps must be at least 1e-30, or float32 loses it; got eps=1e-300",
        ),
        ((*TEXT, "--free-bits", 1e300), "free_bits must be at most 1e+06; got free_bits=1e+300"),
        ((*TEXT, "--minutes", "nan"), "minutes must be 0 (no time limit) or more; got minutes=nan"),
        (
            (*TEXT, "--vocab-size", 1_000_000_007),
            "vocab_size must be at most 1048576; got vocab_size=1000000007",
        ),
        (
            (*TEXT, "--tokenizer", "bpe", "--vocab-size", 99),
            "bpe needs vocab_size >= 259; got vocab_size=99",
        ),
        ((*TEXT, "--anneal-cycles", 0), "anneal_cycles must be at least 1; got anneal_cycles=0"),
        (
            (*TEXT, "--max-length", 9),
            "needs a text of at most max_length=9 tokens",
        ),  # after the folder was made
        (
            (*TEXT, "--held-out", 0.02),
            "2 held-out texts are needed; 40 texts with --held-out 0.02 give 1; raise it",
        ),
        ((*TEXT, "--validation", "one.txt"), "one.txt gives 1; give more texts"),
        (
            (*DIGITS, "--validation", "wine"),
            "--validation wine: a datum is (13,), --data has (1, 8, 8)",
        ),
        (
            (*DIGITS, "--held-out", 1e-4),
            "2 held-out rows are needed; 1797 rows with --held-out 0.0001 give 1",
        ),
        (
            (*PAIRS, "--noise-mask", "nan"),
            "noise_mask must be in [0, 1], a share of the words; got noise_mask=nan",
        ),
        ((*PAIRS, "--from", "nowhere"), "nowhere does not exist"),
        ((*DIGITS, "--latents", 0), "latents must be at least 1 each; got latents=(0,)"),
        ((*DIGITS, "--hidden", 0), "hidden must be at least 1 each; got hidden=(0,)"),
        (
            (*DIGITS, "--reach", 9),
            "reach must be at most 7, from edge to edge of the images of digits; got reach=9",
        ),
        ((*DIGITS, "--model", "conv", "--width", 0), "width must be at least 1; got width=0"),
        ((*DIGITS, "--lr", "inf"), "lr must be at most 1e+06; got lr=inf"),
        ((*GAN, "--latent", 0), "latent must be at least 1; got latent=0"),
        ((*GAN, "--width", 0), "width must be at least 1; got width=0"),
        ((*GAN, "--r1", "nan"), "r1 must be 0 (not used) or more; got r1=nan"),
        (
            ("likelihood", "run", "--data", "x", "--limit", -1),
            "limit must be 0 (all) or more; got limit=-1",
        ),
        (
            ("likelihood", "run", "--data", "x", "--out", "."),
            "--out .: it is a folder; give the name of a file",
        ),
        (
            ("encode", "run", "--data", "x", "--out", "."),
            "--out .: it is a folder; give the name of a file",
        ),
        (
            ("encode", "run", "--data", "x", "--out", "x.npy", "--limit", -1),
            "limit must be 0 (all) or more",
        ),
        (
            ("reconstruct", "run", "--data", "x", "--limit", -1),
            "limit must be 0 (all) or more; got limit=-1",
        ),
        (
            ("evaluate-gan", "run", "--count", 1),
            "count must be 0 (the default), or at least 10; got count=1",
        ),
        (
            ("sample", "run", "--temperature", "nan"),
            "temperature must be 0 (the most probable token) or more; got",
        ),
        (
            ("sample", "run", "--top-p", 0),
            "top_p must be in (0, 1], a share of the probability; got top_p=0.0",
        ),
        (
            ("interpolate", "run", "a", "b", "--steps", 1),
            "steps must be at least 2, both ends; got steps=1",
        ),
        (
            ("compress", "run", "x", "y", "--tile", -1),
            "tile must be 0 (chosen by the data) or more; got tile=-1",
        ),
        (("edit", "run", "a", "--layers=-1"), "--layers are counted from 0; got '-1'"),
        (
            ("compare", "run", "--minutes", "nan"),
            "minutes must be 0 (those of the shortest run) or more; got",
        ),
        (("demo", "--minutes", 0), "minutes must be above 0; got minutes=0.0"),
    ],
)
def test_an_option_out_of_its_range_is_refused_in_one_line_and_leaves_no_folder(
    tmp_path: Path,
    monkeypatch: Any,
    capsys: Any,
    argv: tuple[object, ...],
    message: str,
    unchecked: None,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.txt").write_text("a cat sees a dog\n" * 40, encoding="utf-8")
    (tmp_path / "one.txt").write_text("a cat\n", encoding="utf-8")
    (tmp_path / "pairs.tsv").write_text("".join(f"a cat {i}\ta dog {i}\n" for i in range(40)))
    before = sorted(tmp_path.rglob("*"))
    code, said = ending(capsys, *argv)
    assert code == 2
    assert message in said
    assert said.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


EVERY = 17  # of the damages, one in so many is tried; with 1, all are, in minutes
WRONG = (None, "x", -1, 0, 1e300, 10**6, True, [], ["x"], [[]], {}, {"x": 1})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A small finished run of each training command, with its module and its class that opens it."""
    torch.set_default_dtype(torch.float32)
    folder = tmp_path_factory.mktemp("finished")
    (folder / "texts.txt").write_text("a cat sees a dog\na dog runs\n" * 30, encoding="utf-8")
    (folder / "pairs.tsv").write_text(
        "".join(f"a cat {i}\ta dog {i}\n" for i in range(40)), encoding="utf-8"
    )
    np.save(folder / "table.npy", np.random.default_rng(0).normal(size=(80, 3)).astype(np.float32))
    shape: dict[str, Any] = {
        "width": 8,
        "heads": 2,
        "layers": 2,
        "tokenizer": "bytes",
        "max_length": 32,
    }
    few: dict[str, Any] = {"steps": 2, "threads": 1, "device": "cpu"}
    configs = {
        train_text: train_text.Config.of(
            text=str(folder / "texts.txt"),
            out=folder / "text",
            latent_width=4,
            held_out=0.2,
            **shape,
            **few,
        ),
        train_density: train_density.Config.of(
            data=str(folder / "table.npy"), out=folder / "density", latents=(4,), hidden=(8,), **few
        ),
        train_gan: train_gan.Config.of(
            data=str(folder / "table.npy"),
            out=folder / "gan",
            latent=4,
            hidden=(8,),
            batch_size=8,
            **few,
        ),
        train_similar: train_similar.Config.of(
            pairs=(folder / "pairs.tsv",), out=folder / "similar", held_out=0.2, **shape, **few
        ),
    }
    opened = {
        train_text: TrainedText,
        train_density: TrainedDensity,
        train_gan: TrainedGan,
        train_similar: TrainedSimilar,
    }
    for module, config in configs.items():
        module.train(config)
    torch.set_default_dtype(torch.float64)
    return {
        config.out.name: (config.out, module, opened[module]) for module, config in configs.items()
    }


def damaged(values: Any) -> Iterator[tuple[str, Any]]:
    """Copy of JSON values with one of them exchanged, removed, or with one that is unknown."""
    yield "all", []
    yield "unknown", {**values, "unknown": 1}
    for name, value in values.items():
        yield name, {key: entry for key, entry in values.items() if key != name}
        if isinstance(value, dict):
            for inner, entry in damaged(value):
                yield f"{name}.{inner}", {**values, name: entry}
        for wrong in WRONG:
            if name != "shape":  # a datum of 10**6 numbers is none too many
                yield name, {**values, name: wrong}


def opened_or_refused(action: Callable[[], Any], what: str) -> None:
    message = ""
    try:
        action()
    except InputError as error:
        message = str(error)
    except Exception as error:
        pytest.fail(f"{what}: {type(error).__name__}: {error}")
    assert "\n" not in message, what


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("text", "config.json"),
        ("density", "config.json"),
        pytest.param("gan", "config.json", marks=pytest.mark.slow),
        pytest.param("similar", "config.json", marks=pytest.mark.slow),
        *((kind, "model.json") for kind in ("density", "gan")),
        ("gan", "checkpoints/best/state.json"),
    ],
)
def test_a_run_with_a_damaged_file_of_values_opens_or_is_refused_in_one_line(
    finished: dict[str, Any], tmp_path: Path, unchecked: None, kind: str, file: str
) -> None:
    torch.set_default_dtype(torch.float32)
    path, module, opener = finished[kind]
    run = tmp_path / "run"
    shutil.copytree(path, run)
    for name, values in list(damaged(json.loads((path / file).read_text())))[::EVERY]:
        (run / file).write_text(json.dumps(values))
        opened_or_refused(lambda: opener.open(run, "cpu"), f"opening, {name}: {values}")
        opened_or_refused(
            lambda: stored(module.Config, Run.open(run), out=run), f"reading, {name}: {values}"
        )


@pytest.mark.parametrize("kind", ["text", "density", "gan", "similar"])
@pytest.mark.parametrize("file", ["config.json", "checkpoints/last/state.json"])
def test_a_run_with_damaged_values_resumes_or_is_refused_in_one_line(
    finished: dict[str, Any], tmp_path: Path, unchecked: None, kind: str, file: str
) -> None:
    torch.set_default_dtype(torch.float32)
    path, module, _ = finished[kind]
    run = tmp_path / "run"
    shutil.copytree(path, run)
    values = json.loads((path / file).read_text())
    wrong = [
        (name, {**values, name: value}) for name in values for value in ("x", {"x": 1}, [[]], -1)
    ]
    for name, changed in wrong[::EVERY]:
        (run / file).write_text(json.dumps(changed))
        opened_or_refused(
            lambda: module.train(
                parse(module.Config, ["--out", str(run), "--resume"], {}, "train")
            ),
            f"resuming, {name}: {changed[name]}",
        )


def test_a_stored_value_of_another_type_is_named_with_its_file(
    finished: dict[str, Any], tmp_path: Path
) -> None:
    path, module, _ = finished["density"]
    run = tmp_path / "run"
    shutil.copytree(path, run)
    values = json.loads((path / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**values, "steps": "many"}))
    message = re.escape(f"{run / 'config.json'}: steps must be a whole number; got steps=many")
    with pytest.raises(InputError, match=message):
        stored(module.Config, Run.open(run))
    with pytest.raises(InputError, match=message):
        parse(module.Config, ["--out", str(run), "--resume"], {}, "train-density")
    (run / "config.json").write_text(json.dumps({**values, "width": 10**6}))
    with pytest.raises(InputError, match="width must be at most 16384; got width=1000000"):
        stored(module.Config, Run.open(run))


def test_the_demo_and_a_single_process_go_together(monkeypatch: Any) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="start it without torchrun"):
        demo.main(demo.Config(out=Path("nowhere")))


@pytest.mark.parametrize("kind", ["text", "density", "gan", "similar"])
def test_a_refusal_before_the_first_step_leaves_no_folder_and_a_failure_in_it_does(
    finished: dict[str, Any], tmp_path: Path, monkeypatch: Any, kind: str
) -> None:
    torch.set_default_dtype(torch.float32)
    path, module, _ = finished[kind]
    config = stored(module.Config, Run.open(path), out=tmp_path / "new")

    def ends(error: Exception) -> bool:
        def fit(*arguments: Any) -> Any:
            assert (tmp_path / "new" / "config.json").exists()
            raise error

        monkeypatch.setattr(training_command, "fit", fit)
        with pytest.raises(type(error)):
            module.train(config)
        return (tmp_path / "new").exists()

    assert not ends(InputError("no batch"))
    assert not ends(MemoryError())
    assert ends(TrainingFailed("step 1: the loss is nan"))
    shutil.rmtree(tmp_path / "new")
    assert ends(Interrupted("continue with --resume"))


def test_a_refusal_after_the_first_step_keeps_the_run(
    finished: dict[str, Any], tmp_path: Path
) -> None:
    torch.set_default_dtype(torch.float32)
    path, module, _ = finished["density"]
    config = stored(module.Config, Run.open(path), out=tmp_path / "new", validate_every=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            module.DensityTask,
            "validate",
            lambda task, progress: (_ for _ in ()).throw(InputError("two")),
        )
        with pytest.raises(InputError, match="two"):
            module.train(config)
    assert (tmp_path / "new" / "config.json").exists()


@pytest.mark.slow
def test_where_one_process_refuses_the_other_ends_in_one_line_too(tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes.txt").write_text("not a run")
    (tmp_path / "texts.txt").write_text("a cat sees a dog\n" * 40, encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    both = {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "OMP_NUM_THREADS": "1",
    }
    root = Path(__file__).parents[2]
    flags = [
        "--text",
        "texts.txt",
        "--out",
        "used",
        "--device",
        "cpu",
        "--tokenizer",
        "bytes",
        "--steps",
        "1",
    ]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "experiments.train_text", *flags],
            env=os.environ | both | {"RANK": rank, "LOCAL_RANK": rank, "PYTHONPATH": str(root)},
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        for rank in ("0", "1")
    ]
    first, second = (process.communicate(timeout=120)[1] for process in processes)
    assert [process.returncode for process in processes] == [2, 2], (first, second)
    assert first == "train_text.py: used holds other files; give a new or empty folder with --out\n"
    assert "Traceback" not in second
    assert "a process that this one trains with has ended" in second.splitlines()[-1]
    assert [path.name for path in (tmp_path / "used").iterdir()] == ["notes.txt"]
