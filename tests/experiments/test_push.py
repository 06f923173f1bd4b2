"""A run that was pushed to the hub opens by its name as the run itself, and holds no more than it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden import make

import univae
from experiments import encode, likelihood, push, search
from experiments.evaluation.machine_paths import without_machine_paths
from tests import hub_server
from univae import hub
from univae.errors import InputError
from univae.trained import Trained

pytest.importorskip("huggingface_hub")

# of the client, when it uploads by Git LFS
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "golden" / "data"
NAME = "someone/some-model"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[hub_server.Hub]:
    """Serve a hub, and make the client talk to it, with a token and caches of its own."""
    from huggingface_hub import constants
    from huggingface_hub.utils import disable_progress_bars

    torch.set_default_dtype(torch.float32)
    disable_progress_bars()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", hub_server.TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    hub._snapshot.cache_clear()
    with hub_server.served() as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        files = f"{served.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
        yield served
    hub._snapshot.cache_clear()


def pushed(name: str, folder: Path, **options: Any) -> Path:
    run = make.copy_run(name, folder)
    result = push.main(push.Config(run=run, name=NAME, **options))
    assert result.keys() == {"run", "repository", "url", "bytes_out", "files"}
    return run


def outputs(run: Trained) -> Any:
    """Return samples of a run, or vectors of texts."""
    if run.kind == "train-similar":
        return run.encode(["a cat sees", "the dog"])
    return run.sample(3, seed=0)


@pytest.mark.parametrize("name", ["text", "images", "table", "similar"])
def test_a_pushed_run_gives_the_outputs_of_the_run(
    name: str, server: hub_server.Hub, tmp_path: Path
) -> None:
    run = univae.load(pushed(name, tmp_path), device="cpu")
    again = univae.load(NAME, device="cpu")
    assert type(again) is type(run)
    np.testing.assert_array_equal(outputs(again), outputs(run))
    weights = run.model.state_dict()
    for key, weight in again.model.state_dict().items():
        assert torch.equal(weight, weights[key])


def test_a_repository_has_the_files_of_an_export_and_a_card(
    server: hub_server.Hub, tmp_path: Path
) -> None:
    run = make.copy_run("text", tmp_path)
    url = univae.load(run, device="cpu").push(NAME, license="mit", message="the first")
    repository = server.repositories[NAME]
    assert url == f"{server.url}/{NAME}"
    assert repository.messages[-1] == "the first"
    assert not repository.private
    assert sorted(repository.files) == [
        "README.md",
        "checkpoints/best/model.safetensors",
        "checkpoints/best/state.json",
        "config.json",
        "tokenizer.json",
    ]
    assert any(request.startswith("PUT /storage/") for request in server.requests)  # of Git LFS
    for file in ("checkpoints/best/model.safetensors", "tokenizer.json"):
        assert repository.files[file] == (run / file).read_bytes()


def test_no_path_of_this_machine_is_uploaded(server: hub_server.Hub, tmp_path: Path) -> None:
    run = make.copy_run("columns", tmp_path)
    (run / "data.json").unlink(missing_ok=True)
    source = str(tmp_path / "secret" / "houses.csv")
    config = json.loads((run / "config.json").read_text())
    config |= {"data": source, "validation": f"/home/me/{'x' * 5}.csv"}
    (run / "config.json").write_text(json.dumps(config))
    record = json.loads((make.HERE / "columns" / "run" / "data.json").read_text())
    record["data"] |= {"source": source, "notes": [f"{source}: 3 columns"]}
    (run / "data.json").write_text(json.dumps(record))
    push.main(push.Config(run=run, name=NAME))
    files = server.repositories[NAME].files
    for name, content in files.items():
        if name.endswith((".json", ".md")):
            assert str(tmp_path).encode() not in content, name
            assert b"/home/me" not in content, name
    assert json.loads(files["config.json"])["validation"] == "xxxxx.csv"
    stored = json.loads(files["data.json"])["data"]
    assert stored["notes"] == ["houses.csv: 3 columns"]
    assert stored["columns"] == record["data"]["columns"]


def test_the_card_says_how_to_open_the_run_and_its_numbers(
    server: hub_server.Hub, tmp_path: Path
) -> None:
    run = pushed("images", tmp_path, license="cc-by-4.0")
    card = server.repositories[NAME].files["README.md"].decode()
    metadata = card.split("---")[1].strip().splitlines()
    assert metadata[:3] == [
        "library_name: univae",
        "license: cc-by-4.0",
        "pipeline_tag: unconditional-image-generation",
    ]
    best = json.loads((run / "checkpoints" / "best" / "state.json").read_text())
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    validations = [row for row in rows if row["kind"] == "validation"]
    smallest = min(validations, key=lambda row: row["nll_nats"])
    assert f"| negative log-likelihood (nats) | {smallest['nll_nats']:.4g} |" in card
    assert f"| ELBO (nats) | {smallest['elbo_nats']:.4g} |" in card
    assert f"| steps of the best checkpoint | {best['step']} |" in card
    weights = univae.load(run, device="cpu").model.state_dict()
    assert f"It has {sum(w.numel() for w in weights.values()):,} parameters" in card
    assert "a lower bound of the log-likelihood" in card
    code = card.split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(code, names)  # the lines that the card shows open the run
    assert len(names["images"]) == 3


def test_a_license_is_left_to_the_user_and_a_card_can_be_kept(
    server: hub_server.Hub, tmp_path: Path
) -> None:
    run = pushed("table", tmp_path)
    repository = server.repositories[NAME]
    assert b"license" not in repository.files["README.md"]
    repository.commit({**repository.files, "README.md": b"mine", "notes.txt": b"more"})
    push.main(push.Config(run=run, name=NAME, keep_card=True))
    assert repository.files["README.md"] == b"mine"
    assert repository.files["notes.txt"] == b"more"


def test_a_second_push_replaces_the_files_of_the_first(
    server: hub_server.Hub, tmp_path: Path
) -> None:
    run = make.copy_run("text", tmp_path)
    checkpoints = run / "checkpoints"
    shutil.copytree(checkpoints / "best", checkpoints / "uncalibrated")
    push.main(push.Config(run=run, name=NAME))
    first = server.repositories[NAME].refs["main"]
    shutil.rmtree(checkpoints / "uncalibrated")
    push.main(push.Config(run=run, name=NAME))
    assert univae.load(NAME, device="cpu").folder.uncalibrated() == []
    assert univae.load(f"{NAME}@{first}", device="cpu").folder.uncalibrated() == ["uncalibrated"]


def test_a_local_path_wins_and_a_name_is_looked_up_once(
    server: hub_server.Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed("text", tmp_path)
    monkeypatch.chdir(tmp_path)
    make.copy_run("table", tmp_path / "someone").rename(tmp_path / NAME)
    assert univae.load(NAME, device="cpu").kind == "train-density"
    server.requests.clear()
    assert univae.load(f"hub:{NAME}", device="cpu").kind == "train-text"
    asked = len(server.requests)
    assert asked > 0
    univae.load(f"hub:{NAME}", device="cpu")
    assert len(server.requests) == asked


def test_only_the_files_of_a_run_are_fetched(server: hub_server.Hub, tmp_path: Path) -> None:
    pushed("text", tmp_path)
    repository = server.repositories[NAME]
    more = {"pytorch_model.bin": b"x" * 9, "code.py": b"x", "samples/a.json": b"{}"}
    repository.commit({**repository.files, **more})
    folder = univae.load(NAME, device="cpu").path
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    assert files == [
        "checkpoints/best/model.safetensors",
        "checkpoints/best/state.json",
        "config.json",
        "tokenizer.json",
    ]
    assert not [path for path in (tmp_path / "hf").rglob("*") if path.name in more]


def test_what_was_fetched_opens_without_a_network(
    server: hub_server.Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    pushed("table", tmp_path)
    univae.load(NAME, device="cpu")
    hub._snapshot.cache_clear()
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert univae.load(NAME, device="cpu").kind == "train-density"
    with pytest.raises(InputError, match=r"^a/b does not exist .* the hub cannot be reached"):
        univae.load("a/b")


def test_commands_take_a_name_in_place_of_a_run(server: hub_server.Hub, tmp_path: Path) -> None:
    run = pushed("similar", tmp_path)
    asked: dict[str, Any] = {"text": "a cat", "corpus": DATA / "corpus.txt", "count": 2}
    local = search.main(search.Config(run=run, **asked))
    remote = search.main(search.Config(run=Path(NAME), **asked))
    assert remote["results"] == local["results"]
    assert list((tmp_path / "hf").rglob("*.npy")) == []
    for out, path in (("a.npy", run), ("b.npy", Path(NAME))):
        config = encode.Config(run=path, data=str(DATA / "corpus.txt"), out=tmp_path / out)
        encode.main(config)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_nothing_is_written_into_the_cache_of_the_client(
    server: hub_server.Hub, tmp_path: Path
) -> None:
    pushed("table", tmp_path)
    univae.load(NAME, device="cpu")
    before = sorted((tmp_path / "hf").rglob("*"))
    options: dict[str, Any] = {"samples": 2, "limit": 3, "proposal": "posterior"}
    likelihood.main(likelihood.Config(run=Path(NAME), data=str(DATA / "table.npy"), **options))
    assert sorted((tmp_path / "hf").rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no/such", "the hub has no such model, or it is private: check the name, or log in"),
        (f"{NAME}@v9", "has no revision v9; give a branch, tag or commit"),
        ("gated/model", "needs permission: ask for it on its page, and log in"),
        ("not/a-run", "is not a run of univae, for it holds no config.json"),
    ],
)
def test_what_cannot_be_fetched_is_refused_with_the_reason(
    name: str, words: str, server: hub_server.Hub, tmp_path: Path
) -> None:
    pushed("table", tmp_path)
    server.create("gated/model", gated=True).commit({"config.json": b"{}"})
    server.create("not/a-run").commit({"model.bin": b""})
    with pytest.raises(InputError, match=words):
        univae.load(name)


def test_what_cannot_be_pushed_is_refused_with_the_reason(
    server: hub_server.Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = pushed("table", tmp_path)
    with pytest.raises(InputError, match="exists and is public; give another name"):
        push.main(push.Config(run=run, name=NAME, private=True))
    with pytest.raises(InputError, match="does not permit it: log in with `hf auth login`"):
        push.main(push.Config(run=run, name="another/model"))
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(InputError, match="log in with `hf auth login`"):
        push.main(push.Config(run=run, name="someone/else"))
    gan = make.copy_run("gan_table", tmp_path)
    with pytest.raises(InputError, match=r"is the run of a GAN.*copy the run folder instead"):
        push.main(push.Config(run=gan, name=NAME))
    for name in ("model", "a/b/c", "a/b@v1", "../up", "/a"):
        with pytest.raises(InputError, match="must be org/name; got"):
            push.Config(run=run, name=name)
    with pytest.raises(InputError, match=r"--license must be an identifier .* got 'MIT License'"):
        push.Config(run=run, name=NAME, license="MIT License")


def test_a_private_repository_needs_the_token(
    server: hub_server.Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed("table", tmp_path, private=True)
    assert server.repositories[NAME].private
    assert univae.load(NAME, device="cpu").kind == "train-density"
    hub._snapshot.cache_clear()
    shutil.rmtree(tmp_path / "hf")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(InputError, match="or it is private: check the name, or log in"):
        univae.load(NAME)


def test_without_the_library_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make.copy_run("table", tmp_path)
    hub._snapshot.cache_clear()
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"a/b does not exist .* pip install 'univae\[hub\]'"):
        univae.load("a/b")
    with pytest.raises(InputError, match=r"needs the extra hub: pip install 'univae\[hub\]'"):
        push.main(push.Config(run=run, name=NAME))


def test_a_missing_path_in_a_folder_that_exists_is_not_looked_up(
    server: hub_server.Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for path in ("runs/none", "./runs/none", "a/b/c", "none", str(tmp_path / "none")):
        with pytest.raises(InputError, match="does not exist; give the folder a training command"):
            univae.load(path)
    assert server.requests == []


@pytest.mark.slow
def test_the_command_prints_the_address_and_one_line_on_an_error(
    server: hub_server.Hub, tmp_path: Path
) -> None:
    run = make.copy_run("table", tmp_path)
    environment = {**os.environ, "HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "home")}
    environment["HF_HUB_DISABLE_XET"] = "1"  # its protocol is not that of the server
    command = [sys.executable, "-m", "experiments.cli", "push", str(run)]

    def called(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *words], capture_output=True, text=True, cwd=ROOT, env=environment
        )

    done = called(NAME, "--license", "mit")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["url"] == f"{server.url}/{NAME}"
    refused = called("another/model")
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert refused.stderr.splitlines()[-1].startswith("univae push: another/model was not uploaded")


def test_a_fetch_that_was_interrupted_is_completed_by_the_next(
    server: hub_server.Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = univae.load(pushed("text", tmp_path), device="cpu")
    whole = hub._snapshot(hub.HubName(NAME, None), hub.FILES)
    partial = tmp_path / "partial" / whole.name
    partial.mkdir(parents=True)
    shutil.copyfile(whole / "config.json", partial / "config.json")
    with monkeypatch.context() as patched:
        patched.setattr(hub, "_snapshot", lambda name, files: partial)
        with pytest.raises(InputError, match="its weights are not fetched; open it again"):
            univae.load(NAME, device="cpu")
        shutil.copytree(whole / "checkpoints", partial / "checkpoints")
        with pytest.raises(InputError, match=r"tokenizer\.json"):
            univae.load(NAME, device="cpu")
    assert univae.load(NAME, device="cpu").sample(3, seed=0) == run.sample(3, seed=0)


def test_no_network_is_one_line(
    server: hub_server.Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    run = make.copy_run("text", tmp_path)
    with pytest.raises(InputError, match=r"was not uploaded: .*hub") as caught:
        push.main(push.Config(run=run, name=NAME))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a--b/c", "a/b..c", "a/b.git", "a/" + "b" * 96])
def test_a_name_that_the_hub_does_not_allow_is_refused_at_once(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the name of the repository must be org/name"):
        push.Config(run=tmp_path, name=name)


def test_other_files_in_the_folder_are_not_uploaded(server: hub_server.Hub, tmp_path: Path) -> None:
    run = make.copy_run("text", tmp_path)
    (run / "secret.json").write_text("{}")
    result = push.main(push.Config(run=run, name=NAME))
    assert not any("secret" in name for name in result["files"])


def test_relative_paths_become_names_too() -> None:
    config = {"out": "clients/secret/run", "text": ["clients/a.txt", "hub:org/set"], "lr": 0.1}
    record = {"text": {"source": "clients/a.txt", "notes": ["clients/a.txt: 2 lines left out"]}}
    new_config, new_record = without_machine_paths(config, record)
    assert new_config == {"out": "run", "text": ["a.txt", "hub:org/set"], "lr": 0.1}
    assert new_record["text"] == {"source": "a.txt", "notes": ["a.txt: 2 lines left out"]}
