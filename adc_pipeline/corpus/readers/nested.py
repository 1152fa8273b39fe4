"""Turn records that hold other records, such as a topic with its posts or a tree of messages, into one line each.

`Layout.inside` names where the inner records stand, and `Layout.children` the keys of a record's own replies.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from adc_pipeline.corpus.layouts.layout import ITSELF, Layout
from adc_pipeline.corpus.readers.json_lines import json_lines
from adc_pipeline.corpus.readers.lines import LINE, UNREADABLE_LINE


def inner_records(record: Any, layout: Layout) -> Iterator[dict[str, Any]]:
    """Yield the records inside a record, each before what answers it; none if it holds none."""
    found = standing_at(layout.inside, record) + (standing_at(layout.beside, record) if layout.beside else [])
    around = {key: record[key] for key in layout.around if key in record}
    waiting: list[tuple[Any, Any]] = [(node, None) for node in found]
    while waiting:
        node, parent = waiting.pop(0)
        if not isinstance(node, dict):
            continue
        listed = [node.get(key) for key in layout.children]
        children = [child for some in listed if isinstance(some, list) for child in some]
        field, answered = layout.answers
        own = {key: value for key, value in node.items() if key not in layout.children}
        yield around | ({field: parent.get(answered)} if parent else {}) | own
        waiting = [*((child, node) for child in children), *waiting]


def standing_at(place: str, record: Any) -> list[Any]:
    """Return what stands at a place of `Layout.inside`, be it one record, a list of them, or nothing."""
    found = record
    for key in place.split(".") if place != ITSELF else ():
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, list) else [] if found is None else [found]


def table_lines(path: Path, container: str) -> Iterator[bytes]:
    """Yield the rows of a Parquet or Arrow file as JSON lines, each with its end."""
    from adc_pipeline.corpus.readers.arrow import record_batches

    for batch in record_batches(path, container):
        for record in batch.to_pylist():
            yield json.dumps(record, default=str).encode() + b"\n"


class Flatten:
    """Yields the records of a file with each inner record as a line of its own, for `readers.json_lines.chunks`."""

    def __init__(self, layout: Layout, container: str = "lines") -> None:
        self.layout, self.container = layout, container

    def __call__(self, file: BinaryIO, path: Path) -> Iterator[bytes]:
        for block in json_lines(file, path) if self.container == "lines" else table_lines(path, self.container):
            for line in block.splitlines():
                yield from self.lines(line)

    def lines(self, line: bytes) -> Iterator[bytes]:
        if not line.strip():
            return
        try:
            found = list(inner_records(json.loads(line), self.layout))
        except (ValueError, RecursionError):
            found = []
        for record in found:
            written = json.dumps(record).encode() + b"\n"
            yield written if len(written) <= LINE else UNREADABLE_LINE
        if not found:
            yield UNREADABLE_LINE
