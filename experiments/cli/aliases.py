"""Spellings of options that other programs use: accepted where exact, otherwise pointed to."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from experiments.data.image_resizing import RESIZES

__all__ = ["ALIASES", "BY_VALUE", "HINTS", "Hint", "hint", "translate"]

# Other spelling -> the options that it may stand for; it stands for the first that a command has.
ALIASES: Mapping[str, Sequence[str]] = {
    "--learning-rate": ("--lr",),
    "--max-steps": ("--steps",),
    "--num-steps": ("--steps",),
    "--n-steps": ("--steps",),
    "--iterations": ("--steps",),
    "--out-dir": ("--out",),
    "--output-dir": ("--out",),
    "--output": ("--out",),
    "--num-samples": ("--count", "--samples"),
    "--n-samples": ("--count", "--samples"),
    "--class": ("--label",),
    "--input": ("--data", "--text", "--pairs"),
    "--dataset": ("--data", "--text", "--pairs"),
    "--train-file": ("--text", "--pairs", "--data"),
    "--texts": ("--text", "--data"),
    "--text": ("--data",),
    "--data": ("--text", "--pairs"),
    "--validation-file": ("--validation",),
    "--num-threads": ("--threads",),
    "--random-seed": ("--seed",),
    "--force": ("--overwrite",),
    "--grad-clip": ("--clip",),
    "--max-grad-norm": ("--clip",),
    "--gradient-accumulation-steps": ("--accumulate",),
    "--ema-decay": ("--ema",),
    "--save-every": ("--checkpoint-every",),
    "--eval-every": ("--validate-every",),
}


# Option and value -> the option that the value belongs to: --fit is also one of a calibration.
BY_VALUE: Mapping[tuple[str, str], str] = {("--fit", value): "--resize" for value in RESIZES}


@dataclass(frozen=True)
class Hint:
    """What to say of an option that no command has."""

    way_out: str
    needs: str  # option or argument that the advice names; commands without it say nothing


EPOCHS = Hint(
    "give --steps or --minutes; one epoch of N data in batches of B is N / B steps", "--steps"
)
BATCH_TOKENS = Hint(
    "give --batch-tokens, the number of tokens in a batch, because texts differ in length",
    "--batch-tokens",
)
DEVICE = Hint("give --device cuda, or --device cuda:1 for the second GPU", "--device")
PRECISION = Hint("give --precision bf16 or --precision fp32", "--precision")
WORKERS = Hint("data are read in the training process; --threads limits its threads", "--threads")
WIDTH = Hint("give --width", "--width")
RUN = Hint("give the run folder as an argument, without an option before it", "RUN")

# Option of other programs that has no exact counterpart -> the advice.
HINTS: Mapping[str, Hint] = {
    "--epochs": EPOCHS,
    "--num-epochs": EPOCHS,
    "--max-epochs": EPOCHS,
    "--batch-size": BATCH_TOKENS,
    "--gpu": DEVICE,
    "--gpus": DEVICE,
    "--cuda": DEVICE,
    "--fp16": PRECISION,
    "--bf16": PRECISION,
    "--amp": PRECISION,
    "--workers": WORKERS,
    "--num-workers": WORKERS,
    "--hidden-size": WIDTH,
    "--embed-dim": WIDTH,
    "--d-model": WIDTH,
    "--model-path": RUN,
    "--checkpoint-dir": RUN,
}


def translate(arguments: Sequence[str], spellings: Collection[str]) -> list[str]:
    """Return the arguments with the command's own spellings.

    An alias that is itself an option of the command stays, but for a value of :data:`BY_VALUE`.

    >>> translate(["--learning_rate=3", "--output-dir", "x"], {"--lr", "--out"})
    ['--lr=3', '--out', 'x']
    """
    return _chosen_by_value(_translated(arguments, spellings), spellings)


def hint(name: str, spellings: Collection[str]) -> str:
    """Return what to do instead of giving the option ``name``; nothing if it is not known."""
    row = HINTS.get(_dashed(name))
    if row is None or row.needs not in spellings:
        return ""
    return row.way_out


def _translated(arguments: Sequence[str], spellings: Collection[str]) -> Iterator[str]:
    for argument in arguments:
        name, equals, value = argument.partition("=")
        name = _dashed(name)
        if name in spellings or name not in ALIASES:
            yield argument
            continue
        options = [option for option in ALIASES[name] if option in spellings]
        yield f"{options[0]}{equals}{value}" if options else argument


def _chosen_by_value(arguments: Iterable[str], spellings: Collection[str]) -> list[str]:
    """Return the arguments with the options of :data:`BY_VALUE` that the command has."""
    chosen: list[str] = []
    for argument in arguments:
        name, _, value = argument.partition("=")
        joined = BY_VALUE.get((name, value))
        apart = BY_VALUE.get((chosen[-1], argument)) if chosen else None
        if joined in spellings:
            argument = f"{joined}={value}"
        elif apart is not None and apart in spellings:
            chosen[-1] = apart
        chosen.append(argument)
    return chosen


def _dashed(name: str) -> str:
    """Return an option with dashes where it has underscores."""
    return name.replace("_", "-") if name.startswith("--") else name
