"""Where artefacts live: whole or not at all, named by their content.

Every asset writes into a folder aside. When it is done, the folder is named by the digest of its content
and moved to `ADC_HOME/store/ASSET/DIGEST`, and the asset's place (`ADC_HOME/datasets/top-2`, say) is a
symbolic link that is switched over in one step. A reader therefore sees the old version or the new one,
never a half; and an older version stays where lineage can find it. What a killed run left aside is swept
away by the next run of the same asset, which knows by a file lock that nobody is writing there.

The digest is the first 32 hexadecimal digits of SHA-256 over the lines `SHA-256  PATH` of the artefact's
files, sorted by path: `sha256sum` and a text editor can check it.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from adc_pipeline.core.errors import PipelineError, is_disk_full

# A tag of a Dagster run: `true` makes every asset of it anew, whether or not anything has changed.
AGAIN = "adc/again"

PLACES = {
    "raw_corpus": "corpus/raw",
    "utterances": "corpus/utterances",
    "ranked_replies": "ranking/ranked_replies",
    "top_2": "datasets/top-2",
    "random_walk": "datasets/random-walk",
    "base_model": "models/base",
    "top_2_model": "models/top-2",
    "random_walk_model": "models/random-walk",
    "top_2_evaluation": "evaluations/top-2",
    "random_walk_evaluation": "evaluations/random-walk",
    "comparison": "evaluations/comparison",
    "top_2_champion": "champions/top-2",
    "random_walk_champion": "champions/random-walk",
    "study_cell": "study/cells",
    "study_table": "study/result",
}

# Which run of MLflow made an artefact, and of what outside ADC_HOME.
MAKING = "making.json"
# Beside the content, not part of it: these tell of the making (times, addresses) and differ between
# two runs that made the same thing.
UNHASHED = {"artefact.json", "files.json", "parts.json", MAKING, "README.md", "registered.json", "training.json"}


@dataclass(frozen=True)
class Artefact:
    """A finished artefact: where it is, what it is made of and how it was made."""

    name: str
    path: Path
    digest: str
    settings: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    code_version: str = ""


def differences(made: Artefact, settings: Mapping[str, Any], inputs: Mapping[str, str], code_version: str) -> list[str]:
    """What an artefact was made of that is not what it would be made of now, each in a few words."""
    found = [
        *differing("setting", made.settings, json.loads(json.dumps(settings))),
        *differing("input", made.inputs, inputs),
    ]
    return found if made.code_version == code_version else [*found, "its code has changed"]


def differing(what: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Each name under which two mappings do not say the same, as a reason."""
    return [f"{what} {name} has changed" for name in sorted({*before, *now}) if before.get(name) != now.get(name)]


def read_making(made: Artefact) -> dict[str, Any]:
    """What is noted of an artefact's making; empty for one from before this was noted."""
    try:
        noted: dict[str, Any] = json.loads((made.path / MAKING).read_text())
    except FileNotFoundError:
        return {"run": "", "address": "", "outside": {}}
    return noted


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digest(folder: Path) -> str:
    """The digest of all files below `folder` but those that tell of its making."""
    lines = sorted(
        (str(path.relative_to(folder)), file_digest(path))
        for path in folder.rglob("*")
        if path.is_file() and path.name not in UNHASHED
    )
    return combined_digest(lines)


