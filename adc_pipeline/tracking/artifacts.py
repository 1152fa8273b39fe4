"""Where MLflow keeps artifacts: addresses of folders, and files that its copies share with the store."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from adc_pipeline.core.atomic import replace_by_link
from adc_pipeline.tracking import database


def share(path: Path, location: str) -> None:
    """Replace MLflow's copies of a file, or of the files in a folder, by hard links, so that the disk has them once.

    `location` is the folder of artifacts that they were logged to. An artifact elsewhere than in a local folder, on
    another disk, or with other content stays.
    """
    if urlsplit(location).scheme not in ("", "file"):
        return
    for original in path.rglob("*") if path.is_dir() else [path]:
        copy = local_path(location) / original.relative_to(path.parent)
        if original.is_file() and copy.is_file():
            replace_by_link(copy, original.resolve())


def artifacts_of(uri: str, file: Path | None, home: Path) -> str | None:
    """Return where the artifacts of a database belong: beside an SQLite file, otherwise in ADC_HOME.

    A server decides by itself.
    """
    if uri.startswith(("http://", "https://")):
        return None
    return ((file.resolve().parent if file else home) / database.ARTIFACTS).as_uri()


def moved_from(location: str, expected: str) -> Path | None:
    """Return the folder of a local artifact location, unless it is the expected one or no local folder."""
    if urlsplit(location).scheme not in ("", "file"):
        return None
    folder, own = local_path(location), local_path(expected)
    # A folder with another name was chosen by a user.
    return None if folder.name != own.name or folder.resolve() == own.resolve() else folder


def local_path(address: str) -> Path:
    """Return the path of a `file:` address, or of a plain path."""
    parts = urlsplit(address)
    return Path(unquote(parts.path)) if parts.scheme == "file" else Path(address)
