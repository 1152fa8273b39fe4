"""Unpack the data of a zip or tar archive (the latter packed or not): only what is read, only inside one folder.

Each member's first bytes are looked at before any of it is written, so that what is no data stays packed; and what
will be written is added up and compared with the free disk first. Links, devices and other special members are never
created.
"""

import errno
import io
import lzma
import os
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, cast

from adc_pipeline.core.errors import PipelineError, is_disk_full, limit_of_system
from adc_pipeline.corpus.files.folders import HIDDEN, NO_NAME, UNKNOWN_COLUMNS, is_hidden, is_named_data
from adc_pipeline.corpus.opening.first_bytes import content
from adc_pipeline.corpus.opening.packings import BLOCK, Unpacked
from adc_pipeline.corpus.opening.recorded_files import CONVOKIT_FILES
from adc_pipeline.corpus.opening.unfit import LostRecordsError, UnfitError
from adc_pipeline.corpus.recognition.engine_folders import check_no_log
from adc_pipeline.corpus.recognition.formats import Format, Recognised, identity, recognise_anew, remember

REPLACED = "is replaced by a later file of its name in the archive"
BEHIND, NO_MEMBER = "(behind its end)", "is no part of the archive"
# What ends a zip archive, and how long that may be with a remark.
END_OF_ZIP, LONGEST_END = b"PK\x05\x06", 22 + 65535
# Left free on the disk.
RESERVE = 1 << 28
# Data may have this size however tightly it is packed. Conversations pack to a tenth, a line repeated to a thousandth.
ANY_RATIO, MOST_TIMES = 1 << 28, 200
# What zipfile, tarfile and the libraries that they unpack with raise for a damaged archive.
DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
)
# What the system answers where a path cannot be that of a file, whatever else it might write.
NO_NAME_OF_A_FILE = (errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EILSEQ, errno.ELOOP)
# What an Office document, which is a zip, holds.
OFFICE = {"[Content_Types].xml", "content.xml"}
# Files beside the data that tell how to read it.
NEEDED_BESIDE = {*CONVOKIT_FILES, "state.json", "dataset_info.json"}


@dataclass(frozen=True)
class Member:
    """A regular file in an archive."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


def check_archive(archive: Path) -> None:
    """Raise PipelineError for a zip that is damaged, encrypted or unsafe; a tar has no table of contents to check."""
    with archive_errors(archive), archive.open("rb") as file:
        if content(archive).container == "zip":
            with zipfile.ZipFile(file) as opened:
                list(zip_members(opened, archive, {}))


def unpack(
    archive: Path, folder: Path, wanted: Format = "auto", columns: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Unpack the data of `archive` into `folder`, which does not exist; return what is left out, and why, by name.

    Raises PipelineError for a damaged or encrypted archive, for one that would write outside its folder, and for one
    that does not fit on the disk.
    """
    folder.mkdir(parents=True)
    left_out: dict[str, str] = {}
    choose = Choice(folder / ".head", wanted, columns or {}, left_out)
    free = shutil.disk_usage(folder).free - RESERVE
    with archive_errors(archive), archive.open("rb") as file:
        kind = content(archive).container
        if kind == "zip":
            with zipfile.ZipFile(file) as opened:
                chosen = [member for member in zip_members(opened, archive, left_out) if choose(member)]
                check_fits(archive, sum(member.size for member in chosen), free)
                for member in chosen:
                    with member.open() as source:
                        write(source, folder, member.name, archive)
                    choose.remember(member, folder / member.name)
        else:
            for member in tar_members(file, archive, left_out):
                # A tar archive is read in one go: the first bytes are kept for writing.
                source = member.open()
                first = source.read(BLOCK)
                # Not by a method of the path, which raises an error for a name that is too long.
                if os.path.isfile(folder / member.name):
                    left_out[f"{member.name} (earlier)"] = REPLACED
                if choose(Member(member.name, member.size, partial(io.BytesIO, first))):
                    check_fits(archive, member.size, free)
                    free -= member.size
                    write(source, folder, member.name, archive, first)
                    choose.remember(member, folder / member.name)
    choose.head.unlink(missing_ok=True)
    return left_out


