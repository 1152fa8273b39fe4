"""Links to the source code of every asset, shown on its page in Dagster.

In a git clone whose remote `origin` is on GitHub or GitLab, a link opens the file at the commit that is checked out.
Everywhere else (an installed wheel, the image, another host) it names the local file and line. A repository that
merely holds the environment into which the package is installed is not taken for the package's own.

Dagster's `with_source_code_references` combines the file of a wrapper with the line of the function that it wraps,
and reads the sources; here the function is unwrapped first, and its code object knows both. All assets together cost
15 ms when the definitions are loaded, nearly all of it two calls of git.
"""

import inspect
import re
import subprocess
import warnings
from collections.abc import Iterable
from pathlib import Path

import dagster as dg

PACKAGE = Path(__file__).parents[1]
# Without user and password: a link never shows a secret.
REMOTE = re.compile(r"^(?:\w+://)?(?:[^@/]+@)?(?P<host>[^:/@]+)(?::\d+)?[:/]/?(?P<path>.+?)(?:\.git)?/?$")


def with_code_references(assets: Iterable[dg.AssetsDefinition]) -> list[dg.AssetsDefinition]:
    """Return the assets, each with a link to the function that computes it."""
    root = source_url(PACKAGE.parent)
    with warnings.catch_warnings():
        # Dagster calls its code references beta, once for every asset.
        warnings.simplefilter("ignore", dg.BetaWarning)
        return [linked(asset, root) for asset in assets]


def linked(asset: dg.AssetsDefinition, root: str | None) -> dg.AssetsDefinition:
    """Return an asset with a link to its source: below the URL `root`, or to the local file if that is None."""
    code = inspect.unwrap(asset.op.compute_fn.decorated_fn).__code__  # type: ignore[union-attr]
    file, line = Path(code.co_filename), code.co_firstlineno
    reference: dg.UrlCodeReference | dg.LocalFileCodeReference
    if root and file.is_relative_to(PACKAGE):
        reference = dg.UrlCodeReference(url=f"{root}/{file.relative_to(PACKAGE.parent).as_posix()}#L{line}")
    else:
        reference = dg.LocalFileCodeReference(file_path=str(file), line_number=line)
    metadata = {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[reference])}
    return asset.map_asset_specs(lambda spec: spec.merge_attributes(metadata=metadata))


def source_url(folder: Path) -> str | None:
    """Return where the checked-out commit of a git work tree is published, or None where that is unknown."""
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
