"""Every option of every command has a rule, also at its edges; what breaks it is one line, and leaves no folder."""

import dataclasses
import importlib
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from experiments import cli, train_gan
from experiments.options import parse
from gan.networks import build as build_network
from univae.errors import InputError
from univae.rules import broken, rules_of
from univae.sentence import RoFormerSimConfig
from univae.vae import UniVAEConfig

EDGES = (-1, 0, math.nan, math.inf, -math.inf, 1e300, 10**12)
CONFIGS = {name: importlib.import_module(module).Config for name, (module, _) in cli.COMMANDS.items()}
REQUIRED = {"layers": "0", "pairs": (Path("pairs.tsv"),), "runs": (Path("run"),)}


def plain_hints(kind: type) -> dict[str, Any]:
    return {field.name: get_type_hints(kind)[field.name] for field in dataclasses.fields(kind)}


def number_of(hint: Any) -> type | None:
    """The kind of number that a field holds, itself or as a sequence."""
    kinds = {part for part in (hint, *get_args(hint)) if part in (int, float)}
    return kinds.pop() if kinds else None


def built(kind: type, **changes: Any) -> Any:
    values: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            values[field.name] = REQUIRED.get(field.name, "x" if plain_hints(kind)[field.name] is str else Path("x"))
    return kind(**values | changes)


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
def test_a_number_is_kept_within_its_rule_or_refused_by_name(kind: type, name: str, hint: Any) -> None:
    assert name in rules_of(kind), f"declare what {name} may be"
    for edge in EDGES:
        if number_of(hint) is int and not isinstance(edge, int):
            continue
        number = number_of(hint)(edge)
        value = (number,) if get_origin(hint) is tuple else number
        refusal = broken(kind, name, value)
        assert refusal or math.isfinite(edge), f"{name}={edge} keeps the rule"
        message = refused(kind, name, value)
        assert (message is not None) or not refusal
        if message is not None:
            assert "\n" not in message
            assert re.search(rf"\b{name}\b", message), message


@pytest.mark.parametrize("command", CONFIGS)
def test_a_value_of_another_type_is_refused_by_name(command: str) -> None:
    kind = CONFIGS[command]
    for name, hint in plain_hints(kind).items():
        wrong = 5 if hint in (str, bool, Path) or get_origin(hint) is tuple else "five"
        if isinstance(wrong, str) and Path in get_args(hint):
            continue
        with pytest.raises(InputError, match=rf"^{name} must be .*; got {name}="):
            built(kind, **{name: wrong})


def test_a_seed_is_the_same_for_all_commands() -> None:
    for kind in CONFIGS.values():
        if "seed" in plain_hints(kind):
            assert built(kind, seed=2**63 - 1).seed == 2**63 - 1
            for seed in (-1, 2**63):
                with pytest.raises(InputError, match=rf"^seed must be at .*; got seed={seed}$"):
                    built(kind, seed=seed)


def presets() -> Iterator[Any]:
    for command, (module, _) in cli.COMMANDS.items():
        for name in getattr(importlib.import_module(module), "PRESETS", {}):
            yield pytest.param(command, module, name, id=f"{command}-{name}")


