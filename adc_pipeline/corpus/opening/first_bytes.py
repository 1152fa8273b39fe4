"""The table of first bytes: what a file is, from its content, and what to do about a file that cannot be read.

The extension of a file is not trusted. Packed files are unpacked first (`corpus.opening.packings`), so each entry also
applies to the content of a packed file.
"""

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adc_pipeline.corpus.opening.packings import GZIP_MAGIC, XZ_MAGIC, ZSTD_MAGIC, blocks

Container = Literal["parquet", "arrow", "xml", "zip", "tar", "text"]

TABLE = "export the table of posts and replies as CSV or Parquet"
DOWNLOAD = "download the file itself; the site may ask for a login"
UNPACK = "unpack it, and name what was in it"
EXCEL = "save the sheet as CSV in UTF-8"
PROGRAM = "a program"


@dataclass(frozen=True)
class Signature:
    """First bytes, at `offset`, and either the container that is read or what the file is and what to do."""

    magic: bytes
    what: str
    advice: str = ""
    container: Container | None = None
    offset: int = 0
    ignore_case: bool = False

    def fits(self, first: bytes) -> bool:
        there = first[self.offset : self.offset + len(self.magic)]
        return there == self.magic or (self.ignore_case and there.lower() == self.magic)


def alike(what: str, advice: str, *magics: bytes, ignore_case: bool = False) -> list[Signature]:
    """Return the signatures of one kind of file that begins in several ways."""
    return [Signature(magic, what, advice, ignore_case=ignore_case) for magic in magics]