def combined_digest(files: Iterable[tuple[str, str]]) -> str:
    """The digest of pairs (path, SHA-256), sorted by path."""
    text = "".join(f"{digest}  {name}\n" for name, digest in files)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Store:
    """The artefacts below one `ADC_HOME`."""

    def __init__(self, home: Path) -> None:
        self.home = home

    @classmethod
    def from_environment(cls) -> "Store":
        return cls(Path(os.environ.get("ADC_HOME") or ".adc").expanduser().absolute())

    def place(self, name: str) -> Path:
        """Where the current version is found; that of a partition, `ASSET/PARTITION`, below its asset's place."""
        asset, _, partition = name.partition("/")
        return self.home / PLACES[asset] / partition

    def current(self, name: str) -> Artefact:
        """The artefact that is in place; PipelineError where there is none yet."""
        return self._read(name, self.place(name))

    def version(self, name: str, digest: str) -> Artefact:
        """The version of an artefact that has this digest."""
        return self._read(name, self.version_path(name, digest))

    def version_path(self, name: str, digest: str) -> Path:
        return self.home / "store" / name / digest

    def versions(self) -> Iterator[Artefact]:
        """Every version in the store of every artefact, those of partitions included."""
        for pattern in ("*/*/artefact.json", "*/*/*/artefact.json"):
            for manifest in sorted((self.home / "store").glob(pattern)):
                if not manifest.parent.name.startswith("."):
                    name = manifest.parent.parent.relative_to(self.home / "store").as_posix()
                    yield self._read(name, manifest.parent)

    def is_in_place(self, artefact: Artefact) -> bool:
        try:
            return self.place(artefact.name).resolve() == artefact.path.resolve()
        except KeyError:
            # Of an asset that is no more.
            return False

    def made_at(self, artefact: Artefact) -> float:
        """When this version was made, or made again, last; seconds since 1970."""
        return (artefact.path / "artefact.json").stat().st_mtime

    def size(self, artefact: Artefact) -> int:
        """Bytes of its files, without what it links to."""
        return sum(path.lstat().st_size for path in artefact.path.rglob("*") if not path.is_dir())

    def in_the_making(self) -> list[str]:
        """The artefacts that somebody is writing at this moment."""
        found = []
        for pattern in ("*/.making-*", "*/*/.making-*"):
            for folder in sorted((self.home / "store").glob(pattern)):
                with locked(folder) as free:
                    if not free and folder.exists():
                        found.append(folder.parent.relative_to(self.home / "store").as_posix())
        return found

    def remove(self, name: str, digest: str, seen: float) -> bool:
        """Remove a version, unless it is in place or `made_at` is no longer what was `seen`; whether it went."""
        version = self.version_path(name, digest)
        aside = version.with_name(f".making-removed-{digest}-{os.getpid()}")
        with locked(version.parent, wait=True):
            try:
                artefact = self._read(name, version)
            except PipelineError:
                return False
            if self.is_in_place(artefact) or self.made_at(artefact) != seen:
                return False
            version.rename(aside)
        # Should this be cut short, the next `aside` sweeps up.
        shutil.rmtree(aside, ignore_errors=True)
        return True

    def _read(self, name: str, path: Path) -> Artefact:
        # Resolved first: the link may be switched over between two looks at it.
        path = path.resolve()
        try:
            manifest = json.loads((path / "artefact.json").read_text())
        except FileNotFoundError as error:
            raise PipelineError(f"There is no {name} at {path}: materialize the asset {name} first.") from error
        return Artefact(path=path, **manifest)

    def check_writable(self, free: int = 1 << 28) -> None:
        """Raise PipelineError unless `ADC_HOME` can be written to and has `free` bytes left."""
        if set("*?[") & set(str(self.home)):
            raise PipelineError(
                f"ADC_HOME = {self.home} contains one of * ? [, which DuckDB takes for patterns: point ADC_HOME to a"
                " folder without."
            )
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            probe = self.home / f".probe-{os.getpid()}"
            try:
                probe.write_bytes(b"probe")
            finally:
                # On a full disk it is there as well, and empty.
                probe.unlink(missing_ok=True)
        except OSError as error:
            if is_disk_full(error):
                raise PipelineError(
                    f"The disk of ADC_HOME = {self.home} is full: make room, or point ADC_HOME to another disk."
                ) from error
            raise PipelineError(
                f"ADC_HOME = {self.home} cannot be written to ({error.strerror}): point ADC_HOME to a folder that can."
            ) from error
        left = shutil.disk_usage(self.home).free
        if left < free:
            raise PipelineError(
                f"ADC_HOME = {self.home} has {left >> 20} MiB left and at least {free >> 20} are needed: make"
                " room or point ADC_HOME to another disk."
            )

    @contextmanager
    def aside(self, name: str) -> Iterator[Path]:
        """An empty folder to write the next version of an artefact into; removed when the block ends."""
        shelf = self.home / "store" / name
        shelf.mkdir(parents=True, exist_ok=True)
        folder = shelf / f".making-{os.getpid()}-{os.urandom(4).hex()}"
        with ExitStack() as held:
            with locked(shelf, wait=True):
                for left in shelf.glob(".making-*"):
                    with locked(left) as free:
                        if free:
                            shutil.rmtree(left, ignore_errors=True)
                folder.mkdir()
                held.callback(shutil.rmtree, folder, ignore_errors=True)
                held.enter_context(locked(folder, wait=True))
            yield folder

    @contextmanager
    def kept(self, name: str, key: str) -> Iterator[Path]:
        """A folder whose content outlives the block if it raises, for the next one with the same `key`.

        What other keys of the same asset have left is removed, unless somebody works there.
        """
        folder = self.home / "work" / name / key
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, wait=True):
            folder.mkdir(exist_ok=True)
            for left in folder.parent.iterdir():
                if left != folder:
                    with locked(left) as free:
                        if free:
                            shutil.rmtree(left, ignore_errors=True)
            yield folder
            shutil.rmtree(folder)

    def put(self, folder: Path, artefact: Artefact) -> Artefact:
        """Move a folder written aside to the place of its digest and make it the current version."""
        manifest = {key: value for key, value in asdict(artefact).items() if key != "path"}
        (folder / "artefact.json").write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")
        version = self.version_path(artefact.name, artefact.digest)
        with locked(version.parent, wait=True):
            if version.exists():
                _renew(version, folder)
            else:
                folder.rename(version)
        place = self.place(artefact.name)
        place.parent.mkdir(parents=True, exist_ok=True)
        link = place.with_name(f".{place.name}-{os.getpid()}")
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(version, place.parent))
        link.replace(place)
        return Artefact(**{**asdict(artefact), "path": version})


def _renew(version: Path, folder: Path) -> None:
    """Bring what tells of the making, and where links lead, from a folder with the same content.

    Each is replaced in one step, the manifest last, so that a reader finds the old one or the new one.
    """
    found = ((path, version / path.relative_to(folder)) for path in folder.rglob("*"))
    new = [(path, old) for path, old in found if path.name in UNHASHED or path.is_symlink() or old.is_symlink()]
    for path, old in sorted(new, key=lambda pair: pair[0] == folder / "artefact.json"):
        # With a folder that took the place of a link, all that lies in it has moved.
        if not os.path.lexists(path):
            continue
        # A link became a folder, which moves whole, or the other way round.
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(old)
        elif path.is_dir() and not path.is_symlink():
            old.unlink()
        path.replace(old)


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[bool]:
    """Hold the lock on a folder for the block; yields whether it was to be had, which `wait` makes sure of.

    The operating system lets go of it when the process ends, however it ends.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        yield False
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            held = True
        except BlockingIOError:
            held = False
        yield held
    finally:
        os.close(handle)


def flattened(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings with dotted names, as MLflow's parameters want them."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
