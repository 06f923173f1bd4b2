"""The ``univae`` command: one subcommand per module, one frozen dataclass per subcommand.

A command module has a ``Config``, a ``main(config) -> dict`` and, for presets, ``PRESETS``: values
of options by the name of the preset. ``univae COMMAND`` and ``python -m experiments.MODULE`` both
call :func:`run`.

Progress, notes and a table of the result go to stderr, and ``--quiet`` hides them; the last line of
stdout is the result, one JSON object, or the last line of stderr where stdout carries data
(``data_on_stdout`` of the configuration). ``RESULTS`` of a command module names the keys that its
table shows, where these are not all that have a label. Exit codes: 0 done, 1 training or a
benchmark failed, 2 bad input or configuration, or a disk that cannot be written, 130 interrupted
(by Ctrl-C, SIGTERM or SIGHUP), 141 the pipe of the output was closed. Only a bug shows a traceback.

Modules that take long to import are imported once the command has been read.
"""

import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from typing import TYPE_CHECKING, NoReturn, TextIO, TypeVar

from experiments.cli.help_pages import is_asked, render, stored_page
from experiments.cli.jobs import note_of, overview, unknown_command
from experiments.training.process_environment import set_waiting_policy
from experiments.training.processes import is_first_process
from experiments.training.stopping import (
    INTERRUPTED,
    PartlyFailed,
    PeerEnded,
    StopRequest,
    TrainingFailed,
)
from experiments.training.streams import lasting_streams
from experiments.version import version

if TYPE_CHECKING:
    from univae.checkpoint import JsonObject

__all__ = ["COMMANDS", "main", "parse", "run"]

Config = TypeVar("Config")

