"""The command line answers at once, explains every mistake in one line, and shows a traceback only for a bug."""

import json
import os
import re
import resource
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from experiments.cli import commands as cli
from experiments.version import version
from univae.errors import InputError

ROOT = Path(__file__).parents[3]

FAKE = '''
import math, os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from experiments.cli.commands import run
from experiments.training.stopping import Interrupted, TrainingFailed
from experiments.training.settings import Settings
from experiments.training.run_folder import Run
from univae.errors import InputError

PRESETS: dict[str, dict[str, Any]] = {"tiny": {"width": 8, "layers": (1, 2)}, "large": {"width": 64}}


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """Does nothing, at length."""

    text: Positional[Path]  # one text per line
    out: Path  # the run folder
    width: int = 32  # features
    layers: tuple[int, ...] = (0,)  # which layers
    latent: Literal["gaussian", "vmf"] = "gaussian"  # the family
    prefix: str | None = None  # how texts begin
    top: float = math.inf  # no limit
    act: str = "return"  # what to do


def main(config: Config) -> dict[str, Any]:
    print("words before the result")
    if config.act == "train":
        Run.create(config.out, asdict(config))
    if config.act == "lines":
        for _ in range(100_000):
            print("a line")
    if config.act == "open":
        config.text.read_text()
    errors = {
        "input": InputError("the text is empty;\\nwrite some"),
        "stop": Interrupted("interrupted after step 3; continue with --resume"),
        "abort": KeyboardInterrupt(),
        "nan": TrainingFailed("step 3: the loss is nan", loss="nan"),
        "bug": ZeroDivisionError("a bug"),
        "overflow": FloatingPointError("another bug"),
        "system": OSError(9, "a descriptor is closed"),
        "device": OSError(5, "Input/output error"),
        "full": OSError(28, "No space left on device"),
    }
    if config.act in errors:
        raise errors[config.act]
    return {"nan": math.nan, "nested": [math.inf, {"x": -math.inf}], "words": "変😀", **asdict(config)}


if __name__ == "__main__":
    run(Config, main)
'''

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Call:
    """Call ``univae`` and gives its exit code, stdout and stderr.

    ``fake`` is a command, ``text`` its argument.
    """
    (tmp_path / "fake_command.py").write_text(FAKE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "fake_command", raising=False)
    monkeypatch.setitem(cli.COMMANDS, "fake", ("fake_command", "a test"))
    monkeypatch.chdir(tmp_path)

    def result(*argv: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            cli.main(argv)
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return result


def fake(call: Call, *argv: str) -> dict[str, Any]:
    code, out, err = call("fake", "a.txt", "--out", "run", "--quiet", *argv)
    assert (code, err) == (0, "")
    return json.loads(out.splitlines()[-1])


def refused(call: Call, *argv: str, code: int = 2) -> str:
    got, out, err = call("fake", *argv)
    assert got == code
    assert err.count("\n") == 1, err
    assert err.startswith("univae fake: ")
    assert "{" not in out
    return err.removeprefix("univae fake: ").rstrip("\n")


def test_help_answers_at_once_and_imports_nothing_heavy() -> None:
    heavy = {"torch", "numpy", "scipy", "matplotlib", "tyro", "tqdm", "univae.errors", "sklearn"}
    code = f"import sys, atexit; atexit.register(lambda: print(*({heavy!r} & sys.modules.keys()), file=sys.stderr))\n"
    for argv in (["--help"], [], ["--version"], ["sampel"]):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                f"{code}from experiments.cli.commands import main\nmain({argv!r})",
            ],
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5
        assert done.stderr.splitlines()[-1] == "", done.stderr
        assert done.returncode == (2 if argv == ["sampel"] else 0)
        assert ("train-text" in done.stdout) == (argv in (["--help"], []))


def test_every_command_has_one_line_of_help(call: Call) -> None:
    code, out, err = call("--help")
    assert (code, err) == (0, "")
    for command, (module, what) in cli.COMMANDS.items():
        assert f"  {command} " in out
        assert what in out
        assert command == "fake" or module == f"experiments.{command.replace('-', '_')}"
    assert call("--version") == (0, f"univae {version()}\n", "")