SIGNATURES = (
    Signature(b"PAR1", "a Parquet file", container="parquet"),
    Signature(b"PARE", "an encrypted Parquet file", "decrypt it first"),
    Signature(b"ARROW1", "an Arrow file", container="arrow"),
    Signature(b"\xff\xff\xff\xff", "an Arrow stream", container="arrow"),
    Signature(b"FEA1", "a Feather file of version 1", "write it as Parquet"),
    Signature(b"<?xml", "an XML file", container="xml"),
    Signature(b"PK\x03\x04", "a zip archive", container="zip"),
    Signature(b"PK\x05\x06", "an empty zip archive", container="zip"),
    Signature(b"ustar", "a tar archive", container="tar", offset=257),
    Signature(b"SQLite format 3\0", "a SQLite database", TABLE),
    Signature(b"DUCK", "a DuckDB database", TABLE, offset=8),
    Signature(b"\0\1\0\0Standard ", "an Access database", TABLE),
    *alike("a dump of a SQL database", TABLE, b"-- MySQL dump", b"-- MariaDB dump", b"/*M!", b"/*!4",
           b"--\n-- PostgreSQL"),
    *alike("a dump of a SQL database", TABLE, b"insert into ", b"create table ", b"copy public.",
           b"pragma foreign_keys", b"begin transaction", b"begin;", b"set sql_mode", b"set names",
           b"set statement_timeout", b"drop table ", b"use `", ignore_case=True),
    Signature(b"PGDMP", "a dump of a PostgreSQL database", TABLE),
    Signature(b"version https://git-lfs.github.com/spec/", "a Git LFS pointer and not the file itself",
              "fetch the file by `git lfs pull`, or download it"),
    Signature(b"/annex/objects/", "a git-annex pointer and not the file itself",
              "fetch the file by `git annex get`, or download it"),
    Signature(b"# xet version", "a Xet pointer and not the file itself", "download the file itself"),
    Signature(b"outs:\n", "a DVC pointer and not the file itself", "fetch the file by `dvc pull`, or download it"),
    *alike("an error message of a site and not the file", DOWNLOAD, b"404: not found", b"404 not found",
           b"entry not found", b"not found", b"access denied", b"repository not found", b"invalid username or password",
           ignore_case=True),
    *alike("a torrent and not what it describes", "download the files that it describes", b"d7:comment",
           b"d10:created by", b"d13:creation date", b"d4:info", b"d8:announce", b"d13:announce-list"),
    *alike("a web page", DOWNLOAD, b"<!doctype html", b"<html", ignore_case=True),
    Signature(b"%PDF", "a PDF document", TABLE),
    Signature(b"{\\rtf", "a text document (RTF)", TABLE),
    Signature(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook or another Office document", EXCEL),
    Signature(b"\x89HDF\r\n\x1a\n", "an HDF5 file", TABLE),
    Signature(b"\x93NUMPY", "a NumPy array", TABLE),
    Signature(b"ORC", "an ORC file", "write it as Parquet"),
    *alike("a file of SPSS", TABLE, b"$FL2", b"$FL3"),
    Signature(b"<stata_dta>", "a file of Stata", TABLE),
    Signature(b"\xc2\xea\x81\x60", "a file of SAS", TABLE, offset=12),
    *alike("a file of R", TABLE, b"RDX2\n", b"RDX3\n", b"X\n\0\0\0"),
    Signature(b"WARC/", "an archive of web pages", TABLE),
    Signature(b"Obj\x01", "an Avro file", "write it as Parquet"),
    *alike("a Python pickle, which can run code when it is opened", TABLE, b"\x80\x02", b"\x80\x03", b"\x80\x04",
           b"\x80\x05"),
    # Packed files are unpacked before their content is looked at.
    *alike("packed twice", "unpack it once", ZSTD_MAGIC, GZIP_MAGIC, XZ_MAGIC, b"BZh91AY&SY"),
    *alike(PROGRAM, "unpack it if it is an archive that unpacks itself, and name what was in it", b"MZ\x90\0", b"MZP\0",
           b"MZ\0\0", b"\x7fELF"),
    Signature(b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    Signature(b"Rar!\x1a\x07", "a RAR archive", UNPACK),
    Signature(b"\x04\x22\x4d\x18", "packed by lz4", UNPACK),
    Signature(b"\x1f\x9d", "packed by compress", UNPACK),
    Signature(b"\xff\x06\0\0sNaPpY", "packed by Snappy", UNPACK),
    Signature(b"LZIP", "packed by lzip", UNPACK),
    Signature(b"\x89LZO\0", "packed by lzop", UNPACK),
    *alike("text in UTF-32", "save it as UTF-8", b"\xff\xfe\0\0", b"\0\0\xfe\xff"),
    *alike("text in UTF-16", "save it as UTF-8", b"\xff\xfe", b"\xfe\xff"),
    Signature(bytes(64), "filled with zeros, as a download that has not finished", "fetch it again"),
    *alike("a picture", "name the corpus itself", b"\x89PNG", b"\xff\xd8\xff", b"GIF8"),
)  # fmt: skip

# Each with its first byte, None where it stands elsewhere: few have to be compared, in an archive of many files.
BY_START = tuple((None if entry.offset else entry.magic[:1].lower(), entry) for entry in SIGNATURES)
BINARY = Signature(b"", "binary data of an unknown kind", TABLE)
TEXT = Signature(b"", "text", container="text")
XML = Signature(b"", "an XML file", container="xml")
ZIP = Signature(b"", "a zip archive", container="zip")
ELEMENT = re.compile(rb"<[a-zA-Z][\w:.-]*[\s/>]")
WEB_PAGE = re.compile(rb"(?i)<(!doctype )?html|<head>|<body")


def signature(first: bytes) -> Signature:
    """Return the entry of the table for the (unpacked) first bytes of a file; 512 or more, unless it is shorter."""
    stripped = first.lstrip()
    if stripped.startswith(b"<") and WEB_PAGE.search(stripped[:1024]):
        return Signature(b"", "a web page", DOWNLOAD)
    starts = (None, first[:1].lower(), stripped[:1].lower())
    for start, entry in BY_START:
        if start in starts and (entry.fits(first) or (start in (b"<", b"-") and entry.fits(stripped))):
            return entry
    # UTF-16 without its mark: every second byte of ASCII text is zero.
    sample = first[:512]
    fewer, more = sorted((sample[0::2].count(0), sample[1::2].count(0)))
    if more > len(sample) // 3 and fewer < len(sample) // 20:
        return Signature(b"", "text in UTF-16", "save it as UTF-8")
    # A text may hold a few by mistake.
    if sample.count(0) > len(sample) // 50:
        return BINARY
    # A file may lack its XML declaration.
    return XML if ELEMENT.match(stripped) else TEXT


def content(path: Path) -> Signature:
    """Return the entry of the table for a file's unpacked content; a zip behind a program is a zip."""
    with path.open("rb") as file:
        found = signature(next(blocks(file, path), b""))
        return ZIP if (found is BINARY or found.what == PROGRAM) and zipfile.is_zipfile(file) else found


def is_parquet(path: Path) -> bool:
    return content(path).container == "parquet"
