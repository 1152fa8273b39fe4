"""Find records inside records, such as replies in a list of their post, which nobody would read."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from adc_pipeline.corpus.layouts.known import LAYOUTS, find_layout
from adc_pipeline.corpus.layouts.reddit import REDDIT
from adc_pipeline.corpus.readers.inner_replies import REPLIES, TEXTS, inner_records_error
from adc_pipeline.corpus.recognition.file_fields import is_mapped, keys

# A post that another one repeats is no reply.
REPEATED = ("crosspost_parent_list", "cross_posts")
READABLE = [*REDDIT, *(layout for layout in LAYOUTS if not layout.refused)]


def refuse_inner_records(
    path: Path, records: Sequence[Mapping[str, Any]], columns: Mapping[str, str], answered: bool = True
) -> None:
    """Raise LostRecordsError if some records hold others that could stand for themselves.

    With `answered`, these may answer the outer ones.
    """
    if inner := inner_records(records, columns):
        raise inner_records_error(path, inner) if answered else inner_records_error(path, inner, "")


def inner_records(records: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """Return the key under which some records hold others that could stand for themselves; none if there is none."""
    known: dict[frozenset[str], bool] = {}

    def is_record(inner: dict[str, Any], key: str) -> bool:
        if key.lower() in REPLIES and not inner.keys().isdisjoint(TEXTS):
            return True
        found = keys(inner)
        if found not in known:
            known[found] = is_mapped(set(found), columns) or find_layout([found], READABLE) is not None
        return known[found]

    for record in records:
        for key, value in record.items():
            if key not in REPEATED and any(is_record(inner, key) for inner in objects_in(value)):
                return key
    return ""


def wrapped_records(record: Mapping[str, Any], columns: Mapping[str, str]) -> Iterator[str]:
    """Yield the keys under which a record holds one that could stand for itself."""
    for key, value in record.items():
        if isinstance(value, dict) and key not in REPEATED:
            found = keys(value)
            if is_mapped(set(found), columns) or find_layout([found], READABLE):
                yield key


def objects_in(value: Any) -> list[dict[str, Any]]:
    """Return the objects in a list, those in a listing of Reddit's interface, or those that an object has by name."""
    if isinstance(value, dict):
        listed = value.get("data")
        children = listed.get("children") if isinstance(listed, dict) else None
        value = [child.get("data") for child in children if isinstance(child, dict)] if children else [*value.values()]
    return [inner for inner in value if isinstance(inner, dict)] if isinstance(value, list) else []
