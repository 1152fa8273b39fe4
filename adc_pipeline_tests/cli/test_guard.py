"""The guard of Dagster's page, asked as browsers and as other programs ask."""

import asyncio
import json
from typing import Any
from urllib.parse import quote

import pytest
from starlette.types import Message, Receive, Scope, Send

from adc_pipeline.cli.guard import Guard

LAUNCH = "mutation($e: ExecutionParams!) {launchRun(executionParams: $e) {__typename}}"
OURS = "127.0.0.1:3000"
FOREIGN = {"Origin": "http://pages.example"}
IMAGE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
LINK = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


def passes(path: str = "/", method: str = "GET", host: str = OURS, kind: str = "http", **headers: str) -> bool:
    """Return whether a request reaches the application."""
    reached, sent = [], []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(scope["path"])

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": f"{kind}.request"}

    path, _, query = path.partition("?")
    raw = {"Host": host, **{name.replace("_", "-"): value for name, value in headers.items()}}
    scope: dict[str, Any] = {"type": kind, "path": path, "query_string": query.encode(), "method": method}
    # A value with a line break stands for a header that is there twice.
    scope["headers"] = [
        (name.lower().encode(), value.encode()) for name, values in raw.items() for value in values.split("\n")
    ]
    asyncio.run(Guard(app, "workstation")(scope, receive, send))
    refused = {"http": "http.response.start", "websocket": "websocket.close"}[kind]
    assert bool(reached) != bool([message for message in sent if message["type"] == refused])
    return bool(reached)


def by_get(document: str, variables: dict[str, Any] | None = None) -> str:
    return f"/graphql?query={quote(document)}&variables={quote(json.dumps(variables or {}))}"


@pytest.mark.parametrize(
    "document",
    [
        LAUNCH,
        f"query Q {{version}} {LAUNCH}",
        f"# query {{version}}\n{LAUNCH}",
        "subscription {x}",
        "no GraphQL",
        "{a " * 5000 + "b" + "}" * 5000,
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
def test_a_mutation_is_executed_by_post_only(document: str, method: str) -> None:
    assert not passes(by_get(document), method)
    assert not passes(by_get("{version}") + f"&query={quote(document)}", method)
    assert passes(by_get(document), "POST")


@pytest.mark.parametrize("document", ["{version}", "query {version}", '{run(id: "mutation {x}") {id}}'])
def test_what_changes_nothing_passes_by_get(document: str) -> None:
    assert passes(by_get(document))


@pytest.mark.parametrize("host", [OURS, "localhost:3000", "LocalHost", "[::1]:3000", "192.168.0.7:3000", "Workstation"])
def test_the_names_that_are_served_pass(host: str) -> None:
    assert passes(host=host)
    assert passes(host=host, kind="websocket")


@pytest.mark.parametrize(
    "host",
    [
        *("pages.example", "127.0.0.1.pages.example:3000", "localhost.pages.example", "10.pages.example"),
        *("localhost.", "127.1", "127.0.0.1.", "0x7f.1", "::1", "localhost@pages.example", "pages.example#localhost"),
        *("", "[", "1:x", "x@127.0.0.1:3000", "127.0.0.1:99999", "127.0.0.1:3000, pages.example", "localhost:3000:1"),
    ],
)
def test_a_foreign_host_is_refused(host: str) -> None:
    assert not passes(host=host)
    assert not passes(host=host, kind="websocket")


@pytest.mark.parametrize(
    "origin",
    [
        "http://pages.example",
        "null",
        "http://127.0.0.1:5000",
        "http://127.0.0.1",
        "",
        "http://[",
        f"http://x@{OURS}",
        "é",
    ],
)
def test_another_origin_is_refused_and_the_pages_own_is_not(origin: str) -> None:
    for kind in ("http", "websocket"):
        assert not passes("/graphql", "POST", kind=kind, Origin=origin)
        assert passes("/graphql", "POST", kind=kind, Origin=f"http://{OURS}", Sec_Fetch_Site="same-origin")


def test_a_browser_may_follow_a_link_here_and_nothing_else_from_another_site() -> None:
    assert passes("/runs/1", **LINK)
    assert not passes(by_get(LAUNCH), **LINK)
    assert not passes("/runs/1", "POST", **LINK)
    assert not passes("/graphql?query={version}", **IMAGE)
    assert not passes("/", **{**LINK, "Sec-Fetch-Dest": "iframe"})
    assert not passes("/", **{**IMAGE, "Sec-Fetch-Site": "same-site"})
    # Typed into the address bar, or from a bookmark.
    assert passes("/", **{**LINK, "Sec-Fetch-Site": "none"})


def test_of_a_header_that_is_there_twice_every_value_counts() -> None:
    assert not passes(host=f"{OURS}\npages.example")
    assert not passes("/graphql", "POST", Origin=f"http://{OURS}\nhttp://pages.example")
    assert not passes("/graphql", "POST", Sec_Fetch_Site="same-origin\ncross-site")


def test_a_page_named_by_referer_alone_changes_nothing() -> None:
    for foreign in ("http://pages.example/x", "http://127.0.0.1:5000/", f"http://{OURS}.pages.example/", "about:blank"):
        assert not passes("/graphql", "POST", Referer=foreign)
        assert passes("/runs/1", Referer=foreign)
    assert passes("/graphql", "POST", Referer=f"http://{OURS}/runs/1?x=//y")
    assert not passes("/graphql", "POST", Sec_Fetch_Site="Cross-Site")


def test_a_program_that_is_no_browser_passes() -> None:
    assert passes("/graphql", "POST")
    assert passes("/graphql", kind="websocket")
    assert passes("/server_info")
