"""List the files of a corpus below a path: one file, one ConvoKit corpus, or all the data in a folder.

Files are chosen by their content. Links are followed: a folder or file that two ways lead to is read once, and links
that lead out of the folder are listed. Nothing is passed over silently: a file that is left out is listed with the
reason, and one that its name calls data and that cannot be read ends the run.
"""

import os
import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.named_files import FROM_KERNEL, access_problem, file_problem, is_of_kernel, read_small_json
from adc_pipeline.corpus.layouts.stack_exchange import STACK_EXCHANGE_COMMENTS, STACK_EXCHANGE_POSTS
from adc_pipeline.corpus.opening.numbered_files import missing_files
from adc_pipeline.corpus.opening.recorded_files import CONVOKIT_FILES, UTTERANCES, part_files
from adc_pipeline.corpus.opening.remote import RemoteFile
from adc_pipeline.corpus.opening.unfit import LostRecordsError, UnfitError, unfit
from adc_pipeline.corpus.recognition.engine_folders import (
    check_log,
    is_part_without_rows,
    no_data_reason,
    source_by_folder,
)
from adc_pipeline.corpus.recognition.formats import Format, Recognised, recognise

# Files whose names say that they are data: they are read, or end the run.
DATA = re.compile(
    r"(?i)(R[SC]_[^.]*|.*\.(zst|zst_blocks|gz|bz2|xz|lzma|jsonl|ndjson|csv|tsv|parquet|arrow|feather|zip|7z|rar|tar"
    r"|tgz|tbz2|txz))"
)
READING_ORDER = ("convokit", "submissions", "comments", "table", "archive")


@dataclass(frozen=True)
class DataFile:
    """A part of a corpus: a file, a ConvoKit folder, or the files of one Stack Exchange site (posts, comments)."""

    paths: tuple[Path, ...]
    what: Recognised
    # Stands for the source of utterances that name none.
    name: str
    # What the ids of utterances are unique in, below the source that the setting names.
    site: str = ""

    @property
    def is_site(self) -> bool:
        return self.what.layout in (STACK_EXCHANGE_POSTS, STACK_EXCHANGE_COMMENTS)

    @property
    def reading_order(self) -> tuple[int, str, Path]:
        kind = self.what.kind
        if kind == "layout":
            kind = "submissions" if self.what.has_roots else "comments"
        return READING_ORDER.index(kind), self.paths[0].name, self.paths[0]


@dataclass
class Listing:
    """What lies below a path: the data, what is left out and why, and which links lead elsewhere and where.

    `archives` are those that were unpacked: stamp and SHA-256 of each, by resolved path.
    """

    files: list[DataFile] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    archives: dict[str, dict[str, Any]] = field(default_factory=dict)


def list_data(path: Path, wanted: Format, columns: Mapping[str, str] | None = None) -> Listing:
    """Return the data at a path, posts before comments and otherwise by name.

    Raises PipelineError for a path that is no corpus, and for data that cannot be read.
    """
    if isinstance(path, RemoteFile):
        return list_remote(path, wanted, columns)
    if not os.path.isdir(path) or is_convokit_folder(path, wanted):
        what = recognise(path, wanted, columns)
        others = foreign_files(os.listdir(path)) if os.path.isdir(path) else []
        listing = Listing([data_file(path, what)], dict.fromkeys(others, FOREIGN))
        listing.files = grouped(listing.files, path.parent)
        return listing
    listing = Walk(path, wanted, columns or {}).listing()
    if not listing.files:
        reasons = [f"{name} {reason}" for name, reason in listing.left_out.items() if reason != HIDDEN]
        raise unfit(
            path,
            "is neither a ConvoKit corpus, which has utterances.jsonl, nor a folder of dumps or tables"
            + (f" ({'; '.join(reasons[:3])})" if reasons else ""),
        )
    return listing


def list_remote(path: RemoteFile, wanted: Format, columns: Mapping[str, str] | None = None) -> Listing:
    """Return the dumps at an address: one file, or those in a folder whose names say that they are data."""
    listing = Listing()
    single = not path.is_dir()
    for file in [path] if single else path.files():
        if not single and not is_named_data(file):
            listing.left_out[str(file).removeprefix(f"{path}/")] = "is at an address and has no name of data"
            continue
        what = recognise(file, wanted, columns)
        if what.container != "lines":
            raise unfit(
                file, "is at an address and holds no JSON lines, which alone are read without a copy: download it first"
            )
        listing.files.append(data_file(file, what))
    if not listing.files:
        raise unfit(path, "is an address of a folder without dumps")
    listing.files.sort(key=lambda file: file.reading_order)
    return listing


HIDDEN = "is hidden"
NO_NAME = "has no name of data, and the setting format says what the data is"
UNKNOWN_COLUMNS = "has no columns that are known"
FOREIGN = "is no file of a ConvoKit corpus"


def foreign_files(names: Iterable[str]) -> list[str]:
    """Return what lies in the folder of a ConvoKit corpus and is no part of it."""
    return sorted(set(names) - set(CONVOKIT_FILES))


