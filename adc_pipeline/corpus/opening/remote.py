"""Files of a corpus at https://, s3://, gs:// and hf:// addresses, read where they lie.

A `RemoteFile` is a path whose `open` and `stat` ask the network, so that every reader that goes through `path.open`
streams it: memory holds a few blocks, and nothing is copied. Only an address that the setting `corpus` names is opened.
Credentials come from the environment alone (`AWS_ACCESS_KEY_ID`, `GOOGLE_APPLICATION_CREDENTIALS`, `HF_TOKEN`); an
address that holds some is refused, since settings are recorded. https and hf go through fsspec, s3 and gs through
Arrow's own clients, which come with pyarrow.

A connection that is cut is opened again at the same place. A file that changes meanwhile ends the run.
"""

import io
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from functools import cache
from pathlib import PosixPath
from time import sleep
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

from adc_pipeline.core.errors import PipelineError, UnreachableError

SCHEMES = ("https", "s3", "gs", "hf")
# Without TLS on this machine only.
LOOPBACK = ("127.0.0.1", "localhost", "::1")
BUFFER = 1 << 20
ATTEMPTS = ContextVar("attempts", default=5)
# How long the client of Arrow for gs:// tries again, of each attempt.
GCS_RETRIES = timedelta(seconds=3)
# What an environment with credentials for S3 has at least one of. Without, public buckets are read.
S3_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)  # fmt: skip


class State(NamedTuple):
    """What identifies the content of a remote file: its size, and the server's ETag or time of change."""

    bytes: int
    version: str


class RemoteFile(PosixPath):
    """A file, or a folder of files, at an address. Its text is the address without a query."""

    @property
    def address(self) -> str:
        return f"{self.parts[0]}//{'/'.join(self.parts[1:])}"

    def __str__(self) -> str:
        return self.address.partition("?")[0]

    def __fspath__(self) -> str:
        return str(self)

    def open(self, *_: Any, **__: Any) -> Any:
        """Return the file, opened for reading in binary."""
        return io.BufferedReader(cast(io.RawIOBase, Resuming(self)), BUFFER)

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        return os.stat_result((stat.S_IFREG | 0o444, 0, 0, 1, 0, 0, self.state().bytes, 0, 0, 0))

    def state(self) -> State:
        """Ask the server for size and version; raise PipelineError or UnreachableError if it refuses."""
        found = self._ask(lambda files, path: files.info(path))
        version = next((str(found[key]) for key in VERSIONS if found.get(key) is not None), "")
        return State(int(found.get("size") or 0), version)

    def resolve(self, strict: bool = False) -> "RemoteFile":
        return self

    def exists(self, **_: Any) -> bool:
        self.state()
        return True

    def is_symlink(self) -> bool:
        return False

    def is_file(self, **_: Any) -> bool:
        return not self.is_dir()

    def is_dir(self, **_: Any) -> bool:
        if urlsplit(self.address).scheme.startswith("http"):
            return False
        return bool(self._ask(lambda files, path: files.isdir(path)))

    def files(self) -> "Iterator[RemoteFile]":
        """Yield the files below a folder, by name."""
        scheme = self.parts[0]
        for path in self._ask(lambda files, path: files.find(path)):
            yield RemoteFile(f"{scheme}//{path}")

    def _ask(self, question: Any) -> Any:
        for attempt in range(ATTEMPTS.get()):
            try:
                return question(*filesystem(self.address))
            except Exception as error:
                self.refuse(error, attempt)
        raise AssertionError

    def refuse(self, error: Exception, attempt: int) -> None:
        """Raise what an error of a client means, or wait for the next attempt. Messages of clients may hold secrets."""
        # fsspec raises FileNotFoundError for any answer that is an error, and for a server that cannot be reached.
        status = getattr(error, "status", None) or getattr(error.__cause__, "status", None)
        reached = not isinstance(error.__cause__, OSError)
        if isinstance(error, FileNotFoundError) and reached and status in (None, 404, 410):
            raise PipelineError(
                f"{self}, which the setting corpus names, does not exist there: correct the address."
            ) from None
        if isinstance(error, PermissionError) or status in (401, 403):
            raise PipelineError(
                f"{self}, which the setting corpus names, may not be read with the credentials in the environment: set"
                " those of its storage (see the page on reading a corpus where it lies)."
            ) from None
        if isinstance(error, PipelineError):
            raise error
        if attempt == ATTEMPTS.get() - 1:
            raise UnreachableError(
                f"{self}, which the setting corpus names, cannot be read ({type(error).__name__}): check the address"
                " and the network, and start the run again."
            ) from None
        sleep(0.2 * 2**attempt)


