"""Content of artefacts: digests, and what is damaged.

The digest of a folder is the first 32 hexadecimal digits of SHA-256 over the lines `SHA-256  PATH` of the files, sorted
by path; `sha256sum` and a text editor can verify it. Reads 1 GB/s.
"""

import errno
import hashlib
import os
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from adc_pipeline.core.atomic import is_temporary
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.records import checked_fields, parsed, record_text, regular_file
from adc_pipeline.core.store.manifests import LAYOUT, MAKING, MANIFEST, Artefact, unsealed
from adc_pipeline.core.terminal import printable

# A folder with what Dagster shows of the artefact.
SHOWN = ".shown"
# The files that did not count before manifests said which do not.
FIRST_UNHASHED = ("files.json", "README.md", "registered.json", "training.json")


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal; raise OSError for what is no regular file."""
    try:
        with regular_file(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except ValueError as error:
        raise error.__cause__ or OSError(errno.EINVAL, str(error), str(path)) from error


def file_stamp(path: Path) -> dict[str, int]:
    """Return size and modification time of a file: what a change of its content normally shows in."""
    stat = path.stat()
    return {"bytes": stat.st_size, "modified_ns": stat.st_mtime_ns}


def scan(folder: Path) -> dict[str, dict[str, Any]]:
    """Return `bytes`, `modified_ns` and `sha256` of each file below a folder, by relative path, sorted.

    Links are not followed. The manifest, the record of the making, what is shown, and what a killed writer of one of
    these has left are left out. Reads 1 GB/s.
    """
    found = (path for path in folder.rglob("*") if not is_temporary(path))
    paths = (path for path in found if path.is_file() and not path.is_symlink())
    files = sorted((str(path.relative_to(folder)), path) for path in paths if path.parent != folder / SHOWN)
    return {
        name: {**file_stamp(path), "sha256": file_digest(path)}
        for name, path in files
        if path.name not in (MANIFEST, MAKING)
    }


def content_digest(files: Mapping[str, Mapping[str, Any]], unhashed: Collection[str] = ()) -> str:
    """Return the digest of scanned files, without those of which the file or a folder has a name in `unhashed`."""
    left_out = set(unhashed)
    return combined_digest(
        (name, str(entry["sha256"])) for name, entry in files.items() if left_out.isdisjoint(name.split("/"))
    )


def folder_digest(folder: Path) -> str:
    """Return the digest of a folder's content; its manifest, if it has one, says which files do not count."""
    unhashed: Collection[str]
    try:
        unhashed = checked_fields(parsed(record_text(folder / MANIFEST)), {"unhashed": list[str]})["unhashed"]
    except FileNotFoundError:
        unhashed = ()
    except ValueError:
        # An early manifest, or a damaged one.
        unhashed = FIRST_UNHASHED
    return content_digest(scan(folder), unhashed)


def combined_digest(files: Iterable[tuple[str, str]]) -> str:
    """Return the digest of pairs (path, SHA-256), sorted by path."""
    text = "".join(f"{digest}  {name}\n" for name, digest in files)
    # Names of files may be bytes that are no UTF-8.
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:32]


def damage(made: Artefact, by_content: bool = False) -> list[str]:
    """Return the files of an artefact that are missing or altered.

    A file whose size and time are those of the manifest counts as intact; the content is compared only where they
    differ, as after a copy, or `by_content` for every file (1 s a gigabyte).
    """
    damaged = []
    for name, entry in made.files.items():
        path = made.path / name
        try:
            stamp = file_stamp(path)
            same = not by_content and all(entry[key] == value for key, value in stamp.items())
            if not same and (stamp["bytes"] != entry["bytes"] or file_digest(path) != entry["sha256"]):
                damaged.append(name)
        except (OSError, KeyError, TypeError):
            damaged.append(name)
    return damaged


def added_files(made: Artefact) -> list[str]:
    """Return the files in an artefact's folder that its manifest does not list, sorted.

    Readers find files by pattern, and a library opens whatever has the name of a file of its own, such as an adapter
    beside a model. Hidden files are left out, which neither does, and links, by which an artefact names a corpus. A
    manifest of the first layout lists no files.
    """
    found: list[str] = []
    if not made.files:
        return found
    for folder, folders, names in os.walk(made.path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(folder, name)
            relative = str(path.relative_to(made.path))
            # A file about the making may have been added by a later asset, before the artefact was made again.
            known = relative in made.files or relative in (MANIFEST, MAKING) or name in made.unhashed
            if not (known or name.startswith(".") or path.is_symlink()):
                found.append(relative)
    return sorted(found)


def refuse_added(artefact: Artefact) -> None:
    """Raise PipelineError if an artefact's folder holds files that it was not made with, which may be somebody's."""
    if added := added_files(artefact):
        raise PipelineError(
            f"{artefact.path} holds files that do not belong to {artefact.name} ({printable(', '.join(added[:3]))}) and"
            " might be read as part of it: move them to another folder."
        )


def refuse_damaged(artefact: Artefact) -> None:
    """Raise PipelineError if an artefact has another version's layout, or files that are missing, altered or added.

    For everything that is read of a version, whether or not it is an input.
    """
    if artefact.layout != LAYOUT:
        raise PipelineError(
            f"{artefact.name} in {artefact.path} was made by another version of this package, whose layout"
            f" ({artefact.layout}, here {LAYOUT}) cannot be read: materialize the asset {artefact.name} again."
        )
    if damaged := damage(artefact):
        raise PipelineError(
            f"{artefact.name} is damaged, {', '.join(damaged[:3])} in {artefact.path} is missing or altered:"
            f" materialize the asset {artefact.name} again."
        )
    refuse_added(artefact)


def mark_damaged(made: Artefact) -> list[str]:
    """Return the files whose content is not what was recorded, and change their times, so that every use notices."""
    damaged = damage(made, by_content=True)
    for name in damaged:
        with suppress(OSError):
            os.utime(made.path / name)
    return damaged


def altered_files(folder: Path) -> list[str]:
    """Return the files of a version whose content is not what was recorded, by reading all of them.

    Covers what the digest leaves out: files that describe the making, both records, and what Dagster shows.
    """
    found: list[str] = []
    recorded: dict[str, Any] = {}
    layout = None
    for record in (MANIFEST, MAKING):
        try:
            content = {"files": {}, "shown": {}} | unsealed(record_text(folder / record))
            checked_fields(content, {"files": dict[str, dict[str, Any]], "shown": dict[str, dict[str, Any]]})
            recorded |= content["files"] | content["shown"]
            layout = layout or content.get("layout")
        except FileNotFoundError:
            # Earlier versions of the package, and what has no manifest, have no record of the making.
            if record == MAKING and layout:
                found.append(record)
        except ValueError:
            found.append(record)
    for name, entry in recorded.items():
        path = folder / name
        if not path.is_file() or file_digest(path) != entry.get("sha256"):
            found.append(name)
    return found