def data_file(path: Path, what: Recognised, name: str = "") -> DataFile:
    name = name or (path.name if os.path.isdir(path) else path.name.split(".")[0]) or path.name
    return DataFile((path,), what, utf8(name))


def utf8(name: str) -> str:
    """Return a file name with the bytes that are no UTF-8 written as escapes."""
    return os.fsencode(name).decode(errors="backslashreplace")


class Walk:
    """One walk through a folder, real sub-folders before linked ones."""

    def __init__(self, root: Path, wanted: Format, columns: Mapping[str, str]) -> None:
        self.root, self.wanted, self.columns = root, wanted, columns
        self.found = Listing()
        self.real, self.linked = deque([root]), deque[Path]()
        self.folders: set[tuple[int, int]] = set()
        self.candidates: list[Path] = []

    def listing(self) -> Listing:
        while self.real or self.linked:
            self.enter(self.real.popleft() if self.real else self.linked.popleft())
        seen: dict[tuple[int, ...], Path] = {}
        for path in sorted(self.candidates, key=lambda path: (not is_named_data(path), path.is_symlink(), path)):
            try:
                stat = path.stat()
            except OSError as error:
                raise PipelineError(
                    f"{path}, in the folder that the setting corpus names, {access_problem(path, error)}."
                ) from error
            same = seen.setdefault((stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns), path)
            if same != path:
                self.leave_out(path, f"is the same file as {self.relative(same)}")
            else:
                self.look_at(path)
        for path, reason in missing_files(file.paths[0] for file in self.found.files).items():
            self.leave_out(path, reason)
        self.found.files = sorted(grouped(self.found.files, self.root), key=lambda file: file.reading_order)
        return self.found

    def enter(self, folder: Path) -> None:
        """List one folder: its sub-folders are entered later, its files looked at when all are known."""
        if is_of_kernel(folder):
            if folder == self.root:
                raise PipelineError(f"The folder {folder}, which the setting corpus names, {FROM_KERNEL}.")
            self.leave_out(folder, FROM_KERNEL.partition(":")[0])
            return
        try:
            stat = folder.stat()
            if (stat.st_dev, stat.st_ino) in self.folders:
                self.leave_out(folder, "is a folder that is read already")
                return
            self.folders.add((stat.st_dev, stat.st_ino))
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise PipelineError(
                f"The folder {folder}, which the setting corpus names, {access_problem(folder, error)}."
            ) from error
        if folder != self.root and is_convokit_folder(folder, self.wanted):
            self.found.files.append(data_file(folder, recognise(folder, self.wanted)))
            for name in foreign_files(entry.name for entry in entries):
                self.leave_out(folder / name, FOREIGN)
            return
        check_log(folder)
        listed = saved_dataset(folder)
        check_splits(folder)
        for entry in entries:
            path = Path(entry.path)
            if is_hidden(entry.name):
                self.leave_out(path, HIDDEN)
            elif reason := no_data_reason(entry.name):
                self.leave_out(path, reason)
            elif is_folder(entry):
                if entry.is_symlink() and self.leads_above(path):
                    self.leave_out(path, "is a link to a folder that holds this one")
                    continue
                self.note_link(path)
                (self.linked if entry.is_symlink() else self.real).append(path)
            elif problem := file_problem(path):
                self.cannot_be_read(path, problem)
            elif (listed is not None and entry.name in SAVED_DATASET) or entry.name == SPLITS:
                continue
            elif listed is not None and path.suffix == ".arrow" and entry.name not in listed:
                self.leave_out(path, "is not listed in state.json of its dataset")
            else:
                self.note_link(path)
                self.candidates.append(path)

    def look_at(self, path: Path) -> None:
        """Take a file as data, leave it out, or raise PipelineError where its name promises data."""
        if self.wanted != "auto" and not is_named_data(path):
            self.leave_out(path, NO_NAME)
            return
        try:
            what = recognise(path, self.wanted, self.columns)
        except UnfitError as error:
            is_needless = error.companion or is_part_without_rows(path.name, error.reason)
            if is_named_data(path) and not is_needless:
                raise
            self.leave_out(path, error.reason)
            return
        except PipelineError as error:
            if is_named_data(path) or isinstance(error, LostRecordsError):
                raise
            self.leave_out(path, "cannot be unpacked")
            return
        if what.certain or is_named_data(path):
            # The files of a saved dataset are numbered; its folder has the name.
            name = self.root.name if os.path.isfile(path.parent / STATE) and what.container == "arrow" else ""
            name = name or source_by_folder(path, self.root, what, self.columns)
            self.found.files.append(data_file(path, what, name))
        else:
            self.leave_out(path, UNKNOWN_COLUMNS)

    def cannot_be_read(self, path: Path, problem: str) -> None:
        if is_named_data(path):
            raise PipelineError(f"{path}, in the folder that the setting corpus names, {problem}.")
        self.leave_out(path, problem.partition(":")[0])

    def leave_out(self, path: Path, reason: str) -> None:
        self.found.left_out[self.relative(path)] = reason

    def leads_above(self, path: Path) -> bool:
        """Return whether a link leads to a folder around the root, such as `/`, which holds much else."""
        root, target = self.root.resolve(), path.resolve()
        return root != target and root.is_relative_to(target)

    def note_link(self, path: Path) -> None:
        if path.is_symlink() and not path.resolve().is_relative_to(self.root.resolve()):
            self.found.links[self.relative(path)] = utf8(str(path.resolve()))

    def relative(self, path: Path) -> str:
        return utf8(f"{path.relative_to(self.root)}{'/' * os.path.isdir(path)}")


