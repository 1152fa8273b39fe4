"""The artefact store: versions named by their content, replaced by an atomic rename.

An asset writes its files into a temporary folder. When it is done, the folder is named by the digest of its content and
moved to `ADC_HOME/store/ASSET/DIGEST`; the link `ADC_HOME/store/ASSET/current` is switched to it by one rename. The
asset's *place*, such as `ADC_HOME/datasets/top-2`, is a link to `current`. A reader therefore sees the old version or
the new one and never a half, and an old version stays where lineage can find it. A temporary folder that a killed run
left is removed by the next run of the same asset; a file lock tells whether anybody still writes there.

Each version has a manifest, `artefact.json`: settings, inputs, counts, and size, time and SHA-256 of every file. Using
a version compares sizes and times with it, and content where these differ, so that a lost or altered file is noticed.
This costs one `stat` a file.
"""

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from adc_pipeline.core.atomic import atomic_file, give_usual_mode, remove_folder
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.named_files import named_path
from adc_pipeline.core.records import checked_fields, record_text
from adc_pipeline.core.store.content import SHOWN, damage, file_digest, file_stamp
from adc_pipeline.core.store.links import locked, point, relative, sync, sync_files
from adc_pipeline.core.store.manifests import MAKING, MANIFEST, MANIFEST_TYPES, Artefact, unsealed, write_manifest

# A tag of a Dagster run: `true` rebuilds every asset of the run, whether or not it is up to date.
AGAIN = "adc/again"
CURRENT = "current"
DIGEST = re.compile("[0-9a-f]{32}")


def is_inside(path: str) -> bool:
    """Return whether a relative path of a manifest stays in its folder, and is a path."""
    return bool(path) and "\0" not in path and not path.startswith("/") and ".." not in path.split("/")


def remove_abandoned(folders: Iterable[Path]) -> None:
    """Remove those of the folders in which no process works, as their locks tell."""
    for folder in folders:
        with locked(folder) as free:
            if free:
                # Their removal may fail, as that of another user's folder.
                with suppress(OSError):
                    remove_folder(folder)


