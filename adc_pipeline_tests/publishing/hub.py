"""A server on this machine that speaks the parts of the Hugging Face Hub's API that publishing and loading use.

Repositories are kept in memory: commits as snapshots of paths to contents, large files by their SHA-256. `fail` names a
request (method and a part of its path) that is answered by an error a number of times.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

from huggingface_hub import DatasetCard, ModelCard

LARGE = (".parquet", ".safetensors")
WHEN = "2026-01-01T00:00:00.000Z"


def blob_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def folder(below: str, name: str) -> dict[str, Any]:
    """Return how the Hub describes a folder."""
    return {"type": "directory", "path": f"{below}/{name}".strip("/"), "oid": "0" * 40, "size": 0}


@dataclass
class Repo:
    private: bool
    # Commits in order: id and snapshot.
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=lambda: [("0" * 40, {})])
    messages: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)

    def snapshot(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        commit = self.tags.get(revision, revision)
        if revision == "main":
            return self.commits[-1]
        return next((each for each in self.commits if each[0] == commit), None)


@dataclass
class Hub:
    url: str = ""
    token: str = "hf_secret"
    repos: dict[tuple[str, str], Repo] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    # Method, part of the path, times.
    fail: list[tuple[str, str, int]] = field(default_factory=list)
    refuse: bool = False

    def uploads(self) -> list[str]:
        return [path for method, path in self.requests if method == "PUT"]


@contextmanager
def serving() -> Iterator[Hub]:
    """Serve a hub on a free port while the block runs."""
    hub = Hub()

    class Bound(Handler):
        pass

    Bound.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self, status: int, content: Any = None, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_request(self) -> None:
        path = unquote(urlsplit(self.path).path)
        length = int(self.headers.get("Content-Length") or 0)
        if self.headers.get("Transfer-Encoding") == "chunked":
            pieces = []
            while size := int(self.rfile.readline(), 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            body = b"".join(pieces)
        else:
            body = self.rfile.read(length)
        self.hub.requests.append((self.command, path))
        for index, (method, part, times) in enumerate(self.hub.fail):
            if method == self.command and part in path and times:
                self.hub.fail[index] = (method, part, times - 1)
                return self.answer(500, {"error": "failing on purpose"})
        signed = path.startswith("/large/")
        if not signed and (self.hub.refuse or self.headers.get("Authorization") != f"Bearer {self.hub.token}"):
            return self.answer(403 if self.hub.refuse else 401, {"error": "refused"})
        for method, pattern, answer in ROUTES:
            if method == self.command and (match := re.fullmatch(pattern, path)):
                return answer(self, body, **match.groupdict())
        return self.answer(404, {"error": f"no route {self.command} {path}"})

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_request

    def repo(self, kind: str, repo: str) -> Repo | None:
        found = self.hub.repos.get((kind, repo))
        if found is None:
            self.answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        return found

    def create(self, body: bytes) -> None:
        given = json.loads(body)
        owner = given.get("organization") or "me"
        key = (given.get("type", "model"), f"{owner}/{given['name']}")
        private = given.get("private", given.get("visibility") == "private")
        there = key in self.hub.repos
        self.hub.repos.setdefault(key, Repo(bool(private)))
        prefix = "datasets/" if key[0] == "dataset" else ""
        self.answer(409 if there else 200, {"url": f"{self.hub.url}/{prefix}{key[1]}", "error": "exists"})

    def whoami(self, body: bytes) -> None:
        self.answer(200, {"name": "me", "type": "user", "auth": {}})

    def preupload(self, body: bytes, kind: str, repo: str, revision: str) -> None:
        if (found := self.repo(kind, repo)) is None:
            return
        there = found.commits[-1][1]
        files = [
            {
                "path": each["path"],
                "uploadMode": "lfs" if each["path"].endswith(LARGE) else "regular",
                "shouldIgnore": False,
                "oid": self.oid(there[each["path"]], each["path"]) if each["path"] in there else None,
            }
            for each in json.loads(body)["files"]
        ]
        self.answer(200, {"files": files})

    @staticmethod
    def oid(content: bytes, path: str) -> str:
        return hashlib.sha256(content).hexdigest() if path.endswith(LARGE) else blob_oid(content)

    def batch(self, body: bytes, repo: str, kind: str | None = None) -> None:
        objects = []
        for each in json.loads(body)["objects"]:
            actions = {"upload": {"href": f"{self.hub.url}/large/{each['oid']}"}}
            objects.append({**each, **({} if each["oid"] in self.hub.large else {"actions": actions})})
        self.answer(200, {"transfer": "basic", "objects": objects})

    def upload(self, body: bytes, oid: str) -> None:
        assert hashlib.sha256(body).hexdigest() == oid
        self.hub.large[oid] = body
        self.answer(200, {})

    def commit(self, body: bytes, kind: str, repo: str, revision: str) -> None:
        if (found := self.repo(kind, repo)) is None:
            return
        files = dict(found.commits[-1][1])
        for line in filter(None, body.splitlines()):
            entry = json.loads(line)
            value = entry["value"]
            match entry["key"]:
                case "header":
                    found.messages.append(value["summary"])
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.hub.large[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]
        id = hashlib.sha1(repr((len(found.commits), sorted(files.items()))).encode()).hexdigest()
        found.commits.append((id, files))
        prefix = "datasets/" if kind == "dataset" else ""
        self.answer(200, {"success": True, "commitOid": id, "commitUrl": f"{self.hub.url}/{prefix}{repo}/commit/{id}"})

    def tag(self, body: bytes, kind: str, repo: str, revision: str) -> None:
        if (found := self.repo(kind, repo)) is not None:
            found.tags[json.loads(body)["tag"]] = revision
            self.answer(200, {})

    def refs(self, body: bytes, kind: str, repo: str) -> None:
        if (found := self.repo(kind, repo)) is not None:
            tags = [{"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": id} for tag, id in found.tags.items()]
            main = {"name": "main", "ref": "refs/heads/main", "targetCommit": found.commits[-1][0]}
            self.answer(200, {"branches": [main], "converts": [], "tags": tags})

    def info(self, body: bytes, kind: str, repo: str, revision: str = "main") -> None:
        if (found := self.repo(kind, repo)) is not None:
            if (there := found.snapshot(revision)) is None:
                return self.answer(404, {"error": "no revision"}, {"X-Error-Code": "RevisionNotFound"})
            files = [{"rfilename": path} for path in there[1]]
            facts = {"id": repo, "sha": there[0], "private": found.private, "siblings": files, "tags": [],
                     "lastModified": WHEN, "createdAt": WHEN, "downloads": 0, "likes": 0}  # fmt: skip
            self.answer(200, facts)

    def described(self, path: str, content: bytes) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": blob_oid(content)}
        if path.endswith(LARGE):
            entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 100}
        return entry

    def tree(self, body: bytes, kind: str, repo: str, revision: str, below: str | None = None) -> None:
        if (found := self.repo(kind, repo)) is not None and (there := found.snapshot(revision)):
            below = (below or "").strip("/")
            files = {
                path: content for path, content in there[1].items() if path.startswith(f"{below}/" if below else "")
            }
            if below and not files:
                return self.answer(404, {"error": "no entry"}, {"X-Error-Code": "EntryNotFound"})
            names = {path.removeprefix(f"{below}/" if below else "") for path in files}
            folders = sorted({name.partition("/")[0] for name in names if "/" in name})
            self.answer(
                200, [*(self.described(*each) for each in files.items()), *(folder(below, name) for name in folders)]
            )

    def paths(self, body: bytes, kind: str, repo: str, revision: str) -> None:
        if (found := self.repo(kind, repo)) is not None and (there := found.snapshot(revision)):
            try:
                wanted = json.loads(body)["paths"]
            except ValueError:
                from urllib.parse import parse_qs

                wanted = parse_qs(body.decode())["paths"]
            entries: list[dict[str, Any]] = []
            for path in wanted:
                if path in there[1]:
                    entries.append(self.described(path, there[1][path]))
                elif any(name.startswith(f"{path}/") for name in there[1]):
                    entries.append(folder("", path))
            self.answer(200, entries)

    def resolve(self, body: bytes, repo: str, revision: str, path: str, kind: str | None = None) -> None:
        if (found := self.repo("dataset" if kind else "model", repo)) is None:
            return
        there = found.snapshot(revision)
        if there is None or path not in there[1]:
            return self.answer(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
        content = there[1][path]
        headers = {"X-Repo-Commit": there[0], "ETag": f'"{self.oid(content, path)}"', "Accept-Ranges": "bytes"}
        if given := self.headers.get("Range"):
            first, _, last = given.removeprefix("bytes=").partition("-")
            begin, end = int(first), int(last) + 1 if last else len(content)
            headers["Content-Range"] = f"bytes {begin}-{min(end, len(content)) - 1}/{len(content)}"
            return self.answer(206, content[begin:end], headers)
        self.answer(200, content, headers)

    def valid(self, body: bytes) -> None:
        """Check a card's metadata as far as huggingface_hub knows the rules, and its licence by a few names."""
        given, errors = json.loads(body), []
        try:
            data: Any = (ModelCard if given["repoType"] == "model" else DatasetCard)(given["content"]).data
            if data.license not in ("mit", "cc-by-4.0", "other"):
                errors.append({"message": f'"license" must be one of [...], not {data.license}'})
        except (ValueError, TypeError) as error:
            errors.append({"message": str(error)})
        self.answer(400 if errors else 200, {"errors": errors, "warnings": []})


