"""Reddit dumps as Pushshift and Arctic Shift publish them: submissions and comments, one JSON object a line.

Ids lose their `t1_` and `t3_`, as in ConvoKit's corpora, so that a conversation is in the same split
whichever way it came. Which of the two a line is, its own keys say, so a file may hold both. A plain file is
read by DuckDB where it lies; a compressed one is unpacked piece by piece (`readers.lines`).

For some years Pushshift gave the parent of a comment as a plain number (the id in base 10), and as null
where the parent is the submission: https://github.com/voussoir/timesearch/issues/19. Both are mended here,
since a comment without a parent would pass for a root. One that does not name its submission either has no
conversation and is set aside.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from adc_pipeline.core.engine import Report, no_report
from adc_pipeline.corpus.packings import packing
from adc_pipeline.corpus.readers import lines
from adc_pipeline.corpus.readers.rows import Rows

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

BARE = """
CREATE OR REPLACE TEMP MACRO bare(name) AS
nullif(CASE WHEN starts_with(name, 't1_') OR starts_with(name, 't3_') THEN substr(name, 4) ELSE name END, '');
CREATE OR REPLACE TEMP MACRO named_by_number(name) AS
CASE WHEN starts_with(name, 't') THEN bare(name)
     WHEN regexp_full_match(name, '[0-9]{1,18}') THEN lower(to_base(try_cast(name AS BIGINT), 36))
     ELSE nullif(name, '') END;
"""

# A submission hides its score by another key than a comment does.
READ = """
SELECT bare(id) AS id, CASE WHEN is_comment THEN bare(link_id) ELSE bare(id) END AS conversation_id,
    CASE WHEN is_comment THEN coalesce(named_by_number(parent_id), bare(link_id)) END AS reply_to,
    author AS speaker, CASE WHEN is_comment THEN body ELSE selftext END AS text,
    seconds(created_utc) AS timestamp, whole(score) AS score, try_cast(stickied AS BOOLEAN) AS stickied,
    coalesce(try_cast(score_hidden AS BOOLEAN), try_cast(hide_score AS BOOLEAN)) AS score_hidden,
    distinguished, CASE WHEN NOT is_comment THEN title END AS title, subreddit AS source
FROM (
    SELECT *, link_id IS NOT NULL OR parent_id IS NOT NULL OR body IS NOT NULL AS is_comment
    FROM read_json($lines, format = 'newline_delimited', compression = 'none', ignore_errors = true, columns = {
        id: 'VARCHAR', link_id: 'VARCHAR', parent_id: 'VARCHAR', author: 'VARCHAR', body: 'VARCHAR',
        selftext: 'VARCHAR', title: 'VARCHAR', subreddit: 'VARCHAR', created_utc: 'VARCHAR', score: 'VARCHAR',
        stickied: 'VARCHAR', score_hidden: 'VARCHAR', hide_score: 'VARCHAR', distinguished: 'VARCHAR'})
)
"""


def rows(
    path: Path, connection: "DuckDBPyConnection", scratch: Path, report: Report = no_report, unpack: bool = False
) -> Iterator[Rows]:
    """The rows of one dump, in its order; run each to its end before asking for the next.

    `scratch` takes what is unpacked, `report` hears how far it is. With `unpack` a plain file goes through
    `readers.lines` too, which replaces the lines that DuckDB finds too long (`lines.is_too_long`). Raises
    PipelineError for a file that is damaged or cut off.
    """
    connection.execute(BARE)
    if unpack or packing(path) != "none" or lines.has_mark(path):
        for chunk in lines.chunks(path, scratch, report):
            yield Rows(READ, {"lines": str(chunk)})
    else:
        lines.check_end(path)
        yield Rows(READ, {"lines": str(path)})
