"""Links from an asset's page to its source: to the commit in git where it is published, else to the local file."""

import functools
import subprocess
from pathlib import Path

import dagster as dg
import pytest

from adc_pipeline.defs import code_references, ranking
from adc_pipeline.defs.code_references import linked, source_url, web_address, with_code_references

pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning")


def reference(asset: dg.AssetsDefinition) -> dg.UrlCodeReference | dg.LocalFileCodeReference:
    """Return the only link of an asset."""
    (spec,) = asset.specs
    (found,) = spec.metadata["dagster/code_references"].code_references
    return found


def git(folder: Path, *command: str) -> str:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    run = subprocess.run(["git", "-C", str(folder), *identity, *command], check=True, capture_output=True, text=True)
    return run.stdout.strip()


def line_of(file: str, number: int | None) -> str:
    return Path(file).read_text().splitlines()[(number or 0) - 1]


def test_a_local_link_names_the_file_and_the_line_of_the_asset() -> None:
    found = reference(linked(ranking.ranked_replies, None))
    assert isinstance(found, dg.LocalFileCodeReference)
    assert found.file_path == ranking.__file__
    assert line_of(found.file_path, found.line_number).startswith("@dg.asset")


def test_a_link_leads_to_the_wrapped_function() -> None:
    def framed(function: "functools._Wrapped[..., None, ..., None]") -> dg.AssetsDefinition:
        @functools.wraps(function)
        def frame() -> None:
            function()

        return dg.asset(frame)

    def declared() -> None: ...

    found = reference(linked(framed(declared), None))  # type: ignore[arg-type]
    assert isinstance(found, dg.LocalFileCodeReference)
    assert found.file_path == __file__
    assert line_of(__file__, found.line_number).strip() == "def declared() -> None: ..."


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


def test_a_published_clone_links_to_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message", "First")
    assert source_url(tmp_path) is None
    git(tmp_path, "remote", "add", "origin", "git@gitlab.example.org:group/project.git")
    root = f"https://gitlab.example.org/group/project/-/tree/{git(tmp_path, 'rev-parse', 'HEAD')}"
    assert source_url(tmp_path) == root

    monkeypatch.setattr(code_references, "source_url", lambda folder: root)
    found = reference(with_code_references([ranking.ranked_replies])[0])
    assert isinstance(found, dg.UrlCodeReference)
    file, line = found.url.removeprefix(f"{root}/adc_pipeline/").split("#L")
    assert line_of(str(Path(ranking.__file__).parents[1] / file), int(line)).startswith("@dg.asset")


def test_a_folder_inside_another_repository_is_not_its_source(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "remote", "add", "origin", "https://github.com/somebody/else.git")
    installed = tmp_path / ".venv" / "site-packages"
    installed.mkdir(parents=True)
    assert source_url(installed) is None