API = r"/api/(?P<kind>dataset|model)s/(?P<repo>[^/]+/[^/]+)"
RESOLVE = r"/(?P<kind>datasets/)?(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)"
ROUTES: list[tuple[str, str, Any]] = [
    ("POST", "/api/repos/create", Handler.create),
    ("GET", "/api/whoami-v2", Handler.whoami),
    ("POST", "/api/validate-yaml", Handler.valid),
    ("POST", API + "/preupload/(?P<revision>.+)", Handler.preupload),
    ("POST", r"/(?P<kind>datasets/)?(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch", Handler.batch),
    ("PUT", "/large/(?P<oid>.+)", Handler.upload),
    ("POST", API + "/commit/(?P<revision>.+)", Handler.commit),
    ("POST", API + "/tag/(?P<revision>.+)", Handler.tag),
    ("GET", API + "/refs", Handler.refs),
    ("GET", API, Handler.info),
    ("GET", API + "/revision/(?P<revision>.+)", Handler.info),
    ("GET", API + "/tree/(?P<revision>[^/]+)(?P<below>/.*)?", Handler.tree),
    ("POST", API + "/paths-info/(?P<revision>.+)", Handler.paths),
    *(
        (
            method,
            r"/(?P<kind>datasets/)?(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)",
            Handler.resolve,
        )
        for method in ("GET", "HEAD")
    ),
]