def zip_members(opened: zipfile.ZipFile, archive: Path, left_out: dict[str, str]) -> Iterator[Member]:
    if OFFICE & set(opened.namelist()):
        raise PipelineError(
            f"{archive}, which the setting corpus names, is an Excel workbook or another Office document: save the"
            " sheet as CSV in UTF-8."
        )
    refuse_joined(opened, archive)
    # Some programs of Windows write backslashes.
    names = [str(PurePosixPath(info.filename.replace("\\", "/"))) for info in opened.infolist()]
    # An archive that was added to may hold a file twice, of which the last one counts.
    latest = dict(zip(names, opened.infolist(), strict=True))
    for name, info in zip(names, opened.infolist(), strict=True):
        check_inside(archive, info.filename)
        check_no_log(archive, info.filename)
        if info.is_dir() or info.filename.endswith("\\"):
            continue
        if info.flag_bits & 1:
            raise PipelineError(
                f"The archive {archive}, which the setting corpus names, is encrypted: unpack it, and name what was"
                " in it."
            )
        # The mode of Unix; a link's content is where it leads.
        if (info.external_attr >> 28) == 0xA:
            left_out[info.filename] = "is a link in an archive"
            continue
        if latest[name] is info:
            yield Member(name, info.file_size, partial(opened.open, info))
        else:
            left_out[f"{name} (earlier)"] = REPLACED


def refuse_joined(opened: zipfile.ZipFile, archive: Path) -> None:
    """Raise PipelineError if another zip archive lies before the one that is read, of which nothing would be seen."""
    first = min((info.header_offset for info in opened.infolist()), default=0)
    if first and opened.fp is not None:
        opened.fp.seek(max(0, first - LONGEST_END))
        if END_OF_ZIP in opened.fp.read(min(first, LONGEST_END)):
            raise PipelineError(
                f"{archive}, which the setting corpus names, is several zip archives behind one another: unpack them,"
                " and name what was in them."
            )


def tar_members(file: BinaryIO, archive: Path, left_out: dict[str, str]) -> Iterator[Member]:
    # `tarfile` knows fewer packings.
    unpacked = Unpacked(file, archive)
    header = headers(left_out)
    with tarfile.open(fileobj=cast(BinaryIO, unpacked), mode="r|", tarinfo=header, ignore_zeros=True) as opened:
        for info in opened:
            check_inside(archive, info.name)
            check_no_log(archive, info.name)
            if info.isdir():
                continue
            content = opened.extractfile(info) if info.isreg() else None
            if content is None:
                left_out[info.name] = "is a link or a special file in an archive"
                continue
            yield Member(str(PurePosixPath(info.name)), info.size, partial(_same, content))
    # Where it is packed, only its end says that it is complete.
    for _ in unpacked.blocks:
        pass


def headers(left_out: dict[str, str]) -> type[tarfile.TarInfo]:
    """Return the class that reads the headers of one archive, or of several that were joined.

    `tarfile` takes whatever is no header for the end. Here it is, behind the zeros that end an archive, noted in
    `left_out`; anywhere else it is damage.
    """

    class Header(tarfile.TarInfo):
        ended = False

        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "Header":
            try:
                header = super().frombuf(buf, encoding, errors)
            except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
                cls.ended = True
                raise
            except tarfile.TruncatedHeaderError:  # type: ignore[attr-defined]
                if not cls.ended:
                    raise tarfile.ReadError("it ends in the middle") from None
                left_out[BEHIND] = NO_MEMBER
                raise
            except tarfile.InvalidHeaderError:  # type: ignore[attr-defined]
                if not cls.ended:
                    raise tarfile.ReadError("what should be a header is none") from None
                left_out[BEHIND] = NO_MEMBER
                raise
            cls.ended = False
            return header

    return Header


def _same(content: IO[bytes]) -> IO[bytes]:
    return content


