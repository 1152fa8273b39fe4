"""Corpora at addresses: over HTTP from a server that cuts connections, from an S3-compatible server (moto's), from one
that speaks a part of the Hub's API, and from fsspec's memory.

8 s of CPU.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest
import zstandard
from huggingface_hub import constants

from adc_pipeline.core.errors import PipelineError, UnreachableError
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.corpus.opening import remote
from adc_pipeline.corpus.opening.recorded_files import FILES, record_files
from adc_pipeline.corpus.opening.remote import remote_file
from adc_pipeline.corpus.settings import CorpusSettings, UtteranceSettings
from adc_pipeline.corpus.source import check_source, corpus_state, fetch
from adc_pipeline.corpus.utterances import write_utterances
from adc_pipeline.corpus.watch import Watch, check_for_change
from adc_pipeline_tests.publishing import hub
from adc_pipeline_tests.stages import utterance_records

HOW = UtteranceSettings(max_set_aside=1.0)


class Server(ThreadingHTTPServer):
    """Serves files by name; cuts the first `cuts` answers to GET in the middle."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.cuts, self.version, self.asked = files, 0, "1", list[str]()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_HEAD(self) -> None:
        self.answer(False)

    def do_GET(self) -> None:
        self.answer(True)

    def answer(self, with_body: bool) -> None:
        content = self.server.files.get(self.path)
        if content is None:
            self.send_response(403 if self.path == "/closed" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.server.asked.append(self.headers.get("Range", ""))
        begin, end = 0, len(content)
        if wanted := self.headers.get("Range"):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            begin, end = int(first), min(end, int(last) + 1) if last else end
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(content)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(end - begin))
        self.send_header("ETag", f'"{self.server.version}"')
        self.end_headers()
        if with_body and self.server.cuts and end - begin > 1000:
            self.server.cuts -= 1
            self.wfile.write(content[begin : (begin + end) // 2])
            self.close_connection = True
        elif with_body:
            self.wfile.write(content[begin:end])

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@contextmanager
def serving(server: Any) -> Iterator[Any]:
    thread = threading.Thread(target=partial(server.serve_forever, 0.05), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(remote, "sleep", lambda _: None)
    with serving(Server({})) as found:
        yield found


def dump() -> bytes:
    """Return posts and comments as JSON lines that do not compress well."""
    posts = [{"id": f"p{k}", "title": f"t{k}", "selftext": str(hash((k, 1))), "score": k} for k in range(200)]
    comments = [
        {"id": f"c{k}", "link_id": f"t3_p{k % 200}", "parent_id": f"t3_p{k % 200}", "score": k, "author": f"a{k % 7}",
         "body": " ".join(str(hash((k, place))) for place in range(20))}
        for k in range(2000)
    ]  # fmt: skip
    return b"".join(json.dumps(line).encode() + b"\n" for line in [*posts, *comments])


def read(corpus: str, out: Path) -> list[Any]:
    (out / "raw").mkdir(parents=True)
    source = CorpusSettings(corpus)
    check_source(source)
    fetch(source, {}, out / "raw" / "corpus")
    record_files(out / "raw" / "corpus", out / "raw" / FILES)
    write_utterances(out / "raw" / "corpus", out / "rows", HOW, source=source)
    return utterance_records(out / "rows")


def test_a_dump_is_read_where_it_lies_although_connections_are_cut(server: Server, tmp_path: Path) -> None:
    content = dump()
    server.files = {"/RC.zst": zstandard.compress(content), "/RC.jsonl": content}
    (tmp_path / "RC.jsonl").write_bytes(content)
    here = read(str(tmp_path / "RC.jsonl"), tmp_path / "here")
    assert len(here) == 2200
    server.cuts = 3
    assert read(f"{server.address}/RC.zst", tmp_path / "packed") == here
    assert server.cuts == 0
    assert read(f"{server.address}/RC.jsonl", tmp_path / "plain") == here
    # Nothing of it lies in the raw corpus.
    assert (tmp_path / "plain" / "raw" / "corpus" / "00").stat().st_size < 200


def test_a_changed_remote_file_is_noticed(server: Server, tmp_path: Path) -> None:
    server.files = {"/RC.jsonl": dump()}
    source = CorpusSettings(f"{server.address}/RC.jsonl")
    before = corpus_state(source, tmp_path)
    (tmp_path / "raw").mkdir()
    fetch(source, {}, tmp_path / "raw" / "corpus")
    record_files(tmp_path / "raw" / "corpus", tmp_path / "raw" / FILES)
    server.version = "2"
    assert corpus_state(source, tmp_path) != before
    with pytest.raises(PipelineError, match="has changed since the corpus was recorded"):
        write_utterances(tmp_path / "raw" / "corpus", tmp_path / "rows", HOW, source=source)


def test_what_cannot_be_read_ends_in_a_sentence(server: Server) -> None:
    server.files = {"/RC.jsonl": dump(), "/table.csv": b"id,text,score\n1,a,2\n"}
    for name, sentence in (("gone", "does not exist there"), ("closed", "may not be read with the credentials")):
        with pytest.raises(PipelineError, match=sentence):
            check_source(CorpusSettings(f"{server.address}/{name}"))
    with pytest.raises(PipelineError, match="download it first"):
        check_source(CorpusSettings(f"{server.address}/table.csv"))
    server.cuts = 10_000
    with pytest.raises(UnreachableError, match="check the address and the network"):
        check_source(CorpusSettings(f"{server.address}/RC.jsonl"))


def test_a_server_that_cannot_be_reached_is_not_said_to_lack_the_file_nor_asked_twice_by_a_tick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(remote, "sleep", waited.append)
    corpus = CorpusSettings("http://127.0.0.1:9/RC.jsonl")
    with pytest.raises(UnreachableError, match="check the address and the network"):
        check_source(corpus)
    assert len(waited) == 4
    assert "check the address and the network" in check_for_change(Watch(), corpus, Store(tmp_path)).skip
    assert len(waited) == 4


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("ftp://host/RC.zst", "has an address that is not read"),
        ("http://example.org/RC.zst", "has an address that is not read"),
        ("file:///etc/passwd", "has an address that is not read"),
        ("https://someone:hunter2@host/RC.zst", "use an address without user, password and query"),
        ("https://host/RC.zst?X-Amz-Signature=hunter2", "use an address without user, password and query"),
    ],
)
def test_only_some_addresses_are_read_and_none_with_credentials(address: str, sentence: str) -> None:
    with pytest.raises(PipelineError, match=sentence) as raised:
        check_source(CorpusSettings(address))
    assert "hunter2" not in str(raised.value)


def test_a_path_holds_an_address_and_its_text_no_query() -> None:
    path = remote_file("https://host/a/RC_2018-09.zst?download=1")
    assert path.address == "https://host/a/RC_2018-09.zst?download=1"
    assert str(path) == "https://host/a/RC_2018-09.zst"


@pytest.mark.slow
def test_a_folder_of_dumps_is_read_from_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boto3, moto = pytest.importorskip("boto3"), pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "hunter2",
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_REGION": "us-east-1",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        remote.client.cache_clear()
        lines = dump().splitlines(keepends=True)
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket="corpus")
        months = {"RS.zst": lines[:200], "RC_1.zst": lines[200:1000], "RC_2.zst": lines[1000:]}
        for name, part in months.items():
            s3.put_object(Bucket="corpus", Key=f"reddit/{name}", Body=zstandard.compress(b"".join(part)))
        s3.put_object(Bucket="corpus", Key="reddit/readme.txt", Body=b"none")
        here = tmp_path / "here"
        here.mkdir()
        for name, part in months.items():
            (here / name).write_bytes(zstandard.compress(b"".join(part)))
        assert read("s3://corpus/reddit", tmp_path / "remote") == read(str(here), tmp_path / "local")
        with pytest.raises(PipelineError, match="does not exist there"):
            check_source(CorpusSettings("s3://corpus/gone.zst"))
    finally:
        server.stop()
        remote.client.cache_clear()


