"""A Hugging Face hub on this machine: the routes of its API that fetching and uploading use.

Files up to :data:`REGULAR` bytes are sent inside a commit, larger ones by Git LFS.
"""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_test"
REGULAR = 2000


@dataclass
class Repository:
    """The commits of a repository: each is the content of every file by its path."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)  # branches and tags
    messages: list[str] = field(default_factory=list)

    def commit(self, files: dict[str, bytes], message: str = "") -> str:
        """Add a commit to the main branch."""
        digest = hashlib.sha1(repr((len(self.commits), sorted(files.items()))).encode())
        sha = digest.hexdigest()
        self.commits[sha] = files
        self.refs["main"] = sha
        self.messages.append(message)
        return sha

    @property
    def files(self) -> dict[str, bytes]:
        """The files of the newest commit."""
        return self.commits[self.refs["main"]]


@dataclass
class Hub:
    """What the server holds, and what it was asked."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)  # of Git LFS, by SHA-256
    requests: list[str] = field(default_factory=list)

    def create(self, name: str, **options: bool) -> Repository:
        """Add a repository with an empty commit."""
        repository = Repository(**options)
        repository.commit({})
        self.repositories[name] = repository
        return repository


class Refused(Exception):
    """An answer with a status that is an error."""

    def __init__(self, status: int, code: str = "") -> None:
        super().__init__(status)
        self.status = status
        self.code = code


@contextmanager
def served() -> Iterator[Hub]:
    """Serve an empty hub on a port of this machine while the block runs."""
    hub = Hub()

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_HEAD(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def do_PUT(self) -> None:
        self._answer(self._put)

    def _answer(self, action: Any) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        self.parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        try:
            action()
        except Refused as refused:
            self._send(refused.status, b"{}", {"X-Error-Code": refused.code})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, content: object) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    @property
    def _is_logged_in(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _repository(self, name: str) -> Repository:
        """Return a repository that may be read."""
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and not self._is_logged_in):
            raise Refused(404 if self._is_logged_in else 401, "RepoNotFound")
        return repository

    def _files(self, repository: Repository, revision: str) -> tuple[str, dict[str, bytes]]:
        sha = repository.refs.get(revision, revision)
        if sha not in repository.commits:
            raise Refused(404, "RevisionNotFound")
        return sha, repository.commits[sha]

    def _get(self) -> None:
        if self.parts[:2] != ["api", "models"]:
            self._resolve()
            return
        name = "/".join(self.parts[2:4])
        repository = self._repository(name)
        action, *rest = self.parts[4:] or ["revision", "main"]
        sha, files = self._files(repository, rest[0])
        if action == "tree":
            self._json([_entry(path, content) for path, content in files.items()])
        else:
            siblings = [{"rfilename": path} for path in files]
            about = {"id": name, "sha": sha, "private": repository.private, "siblings": siblings}
            self._json(about)

    def _resolve(self) -> None:
        """Answer ``org/name/resolve/REVISION/PATH`` with a file."""
        repository = self._repository("/".join(self.parts[:2]))
        if repository.gated:
            raise Refused(403, "GatedRepo")
        sha, files = self._files(repository, self.parts[3])
        path = "/".join(self.parts[4:])
        if path not in files:
            raise Refused(404, "EntryNotFound")
        content = files[path]
        self._send(200, content, {"ETag": f'"{_etag(content)}"', "X-Repo-Commit": sha})

    def _post(self) -> None:
        if self.parts == ["api", "validate-yaml"]:
            self._json({"errors": [], "warnings": []})
            return
        if not self._is_logged_in:
            raise Refused(401)
        if self.parts == ["api", "repos", "create"]:
            self._create()
        elif self.parts[-3:] == ["lfs", "objects", "batch"]:
            self._batch()
        elif self.parts[4] == "preupload":
            files = json.loads(self.body)["files"]
            self._json({"files": [_mode(file) for file in files]})
        else:
            self._commit()

    def _create(self) -> None:
        asked = json.loads(self.body)
        name = f"{asked['organization']}/{asked['name']}"
        if asked["organization"] == "another":
            raise Refused(403)
        if name in self.hub.repositories:
            self._send(409, json.dumps({"url": f"{self.hub.url}/{name}"}).encode(), {})
            return
        private = asked.get("visibility") == "private" or asked.get("private", False)
        self.hub.create(name, private=private)
        self._json({"url": f"{self.hub.url}/{name}"})

    def _batch(self) -> None:
        objects = []
        for entry in json.loads(self.body)["objects"]:
            action = {"upload": {"href": f"{self.hub.url}/storage/{entry['oid']}"}}
            objects.append({**entry, "actions": action})
        self._json({"transfer": "basic", "objects": objects})

    def _put(self) -> None:
        assert hashlib.sha256(self.body).hexdigest() == self.parts[1]
        self.hub.stored[self.parts[1]] = self.body
        self._send(200, b"", {})

    def _commit(self) -> None:
        name = "/".join(self.parts[2:4])
        repository = self._repository(name)
        files = dict(repository.files)
        message = ""
        for line in self.body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "header":
                message = value["summary"]
            elif operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                files[value["path"]] = self.hub.stored[value["oid"]]
            else:
                del files[value["path"]]
        sha = repository.commit(files, message)
        self._json({"commitUrl": f"{self.hub.url}/{name}/commit/{sha}", "commitOid": sha})


def _mode(file: dict[str, Any]) -> dict[str, Any]:
    mode = "regular" if file["size"] <= REGULAR else "lfs"
    return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}


def _etag(content: bytes) -> str:
    """Return what names a content: of Git, or of Git LFS for large files."""
    if len(content) > REGULAR:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _entry(path: str, content: bytes) -> dict[str, Any]:
    entry = {"type": "file", "path": path, "size": len(content), "oid": "0" * 40}
    if len(content) > REGULAR:
        entry["lfs"] = {"oid": _etag(content), "size": len(content), "pointerSize": 130}
    else:
        entry["oid"] = _etag(content)
    return entry