@dataclass(frozen=True)
class Choice:
    """Decides which members are unpacked, by a look at their first bytes, which it writes to the file `head`.

    What a member of few bytes is found to be is remembered: looking at a file costs 0.2 ms, and there may be many.
    """

    head: Path
    wanted: Format
    columns: Mapping[str, str]
    left_out: dict[str, str]
    found: dict[str, Recognised] = field(default_factory=dict)

    def __call__(self, member: Member) -> bool:
        reason = self.reason_to_leave_out(member)
        if reason:
            self.left_out[member.name] = reason
        return not reason

    def remember(self, member: Member, path: Path) -> None:
        """Have a member that was unpacked to `path` recognised as its first bytes were, if these are all."""
        if member.name in self.found:
            remember(identity(path, self.wanted, self.columns), self.found.pop(member.name))

    def reason_to_leave_out(self, member: Member) -> str:
        path = Path(member.name)
        named_data = is_named_data(path)
        if any(is_hidden(part) for part in path.parts):
            return HIDDEN
        if path.name in NEEDED_BESIDE:
            return ""
        if self.wanted != "auto" and not named_data:
            return NO_NAME
        with member.open() as source:
            overwrite(self.head, source.read(BLOCK))
        try:
            # A Parquet file has its columns at its end.
            if content(self.head).container in ("parquet", "arrow"):
                return ""
            # Two members of one size may be written within one tick of the clock, and not be told apart.
            found = recognise_anew(self.head, self.wanted, self.columns)
        except PipelineError as error:
            # A member whose name says data is unpacked; its reader reports what is wrong with it.
            inner = isinstance(error, LostRecordsError)
            if inner or (named_data and not getattr(error, "companion", False)):
                return ""
            return error.reason if isinstance(error, UnfitError) else "cannot be unpacked"
        if member.size <= BLOCK:
            self.found[member.name] = found
        if found.kind == "archive":
            return "is an archive in an archive"
        return "" if found.certain or named_data else UNKNOWN_COLUMNS


def check_inside(archive: Path, name: str) -> None:
    """Raise PipelineError for a member that would be written outside the folder, BadZipFile for one without a name."""
    if not name:
        raise zipfile.BadZipFile("a member has no name")
    parts = name.replace("\\", "/").split("/")
    if not parts[0] or ".." in parts:
        raise PipelineError(
            f"The archive {archive} holds {name!r}, which would be written outside its folder: do not trust it, and"
            " give the setting corpus another."
        )


def check_fits(archive: Path, size: int, free: int) -> None:
    """Raise PipelineError for data that does not fit on the disk, or that is packed as tightly as no text is."""
    if size > max(ANY_RATIO, MOST_TIMES * archive.stat().st_size):
        raise PipelineError(
            f"The archive {archive}, which the setting corpus names, unpacks to {size / 1e6:,.0f} MB, more than"
            f" {MOST_TIMES} times its size, as no conversations do: check what it is, or unpack it and name what was in"
            " it."
        )
    if size > free:
        raise PipelineError(
            f"The archive {archive}, which the setting corpus names, unpacks to {size / 1e6:,.0f} MB, and the disk of"
            f" ADC_HOME has {max(free, 0) / 1e6:,.0f} MB to spare: make room, or check whether it is what it should be."
        )


def overwrite(path: Path, content: bytes) -> None:
    """Give a file this content without emptying it first, which has ext4 write to the disk at once (4 ms)."""
    with open(path, "wb", opener=lambda name, flags: os.open(name, flags & ~os.O_TRUNC)) as file:
        file.write(content)
        file.truncate()


def write(source: IO[bytes], folder: Path, name: str, archive: Path, first: bytes = b"") -> None:
    """Write a member by its name below a folder; PipelineError if no file can have it, as below another member."""
    path = folder / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("wb")
    except OSError as error:
        if error.errno not in NO_NAME_OF_A_FILE:
            raise
        raise PipelineError(
            f"The archive {archive}, which the setting corpus names, holds {name[-60:]!r}, which cannot be"
            f" written ({error.strerror}): unpack it by other names, and name what was in it."
        ) from error
    with file:
        file.write(first)
        shutil.copyfileobj(source, file, BLOCK)


@contextmanager
def archive_errors(archive: Path) -> Iterator[None]:
    try:
        yield
    except NotImplementedError as error:
        raise PipelineError(
            f"The archive {archive}, which the setting corpus names, is packed in a way that is not read: unpack it,"
            " and name what was in it."
        ) from error
    except DAMAGED as error:
        if is_disk_full(error) or limit_of_system(error):
            raise
        # What the system refuses is named by it; libraries give no number, and seek to places that a file cannot have.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise PipelineError(
                f"The archive {archive}, which the setting corpus names, cannot be unpacked ({error.strerror}): check"
                " the disk, and give this user access."
            ) from error
        raise PipelineError(
            f"The archive {archive}, which the setting corpus names, is damaged or incomplete: fetch it again."
        ) from error