def months_of(content: bytes) -> dict[str, bytes]:
    lines = content.splitlines(keepends=True)
    months = {"RS.zst": lines[:200], "RC_1.zst": lines[200:1000], "RC_2.jsonl": lines[1000:]}
    joined = {name: b"".join(part) for name, part in months.items()}
    return {name: zstandard.compress(part) if name.endswith("zst") else part for name, part in joined.items()}


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The months as files of this machine."""
    folder = tmp_path / "files"
    folder.mkdir()
    for name, content in months_of(dump()).items():
        (folder / name).write_bytes(content)
    return folder


def test_a_folder_of_dumps_is_read_through_any_client(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fsspec's memory stands for Google Cloud Storage, whose own client finds no server here."""
    files = fsspec.filesystem("memory")
    for path in here.iterdir():
        files.pipe_file(f"/bucket/reddit/{path.name}", path.read_bytes())
    monkeypatch.setattr(remote, "client", lambda scheme, _: files if scheme == "gs" else None)
    assert read("gs://bucket/reddit", tmp_path / "remote") == read(str(here), tmp_path / "local")
    with pytest.raises(PipelineError, match="does not exist there"):
        check_source(CorpusSettings("gs://bucket/gone.zst"))


@pytest.mark.slow
def test_a_folder_of_dumps_is_read_from_the_hub(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub.serving() as served:
        files = {f"reddit/{path.name}": path.read_bytes() for path in here.iterdir()}
        served.repos["dataset", "me/corpus"] = hub.Repo(True, [("1" * 40, files)])
        # As HF_ENDPOINT would have it when the library is loaded.
        resolve = constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", served.url + resolve)
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(remote, "sleep", lambda _: None)
        monkeypatch.setenv("HF_TOKEN", served.token)
        remote.client.cache_clear()
        assert read("hf://datasets/me/corpus/reddit", tmp_path / "remote") == read(str(here), tmp_path / "local")
    remote.client.cache_clear()
