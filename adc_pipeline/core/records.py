"""Write and read back small JSON files of the pipeline: records in ADC_HOME, and facts beside a model.

Between the writing and the reading a disk, a copy, another program or a person may have changed them. What does not
have the expected names and types ends with one sentence instead of a traceback in the code that uses the values.
"""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from io import BufferedReader
from pathlib import Path
from types import GenericAlias, UnionType
from typing import Any, get_args, get_origin, get_type_hints, is_typeddict

from adc_pipeline.core.errors import DamagedError, first_line
from adc_pipeline.core.named_files import SMALL_JSON, file_problem

REMEDY = "restore it from a backup, or materialize its asset again with the tag adc/again = true"

CHECKSUM = "checksum"
# A manifest has some 150 bytes for each file of its artefact.
LARGEST = 1 << 28

# `dict[str, float]`, `tuple[str, ...]` and a TypedDict ask for the types of what is inside too.
Type = type | UnionType | GenericAlias


def write_record(path: Path, record: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write a JSON object or list; ValueError where it holds a number that JSON lacks, such as NaN."""
    path.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n")


def unfit_record(path: Path, error: Exception) -> DamagedError:
    """Return the error for a record with values of which this version can make nothing."""
    return DamagedError(
        f"{path} is damaged, or another version of this package wrote it ({first_line(error)}): {REMEDY}."
    )


def sealed(record: Mapping[str, Any]) -> str:
    """Return a record as JSON that contains a checksum of itself."""
    content = {**record, CHECKSUM: checksum(record)}
    return json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n"


def without_checksum(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record without the checksum that `sealed` gave it, if it has one; raise ValueError if it was altered."""
    content = {name: value for name, value in record.items() if name != CHECKSUM}
    if CHECKSUM in record and record[CHECKSUM] != checksum(content):
        raise ValueError("its checksum differs")
    return content


def checksum(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def read_record(path: Path, *, remedy: str = REMEDY, largest: int = SMALL_JSON, **fields: Type) -> dict[str, Any]:
    """Return the JSON object in `path`, in which each of `fields` has a value of its type.

    Raise DamagedError if the file cannot be read, has more than `largest` bytes, is no such object, lacks a field, or
    differs from its checksum, if it has one.
    """
    if not os.path.lexists(path):
        raise DamagedError(f"{path} does not exist: {remedy}.")
    if problem := file_problem(path):
        raise DamagedError(f"{path} {problem}.")
    try:
        with path.open("rb") as file:
            content = file.read(largest + 1)
        if len(content) > largest:
            raise ValueError(f"it is larger than {largest >> 20} MiB")
        return without_checksum(checked_fields(parsed(content), fields))
    except ValueError as error:
        raise DamagedError(
            f"{path} is damaged, or another program wrote it ({first_line(error)}): {remedy}."
        ) from error


def record_text(path: Path) -> str:
    """Return the text of a record of the store; raise ValueError if it is no UTF-8, and as `regular_file` does."""
    return record_bytes(path).decode()


def record_bytes(path: Path) -> bytes:
    """Return the content of a small file of the store; raise ValueError if it has more than `LARGEST` bytes."""
    with regular_file(path) as file:
        if os.fstat(file.fileno()).st_size > LARGEST:
            raise ValueError(f"it is larger than {LARGEST >> 20} MiB")
        return file.read()


@contextmanager
def regular_file(path: Path) -> Iterator[BufferedReader]:
    """Open a file of the store for reading; raise FileNotFoundError if there is none.

    Raise ValueError for what is no regular file: a FIFO would be waited for, and a device never ends.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        # A socket, and a link that leads nowhere or back to itself.
        if error.errno in (errno.ENXIO, errno.ELOOP) or path.is_symlink():
            raise ValueError("it is no regular file") from error
        raise
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError("it is no regular file")
        with open(handle, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(handle)


def parsed(content: str | bytes) -> Any:
    """Return a JSON value; raise ValueError if it is none, also where it is nested too deeply."""
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def object_in(content: str | None) -> dict[str, Any]:
    """Return the JSON object in a field of MLflow's; an empty one if it is empty, or another program wrote it."""
    try:
        return checked_fields(parsed(content or "{}"), {})
    except ValueError:
        return {}


def checked_fields(record: Any, fields: Mapping[str, Type]) -> dict[str, Any]:
    """Return a JSON object; raise ValueError unless it is one and has these fields with values of their types."""
    if not isinstance(record, dict):
        raise ValueError("it is no JSON object")
    for name, kind in fields.items():
        if name not in record:
            raise ValueError(f"it has no `{name}`")
        if not fits(record[name], kind):
            raise ValueError(f"`{name}` is {record[name]!r:.60}")
    return record


def fits(value: Any, kind: Any) -> bool:
    """Return whether a value from JSON has a type, and what is inside it the types that are given for that."""
    inner, outer = get_args(kind), get_origin(kind)
    if kind is Any:
        return True
    if is_typeddict(kind):
        known = hints(kind)
        there = isinstance(value, dict) and kind.__required_keys__ <= value.keys()
        return there and all(fits(value[name], known[name]) for name in known.keys() & value.keys())
    if isinstance(kind, UnionType):
        return any(fits(value, each) for each in inner)
    if outer is dict:
        return isinstance(value, dict) and all(fits(each, inner[1]) for each in value.values())
    if outer in (list, tuple):
        return isinstance(value, outer) and all(fits(each, inner[0]) for each in value)
    if kind in (int, float):
        # JSON writes 2.0 and 2 for one number; `True` is an int for Python only.
        return isinstance(value, int | kind) and not isinstance(value, bool)
    return isinstance(value, kind)


@cache
def hints(kind: type) -> dict[str, Any]:
    """Return the types of a TypedDict's values; a record may have hundreds of thousands of entries."""
    return get_type_hints(kind)
