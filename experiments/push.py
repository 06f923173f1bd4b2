"""``univae push``: publish a run on the Hugging Face hub, with a model card."""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import tyro

from experiments.cli.commands import run
from experiments.data.notes import print_notes, with_notes
from experiments.evaluation.exports import write_files
from experiments.evaluation.machine_paths import without_machine_paths
from experiments.kinds import exportable
from experiments.reports.model_card import model_card
from univae.checkpoint import JsonObject, read_json, write_json
from univae.errors import InputError
from univae.exported import CONFIG
from univae.hub import CARD, is_repository, upload
from univae.rules import check
from univae.run_folder import RunFolder

__all__ = ["Config", "main", "push_run"]

LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]*")
MESSAGE = "Upload a run of univae"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Uploads what `univae export` writes, with a model card, as a repository of the hub.

    RUN of a command, and `univae.load`, take org/name in place of a run folder. No training state,
    no list of versions and no path of this machine is uploaded. Log in first with `hf auth login`,
    or set HF_TOKEN.
    """

    run: tyro.conf.Positional[Path]  # the run folder
    name: tyro.conf.Positional[str]  # the repository, org/name; it is created where it is missing
    private: bool = False  # only its owner can read a new repository
    # license of the weights, which the model card names: mit, apache-2.0, cc-by-4.0, ...
    license: str = ""
    message: str = ""  # message of the commit; default: a general one
    keep_card: bool = False  # leave the repository's README.md as it is, say after editing it

    def __post_init__(self) -> None:
        check(self)
        if not is_repository(self.name):
            raise InputError(
                f"the name of the repository must be org/name; got {self.name!r}; "
                "org is your user name on the hub, or an organisation"
            )
        if self.license and not LICENSE.fullmatch(self.license):
            raise InputError(
                "--license must be an identifier of the hub, such as mit, apache-2.0 or "
                f"cc-by-4.0; got {self.license!r}"
            )


def main(config: Config) -> JsonObject:
    """Return the ``url`` of the repository, and the names and bytes of the files uploaded.

    Raises:
        InputError: an export cannot replace such a run; a file has changed since its checkpoint
            was saved; or the hub refuses the upload: see :func:`univae.hub.upload`.
    """
    folder = exportable(config.run, "push")
    with TemporaryDirectory(prefix="univae-push-") as temporary:
        staged = Path(temporary)
        names = list(write_files(folder, lambda files: _stage(files, staged)))
        if not config.keep_card:
            card = model_card(RunFolder(staged, folder.config), folder, config.name, config.license)
            (staged / CARD).write_text(card, encoding="utf-8")
            names.insert(0, CARD)
        sizes = [(staged / name).stat().st_size for name in names]
        message = config.message or MESSAGE
        url = upload(staged, config.name, message, private=config.private)
    result = {
        "run": str(config.run),
        "repository": config.name,
        "url": url,
        "bytes_out": sum(sizes),
        "files": names,
    }
    print_notes(folder.notes)
    return with_notes(result, folder.notes)


def push_run(run: Path, name: str, **options: Any) -> str:
    """Publish a run, and return its address: :meth:`univae.trained.Trained.push`."""
    return str(main(Config(run=run, name=name, **options))["url"])


def _stage(files: Mapping[str, Path], folder: Path) -> None:
    """Copy the files of an export into a folder, without the paths of this machine."""
    for name, path in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    config, record = without_machine_paths(
        read_json(folder / CONFIG), RunFolder(folder, {}).data_record()
    )
    write_json(folder / CONFIG, config)
    if record:
        write_json(folder / "data.json", record)


if __name__ == "__main__":
    run(Config, main)