@pytest.mark.parametrize(("command", "module", "name"), list(presets()))
def test_every_key_of_a_preset_is_an_option_and_keeps_its_rule(command: str, module: str, name: str) -> None:
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
        (lambda: UniVAEConfig(9, width=12, heads=5), "width must be an even multiple of heads.*width=12, heads=5"),
        (lambda: UniVAEConfig(9, layers=10**6), "layers must be at most 1024; got layers=1000000"),
        (lambda: UniVAEConfig(9, latent_width=0), "latent_width must be at least 1"),
        (lambda: UniVAEConfig(9, dropout=1.5), r"dropout must be in \[0, 1\); got dropout=1.5"),
        (lambda: UniVAEConfig(9, word_dropout=math.nan), r"word_dropout must be in \[0, 1\]; got word_dropout=nan"),
        (lambda: UniVAEConfig(9, bn_gamma=math.inf), "bn_gamma must be at most 1000; got bn_gamma=inf"),
        (lambda: UniVAEConfig(2), "vocab_size must be at least 4"),
        (lambda: RoFormerSimConfig(9, heads=-1), "heads must be at least 1"),
        (lambda: RoFormerSimConfig(9, attention_dropout=math.nan), "attention_dropout must be in"),
        (lambda: build_network({"network": "ConvCritic", "shape": (1, 8, 8), "width": 0}), "width must be at least 1"),
        (lambda: build_network({"network": "MLPGenerator", "shape": (2,), "latent": 0}), "latent must be at least 1"),
        (lambda: build_network({"network": "MLPCritic", "shape": (2,), "hidden": [0]}), "hidden must be at least 1"),
    ],
)
def test_a_shape_built_in_python_keeps_the_rules_too(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def ending(capsys: Any, *argv: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as end:
        cli.main([str(word) for word in argv])
    return int(end.value.code or 0), capsys.readouterr().err


SMALL = ("--width", 8, "--heads", 2, "--layers", 2, "--latent-width", 4, "--steps", 1, "--tokenizer", "bytes")
TEXT = ("train-text", "--text", "texts.txt", "--out", "new", *SMALL)
DIGITS = ("train-density", "--data", "digits", "--out", "new", "--steps", 1)
GAN = ("train-gan", "--data", "digits", "--out", "new", "--preset", "tiny", "--steps", 1)
PAIRS = ("train-similar", "--pairs", "pairs.tsv", "--out", "new", "--width", 8, "--heads", 2, "--layers", 1)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ((*TEXT, "--validation-texts", 0), "validation_texts must be at least 2; got validation_texts=0"),
        ((*TEXT, "--latent-width", 0), "latent_width must be at least 1; got latent_width=0"),
        ((*TEXT, "--dropout", 1.5), "dropout must be in [0, 1); got dropout=1.5"),
        ((*TEXT, "--word-dropout", "nan"), "word_dropout must be in [0, 1]; got word_dropout=nan"),
        ((*TEXT, "--bn-gamma", "nan"), "bn_gamma must be 0 (off) or more; got bn_gamma=nan"),
        ((*TEXT, "--heads", 3), "width must be an even multiple of heads"),
        ((*TEXT, "--held-out", 0), "held_out must be in (0, 1), a share of the texts; got held_out=0.0"),
        ((*TEXT, "--seed", -1), "seed must be at least 0; got seed=-1"),
        ((*TEXT, "--threads", 5000), "threads must be at most 1024; got threads=5000"),
        ((*TEXT, "--eps", 1e-300), "eps must be at least 1e-30, or float32 loses it; got eps=1e-300"),
        ((*TEXT, "--free-bits", 1e300), "free_bits must be at most 1e+06; got free_bits=1e+300"),
        ((*TEXT, "--minutes", "nan"), "minutes must be 0 (no time limit) or more; got minutes=nan"),
        ((*TEXT, "--vocab-size", 1_000_000_007), "vocab_size must be at most 1048576; got vocab_size=1000000007"),
        ((*TEXT, "--tokenizer", "bpe", "--vocab-size", 99), "bpe needs vocab_size >= 259; got vocab_size=99"),
        ((*TEXT, "--anneal-cycles", 0), "anneal_cycles must be at least 1; got anneal_cycles=0"),
        ((*TEXT, "--max-length", 9), "needs a text of at most max_length=9 tokens"),  # after the folder was made
        ((*PAIRS, "--noise-mask", "nan"), "noise_mask must be in [0, 1], a share of the words; got noise_mask=nan"),
        ((*PAIRS, "--from", "nowhere"), "nowhere does not exist"),
        ((*DIGITS, "--latents", 0), "latents must be at least 1 each; got latents=(0,)"),
        ((*DIGITS, "--hidden", 0), "hidden must be at least 1 each; got hidden=(0,)"),
        ((*DIGITS, "--reach", 9), "reach must be at most 7, from edge to edge of the images of digits; got reach=9"),
        ((*DIGITS, "--model", "conv", "--width", 0), "width must be at least 1; got width=0"),
        ((*DIGITS, "--lr", "inf"), "lr must be at most 1e+06; got lr=inf"),
        ((*GAN, "--latent", 0), "latent must be at least 1; got latent=0"),
        ((*GAN, "--width", 0), "width must be at least 1; got width=0"),
        ((*GAN, "--r1", "nan"), "r1 must be 0 (not used) or more; got r1=nan"),
        (("likelihood", "run", "--data", "x", "--limit", -1), "limit must be 0 (all) or more; got limit=-1"),
        (("encode", "run", "--data", "x", "--out", "x.npy", "--limit", -1), "limit must be 0 (all) or more"),
        (("reconstruct", "run", "--data", "x", "--limit", -1), "limit must be 0 (all) or more; got limit=-1"),
        (("evaluate-gan", "run", "--count", 1), "count must be at least 10; got count=1"),
        (("sample", "run", "--temperature", "nan"), "temperature must be 0 (the most probable token) or more; got"),
        (("sample", "run", "--top-p", 0), "top_p must be in (0, 1], a share of the probability; got top_p=0.0"),
        (("interpolate", "run", "a", "b", "--steps", 1), "steps must be at least 2, both ends; got steps=1"),
        (("compress", "run", "x", "y", "--tile", -1), "tile must be 0 (chosen by the data) or more; got tile=-1"),
        (("edit", "run", "a", "--layers=-1"), "--layers are counted from 0; got '-1'"),
        (("compare", "run", "--minutes", "nan"), "minutes must be 0 (those of the shortest run) or more; got"),
        (("demo", "--minutes", 0), "minutes must be above 0; got minutes=0.0"),
    ],
)
def test_an_option_out_of_its_range_is_refused_in_one_line_and_leaves_no_folder(
    tmp_path: Path, monkeypatch: Any, capsys: Any, argv: tuple[object, ...], message: str, unchecked: None
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.txt").write_text("a cat sees a dog\n" * 40, encoding="utf-8")
    (tmp_path / "pairs.tsv").write_text("a cat\ta dog\n" * 40, encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))
    code, said = ending(capsys, *argv)
    assert code == 2
    assert message in said
    assert said.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before
