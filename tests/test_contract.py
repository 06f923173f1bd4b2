"""Compare public names, commands, options, presets and results with a stored snapshot.

A difference is a break for somebody, unless it is meant; then
``python tests/test_contract.py --update`` writes the snapshot anew, and its diff is part of the
change. It keeps what it knows of ``univae demo``, which takes minutes; ``--demo`` runs that too.
"""

import dataclasses
import enum
import importlib
import inspect
import json
import re
import shlex
import sys
import tempfile
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # or tests/experiments would hide the package of that name
    sys.path.insert(0, str(Path(__file__).parents[1]))

import pytest
import torch
import tyro
from golden import make as golden

from experiments.training.configuration import options_of

SNAPSHOT = Path(__file__).resolve().parent / "contract.json"
FIRST_PARTY = ("univae", "density", "gan")

# Packages whose __all__ is a promise.
PACKAGES = (
    "univae",
    "univae.attention",
    "univae.contrastive",
    "univae.decoding",
    "univae.latent",
    "univae.optim",
    "univae.sentence",
    "univae.text",
    "univae.vae",
    "density",
    "density.images",
    "gan",
    "gan.networks",
)

ADVICE = """
{what} differ from tests/contract.json:
{differences}
Somebody's code or script may depend on them. If the change is meant, run

    python tests/test_contract.py --update

look at the diff of tests/contract.json, and say so in CHANGELOG.md."""


# Names and signatures.


def annotation_text(annotation: Any) -> str:
    """Return an annotation without help texts and the modules that its names are from."""
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\b(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_])", "", text)


def default_text(value: Any) -> str:
    """Return a default value as text that does not depend on the machine or the module."""
    if isinstance(value, Path):
        return str(value)
    if inspect.isroutine(value) or inspect.isclass(value):
        return value.__name__
    if isinstance(value, enum.Enum):
        return value.name
    return re.sub(r" at 0x[0-9a-f]+|\b(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_])", "", repr(value))


def signature_text(function: Callable[..., Any]) -> str:
    """Return a signature: parameters with annotations and defaults, and what comes back."""
    signature = inspect.signature(function)
    shown = []
    kind = None
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and kind not in (
            inspect.Parameter.KEYWORD_ONLY,
            inspect.Parameter.VAR_POSITIONAL,
        ):
            shown.append("*")
        kind = parameter.kind
        text = parameter.name
        if kind is inspect.Parameter.VAR_POSITIONAL:
            text = f"*{text}"
        if kind is inspect.Parameter.VAR_KEYWORD:
            text = f"**{text}"
        if parameter.annotation is not parameter.empty:
            text += f": {annotation_text(parameter.annotation)}"
        if parameter.default is not parameter.empty:
            text += f" = {default_text(parameter.default)}"
        shown.append(text)
    returned = ""
    if signature.return_annotation is not signature.empty:
        returned = f" -> {annotation_text(signature.return_annotation)}"
    return f"({', '.join(shown)}){returned}"


def methods(kind: type) -> Iterator[tuple[str, str]]:
    """Yield the public methods and properties of a class of this project, with their signatures."""
    seen: set[str] = set()
    for base in kind.__mro__:
        if base.__module__.split(".")[0] not in FIRST_PARTY:
            continue
        for name, member in vars(base).items():
            if name.startswith("_") or name in seen:
                continue
            seen.add(name)
            function = member.__func__ if isinstance(member, staticmethod | classmethod) else member
            if isinstance(member, property):
                yield name, "property"
            elif inspect.isroutine(function):
                yield name, signature_text(function)


def public_names() -> dict[str, dict[str, str]]:
    """Return package -> name, or class.method -> signature."""
    found: dict[str, dict[str, str]] = {}
    for package in PACKAGES:
        module = importlib.import_module(package)
        names: dict[str, str] = {}
        for name in sorted(module.__all__):
            value = getattr(module, name)
            if inspect.ismodule(value):
                names[name] = "module"
            elif typing.get_origin(value) is not None:
                names[name] = annotation_text(value)
            elif inspect.isclass(value):
                names[name] = signature_text(value)
                names |= {f"{name}.{method}": text for method, text in sorted(methods(value))}
            elif callable(value):
                names[name] = signature_text(value)
            else:
                names[name] = default_text(value)
        found[package] = names
    return found


