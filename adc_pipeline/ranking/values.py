"""The value that replies are ranked by, as the setting `rank_by` names it: their score, their replies, or a column.

Whatever it is, it becomes the `score` of `ranked_replies`, a whole number of which a higher one is better. So walks,
preferences, objectives and evaluations need not know what ranked the replies.

- `score`: the votes, as they were read.
- `replies` and `depth`: how many replies a reply got, and how many levels of replies are below it: width and depth of
  DialogRPT (Gao et al. 2020). They are counted in the tree of the corpus, before the filters.
- a column that the setting `columns` of `raw_corpus` carried into `utterances`: a number, or true and false, of which
  true is 1. A column with a fraction anywhere in the corpus is counted in millionths.
- `accepted_reply`, if carried: on an utterance, the id of the reply that it accepts (Stack Exchange's
  AcceptedAnswerId). That reply is worth 1 and its siblings 0.

Ties go to the higher score, then to the earlier reply. By default no statement here runs.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from adc_pipeline.core.engine import Engine, only_row
from adc_pipeline.core.errors import PipelineError, did_you_mean
from adc_pipeline.corpus.readers.carried import ACCEPTED_REPLY
from adc_pipeline.corpus.tables import carried_columns, create_read_rows
from adc_pipeline.ranking.settings import RankingSettings

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

REPLIES = "SELECT parent_position AS position, count(*) AS value FROM tree WHERE depth > 0 GROUP BY ALL"

# Upwards from the utterances without replies. A path ends where another one has brought the same depth already.
DEPTH = """
WITH RECURSIVE up AS (
    SELECT position, 0 AS value FROM tree
    WHERE position NOT IN (SELECT parent_position FROM tree WHERE parent_position IS NOT NULL)
    UNION
    SELECT tree.parent_position, up.value + 1 FROM up JOIN tree USING (position) WHERE tree.depth > 0
)
SELECT position, max(value) AS value FROM up GROUP BY position
"""

# A number in pandas' tables ends with .0 where others of the column are missing.
ACCEPTED = """
SELECT r.position, CASE WHEN r.id = regexp_replace(trim(above.{column}), '\\.0+$', '')
    AND r.kind IS NOT DISTINCT FROM above.kind THEN 1 ELSE 0 END AS value
FROM read_rows AS r JOIN tree USING (position) JOIN read_rows AS above ON above.position = tree.parent_position
"""

NUMBER = """
CASE lower(trim({column})) WHEN 'true' THEN 1 WHEN 'false' THEN 0 ELSE
    CASE WHEN isfinite(try_cast({column} AS DOUBLE)) THEN try_cast({column} AS DOUBLE) END END
"""
# Whole numbers beyond 2**53 have no double of their own.
LABELS = {
    False: "SELECT position, CASE WHEN {number} IS NOT NULL THEN coalesce(try_cast({column} AS BIGINT),"
    " try_cast({number} AS BIGINT)) END AS value FROM read_rows",
    True: "SELECT position, try_cast(round({number} * 1000000) AS BIGINT) AS value FROM read_rows",
}
FRACTIONS = """
SELECT count({number}) AS numbers, count_if({number} <> floor({number})) AS fractions FROM read_rows
"""


def values_query(utterances: Path, settings: RankingSettings, engine: Engine) -> str:
    """Return the query of the value of each reply, or an empty one for the scores, which need none.

    Its columns are `position` and `value`, which is missing or null for a reply without one. Raise PipelineError for a
    column that is not in `utterances`, or has no number.
    """
    if settings.rank_by == "score":
        return ""
    if settings.rank_by in ("replies", "depth"):
        return REPLIES if settings.rank_by == "replies" else DEPTH
    with engine.connect() as connection:
        create_read_rows(connection, utterances)
        check_column(connection, settings.rank_by)
        column = f'"{settings.rank_by}"'
        if settings.rank_by == ACCEPTED_REPLY:
            return ACCEPTED.format(column=column)
        number = NUMBER.format(column=column)
        found = only_row(connection, FRACTIONS.format(number=number))
    if not found["numbers"]:
        raise PipelineError(
            f"No utterance has a number, true or false in the column {settings.rank_by}, which the setting rank_by"
            " names: name another field in the setting columns of raw_corpus, or rank by score."
        )
    return LABELS[found["fractions"] > 0].format(column=column, number=number)


def check_column(connection: "DuckDBPyConnection", name: str) -> None:
    """Raise PipelineError if the setting `columns` did not carry this column into `utterances`."""
    carried = carried_columns(connection)
    if name not in carried:
        has = f"; carried are {', '.join(carried)}" if carried else ""
        meant = did_you_mean(name, ["score", "replies", "depth", *carried])
        raise PipelineError(
            f"The setting rank_by names {name}, which is no column of utterances{meant}{has}: carry it by the setting"
            f" columns of raw_corpus, such as {{{name}: FIELD}}, or rank by score, replies or depth."
        )
