"""The fields of a file's records, as far as its beginning or its schema tells, and what a table needs of them."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.corpus.layouts.layout import Layout
from adc_pipeline.corpus.opening.packings import BLOCK, blocks
from adc_pipeline.corpus.readers import json_lines, json_values, lines, mended_json
from adc_pipeline.corpus.readers.carried import NEEDED, own, spelled
from adc_pipeline.corpus.readers.dialects import HEADER_WITHIN, Dialect, find_header, parse

Container = Literal["folder", "lines", "csv", "parquet", "arrow", "xml", "zip", "tar"]
LINES_LOOKED_AT = 1000
# Read at most for the first line that is not too long.
MOST_BLOCKS = 10 * lines.LINE // BLOCK
# Levels of objects whose keys are fields.
DEEPEST = 4


def later_keys(path: Path, first: Collection[str], columns: Mapping[str, str]) -> set[str]:
    """Return the key of the parent where only later lines have it, as in a file of posts and, behind them, replies.

    The file is searched only if its first lines, with the keys `first`, have everything else that a table needs.
    """
    parent = columns.get("reply_to", "reply_to")
    others = ({columns.get(name, name) for name in NEEDED} | set(own(columns).values())) - {parent}
    if parent in first or not others <= set(first):
        return set()
    key, rest = json.dumps(parent).encode(), b""
    with path.open("rb") as file:
        for block in blocks(file, path):
            if key in rest + block:
                return {parent}
            rest = block[-len(key) :]
    return set()


def is_mapped(fields: set[str], columns: Mapping[str, str]) -> bool:
    """Return whether a record has all that a table needs, by our names or by those of `columns`, in any case."""
    wanted = {columns.get(name, name) for name in NEEDED} | set(own(columns).values())
    return all(spelled(name, fields) in fields for name in wanted)


def first_lines(path: Path) -> Iterator[bytes]:
    """Yield the first lines of a file, unpacked; the last line of a shorter file as it is, complete or not."""
    rest = b""
    with path.open("rb") as file:
        head = json_lines.beginning(file, path)
        if json_values.is_spread(head) or json_values.envelope(head) or mended_json.is_wrapped(head):
            with suppress(PipelineError):
                yield from islice(json_lines.json_lines(file, path), LINES_LOOKED_AT)
            return
        # Lines beyond the limit of a reader do not count.
        for block in islice(blocks(file, path), 0, MOST_BLOCKS):
            *whole, rest = (rest + block).split(b"\n")
            found = [line for line in whole[:LINES_LOOKED_AT] if len(line) <= lines.LINE]
            yield from found
            if found:
                return
            rest = rest[: lines.LINE + 1]
    yield rest


def parsed(line: bytes) -> dict[str, Any]:
    """Return the JSON object in a line; an empty one if it is none."""
    try:
        value = json.loads(line.decode(errors="replace"))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def keys(record: Mapping[str, Any]) -> frozenset[str]:
    """Return the keys of a record, and those of the objects in it to a depth of `DEEPEST`, dotted."""
    found, objects = set[str](), [("", record)]
    for _ in range(DEEPEST):
        found.update(f"{begin}{key}" for begin, inner in objects for key in inner)
        objects = [
            (f"{begin}{key}.", value)
            for begin, inner in objects
            for key, value in inner.items()
            if isinstance(value, dict)
        ]
    return frozenset(found)


def known_fields(path: Path, container: Container, layout: Layout | None = None) -> set[str]:
    """Return the fields of a file's records as far as its beginning tells, dotted where nested.

    Where a layout names records inside these, they are those that count.
    """
    match container:
        case "lines":
            records = list(first_lines(path))
            if layout is not None and layout.inside:
                from adc_pipeline.corpus.readers.nested import Flatten

                records = [inner for line in records for inner in Flatten(layout).lines(line)]
            return set().union(*(keys(parsed(line)) for line in records))
        case "parquet" | "arrow":
            return schema_fields(path, container)
        case "xml":
            return xml_fields(path)
        case _:
            return header_fields(list(islice(first_lines(path), HEADER_WITHIN)))


def schema_fields(path: Path, container: Container) -> set[str]:
    """Return the columns of a Parquet or Arrow file, and those of the structures in it, dotted."""
    from adc_pipeline.corpus.readers.arrow import read_schema, schema_names

    return set(schema_names(read_schema(path, container)))


def schema_record(path: Path, container: Container) -> dict[str, Any]:
    """Return what a record of a Parquet or Arrow file may hold in its lists of structures: names without values."""
    import pyarrow as pa

    from adc_pipeline.corpus.readers.arrow import read_schema

    listed = {
        field.name: field.type.value_type
        for field in read_schema(path, container)
        if pa.types.is_list(field.type) or pa.types.is_large_list(field.type)
    }
    return {
        name: [dict.fromkeys(inner.name for inner in kind)] for name, kind in listed.items() if pa.types.is_struct(kind)
    }


def xml_fields(path: Path) -> set[str]:
    """Return the attributes of the first rows of an XML file."""
    from adc_pipeline.corpus.readers.xml import first_records

    return set().union(*first_records(path))


def header_fields(lines: Sequence[bytes]) -> set[str]:
    """Return the columns that the header of a CSV file names, out of its first lines."""
    _, header, separator = find_header([text(line) for line in lines[:HEADER_WITHIN]])
    # Of a file whose lines end with \r, this may be several.
    names = parse(header.partition("\r")[0], Dialect([], separator or ",")) or []
    return {name.strip().strip("'") for name in names}


def text(line: bytes) -> str:
    """Return a line as text without its byte order mark; bytes that are no UTF-8 become escapes."""
    return line.decode("utf-8-sig", errors="backslashreplace")
