"""Runs on the Hugging Face hub: fetched by their name, and uploaded as a folder of files.

``org/name`` or ``org/name@revision`` is a repository of models, where no local path has that name;
``hub:org/name`` is one in any case. A repository holds the files of ``univae export``: JSON and
safetensors, so that opening it executes no code. The hub's client keeps what it downloads in its
own cache; the run folder that is opened, in the user's cache, has links to these files.

In one process a name is looked up once. The library is imported only where a name is opened.
"""

import os
import re
import shutil
from functools import cache
from pathlib import Path
from typing import NamedTuple

from univae._version import __version__
from univae.checksums import RUN_FILES, WEIGHTS
from univae.errors import InputError
from univae.exported import CONFIG, NAME, cached_folder

__all__ = ["CARD", "hub_folder", "is_hub_name", "is_repository", "open_hub", "upload"]

HUB = "hub:"
PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
REPOSITORY = re.compile(f"{PART}/{PART}")
HUB_NAME = re.compile(f"({HUB})?(?P<repository>{PART}/{PART})(@(?P<revision>[A-Za-z0-9_./-]+))?")
CARD = "README.md"  # the page of a repository

# The files of a run in a repository, of which the best checkpoint and those before calibrations.
FILES = (CONFIG, *RUN_FILES, f"checkpoints/*/{WEIGHTS}", "checkpoints/*/state.json")

LONGEST_NAME = 96  # characters of a repository's name
LONGEST_REASON = 160  # characters of the library's message
LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
# Exceptions of the library of HTTP, which the client passes on.
UNREACHED = ("ConnectError", "ConnectTimeout", "ReadTimeout", "ConnectionError")
DENIED = (401, 403)  # statuses of HTTP: no token, or one without the permission
EXTRA = "needs the extra hub: pip install 'univae[hub]'"


class HubName(NamedTuple):
    """A repository of the hub, and a branch, tag or commit of it."""

    repository: str
    revision: str | None  # None: the newest commit of the main branch


def is_hub_name(path: Path) -> bool:
    """Return whether a path is the name of a repository: there is no file or folder of that name.

    A path in an existing folder is one on this machine that is missing, unless ``hub:`` is before
    it.
    """
    if os.path.lexists(path) or HUB_NAME.fullmatch(path.as_posix()) is None:
        return False
    return path.as_posix().startswith(HUB) or not path.parent.exists()


def is_repository(name: str) -> bool:
    """Return whether a text is the name of a repository, ``org/name``."""
    is_allowed = not any(part in name for part in ("--", "..")) and not name.endswith(".git")
    return is_allowed and len(name) <= LONGEST_NAME and REPOSITORY.fullmatch(name) is not None


def open_hub(path: Path) -> Path:
    """Return the folder of a run of the hub, in the user's cache.

    Raises:
        InputError: huggingface-hub is not installed; there is no such repository, or no permission
            to read it; it is no run; or the hub cannot be reached and it was not fetched before.
    """
    name = _parsed(path.as_posix())
    snapshot = _snapshot(name, FILES)
    if not (snapshot / CONFIG).is_file():
        raise InputError(
            f"{path}: the repository is not a run of univae, for it holds no {CONFIG}; "
            "univae push uploads one"
        )
    if not any(snapshot.glob(f"checkpoints/*/{WEIGHTS}")):
        raise InputError(
            f"{path}: its weights are not fetched; open it again where the hub can be reached"
        )
    cached = f"{name.repository.replace('/', '--')}--{snapshot.name}"
    folder = cached_folder(cached, path, lambda folder: _link(snapshot, folder))
    _link(snapshot, folder)  # what an earlier fetch, which was interrupted, had not fetched yet
    return folder


def hub_folder(name: str, files: tuple[str, ...]) -> Path:
    """Return a folder with the files of a repository of the hub that match patterns.

    Raises:
        InputError: see :func:`open_hub`.
    """
    return _snapshot(_parsed(name), files)