# Commands and options.


def option_type(hint: Any) -> str:
    """Return the type of an option; a literal with its choices, without marks for the parser."""
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return option_type(typing.get_args(hint)[0])
    if origin is typing.Literal:
        return " | ".join(repr(choice) for choice in typing.get_args(hint))
    if origin in (typing.Union, types.UnionType):
        return " | ".join(option_type(part) for part in typing.get_args(hint))
    if origin is not None:
        parts = ", ".join(option_type(part) for part in typing.get_args(hint))
        return f"{origin.__name__}[{parts}]"
    return "..." if hint is Ellipsis else getattr(hint, "__name__", str(hint))


def options(config_type: type) -> dict[str, str]:
    """Return option -> type and default; the options of nested dataclasses have no prefix."""
    positional = tyro.conf.Positional[int].__metadata__[0]
    types_and_defaults: dict[str, str] = {}
    for field_name, option in options_of(config_type).items():
        hint = option.hint
        marks = typing.get_args(hint)[1:] if typing.get_origin(hint) is typing.Annotated else ()
        other_name = next((m.name for m in marks if isinstance(getattr(m, "name", None), str)), "")
        name = "--" + (other_name or field_name.replace("_", "-"))
        if positional in marks:
            name = field_name
        required = option.default is dataclasses.MISSING
        default = "required" if required else default_text(option.default)
        types_and_defaults[name] = f"{option_type(hint)} = {default}"
    return dict(sorted(types_and_defaults.items()))


def commands() -> dict[str, dict[str, Any]]:
    """Return command -> its options and its presets."""
    from experiments.cli.commands import COMMANDS

    found: dict[str, dict[str, Any]] = {}
    for command, (module_name, _) in COMMANDS.items():
        module = importlib.import_module(module_name)
        presets = json.dumps(getattr(module, "PRESETS", {}), default=str)
        found[command] = {
            "module": module_name,
            "options": options(module.Config),
            "presets": json.loads(presets),
        }
    return found


# Results: what commands return, and what training writes.

TRAINING = [name for name in golden.RUNS if name != "text_vmf"]

