"""What records are written in: lines and arrays of JSON, tables, Arrow, packings, and archives in archives."""

import bz2
import csv
import gzip
import io
import json
import lzma
import sqlite3
import struct
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import zstandard
from hypothesis import reject

Record = dict[str, Any]


def columns_of(records: list[Record]) -> list[str]:
    return list(dict.fromkeys(name for record in records for name in record))


def json_lines(records: list[Record]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def with_signs(records: list[Record]) -> bytes:
    """Return JSON lines in which signs beyond ASCII stand as they are."""
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode(errors="replace")


def json_array(records: list[Record]) -> bytes:
    return json.dumps(records, indent=1).encode()


def answer(records: list[Record]) -> bytes:
    """Return what a public interface answers with."""
    return json.dumps({"count": len(records), "data": records}).encode()


def hits(records: list[Record]) -> bytes:
    """Return what an index of Elasticsearch exports, one document a line."""
    return json_lines([{"_index": "kettles", "_id": str(place), "_source": each} for place, each in enumerate(records)])


def joined_lines(records: list[Record]) -> bytes:
    """Return JSON lines of files that were joined without a line end, two records a line."""
    lines = json_lines(records).splitlines()
    return b"".join(line + (b"\n" if place % 2 else b"") for place, line in enumerate(lines))


def several_lines(records: list[Record]) -> bytes:
    """Return objects over several lines, one behind the other."""
    return "".join(json.dumps(record, indent=1) + "\n" for record in records).encode()


def database_table(records: list[Record]) -> bytes:
    """Return a table as a database exports it: tabs, `\\N`, and backslashes before what is no plain character."""
    names = columns_of(records)

    def cell(value: Any) -> str:
        text = json.dumps(value) if isinstance(value, dict | list) else str(value)
        plain = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")
        return "\\N" if value is None else plain

    rows = ["\t".join(cell(record.get(name)) for name in names) for record in records]
    return "\n".join(["\t".join(names), *rows, ""]).encode(errors="surrogatepass")


def encoded(content: bytes, encoding: str) -> bytes:
    """Return a text in another encoding, with what that lacks as question marks."""
    return content.decode(errors="replace").encode(encoding, errors="replace")


def delimited(records: list[Record], separator: str = ",", quoting: Any = csv.QUOTE_MINIMAL) -> bytes:
    file = io.StringIO()
    writer = csv.DictWriter(file, columns_of(records), delimiter=separator, quoting=quoting)
    writer.writeheader()
    writer.writerows(
        {name: json.dumps(value) if isinstance(value, dict | list) else value for name, value in record.items()}
        for record in records
    )
    return file.getvalue().encode(errors="surrogatepass")


def table(records: list[Record]) -> pa.Table:
    """Return a table; values that a column cannot hold make it one of JSON text."""
    columns: dict[str, Any] = {}
    for name in columns_of(records):
        values = [record.get(name) for record in records]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowException, OverflowError, UnicodeError):
            columns[name] = pa.array([json.dumps(value) for value in values])
    return pa.table(columns)


def unusual(records: list[Record]) -> pa.Table:
    """Return a table whose columns have types that few writers choose."""
    found = table(records)
    for place, field in enumerate(found.schema):
        wanted = field.type
        if pa.types.is_string(wanted):
            wanted = (pa.large_string(), pa.dictionary(pa.int32(), pa.string()), pa.binary())[place % 3]
        elif pa.types.is_integer(wanted):
            wanted = (pa.float64(), pa.decimal128(38, 2), pa.timestamp("s"))[place % 3]
        elif pa.types.is_null(wanted):
            wanted = pa.bool_()
        try:
            column = found.column(place).cast(wanted)
        except pa.ArrowException:
            continue
        found = found.set_column(place, field.name, column)
    return found


def parquet(records: list[Record], make: Callable[[list[Record]], pa.Table] = table, **options: Any) -> bytes:
    file = io.BytesIO()
    try:
        pq.write_table(make(records), file, **options)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        # Parquet has no structure without fields, and pyarrow makes arrays of some mixed values that it cannot write.
        reject()
    return file.getvalue()


def arrow(records: list[Record], file_format: bool = True) -> bytes:
    file = io.BytesIO()
    found = table(records)
    writer = pyarrow.ipc.new_file if file_format else pyarrow.ipc.new_stream
    with writer(file, found.schema) as opened:
        opened.write_table(found, max_chunksize=7)
    return file.getvalue()