def test_an_unknown_command_is_answered_with_the_nearest(call: Call) -> None:
    nearest = "train-text or train-density or train-gan"
    said = f"univae: there is no command trian-text; did you mean {nearest}?; see univae --help\n"
    assert call("trian-text") == (2, "", said)
    assert call("zzzz") == (2, "", "univae: there is no command zzzz; see univae --help\n")
    assert call("--verbose") == (2, "", "univae: there is no option --verbose; see univae --help\n")


def test_the_last_line_is_strict_json_with_null_for_nan(call: Call) -> None:
    result = fake(
        call,
        "--layers",
        "3",
        "4",
        "--prefix",
        "-5",
        "--lr",
        "1",
        "--lr",
        "2",
        "--weight_decay",
        "0.5",
    )
    assert (result["nan"], result["nested"], result["words"]) == (None, [None, {"x": None}], "変😀")
    assert (result["layers"], result["prefix"], result["lr"], result["text"]) == (
        [3, 4],
        "-5",
        2.0,
        "a.txt",
    )
    assert (result["weight_decay"], result["resume"]) == (0.5, False)
    assert "NaN" not in json.dumps(result)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["a", "--out", "b", "--lerning-rate", "1"],
            "there is no option --lerning-rate; see --help-all",
        ),
        (
            ["a", "--out", "b", "--widht=3"],
            "there is no option --widht; did you mean --width or --window?; see --help-all",
        ),
        (
            ["a", "--out", "b", "--lr", "fast"],
            "--lr must be a number; got 'fast'",
        ),
        (["a", "--out", "b", "--width", "1.5"], "--width must be a whole number; got '1.5'"),
        (["--text", "a", "--out", "b"], "TEXT is an argument: give it without --text; see --help"),
        (["a", "--out", "b", "--lr", "-1"], "lr must be above 0; got lr=-1.0"),
        (
            ["a", "--out", "b", "--latent", "x"],
            "--latent must be one of gaussian, vmf; got x",
        ),
        (["a", "--out"], "--out needs a value; see --help"),
        (["a", "b", "--out", "c"], "there is no argument b; see --help"),
        (["a"], "--out PATH is required; see --help"),
        (["--out", "a"], "TEXT is required; see --help"),
        (
            ["a", "--out", "b", "--preset", "huge"],
            "--preset must be one of tiny, large; got huge",
        ),
        (["a", "--out", "b", "--preset"], "--preset needs a value"),
    ],
)
def test_a_mistaken_option_is_explained_in_one_line(
    call: Call, argv: list[str], message: str
) -> None:
    said = refused(call, *argv)
    assert re.fullmatch(message.replace("?", r"\?"), said), said


def test_help_of_a_command_shows_comments_defaults_and_presets(call: Call) -> None:
    code, out, err = call("fake", "--help-all")
    assert (code, err) == (0, "")
    for words in (
        "usage: univae fake",
        "Does nothing, at length.",
        "--width INT",
        "features (default: 32)",
        "--resume",
    ):
        assert words in out
    for words in (
        "optimizer steps",
        "--preset {tiny,large}",
        "tiny ",
        "--width 8, --layers 1 2",
        "(required)",
        "{gaussian,vmf}",
    ):
        assert words in out


def test_a_preset_sets_defaults_and_explicit_options_win(call: Call) -> None:
    result = fake(call, "--preset", "tiny")
    assert (result["width"], result["layers"]) == (8, [1, 2])
    result = fake(call, "--width", "9", "--preset=tiny")
    assert (result["width"], result["layers"]) == (9, [1, 2])


