"""The head of a report: what the run is, what it was trained on, and whether it is complete."""

from collections.abc import Iterator
from pathlib import Path

from experiments.reports.blocks import Block, Fact, Facts, Note
from experiments.reports.content import Content
from experiments.reports.run_kinds import kind_of
from experiments.reports.sizes import parameters
from experiments.reports.values import NO_DATA, brief
from experiments.training.metric_names import duration_text
from univae.checkpoint import JsonObject, read_json
from univae.run_folder import BEST, LAST, RunFolder

__all__ = ["head"]

PROGRAMS = ("univae", "__main__.py")
PLAYERS = ("generator.", "critic.")


def head(content: Content) -> list[Block]:
    """Return the facts about the run, after a warning if it failed or is not complete."""
    status, warning = _status(content.run)
    lines = [
        *_kind(content.run),
        *_fact("status", status),
        *_data(content.run),
        *_size(content.run),
        *_training(content),
        *_machine(content.environment),
    ]
    warnings: list[Block] = [Note(warning, is_warning=True)] if warning else []
    return [*warnings, Facts(lines)]


def _status(run: RunFolder) -> tuple[str, str]:
    """Return the state of a run, and a warning for one that failed or is not complete."""
    error = run.path / "ERROR.json"
    if error.exists():
        return "failed", f"Training failed: {brief(read_json(error))}"
    if not (run.path / "DONE").exists():
        return "not complete", "This run is not complete."
    return "complete", ""


def _kind(run: RunFolder) -> Iterator[Fact]:
    if not isinstance(run.kind, str):
        return
    name = kind_of(run).name
    yield Fact("kind", f"{name} ({run.kind})" if name else run.kind)


def _data(run: RunFolder) -> Iterator[Fact]:
    """Yield source and count of the data, by the option that names them."""
    noun = kind_of(run).data
    for role, entry in run.data_record().items():
        if role in NO_DATA or not entry.get("source"):
            continue
        count = entry.get("count")
        text = brief(entry["source"])
        if isinstance(count, int):
            text += f", {count:,} {noun}"
        yield Fact(role.replace("_", " "), text)


def _size(run: RunFolder) -> Iterator[Fact]:
    """Yield the number of parameters, of a GAN that of each player."""
    name = BEST if run.has_checkpoint(BEST) else LAST
    if not run.has_checkpoint(name):
        return
    checkpoint = run.checkpoint(name)
    sizes = {part.rstrip("."): parameters(checkpoint, part) for part in PLAYERS}
    if all(sizes.values()):
        text = ", ".join(f"{player} {size:,}" for player, size in sizes.items())
        yield Fact("parameters", text)
    else:
        yield Fact("parameters", f"{parameters(checkpoint):,}")


def _training(content: Content) -> Iterator[Fact]:
    """Yield the steps and the time of training, and its median speed."""
    rows = [*content.training[-1:], *content.validations[-1:]]
    if not rows:
        return
    yield Fact("steps", f"{max(row['step'] for row in rows):,}")
    seconds = [row["seconds"] for row in rows if isinstance(row.get("seconds"), int | float)]
    if seconds:
        yield Fact("training time", duration_text(float(max(seconds))))


def _machine(environment: JsonObject) -> Iterator[Fact]:
    """Yield device, versions, start and command line."""
    device = environment.get("device")
    if device is not None:
        threads = environment.get("threads")
        words = f", {brief(threads)} thread{'s' if threads != 1 else ''}" if threads else ""
        yield Fact("device", f"{brief(device)}{words}")
    versions = [
        f"{name} {brief(environment[name])}"
        for name in ("univae", "torch", "python")
        if environment.get(name)
    ]
    yield from _fact("versions", ", ".join(versions))
    started = str(environment.get("started") or "")
    yield from _fact("started", started.replace("T", " ").replace("+00:00", " UTC"))
    yield from _fact("command", _command(str(environment.get("command") or "")), is_path=True)


def _command(line: str) -> str:
    """Return a command line as it was typed, without the path of its module."""
    program, _, arguments = line.partition(" ")
    path = Path(program)
    if path.name in PROGRAMS:
        return f"univae {arguments}"
    if path.suffix == ".py" and path.parent.name == "experiments":
        return f"python -m experiments.{path.stem} {arguments}"
    return line


def _fact(label: str, text: str, *, is_path: bool = False) -> Iterator[Fact]:
    if text:
        yield Fact(label, text, is_path=is_path)
