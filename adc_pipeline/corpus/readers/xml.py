"""Turn the rows of an XML file, whose attributes are the values, into JSON lines: Stack Exchange's form.

Control characters and references to them, which XML does not allow, become spaces, since an export may pass on
what people pasted. The file is read piece by piece, so that its size does not matter. A document type is refused, since
its entities can expand without bound; the public dumps have none.
"""

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO
from xml.parsers import expat
from xml.parsers.expat import errors

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.corpus.opening.packings import blocks
from adc_pipeline.corpus.readers.lines import LINE, UNREADABLE_LINE

ROW = "row"
ROWS_LOOKED_AT = 100
# Signs that XML does not allow and references to them, and what may begin one at the end of a block.
CONTROL = bytes(range(9)) + b"\x0b\x0c" + bytes(range(14, 32))
AS_SPACES = bytes.maketrans(CONTROL, b" " * len(CONTROL))
TO_CONTROL = re.compile(rb"&#(?:0*(?:[0-8]|1[124-9]|2\d|3[01])|x0*(?:[0-8bBcCeEfF]|1[0-9a-fA-F]));")
BEGUN = re.compile(rb"&(?:#x?[0-9a-fA-F]{0,8})?\Z")
LONGEST = 12
# How a file is at fault that ends in the middle.
CUT_OFF = {
    errors.codes[found]
    for found in (errors.XML_ERROR_NO_ELEMENTS, errors.XML_ERROR_UNCLOSED_TOKEN, errors.XML_ERROR_PARTIAL_CHAR)
}


def records(file: BinaryIO, path: Path, whole: bool = True) -> Iterator[dict[str, str]]:
    """Yield the attributes of each row. With `whole`, raise PipelineError where the file ends in the middle."""
    found: list[dict[str, str]] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        if name == ROW:
            found.append(attributes)

    def refuse(*_: object) -> None:
        raise PipelineError(
            f"{path.resolve()}, which the setting corpus names, is XML with a document type, whose entities are not"
            " read: remove it, from <!DOCTYPE to its closing bracket."
        )

    parser, rest = expat.ParserCreate(), b""
    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = refuse
    try:
        for block in blocks(file, path):
            block = TO_CONTROL.sub(b" ", (rest + block).translate(AS_SPACES))
            begun = BEGUN.search(block, max(0, len(block) - LONGEST))
            rest = begun[0] if begun else b""
            parser.Parse(block.removesuffix(rest))
            yield from found
            found.clear()
        if whole:
            parser.Parse(rest, True)
    except expat.ExpatError as error:
        if error.code == errors.codes[errors.XML_ERROR_JUNK_AFTER_DOC_ELEMENT]:
            # All rows have been read. What follows is counted as a row without values.
            yield from [*found, {}]
            return
        if error.code not in CUT_OFF:
            raise PipelineError(
                f"{path.resolve()}, which the setting corpus names, is no XML in line {error.lineno}, where & may have"
                " to be &amp; or < &lt;: correct it, or write the table as CSV or Parquet."
            ) from error
        raise PipelineError(
            f"{path.resolve()}, which the setting corpus names, is no whole XML file (line {error.lineno}): fetch it"
            " again."
        ) from error


def first_records(path: Path) -> list[dict[str, str]]:
    with path.open("rb") as file:
        return list(islice(records(file, path, whole=False), ROWS_LOOKED_AT))


def json_lines(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """Yield each row as a JSON object and a line end, for `readers.json_lines.chunks`."""
    for record in records(file, path):
        line = json.dumps(record).encode() + b"\n"
        yield line if len(line) <= LINE else UNREADABLE_LINE