class Store:
    """The artefacts below one `ADC_HOME`."""

    def __init__(self, home: Path) -> None:
        self.home = home

    @classmethod
    def from_environment(cls) -> "Store":
        """Return the store in `ADC_HOME`; PipelineError if ADC_HOME is an address, which would become a path."""
        home = os.environ.get("ADC_HOME") or ".adc"
        if "://" in home:
            raise PipelineError("ADC_HOME is an address: point ADC_HOME to a folder.")
        return cls(named_path(home).absolute())

    def versions_of(self, name: str) -> Path:
        """Return the folder that holds all versions of an artefact; a partition's name is `ASSET/PARTITION`."""
        return self.home / "store" / name

    def place(self, name: str) -> Path:
        """Return the link to the current version of an artefact, whether or not there is one yet."""
        return self.versions_of(name) / CURRENT

    def version_path(self, name: str, digest: str) -> Path:
        return self.versions_of(name) / digest

    def current(self, name: str) -> Artefact:
        """Return the current version of an artefact; PipelineError if there is none."""
        return self._read(name, self.place(name))

    def intact(self, name: str) -> Artefact | None:
        """Return the current version of an artefact, if there is one and its files are as they were recorded.

        For what is reused of a version that is about to be replaced: a damaged record would be taken over silently.
        """
        with suppress(PipelineError):
            made = self.current(name)
            return None if damage(made) else made
        return None

    def version(self, name: str, digest: str) -> Artefact:
        """Return the version of an artefact that has this digest; PipelineError if it is not in the store."""
        return self._read(name, self.version_path(name, digest))

    def inputs(self, names: Iterable[str]) -> dict[str, Artefact]:
        """Return the versions that an artefact made now reads.

        Of each name the version that an earlier one in `names` was made from, so that all inputs fit together; else the
        current one. An evaluation thus reads the dataset that its model was trained on, however many came since.
        """
        found: dict[str, Artefact] = {}
        for name in names:
            digest = next((made.inputs[name] for made in found.values() if name in made.inputs), None)
            found[name] = self.version(name, digest) if digest else self.current(name)
        return found

    def settings_read(self, names: Iterable[str], inputs: Mapping[str, Artefact]) -> dict[str, dict[str, Any]]:
        """Return the settings of the artefacts `names` by which these inputs were made, where they are upstream.

        Those of an input itself are in its manifest. Those of an artefact above it are in the input's manifest: a
        version's own manifest shows the settings of its last making, which may have given the same files.
        """
        found = {key: made.settings for key, made in inputs.items() if key.partition("/")[0] in set(names)}
        for name in names:
            for made in inputs.values():
                if name not in found and name in made.inputs:
                    found[name] = self.settings_above(made, name)
        return found

    def settings_above(self, made: Artefact, name: str) -> dict[str, Any]:
        """Return the settings of an artefact's input by which it was made."""
        return made.upstream_settings.get(name) or self.version(name, made.inputs[name]).settings

    def versions(self) -> Iterator[Artefact]:
        """Return every version of every artefact, those of partitions included; not those without a manifest."""
        for manifest in self._stored(f"*/{MANIFEST}"):
            if not manifest.parent.name.startswith(".") and not manifest.parent.is_symlink():
                with suppress(PipelineError):
                    yield self._read(self.name_of(manifest.parent), manifest.parent)

    def unreadable(self) -> list[Path]:
        """Return the folders of versions whose manifest cannot be read or is missing; `versions` has the others."""
        found = []
        for folder in self._stored("*"):
            if DIGEST.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink():
                try:
                    self._read(self.name_of(folder), folder)
                except PipelineError:
                    found.append(folder)
        return found

    def name_of(self, version: Path) -> str:
        """Return the name of the artefact in whose folder a version lies; that of a partition has a slash."""
        return version.parent.relative_to(self.home / "store").as_posix()

    def _stored(self, pattern: str) -> Iterator[Path]:
        """Yield what matches a pattern in the folder of each artefact, then of each partition, both sorted."""
        for level in ("*/", "*/*/"):
            yield from sorted((self.home / "store").glob(level + pattern))

    def has_versions(self, name: str) -> bool:
        """Return whether there is any version of an artefact, current and readable or not."""
        return any(path.is_dir() for path in self.versions_of(name).glob("[!.]*"))

    def is_current(self, artefact: Artefact) -> bool:
        return os.path.realpath(self.place(artefact.name)) == os.path.realpath(artefact.path)

    def made_at(self, artefact: Artefact) -> float:
        """Return when this version was last made, in seconds since 1970."""
        return (artefact.path / MANIFEST).stat().st_mtime

    def size(self, artefact: Artefact) -> int:
        """Return the bytes of an artefact's files, without the targets of links."""
        return sum(path.lstat().st_size for path in artefact.path.rglob("*") if not path.is_dir())

    def being_written(self) -> list[str]:
        """Return the names of the artefacts that some process is writing now."""
        found = []
        for folder in self._stored(".making-*"):
            with locked(folder) as free:
                if not free and folder.exists():
                    found.append(self.name_of(folder))
        return found

    def remove_left(self) -> None:
        """Remove what killed runs have left of any artefact."""
        for folder in self._stored(".making-*"):
            with locked(folder.parent, wait=True):
                remove_abandoned([folder])
        # Work folders of which only the removal was interrupted; the others are gone on with.
        for level in ("*/", "*/*/"):
            for folder in (self.home / "work").glob(f"{level}*.removed.partial"):
                shutil.rmtree(folder, ignore_errors=True)

    def withdraw(self, artefact: Artefact) -> None:
        """Remove the links to a version that is current, so that the asset has no current version."""
        with locked(artefact.path.parent, wait=True):
            if self.is_current(artefact):
                self.place(artefact.name).unlink(missing_ok=True)

    def remove(self, name: str, digest: str, made_at: float) -> bool:
        """Remove a version unless it is current or was made again since `made_at`; return whether it was removed."""
        version = self.version_path(name, digest)
        doomed = version.with_name(f".making-removed-{digest}-{os.getpid()}")
        with locked(version.parent, wait=True):
            try:
                artefact = self._read(name, version)
            except PipelineError:
                return False
            if self.is_current(artefact) or self.made_at(artefact) != made_at:
                return False
            version.rename(doomed)
        # If this is interrupted, the next `aside` removes the rest.
        shutil.rmtree(doomed, ignore_errors=True)
        return True

    def _read(self, name: str, path: Path) -> Artefact:
        # Resolved first: the link may be switched between two accesses. `Path.resolve` raises an error for a loop.
        path = Path(os.path.realpath(path))
        try:
            manifest = unsealed(record_text(path / MANIFEST))
            known = {each.name: manifest[each.name] for each in fields(Artefact) if each.name in manifest}
            # Before there were numbers, a manifest had none.
            unhashed = checked_fields({"unhashed": []} | known, {"unhashed": list[str]})["unhashed"]
            complete = {**known, "unhashed": tuple(unhashed), "layout": known.get("layout", 0)}
            made = Artefact(path=path, **complete)
            checked_fields(vars(made), MANIFEST_TYPES)
            above = (f"{asset}/{digest}" for asset, digest in made.inputs.items())
            if outside := [path for path in (made.place or "-", *made.files, *above) if not is_inside(path)]:
                raise ValueError(f"it names {outside[0]!r:.60}")
            # `current` and the place are folders after a copy that followed links.
            version = path.parent == Path(os.path.realpath(self.versions_of(name))) and path.name != CURRENT
            if made.name != name or (version and path.name != made.digest):
                raise ValueError(f"it is that of {made.name} {made.digest}")
            return made
        except (FileNotFoundError, NotADirectoryError) as error:
            raise PipelineError(f"There is no {name} at {path}: materialize the asset {name} first.") from error
        except OSError as error:
            raise PipelineError(
                f"{path / MANIFEST} cannot be read ({error.strerror}): give this user access to ADC_HOME."
            ) from error
        except (ValueError, TypeError, KeyError) as error:
            # Cut off by a power failure: as good as absent.
            raise PipelineError(
                f"The manifest {path / MANIFEST} cannot be read: materialize the asset {name} again."
            ) from error

    @contextmanager
    def aside(self, name: str) -> Iterator[Path]:
        """Yield an empty temporary folder for the next version of an artefact; remove it when the block ends."""
        shelf = self.versions_of(name)
        shelf.mkdir(parents=True, exist_ok=True)
        folder = shelf / f".making-{os.getpid()}-{os.urandom(4).hex()}"
        with ExitStack() as held:
            with locked(shelf, wait=True):
                remove_abandoned(shelf.glob(".making-*"))
                folder.mkdir()
                held.callback(shutil.rmtree, folder, ignore_errors=True)
                held.enter_context(locked(folder, wait=True))
            yield folder

    @contextmanager
    def kept(self, name: str, key: str) -> Iterator[Path]:
        """Yield a work folder that survives if the block raises, for the next attempt with the same `key`.

        Work folders of other keys of the same artefact are removed, unless some process works there.
        """
        folder = self.home / "work" / name / key
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, wait=True):
            folder.mkdir(exist_ok=True)
            remove_abandoned(left for left in folder.parent.iterdir() if left != folder)
            yield folder
            remove_folder(folder)

    def put(self, folder: Path, artefact: Artefact) -> Artefact:
        """Move a temporary folder to the path of its digest, make it the current version, and return it."""
        version = self.version_path(artefact.name, artefact.digest)
        made = replace(artefact, path=folder)
        give_usual_mode(*folder.rglob("*"))
        sync_files(folder)
        with locked(version.parent, wait=True):
            if version.is_dir():
                made = self._renew(version, made)
            else:
                version.unlink(missing_ok=True)
                write_manifest(made)
                folder.rename(version)
                sync(version.parent)
            point(self.place(artefact.name), version)
        self.link_place(artefact)
        return replace(made, path=version)

    def link_place(self, artefact: Artefact) -> None:
        """Link an artefact's place to its current version, unless it is."""
        if not artefact.place:
            return
        place, current = self.home / artefact.place, self.place(artefact.name)
        place.parent.mkdir(parents=True, exist_ok=True)
        if not (place.is_symlink() and place.readlink() == relative(place, current)):
            point(place, current)

    def amend(self, made: Artefact, name: str, content: str) -> None:
        """Replace a file of a version that describes its making, which is one of `unhashed`."""
        with locked(made.path.parent, wait=True):
            with atomic_file(made.path / name) as partial:
                partial.write_text(content)
            entry = {**file_stamp(made.path / name), "sha256": file_digest(made.path / name)}
            write_manifest(replace(made, files={**made.files, name: entry}))

    def _renew(self, version: Path, made: Artefact) -> Artefact:
        """Update a version from a temporary folder with the same content; return what its manifest says now.

        Replaces the files that describe the making, links, and files that are damaged, each by a rename, the manifest
        last, so that a reader finds the old or the new one.
        """
        folder = made.path
        try:
            before = self._read(made.name, version)
        except PipelineError:
            before = replace(made, files={})
        damaged = {*damage(before), *(made.files.keys() - before.files.keys())}
        # A file that stays keeps its time.
        intact = {
            name: entry
            for name, entry in before.files.items()
            if name in made.files and name not in damaged and os.path.basename(name) not in made.unhashed
        }
        made = replace(made, files={**made.files, **intact})
        write_manifest(made)
        found = ((path, version / path.relative_to(folder)) for path in folder.rglob("*"))
        new = [
            (path, old)
            for path, old in found
            if path.name in (MANIFEST, MAKING, SHOWN, *made.unhashed)
            or path.is_symlink()
            or old.is_symlink()
            or str(path.relative_to(folder)) in damaged
        ]
        for path, old in sorted(new, key=lambda pair: pair[0] == folder / MANIFEST):
            # A folder that took the place of a link has been moved with all it holds.
            if not os.path.lexists(path):
                continue
            # A link became a folder, or the other way round.
            if old.is_dir() and not old.is_symlink():
                shutil.rmtree(old)
            elif path.is_dir() and not path.is_symlink():
                old.unlink(missing_ok=True)
            old.parent.mkdir(parents=True, exist_ok=True)
            path.replace(old)
        return made