# Label -> the golden run, and the command on it. RUN, DATA and OUT stand for its folder, the data
# and a new file.
# push uploads to a server: tests/experiments/test_push.py has its keys; import-weights reads a
# checkpoint: tests/experiments/test_published_weights.py
ELSEWHERE = {"push", "import-weights", "explore", "bench"}
USES: dict[str, tuple[str, list[str]]] = {
    "sample of texts": ("text", ["sample", "RUN", "--count", "2"]),
    "sample of a GAN": ("gan_images", ["sample", "RUN", "--count", "4", "--out", "OUT.npz"]),
    "sample of a table": ("table", ["sample", "RUN", "--count", "4", "--out", "OUT.csv"]),
    "impute": ("columns", shlex.split("impute RUN --data DATA/houses.csv --out OUT.csv")),
    "sample of named columns": ("columns", ["sample", "RUN", "--count", "4", "--out", "OUT.csv"]),
    "reconstruct": ("text", ["reconstruct", "RUN", "--data", "DATA/texts.txt", "--limit", "2"]),
    "interpolate": ("text", ["interpolate", "RUN", "a cat", "the dog", "--steps", "3"]),
    "edit": ("text", ["edit", "RUN", "a cat", "--layers", "0", "--count", "2"]),
    "reconstruct of images": ("images", ["reconstruct", "RUN", "--data", "DATA/images.npy"]),
    "reconstruct of a table": ("table", ["reconstruct", "RUN", "--data", "DATA/table.npy"]),
    "interpolate of rows": ("images", shlex.split("interpolate RUN 0 1 --data DATA/images.npy")),
    "interpolate of a GAN": ("gan_images", ["interpolate", "RUN", "0", "1"]),
    "encode": ("text", ["encode", "RUN", "--data", "DATA/texts.txt", "--out", "OUT.npy"]),
    "encode of sentences": (
        "similar",
        ["encode", "RUN", "--data", "DATA/corpus.txt", "--out", "OUT.npy"],
    ),
    "calibrate": (
        "images",
        ["calibrate", "RUN", "--data", "DATA/images.npy", "--steps", "3"],
    ),
    "stretch": ("text", ["stretch", "RUN", "OUT", "--length", "128"]),
    "likelihood of texts": (
        "text",
        ["likelihood", "RUN", "--data", "DATA/texts.txt", "--limit", "4", "--samples", "30"],
    ),
    "likelihood of images": (
        "images",
        ["likelihood", "RUN", "--data", "DATA/images.npy", "--limit", "4", "--samples", "30"],
    ),
    "likelihood by chains": (
        "table",
        shlex.split("likelihood RUN --data DATA/table.npy --limit 4 --method annealed")
        + shlex.split("--annealing-steps 3 --chains 2 --sandwich 3"),
    ),
    "likelihood to an error": (
        "table",
        shlex.split("likelihood RUN --data DATA/table.npy --limit 4 --samples 30")
        + shlex.split("--standard-error 0.1 --limit-samples 60"),
    ),
    "compress of texts": ("text", ["compress", "RUN", "DATA/texts.txt", "OUT.bits"]),
    "compress of images": ("images", ["compress", "RUN", "DATA/images.npy", "OUT.bits"]),
    "decompress": ("table", ["decompress", "RUN", "DATA/../table/data.bits", "OUT.npy"]),
    "export": ("table", ["export", "RUN", "OUT.univae"]),
    "similar": (
        "similar",
        ["similar", "RUN", "a man sees a ball", "--count", "2", "--samples", "4"],
    ),
    "search": ("similar", ["search", "RUN", "a man", "--corpus", "OUT.corpus", "--count", "2"]),
    "audit": ("gan_table", ["audit", "RUN", "--count", "20"]),
    "doctor": ("text", ["doctor", "--out", "RUN", "--seconds", "0.1"]),
    "evaluate of texts": (
        "text",
        shlex.split("evaluate RUN --data DATA/texts.txt --limit 4 --samples 30"),
    ),
    "evaluate of images": (
        "images",
        shlex.split("evaluate RUN --data DATA/images.npy --limit 4 --samples 30"),
    ),
    "evaluate of a GAN": ("gan_table", ["evaluate", "RUN", "--count", "60"]),
    "evaluate of pairs": ("similar", ["evaluate", "RUN", "--data", "DATA/groups.tsv"]),
    "evaluate-gan": ("gan_table", ["evaluate-gan", "RUN", "--count", "60"]),
    "report": ("text", ["report", "RUN"]),
    "compare": ("text", ["compare", "RUN", "--out", "OUT.html"]),
}

DEMO = shlex.split("--minutes 3 --image-minutes 1 --gan-minutes 1 --threads 1")
DEMO += shlex.split("--samples 2 --image-samples 2")


def used(label: str, scratch: Path) -> list[str]:
    """Run a command on a copy of a golden run, and return the keys of its result."""
    name, words = USES[label]
    folder = scratch / label.replace(" ", "_")
    folder.mkdir()
    run = golden.copy_run(name, folder)
    data = golden.HERE / "data"
    (folder / "out.corpus").write_bytes((data / "corpus.txt").read_bytes())
    places = {"RUN": str(run), "DATA": str(data), "OUT": str(folder / "out")}
    told = [re.sub("RUN|DATA|OUT", lambda m: places[m.group()], word) for word in words]
    return sorted(golden.run(*told))


def trained(name: str, scratch: Path) -> tuple[list[str], list[str], list[str]]:
    """Train as for a golden run; return the keys of the result and of the configuration, files."""
    command, *words = golden.RUNS[name]
    out = scratch / f"trained_{name}"
    with golden.inside(golden.HERE / "data"):
        result = golden.run(command, *words, "--out", out)
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    files = {path.name for path in out.iterdir()} - {".lock"}
    return sorted(result), sorted(config), sorted(files)