def test_a_resumed_run_keeps_its_options_and_refuses_others(call: Call) -> None:
    first = fake(
        call, "--act", "train", "--preset", "tiny", "--lr", "0.1", "--prefix", "x", "--threads", "2"
    )
    code, out, _ = call("fake", "--out=run", "--resume")  # even the text need not be said again
    assert code == 0
    assert json.loads(out.splitlines()[-1]) == first | {"resume": True}
    assert fake(call, "--resume", "--checkpoint-every", "7")["checkpoint_every"] == 7
    message = "run was started with another configuration: lr: 0.1 -> 0.2, width: 8 -> 64; leave these options"
    assert refused(call, "--out", "run", "--resume", "--lr", "0.2", "--preset", "large").startswith(
        message
    )
    assert refused(call, "a.txt", "--out", "run", "--act", "train").startswith(
        "run already holds a run; continue it"
    )


def test_resuming_where_nothing_is_starts_a_run_with_a_note(call: Call, tmp_path: Path) -> None:
    for out in ("new", "empty"):
        if out == "empty":
            (tmp_path / out).mkdir()
        code, result, err = call("fake", "a.txt", "--out", out, "--resume", "--act", "train")
        assert (code, err.splitlines()[0]) == (
            0,
            f"note: {out} holds no run yet: --resume starts one",
        )
        assert json.loads(result.splitlines()[-1])["resume"] is False
        code, result, err = call("fake", "a.txt", "--out", out, "--resume")
        assert (code, json.loads(result.splitlines()[-1])["resume"], "note" in err) == (
            0,
            True,
            False,
        )
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear")
    said = refused(call, "a.txt", "--out", "mine", "--resume")
    assert said.startswith("mine is not a run folder")
    (tmp_path / "mine" / "corpus").mkdir()
    (tmp_path / "mine" / "diary.txt").unlink()
    assert refused(call, "a.txt", "--out", "mine", "--resume").startswith("mine is not a run")


def test_each_ending_has_its_exit_code_and_one_line(call: Call) -> None:
    def ending(act: str, code: int) -> str:
        return refused(call, "a.txt", "--out", "run", "--act", act, code=code)

    assert ending("input", 2) == "the text is empty; write some"
    assert ending("open", 2) == "a.txt: No such file or directory"
    assert ending("full", 2) == "No space left on device"
    assert ending("device", 2) == "Input/output error"
    assert ending("nan", 1) == "step 3: the loss is nan"
    assert ending("stop", 130) == "interrupted after step 3; continue with --resume"
    assert ending("abort", 130) == "interrupted"


@pytest.mark.parametrize(
    ("act", "kind"),
    [("bug", ZeroDivisionError), ("overflow", FloatingPointError), ("system", OSError)],
)
def test_a_bug_keeps_its_traceback(call: Call, act: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        cli.main(["fake", "a.txt", "--out", "run", "--act", act])


def test_only_the_first_process_prints_a_result(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert call("fake", "a.txt", "--out", "run", "--quiet") == (0, "words before the result\n", "")


def test_a_module_run_by_itself_is_the_same_command_and_a_closed_pipe_is_quiet(
    call: Call, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "fake_command", "a.txt", "--out", "run", "--preset", "tiny"]
    command.append("--quiet")
    environment = os.environ | {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}",
        "PYTHONIOENCODING": "ascii",
    }
    python = shlex.quote(sys.executable)
    script = f"{python} -m fake_command a.txt --out run --quiet --act lines | head -n 1; echo ${{PIPESTATUS[0]}}"
    piped = subprocess.Popen(
        ["bash", "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    alone = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (alone.returncode, alone.stderr) == (0, "")
    result = json.loads(alone.stdout.splitlines()[-1])
    assert (result["width"], result["words"]) == (8, "変😀")  # a terminal that knows ASCII only
    assert piped.communicate(timeout=60) == ("words before the result\n141\n", "")


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_a_message_names_its_command_once(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    @dataclass(frozen=True)
    class Config:
        """Nothing."""

    def action(config: Config) -> dict[str, Any]:
        raise InputError(f"{command}: {command}: a file named so is missing")

    module = cli.COMMANDS[command][0].rpartition(".")[2]
    for name in (f"univae {command}", f"folder/{module}.py"):
        with pytest.raises(SystemExit):
            cli.run(Config, action, [], name)
        (line,) = capsys.readouterr().err.splitlines()
        assert line == f"{name}: {command}: a file named so is missing"
