"""Links from an asset's page to its source: to the commit in git where it is published, else to the local file."""

import functools
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from adc_pipeline.defs import code_references
from adc_pipeline.defs.assets import ranking
from adc_pipeline.defs.code_references import origin_tags, published_source, source_link, web_address
from adc_pipeline.defs.stage import STAGES

RANKING = STAGES["ranked_replies"].make


def link(function: Callable[..., Any]) -> dg.UrlCodeReference | dg.LocalFileCodeReference:
    (found,) = source_link(function)["dagster/code_references"].code_references
    return found


def git(folder: Path, *command: str) -> str:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    run = subprocess.run(["git", "-C", str(folder), *identity, *command], check=True, capture_output=True, text=True)
    return run.stdout.strip()


def line_of(file: str | Path, number: int | None) -> str:
    return Path(file).read_text().splitlines()[(number or 0) - 1]


@pytest.fixture
def published_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], None]:
    return lambda root: monkeypatch.setattr(code_references, "published_source", lambda folder: root)


def test_a_local_link_names_file_and_line(published_at: Callable[[str | None], None]) -> None:
    published_at(None)
    found = link(RANKING)
    assert isinstance(found, dg.LocalFileCodeReference)
    assert found.file_path == ranking.__file__
    assert line_of(found.file_path, found.line_number).startswith(f"def {RANKING.__name__}(")


def test_a_link_leads_to_a_wrapped_function(published_at: Callable[[str | None], None]) -> None:
    published_at(None)
    found = link(functools.wraps(RANKING)(lambda: None))
    assert isinstance(found, dg.LocalFileCodeReference)
    assert found.file_path == ranking.__file__


def test_a_published_link_names_file_and_line(published_at: Callable[[str | None], None]) -> None:
    root = "https://github.com/owner/project/tree/0123abc"
    published_at(root)
    found = link(RANKING)
    assert isinstance(found, dg.UrlCodeReference)
    file, line = found.url.removeprefix(f"{root}/").split("#L")
    assert line_of(Path(ranking.__file__).parents[3] / file, int(line)).startswith(f"def {RANKING.__name__}(")


@pytest.mark.parametrize(
    "remote",
    [
        "git@github.com:owner/project.git",
        "ssh://git@github.com:22/owner/project.git",
        "https://github.com/owner/project",
        "https://name:secret@github.com/owner/project.git/",
    ],
)
def test_a_remote_becomes_a_web_address_without_secrets(remote: str) -> None:
    assert web_address(remote) == "https://github.com/owner/project"


@pytest.mark.parametrize("remote", ["/srv/git/project.git", "../project", "https://example.org/github/project.git", ""])
def test_another_remote_has_no_web_address(remote: str) -> None:
    assert web_address(remote) is None


@pytest.mark.parametrize(
    ("remote", "prefix"),
    [
        ("git@github.com:owner/project.git", "https://github.com/owner/project/tree/"),
        ("git@gitlab.example.org:group/project.git", "https://gitlab.example.org/group/project/-/tree/"),
        ("/srv/git/project.git", None),
    ],
)
def test_a_clone_is_published_at_its_commit(remote: str, prefix: str | None, tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message", "First")
    git(tmp_path, "remote", "add", "origin", remote)
    assert published_source(tmp_path) == (prefix and prefix + git(tmp_path, "rev-parse", "HEAD"))


def test_a_clone_without_a_remote_is_not_published(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    assert published_source(tmp_path) is None


def test_a_folder_inside_another_repository_is_not_published_there(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message", "First")
    git(tmp_path, "remote", "add", "origin", "https://github.com/somebody/else.git")
    installed = tmp_path / ".venv" / "site-packages"
    installed.mkdir(parents=True)
    assert published_source(installed) is None


@pytest.mark.parametrize(("name", "shown"), [("ann\x1b[1m", "ann\\x1b[1m"), ("b\udcff", "b\\udcff"), ("Zoë", "Zoë")])
def test_the_user_of_a_run_has_no_control_characters(name: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", name)
    assert origin_tags(RANKING)["mlflow.user"] == shown