def is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


STATE, SPLITS = "state.json", "dataset_dict.json"
# The files beside the data of a dataset that was saved to disk.
SAVED_DATASET = (STATE, "dataset_info.json")


def saved_dataset(folder: Path) -> set[str] | None:
    """Return the data files of a folder that `datasets` saved to disk, or None for another folder.

    Such a folder may also hold Arrow files with cached results of functions, which are no part of the dataset.
    """
    if not all(os.path.isfile(folder / name) for name in SAVED_DATASET):
        return None
    state = read_small_json(folder / STATE, "corpus")
    files = state.get("_data_files") if isinstance(state, dict) else None
    if not isinstance(files, list) or not all(isinstance(file, dict) and "filename" in file for file in files):
        return None
    if state.get("_indices_data_files"):
        raise PipelineError(
            f"The dataset {folder}, which the setting corpus names, was saved with a selection of its rows beside it:"
            " call flatten_indices() and save it again."
        )
    listed = {str(file["filename"]) for file in files}
    check_there(folder, STATE, sorted(listed))
    return listed


def check_splits(folder: Path) -> None:
    """Raise PipelineError if a folder of several saved datasets lacks one that its list of splits names."""
    if os.path.isfile(folder / SPLITS):
        content = read_small_json(folder / SPLITS, "corpus")
        splits = content.get("splits") if isinstance(content, dict) else None
        names = splits if isinstance(splits, list) else []
        check_there(folder, SPLITS, [name for name in names if isinstance(name, str)])


def check_there(folder: Path, listing: str, names: Sequence[str]) -> None:
    missing = [name for name in names if not os.path.lexists(folder / name)]
    if missing:
        raise PipelineError(
            f"The dataset {folder}, which the setting corpus names, lacks {', '.join(missing)}, which its {listing}"
            " lists, so the copy is incomplete: fetch it again."
        )


def grouped(files: Iterable[DataFile], root: Path) -> list[DataFile]:
    """Join the posts and the comments of each Stack Exchange site: comments name a post, but not its question."""
    sites: dict[Path, dict[str, DataFile]] = {}
    others = []
    for file in files:
        layout = file.what.layout
        if layout is not None and file.is_site:
            site = sites.setdefault(file.paths[0].parent, {})
            if layout.name in site:
                raise unfit(
                    file.paths[0].parent,
                    f"holds two files of {layout.name} ({site[layout.name].paths[0].name}, {file.paths[0].name}), and"
                    " a site has one",
                )
            site[layout.name] = file
        else:
            others.append(file)
    for folder, site in sites.items():
        posts, comments = site.get(STACK_EXCHANGE_POSTS.name), site.get(STACK_EXCHANGE_COMMENTS.name)
        if posts is None:
            raise unfit(
                folder, "holds the comments of a Stack Exchange site without Posts.xml, which the comments are on"
            )
        paths = (*posts.paths, *(comments.paths if comments else ()))
        below = folder.relative_to(root).as_posix() if folder.is_relative_to(root) else ""
        others.append(DataFile(paths, posts.what, folder.name, below))
    return others


def watched_files(path: Path, wanted: Format, columns: Mapping[str, str] | None = None) -> list[Path]:
    """Return the files whose size or time changes when the corpus at this path does.

    Files whose names say that they are data are not opened. Whatever cannot be listed is not watched.
    """
    if isinstance(path, RemoteFile):
        return [file for file in path.files() if is_named_data(file)] if path.is_dir() else [path]
    if not os.path.isdir(path):
        return [path]
    if is_convokit_folder(path, wanted):
        return part_files(path)
    walk = Walk(path, wanted, columns or {})
    while walk.real or walk.linked:
        walk.enter(walk.real.popleft() if walk.real else walk.linked.popleft())
    found = [file for part in walk.found.files for file in part_files(part.paths[0])]
    for file in walk.candidates:
        if is_named_data(file):
            found.append(file)
        elif wanted == "auto":
            try:
                found += [file] if recognise(file, wanted, columns).certain else []
            except PipelineError:
                continue
    return sorted(found)


def is_convokit_folder(path: Path, wanted: Format) -> bool:
    """Return whether a folder is read as one ConvoKit corpus."""
    return wanted == "convokit" or (wanted == "auto" and os.path.isfile(path / UTTERANCES))


def is_named_data(path: Path) -> bool:
    return DATA.fullmatch(path.name) is not None


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is hidden, or is what macOS, Office and Windows put beside others."""
    return name.startswith((".", "~$")) or name in ("__MACOSX", "$RECYCLE.BIN")
