"""The commands by job, for ``univae --help``, and the commands that a word may mean."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["JOBS", "Job", "note_of", "overview", "unknown_command"]

SIMILARITY = 0.5  # least similarity of a command that is proposed for another
MOST = 3  # spellings that a message proposes, at most
WORD = 3  # characters of a word that is looked for in summaries, at least

SEVERAL_PROCESSES = (
    "Two processes or GPUs train together: torchrun --no-python --nproc-per-node 2 univae {command}"
    " ..., where the batch of a step is then twice as large."
)
SHARED_DATA = (
    "Processes or GPUs share the data of likelihood, and of evaluate for a VAE, and give the scores"
    " of one process: torchrun --no-python --nproc-per-node 2 univae likelihood ..."
)


@dataclass(frozen=True)
class Job:
    """Commands for one job."""

    title: str
    commands: Sequence[str]
    example: str
    note: str = ""  # the last paragraph of the help of its commands


JOBS: Sequence[Job] = (
    Job("start", ("demo", "doctor", "bench"), "univae demo --out runs/demo"),
    Job(
        "train",
        ("train-text", "train-density", "train-gan", "train-similar", "calibrate"),
        "univae train-text --text texts.txt --out runs/mine --preset tiny --minutes 3",
        SEVERAL_PROCESSES,
    ),
    Job(
        "use",
        (
            "sample",
            "reconstruct",
            "interpolate",
            "edit",
            "encode",
            "impute",
            "similar",
            "search",
            "explore",
        ),
        "univae sample runs/mine --count 5",
    ),
    Job(
        "measure",
        ("likelihood", "evaluate", "evaluate-gan", "audit"),
        "univae likelihood runs/mine --data held_out.txt --out scores.csv",
        SHARED_DATA,
    ),
    Job(
        "compress",
        ("compress", "decompress"),
        "univae compress runs/mine held_out.txt held_out.bits",
    ),
    Job(
        "share",
        ("export", "push", "import-weights", "stretch"),
        "univae push runs/mine my-name/my-model --license mit",
    ),
    Job("report", ("report", "compare"), "univae compare runs/a runs/b --out compare.html"),
)


def overview(summaries: Mapping[str, str]) -> str:
    """Return the help of ``univae`` itself: every command by its job, with an example of each.

    Args:
        summaries: the commands, each with what it does in a few words.
    """
    width = max(map(len, summaries))
    lines = ["usage: univae COMMAND [OPTIONS]"]
    listed: set[str] = set()
    for job in JOBS:
        lines += ["", f"{job.title}:"]
        lines += [f"  {name:<{width}}  {summaries[name]}" for name in job.commands]
        lines.append(f"  {'':<{width}}  $ {job.example}")
        listed.update(job.commands)
    others = [name for name in summaries if name not in listed]
    if others:
        lines += ["", "others:", *(f"  {name:<{width}}  {summaries[name]}" for name in others)]
    foot = [
        "univae COMMAND --help shows the common options of a command, --help-all every option;",
        "univae --version the version.",
    ]
    return "\n".join([*lines, "", *foot])


def note_of(command: str) -> str:
    """Return the last paragraph of a command's help; nothing if its job has none."""
    notes = [job.note for job in JOBS if command in job.commands]
    return notes[0].format(command=command) if notes else ""


def unknown_command(word: str, summaries: Mapping[str, str]) -> str:
    """Return the commands that ``word`` may mean, as the end of a message; nothing if none.

    These are the commands whose name or summary holds the word, otherwise those spelled alike.

    >>> unknown_command("train", {"train-gan": "train a GAN", "sample": "draw"})
    '; it may be train-gan (train a GAN)'
    """
    meant = [name for name in summaries if word in name.split("-")]
    if not meant and len(word) >= WORD:
        meant = [name for name, text in summaries.items() if word.lower() in text.lower().split()]
    if meant:
        choices = ", ".join(f"{name} ({summaries[name]})" for name in meant)
        return f"; it may be {choices}"
    similar = difflib.get_close_matches(word, summaries, n=MOST, cutoff=SIMILARITY)
    return f"; did you mean {' or '.join(similar)}?" if similar else ""
