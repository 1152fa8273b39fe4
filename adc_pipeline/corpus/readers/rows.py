"""What every reader gives: rows of one shape, in the order of the source, as SQL that DuckDB can stream.

A reader turns a part of a raw corpus into one or more `Rows`; whoever takes them runs each to its end
before asking for the next, so that a reader may unpack into a folder and empty it again.
"""

from dataclasses import dataclass, field
from typing import Any

# Name and type of the columns that `Rows.sql` selects, in this order. What a source does not have is null,
# and a row from which nothing could be read is null in every column.
COLUMNS = {
    "id": "VARCHAR",
    "conversation_id": "VARCHAR",
    "reply_to": "VARCHAR",
    "speaker": "VARCHAR",
    "text": "VARCHAR",
    "timestamp": "BIGINT",
    "score": "BIGINT",
    "stickied": "BOOLEAN",
    "score_hidden": "BOOLEAN",
    "distinguished": "VARCHAR",
    "title": "VARCHAR",
    "source": "VARCHAR",
}

# Numbers arrive as strings, because a source may spell them either way. A score is a whole number (7, "7",
# 7.0); a time may have a fraction, which is dropped. The test for a fraction first: casting through DOUBLE
# costs as much as all the rest of a row.
MACROS = """
CREATE OR REPLACE TEMP MACRO is_plain(spelt) AS
    NOT (contains(spelt, '.') OR contains(spelt, 'e') OR contains(spelt, 'E'));
CREATE OR REPLACE TEMP MACRO seconds(spelt) AS
    CASE WHEN is_plain(spelt) THEN try_cast(spelt AS BIGINT)
         ELSE try_cast(floor(try_cast(spelt AS DOUBLE)) AS BIGINT) END;
CREATE OR REPLACE TEMP MACRO whole(spelt) AS
    CASE WHEN is_plain(spelt) THEN try_cast(spelt AS BIGINT)
         WHEN try_cast(spelt AS DOUBLE) = floor(try_cast(spelt AS DOUBLE))
             THEN try_cast(try_cast(spelt AS DOUBLE) AS BIGINT) END;
"""


@dataclass(frozen=True)
class Rows:
    """A query that gives `COLUMNS`, and the values it refers to."""

    sql: str
    parameters: dict[str, Any] = field(default_factory=dict)