def _parsed(name: str) -> HubName:
    """Return the parts of a name of the hub.

    Raises:
        InputError: it is none.
    """
    matched = HUB_NAME.fullmatch(name)
    if matched is None:
        raise InputError(f"{name}: give the name of a repository as org/name or org/name@v1")
    return HubName(matched["repository"], matched["revision"])


@cache
def _snapshot(name: HubName, files: tuple[str, ...]) -> Path:
    """Return the folder of the client's cache that holds a commit; fetch what is missing.

    Raises:
        InputError: see :func:`open_hub`.
    """
    where = f"{name.repository} does not exist on this machine"
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise InputError(f"{where}; opening it from the Hugging Face hub {EXTRA}") from error
    try:
        folder = snapshot_download(
            name.repository,
            revision=name.revision,
            allow_patterns=list(files),
            library_name="univae",
            library_version=__version__,
        )
    except Exception as error:  # of the client, and of the library that it reads HTTP with
        raise InputError(f"{where}, and {_reason(error, name.revision)}") from error
    return Path(folder)


def _link(snapshot: Path, folder: Path) -> None:
    """Fill a folder with links to the files of a run in a snapshot, or copies of them."""
    for path in sorted(snapshot.rglob("*")):
        name = path.relative_to(snapshot).as_posix()
        target = folder / name
        if not path.is_file() or not NAME.fullmatch(name) or target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path.resolve(), target)
        except OSError:  # another file system, or one without links
            shutil.copyfile(path, target)


def upload(folder: Path, repository: str, message: str, *, private: bool) -> str:
    """Upload the files of a folder as one commit, and return the address of the repository.

    The repository is created where it is missing. Files of a run that it holds and the folder does
    not are deleted; any other stays.

    Args:
        folder: the files.
        repository: ``org/name``.
        message: of the commit.
        private: only its owner can read the repository.

    Raises:
        InputError: huggingface-hub is not installed; ``private``, and the repository exists and is
            public; no permission to write; or the hub cannot be reached.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise InputError(f"push: {EXTRA}") from error
    api = HfApi(library_name="univae", library_version=__version__)
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        if private and not api.repo_info(repository).private:
            raise InputError(
                f"push: {repository} exists and is public; give another name, or make it private "
                "on its page"
            )
        api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            commit_message=message,
            delete_patterns=list(FILES),
        )
    except Exception as error:  # of the client, and of the library that it reads HTTP with
        if isinstance(error, InputError):
            raise
        raise InputError(f"push: {repository} was not uploaded: {_reason(error)}") from error
    _snapshot.cache_clear()
    return str(address)


def _reason(error: Exception, revision: str | None = None) -> str:
    """Return why the hub's client failed, and the way out."""
    from huggingface_hub import utils

    if isinstance(error, utils.GatedRepoError):
        return f"reading it on the hub needs permission: ask for it on its page, and {LOG_IN}"
    if isinstance(error, utils.RevisionNotFoundError):
        return f"its repository on the hub has no revision {revision}; give a branch, tag or commit"
    if _status(error) in DENIED and not isinstance(error, utils.RepositoryNotFoundError):
        return f"the hub does not permit it: {LOG_IN} of a token that may"
    if isinstance(error, utils.RepositoryNotFoundError):
        return f"the hub has no such model, or it is private: check the name, or {LOG_IN}"
    if isinstance(error, utils.LocalEntryNotFoundError):
        return "the hub cannot be reached, nor was it fetched before; check the network"
    if type(error).__name__ in UNREACHED:
        return "the hub cannot be reached; check the network"
    words = " ".join(str(error).split())[:LONGEST_REASON] or type(error).__name__
    return f"the hub's client failed ({words}); check the network and the name"


def _status(error: Exception) -> int | None:
    """Return the status of an answer of HTTP, None where there was no answer."""
    return getattr(getattr(error, "response", None), "status_code", None)