def sqlite(records: list[Record]) -> bytes:
    """Return a database with a table of the records, which no reader takes."""
    names = ", ".join(f'"c{place}"' for place, _ in enumerate(columns_of(records))) or "c"
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"CREATE TABLE posts ({names})")
        for record in records:
            values = [json.dumps(record.get(name)) for name in columns_of(records)] or [""]
            connection.execute(f"INSERT INTO posts VALUES ({', '.join('?' * len(values))})", values)  # noqa: S608
        connection.commit()
        return connection.serialize()


# Extension and writer of each container.
CONTAINERS: dict[str, tuple[str, Callable[[list[Record]], bytes]]] = {
    "lines": (".jsonl", json_lines),
    "array": (".json", json_array),
    "answer": (".json", answer),
    "csv": (".csv", delimited),
    "tsv": (".tsv", lambda records: delimited(records, "\t")),
    "quoted": (".csv", lambda records: delimited(records, ";", csv.QUOTE_ALL)),
    "utf-16": (".csv", lambda records: encoded(delimited(records), "utf-16")),
    "utf-16 lines": (".jsonl", lambda records: encoded(with_signs(records), "utf-16-le")),
    "windows-1252": (".csv", lambda records: encoded(delimited(records), "cp1252")),
    "windows-1252 lines": (".jsonl", lambda records: encoded(with_signs(records), "cp1252")),
    "marked": (".csv", lambda records: b"\xef\xbb\xbf" + delimited(records).replace(b"\n", b"\r\n")),
    "titled": (".csv", lambda records: b"Kettles of the year;;\n\n" + delimited(records, ";")),
    "remarks": (".jsonl", lambda records: b"# exported\n// today\n" + json_lines(records)),
    "hive": (".txt", lambda records: delimited(records, "\x01")),
    "database": (".tsv", database_table),
    "hits": (".json", hits),
    "joined": (".jsonl", joined_lines),
    "several lines": (".json", several_lines),
    "parquet": (".parquet", parquet),
    "unusual": (".parquet", lambda records: parquet(records, unusual)),
    "row groups": (".parquet", lambda records: parquet(records, row_group_size=3, compression="gzip")),
    "arrow": (".arrow", arrow),
    "stream": (".arrow", lambda records: arrow(records, file_format=False)),
    "sqlite": (".db", sqlite),
}


def zst_blocks(content: bytes) -> bytes:
    """Return lines in Arctic Shift's blocks, two to a block."""
    lines, found = content.split(b"\n"), b""
    for start in range(0, len(lines), 2):
        rows = lines[start : start + 2]
        places, data = b"", b""
        for row in rows:
            places += struct.pack("<II", len(data), len(row))
            data += row
        packed = zstandard.ZstdCompressor().compress(struct.pack("<I", len(rows)) + places + data)
        found += struct.pack("<I", len(packed)) + packed
    return found


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    # As `cat` joins two.
    ".joined.gz": lambda content: gzip.compress(content[:200]) + gzip.compress(content[200:]),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
    ".zst_blocks": zst_blocks,
}


def zipped(files: dict[str, bytes], below: str = "corpus/") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(f"{below}{name}", content)
    return file.getvalue()


def tarred(files: dict[str, bytes], mode: str = "w:gz", below: str = "corpus/") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            entry = tarfile.TarInfo(f"{below}{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


# What goes around a corpus: nothing, a folder with other files in it, or an archive.
ARCHIVES: dict[str, tuple[str, Callable[[dict[str, bytes]], bytes]]] = {
    "zip": (".zip", zipped),
    "zip in zip": (".zip", lambda files: zipped({"inner.zip": zipped(files)})),
    "tar": (".tar.gz", tarred),
    "plain tar": (".tar", lambda files: tarred(files, "w")),
    "tar.bz2": (".tar.bz2", lambda files: tarred(files, "w:bz2", "")),
    "tar.xz": (".tar.xz", lambda files: tarred(files, "w:xz")),
    "tar.zst": (".tar.zst", lambda files: zstandard.ZstdCompressor().compress(tarred(files, "w"))),
    "two tars": (".tar", lambda files: b"".join(tarred({name: content}, "w") for name, content in files.items())),
    "two zips": (".zip", lambda files: b"".join(zipped({name: content}) for name, content in files.items())),
    "tar in zip": (".zip", lambda files: zipped({"inner.tar": tarred(files, "w")})),
}