@contextmanager
def asked_once() -> Iterator[None]:
    """Take the first answer of a server for the last: for a caller that asks again soon, and holds up others."""
    token = ATTEMPTS.set(1)
    try:
        yield
    finally:
        ATTEMPTS.reset(token)


VERSIONS = ("ETag", "etag", "blob_id", "lfs", "Last-Modified", "mtime", "last_modified", "updated")


class Resuming(io.RawIOBase):
    """The bytes of a remote file; where a connection is cut, the file is opened again at the same place."""

    def __init__(self, path: RemoteFile) -> None:
        self.path, self.place, self.before = path, 0, path.state()
        self.file: Any = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.place

    def seek(self, offset: int, whence: int = 0) -> int:
        self.place = offset + (0, self.place, self.before.bytes)[whence]
        self._close()
        return self.place

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self.before.bytes - self.place) if self.before.bytes else len(buffer)
        if not wanted:
            return 0
        for attempt in range(ATTEMPTS.get()):
            try:
                if self.file is None:
                    self._open()
                content = self.file.read(wanted)
                if not content and self.before.bytes:
                    raise EOFError
                buffer[: len(content)] = content
                self.place += len(content)
                return len(content)
            except Exception as error:
                self._close()
                self.path.refuse(error, attempt)
        raise AssertionError

    def _open(self) -> None:
        if self.path.state() != self.before:
            raise PipelineError(f"{self.path} has changed while it was read: materialize the asset raw_corpus again.")
        files, path = filesystem(self.path.address)
        self.file = files.open(path, "rb")
        if self.place:
            try:
                self.file.seek(self.place)
            except ValueError:
                # A server that sends no ranges.
                left = self.place
                while left:
                    left -= len(self.file.read(min(left, BUFFER)))

    def _close(self) -> None:
        file, self.file = self.file, None
        if file is not None:
            try:
                file.close()
            except Exception:
                return

    def close(self) -> None:
        self._close()
        super().close()


def is_remote(source: str) -> bool:
    """Return whether a source is an address rather than a path or a name."""
    return re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", source) is not None


def remote_file(source: str) -> RemoteFile:
    """Return the file at an address; raise PipelineError for another kind of address. Settings refuse credentials."""
    parts = urlsplit(source)
    if parts.scheme not in SCHEMES and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise PipelineError(
            f"The corpus {parts.scheme}://… has an address that is not read: give the setting corpus one that"
            f" begins with {', '.join(f'{scheme}://' for scheme in SCHEMES)}, or a path."
        )
    return RemoteFile(source)


def filesystem(address: str) -> tuple[Any, str]:
    """Return the client for an address, and the address as that client wants it."""
    scheme, _, path = address.partition("://")
    return client(scheme, os.getpid()), address if scheme.startswith("http") else path


@cache
def client(scheme: str, _: int) -> Any:
    """Return the client of a scheme, one for each process."""
    if scheme in ("http", "https"):
        import fsspec

        return fsspec.filesystem("https", use_listings_cache=False, skip_instance_cache=True)
    if scheme == "hf":
        from huggingface_hub import HfFileSystem

        return HfFileSystem(use_listings_cache=False, skip_instance_cache=True)
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow import fs

    if scheme == "gs":
        credentials = "GOOGLE_APPLICATION_CREDENTIALS" in os.environ
        # The default is 15 minutes, in which no signal is heard.
        return ArrowFSWrapper(fs.GcsFileSystem(anonymous=not credentials, retry_time_limit=GCS_RETRIES))
    anonymous = not any(name in os.environ for name in S3_CREDENTIALS)
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return ArrowFSWrapper(fs.S3FileSystem(anonymous=anonymous, endpoint_override=endpoint))
