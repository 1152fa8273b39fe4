"""Links from an asset's page in Dagster to the source of the function that makes the asset.

In a git clone whose remote `origin` is on GitHub or GitLab, a link opens the file at the commit that is checked out.
Everywhere else (an installed wheel, the image, another host) it names the local file and line. A repository that
merely holds the environment into which the package is installed is not taken for the package's own.

Dagster's `with_source_code_references` would link every asset to the one function that frames them all. The code
object of a stage's function knows file and line without reading the source: 0.3 ms for 15 assets, and two calls of git
(10 ms) where there is a clone.
"""

import getpass
import inspect
import os
import re
import subprocess
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg

from adc_pipeline.core.terminal import printable

PACKAGE = Path(__file__).parents[1]
# Without user and password: a link never shows a secret.
REMOTE = re.compile(r"^(?:\w+://)?(?:[^@/]+@)?(?P<host>[^:/@]+)(?::\d+)?[:/]/?(?P<path>.+?)(?:\.git)?/?$")


def source_link(function: Callable[..., Any]) -> dict[str, dg.CodeReferencesMetadataValue]:
    """Return an asset's metadata with a link to a function's source."""
    code = inspect.unwrap(function).__code__
    file, line = Path(code.co_filename), code.co_firstlineno
    root = published_source(PACKAGE.parent)
    with warnings.catch_warnings():
        # Dagster calls its code references beta.
        warnings.simplefilter("ignore", dg.BetaWarning)
        reference: dg.UrlCodeReference | dg.LocalFileCodeReference
        if root and file.is_relative_to(PACKAGE):
            reference = dg.UrlCodeReference(url=f"{root}/{file.relative_to(PACKAGE.parent).as_posix()}#L{line}")
        else:
            reference = dg.LocalFileCodeReference(file_path=str(file), line_number=line)
        return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[reference])}


def origin_tags(function: Callable[..., Any]) -> dict[str, str]:
    """Return MLflow's own tags of a run: who started it, the file of the function that makes the asset, the commit."""
    try:
        # An environment variable, which may hold anything.
        user = printable(getpass.getuser(), kept="")
    except (OSError, KeyError):
        # A user id without a name, as in a container.
        user = str(os.getuid())
    file = Path(inspect.unwrap(function).__code__.co_filename)
    source = file.relative_to(PACKAGE.parent).as_posix() if file.is_relative_to(PACKAGE) else file.name
    tags = {"mlflow.user": user, "mlflow.source.name": source, "mlflow.source.type": "LOCAL"}
    if commit := checked_out_commit(PACKAGE.parent):
        tags |= {"mlflow.source.git.commit": commit.partition("-")[0]}
        tags |= {"mlflow.source.git.dirty": str(commit.endswith("-dirty")).lower()}
    return tags


@cache
def checked_out_commit(folder: Path) -> str | None:
    """Return the commit of a git work tree, with `-dirty` where files differ from it; None where there is no git."""
    if not (folder / ".git").exists():
        return None
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


@cache
def published_source(folder: Path) -> str | None:
    """Return the URL of the checked-out commit of a git work tree, or None where it has none on GitHub or GitLab."""
    if not (folder / ".git").exists():
        return None
    try:
        remote, commit = (
            subprocess.run(
                ["git", "-C", str(folder), *command], capture_output=True, text=True, check=True, timeout=5
            ).stdout.strip()
            for command in (["remote", "get-url", "origin"], ["rev-parse", "HEAD"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    url = web_address(remote)
    return url and f"{url}{'/-' if 'gitlab' in url else ''}/tree/{commit}"


def web_address(remote: str) -> str | None:
    """Return the web address of a git remote on GitHub or GitLab, without credentials; None for any other remote."""
    found = REMOTE.match(remote)
    if not found or not re.search(r"\bgit(hub|lab)\b", found["host"]):
        return None
    return f"https://{found['host']}/{found['path']}"