def results(scratch: Path, with_demo: bool) -> dict[str, Any]:
    """Return the keys of the results of all commands, and those of ``config.json`` of trainings."""
    found: dict[str, Any] = {"results": {}, "config": {}, "files": {}}
    for label in USES:
        found["results"][label] = used(label, scratch)
    for name in TRAINING:
        label = f"{golden.RUNS[name][0]} of {name}"
        result, config, files = trained(name, scratch)
        found["results"][label] = result
        found["config"][label] = config
        found["files"][label] = files
    if with_demo:
        found["results"]["demo"] = sorted(golden.run("demo", "--out", scratch / "demo", *DEMO))
    else:
        found["results"]["demo"] = snapshot()["results"]["demo"]
    return found


def snapshot() -> dict[str, Any]:
    return json.loads(SNAPSHOT.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def differences(before: Any, now: Any, where: str = "") -> list[str]:
    """Return a line for everything that is new, gone or different."""
    if isinstance(before, dict) and isinstance(now, dict):
        lines = []
        for key in sorted({*before, *now}):
            place = f"{where} {key}".strip()
            if key not in now:
                lines.append(f"  gone:    {place}")
            elif key not in before:
                lines.append(f"  new:     {place}")
            else:
                lines += differences(before[key], now[key], place)
        return lines
    if isinstance(before, list) and isinstance(now, list):
        gone = [f"  gone:    {where}: {item}" for item in before if item not in now]
        return gone + [f"  new:     {where}: {item}" for item in now if item not in before]
    return [] if before == now else [f"  changed: {where}:\n           {before}\n        -> {now}"]


def check(what: str, before: Any, now: Any) -> None:
    if lines := differences(before, now):
        pytest.fail(ADVICE.format(what=what, differences="\n".join(lines)), pytrace=False)


@pytest.fixture(autouse=True)
def _single_precision() -> None:
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_keep_their_signatures(package: str) -> None:
    check(f"The public names of {package}", snapshot()["names"][package], public_names()[package])


def test_commands_keep_their_options_and_presets() -> None:
    check("Options or presets", snapshot()["commands"], commands())


# The keys of "likelihood by chains" and of "likelihood of texts" stay in `make test`.
SLOW = ("likelihood of images", "likelihood to an error", "compress of texts", "doctor")


@pytest.mark.parametrize(
    "label",
    [pytest.param(label, marks=[pytest.mark.slow] if label in SLOW else []) for label in USES],
)
def test_a_command_returns_the_same_keys(label: str, tmp_path: Path) -> None:
    check(f"The keys of the JSON of `{label}`", snapshot()["results"][label], used(label, tmp_path))


# Of every command another training stays: the keys of config.json are those of the command.
SLOW_TO_TRAIN = ("columns", "gan_images", "neighbours", "images")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in SLOW_TO_TRAIN else [])
        for name in TRAINING
    ],
)
def test_training_returns_and_writes_the_same_keys(name: str, tmp_path: Path) -> None:
    stored = snapshot()
    label = f"{golden.RUNS[name][0]} of {name}"
    result, config, files = trained(name, tmp_path)
    check(f"The keys of the JSON of `{label}`", stored["results"][label], result)
    check(f"The keys of config.json of `{label}`", stored["config"][label], config)
    check(f"The files of the run folder of `{label}`", stored["files"][label], files)


def test_every_command_has_its_result_in_the_snapshot() -> None:
    stored = snapshot()
    used_commands = {label.split()[0] for label in stored["results"]}
    assert used_commands == stored["commands"].keys() - ELSEWHERE


def main() -> None:
    if sys.argv[1:] not in (["--update"], ["--update", "--demo"]):
        sys.exit("usage: python tests/test_contract.py --update [--demo]")
    with tempfile.TemporaryDirectory() as scratch:
        found = {"names": public_names(), "commands": commands()}
        found |= results(Path(scratch), "--demo" in sys.argv)
    SNAPSHOT.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