# Command -> module and summary; a literal, so that --help imports no command.
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("experiments.demo", "the main job on built-in data, in a few minutes"),
    "bench": ("experiments.bench", "measure this library beside its peers, as ratios"),
    "doctor": ("experiments.doctor", "check this installation and this machine"),
    "train-text": ("experiments.train_text", "train a UniVAE on a file of one text per line"),
    "train-density": ("experiments.train_density", "train a VAE on images or a table"),
    "train-gan": ("experiments.train_gan", "train a GAN on images or a table"),
    "train-similar": (
        "experiments.train_similar",
        "train a RoFormer-Sim on pairs or groups of similar texts",
    ),
    "import-weights": (
        "experiments.import_weights",
        "write a published RoFormer as a run of a sentence model",
    ),
    "calibrate": ("experiments.calibrate", "fit the posterior of a trained VAE again"),
    "stretch": ("experiments.stretch", "let a trained model read texts longer than in training"),
    "sample": ("experiments.sample", "draw from a trained model"),
    "reconstruct": ("experiments.reconstruct", "encode and decode data"),
    "interpolate": ("experiments.interpolate", "decode latents between those of two data"),
    "edit": ("experiments.edit", "resample some latent layers of a text, an image or a row"),
    "encode": ("experiments.encode", "write the latents of data, or sentence vectors, to a file"),
    "similar": ("experiments.similar", "generate texts similar to one, ranked"),
    "search": ("experiments.search", "find the texts of a file nearest to one"),
    "explore": ("experiments.explore", "show what a trained model does in the browser"),
    "likelihood": ("experiments.likelihood", "estimate the log-likelihood of data, with its error"),
    "impute": ("experiments.impute", "fill the missing cells of a table"),
    "compress": ("experiments.compress", "write data as a small file, without loss"),
    "decompress": ("experiments.decompress", "read such a file back"),
    "export": ("experiments.export", "write the part of a run that using its model needs"),
    "push": ("experiments.push", "publish a run on the Hugging Face hub"),
    "evaluate": ("experiments.evaluate", "measure a trained model of any kind on test data"),
    "evaluate-gan": (
        "experiments.evaluate_gan",
        "measure a GAN, with the floor and known faults; evaluate does, too",
    ),
    "audit": ("experiments.audit", "measure gradients and slopes of a GAN's critic"),
    "report": ("experiments.report", "write report.html and plots of a run"),
    "compare": ("experiments.compare", "put several runs side by side"),
}


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the ``univae`` command; a signal ends it also while libraries are imported."""
    stop = StopRequest(at_once=True)
    with lasting_streams():
        try:
            with stop:
                _start(argv)
        except (KeyboardInterrupt, Exception):
            if not stop.requested:
                raise
        _end_interrupted("univae")


def _start(argv: Sequence[str] | None) -> NoReturn:
    set_waiting_policy()  # before a command loads PyTorch
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["help"]:  # univae help COMMAND
        arguments = [*arguments[1:2], "--help", *arguments[2:]]
    command = arguments[0] if arguments else "--help"
    if command in ANSWERS:
        _end(0, ANSWERS[command]())
    if command not in COMMANDS:
        kind = "option" if command.startswith("-") else "command"
        meant = unknown_command(command, _summaries())
        _end(2, f"univae: there is no {kind} {command}{meant}; see univae --help")
    name = f"univae {command}"
    page = stored_page(command) if is_asked(arguments) else None
    if page is not None:
        _end(0, render(page, name, arguments, note_of(command)))
    module = importlib.import_module(COMMANDS[command][0])
    run(module.Config, module.main, arguments[1:], name)


def run(
    config_type: type[Config],
    action: "Callable[[Config], JsonObject]",
    argv: Sequence[str] | None = None,
    name: str = "",
) -> NoReturn:
    """Parse the options, run ``action``, print its result as a table and as JSON, and exit."""
    name = name or os.path.basename(sys.argv[0])
    stop = StopRequest(at_once=True)
    with lasting_streams():
        try:
            with stop:
                _perform(config_type, action, list(sys.argv[1:] if argv is None else argv), name)
        except KeyboardInterrupt as error:
            _print_result_of(error)
            _end_interrupted(name, str(error))
        except Exception as error:
            if stop.requested:  # a library has turned the interruption into one of its own
                _end_interrupted(name)
            _end_failed(name, error)
            raise


def _end_interrupted(name: str, message: str = "") -> NoReturn:
    """End the process; the first one prints the interruption."""
    _end(INTERRUPTED, f"{name}: {message or 'interrupted'}" if is_first_process() else "")


def _print_result_of(error: BaseException) -> None:
    """Print the result of a command that was ended, where the exception has one."""
    result = getattr(error, "result", None)
    if result is not None and is_first_process():
        print(_as_json(result), flush=True)


def _end_failed(name: str, error: Exception) -> None:
    """End the process with one line on an error, or return where it is a bug."""
    from univae.disk_errors import DISK_ERRORS
    from univae.errors import InputError

    if isinstance(error, BrokenPipeError):
        _end_of_closed_pipe()
    if isinstance(error, InputError | PeerEnded):
        _end(2, f"{name}: {_without_command(str(error), name)}")
    if isinstance(error, PartlyFailed):
        _print_result_of(error)
    if isinstance(error, TrainingFailed | PartlyFailed):
        _end(1, f"{name}: {_without_command(str(error), name)}")
    if isinstance(error, OSError) and (error.filename is not None or error.errno in DISK_ERRORS):
        path = f"{error.filename}: " if error.filename is not None else ""
        _end(2, f"{name}: {path}{error.strerror or error}")
    if _is_out_of_memory(error):
        reason = str(error).partition("\n")[0].rpartition(": ")[2]
        asked = f" ({reason})" if reason else ""
        _end(2, f"{name}: not enough memory{asked}; make the model, the batch or the data smaller")


def _is_out_of_memory(error: Exception) -> bool:
    """Return whether Python, or PyTorch on any device, found too little memory."""
    if isinstance(error, RuntimeError):
        return any(words in str(error) for words in OUT_OF_MEMORY)
    return isinstance(error, MemoryError)


def _perform(
    config_type: type[Config],
    action: "Callable[[Config], JsonObject]",
    arguments: Sequence[str],
    name: str,
) -> NoReturn:
    """Run the command and end the process; the first process prints the result."""
    is_quiet = QUIET in arguments
    first = is_first_process()
    with _progress(is_quiet):
        config = parse(config_type, [word for word in arguments if word != QUIET], name)
        result = action(config)
        if first:
            _print_table(config_type, result)
    on_stderr = getattr(config, "data_on_stdout", False)
    _end(0, _as_json(result) if first else "", on_stderr=on_stderr)


def parse(config_type: type[Config], argv: Sequence[str] | None = None, name: str = "") -> Config:
    """Return a ``config_type`` filled from options: :func:`experiments.cli.options.parse`.

    ``--help`` and ``--help-all`` print the help and end the process.
    """
    from experiments.cli import options

    arguments = list(sys.argv[1:] if argv is None else argv)
    presets = getattr(sys.modules[config_type.__module__], "PRESETS", {})
    if is_asked(arguments):
        from experiments.cli.help_sources import page_of

        page = page_of(config_type, presets)
        _end(0, render(page, name, arguments, note_of(_command_of(name))))
    return options.parse(config_type, arguments, presets, name)


@contextmanager
def _progress(is_quiet: bool) -> Iterator[None]:
    """Print progress, notes and tables on stderr while the block runs, or discard them."""
    if not is_quiet:
        yield
        return
    with (
        open(os.devnull, "w", encoding="utf-8", errors="replace") as nothing,
        redirect_stderr(nothing),
    ):
        yield


def _print_table(config_type: type, result: "JsonObject") -> None:
    """Print the result for people on stderr."""
    from experiments.cli.results import result_table

    shown = getattr(sys.modules[config_type.__module__], "RESULTS", None)
    table = result_table(result, shown)
    if table:
        print(table, file=sys.stderr, flush=True)


def _summaries() -> dict[str, str]:
    return {command: summary for command, (_, summary) in COMMANDS.items()}


def _help() -> str:
    return overview(_summaries())


QUIET = "--quiet"
OUT_OF_MEMORY = ("can't allocate memory", "out of memory")  # in PyTorch's messages
CLOSED_PIPE = 128 + 13  # what a shell reports of a process that SIGPIPE ended


def _as_json(result: "JsonObject") -> str:
    from univae.checkpoint import to_json

    text = json.dumps(to_json(result), ensure_ascii=False, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # the encoding lacks a character: write the same JSON in ASCII
        return json.dumps(to_json(result), allow_nan=False)
    return text


# Options of ``univae`` without a command, with functions that return their output.
ANSWERS: dict[str, Callable[[], str]] = {
    "-h": _help,
    "--help": _help,
    "-V": lambda: f"univae {version()}",
    "--version": lambda: f"univae {version()}",
}


def _without_command(message: str, name: str) -> str:
    """Return a message without the name of its command, which a function may have in common.

    >>> _without_command("compress: block must be at least 1", "univae compress")
    'block must be at least 1'
    """
    return message.removeprefix(f"{_command_of(name)}: ")


def _command_of(name: str) -> str:
    """Return the command of ``univae COMMAND`` or of the file COMMAND.py."""
    return "".join(os.path.basename(name).removesuffix(".py").replace("_", "-").split()[-1:])


def _end(code: int, text: str = "", *, on_stderr: bool = False) -> NoReturn:
    """Print a result on stdout, or an error in one line on stderr, and end the process."""
    stream: TextIO = sys.stderr if on_stderr else sys.stdout
    if code:
        stream = sys.stderr
        text = " ".join(text.split("\n"))
    try:
        print(text, end="\n" if text else "", file=stream, flush=True)
    except BrokenPipeError:
        _end_of_closed_pipe()
    sys.exit(code)


def _end_of_closed_pipe() -> NoReturn:
    # The reading end of the pipe is closed, for example by head. Python would raise again when it
    # flushes stdout at exit, so stdout is redirected to the null device.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(CLOSED_PIPE)


if __name__ == "__main__":
    main()
