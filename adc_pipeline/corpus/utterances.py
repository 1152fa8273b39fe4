"""From a ConvoKit corpus on disk to `utterances.parquet`: every utterance that takes part, and why the others do not.

DuckDB reads the JSON lines itself. `convokit.Corpus` would need about 5 KB of memory an utterance and a
hundred times the time; what it knows of the format (the spellings of a key over the years) is in the one
statement that reads. After that everything works on `position`, the place in the source, because
integers join faster than ids. Cost: 0.1 s for 5,085 utterances, 0.8 s for 13,720 with DuckDB's import.

An utterance takes part if it can be reached from its conversation's root by `reply_to` inside that
conversation. What cannot goes to `set_aside.parquet` with one reason; `because_of` names the ancestor
that an otherwise sound utterance was lost with.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from adc_pipeline.engine import Engine, only_row
from adc_pipeline.errors import PipelineError

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection


@dataclass(frozen=True)
class UtteranceSettings:
    """Settings of the asset `utterances`."""

    adopt_roots: bool = field(
        default=True,
        metadata={
            "description": "Where a conversation starts in the middle and exactly one utterance has its"
            " parent outside it, take that one as the root."
        },
    )
    max_set_aside: float = field(
        default=0.05,
        metadata={"description": "The largest share of utterances that may be set aside before the stage fails."},
    )


# Spellings of the same key in the corpora ConvoKit has published since 2019.
READ = """
CREATE TABLE read AS
SELECT
    row_number() OVER () - 1 AS position,
    id,
    coalesce(conversation_id, root) AS conversation_id,
    coalesce("reply_to", "reply-to") AS reply_to,
    coalesce(speaker, "user", '') AS speaker,
    coalesce(text, '') AS text,
    try_cast(try_cast(timestamp AS DOUBLE) AS BIGINT) AS timestamp,
    CASE WHEN try_cast(meta.score AS DOUBLE) = floor(try_cast(meta.score AS DOUBLE))
         THEN try_cast(meta.score AS BIGINT) END AS score,
    coalesce(try_cast(meta.stickied AS BOOLEAN), false) AS stickied,
    coalesce(try_cast(meta.score_hidden AS BOOLEAN), false) AS score_hidden,
    meta.subreddit AS subreddit
FROM read_json($path, format = 'newline_delimited', ignore_errors = true, maximum_object_size = 268435456,
    columns = {id: 'VARCHAR', conversation_id: 'VARCHAR', root: 'VARCHAR', "reply_to": 'VARCHAR',
        "reply-to": 'VARCHAR', speaker: 'VARCHAR', "user": 'VARCHAR', text: 'VARCHAR', timestamp: 'VARCHAR',
        meta: 'STRUCT(score VARCHAR, stickied VARCHAR, score_hidden VARCHAR, subreddit VARCHAR)'})
"""

# A line that is not an object of the expected shape arrives with every column null.
UNREADABLE = """
CREATE TABLE offenders AS
SELECT position, CASE WHEN conversation_id IS NULL AND text = '' AND speaker = '' THEN 'malformed'
                      WHEN id IS NULL THEN 'no_id' ELSE 'no_conversation' END AS reason
FROM read WHERE id IS NULL OR conversation_id IS NULL
"""

# Which of several utterances with one id stays must not depend on the order in which they were read.
DUPLICATES = """
INSERT INTO offenders
SELECT position, 'duplicate_id' FROM (
    SELECT position, row_number() OVER (
        PARTITION BY id ORDER BY timestamp, score DESC, conversation_id, reply_to, speaker, text, position
    ) AS copy
    FROM read SEMI JOIN (SELECT id FROM read GROUP BY id HAVING count(*) > 1) USING (id)
) WHERE copy > 1
"""

LINK = """
CREATE TABLE linked AS
SELECT r.position, r.id, r.conversation_id, r.reply_to, r.timestamp, r.score IS NULL AS unscored,
    p.position AS parent,
    r.reply_to IS NOT NULL AND p.position IS NULL AS orphan,
    coalesce(p.conversation_id <> r.conversation_id, false) AS stray
FROM (SELECT * FROM read ANTI JOIN offenders USING (position)) AS r
LEFT JOIN (SELECT * FROM read ANTI JOIN offenders USING (position)) AS p ON p.id = r.reply_to
"""

ROOTS = """
CREATE TABLE roots AS
WITH heads AS (
    SELECT *, row_number() OVER (
        PARTITION BY conversation_id ORDER BY id <> conversation_id, timestamp, id
    ) AS place
    FROM linked WHERE reply_to IS NULL
)
SELECT position, conversation_id, false AS adopted FROM heads WHERE place = 1
UNION ALL
SELECT any_value(position), conversation_id, true
FROM linked ANTI JOIN heads USING (conversation_id)
WHERE $adopt_roots AND (orphan OR stray)
GROUP BY conversation_id HAVING count(*) = 1
"""

UNFIT = """
INSERT INTO offenders
SELECT position, CASE WHEN reply_to IS NULL THEN 'second_root' WHEN unscored THEN 'no_score'
                      WHEN orphan THEN 'missing_parent' ELSE 'other_conversation' END
FROM linked ANTI JOIN roots USING (position)
WHERE reply_to IS NULL OR unscored OR orphan OR stray
"""

CHILDREN = """
CREATE TABLE children AS
SELECT position, parent FROM linked
ANTI JOIN roots USING (position) ANTI JOIN offenders USING (position)
"""

REACH = """
CREATE TABLE reached AS
WITH RECURSIVE down AS (
    SELECT position, NULL::BIGINT AS parent FROM roots
    UNION ALL
    SELECT children.position, children.parent FROM down JOIN children ON children.parent = down.position
)
SELECT * FROM down
"""

# What neither a root nor an offender leads to hangs in a loop, or below one.
SET_ASIDE = """
CREATE TABLE set_aside AS
WITH RECURSIVE lost AS (
    SELECT position, reason, NULL::BIGINT AS because_of FROM offenders
    UNION ALL
    SELECT children.position, lost.reason, coalesce(lost.because_of, lost.position)
    FROM lost JOIN children ON children.parent = lost.position
)
SELECT * FROM lost
UNION ALL
SELECT position, 'loop', NULL FROM children ANTI JOIN reached USING (position) ANTI JOIN lost USING (position)
"""

WRITE_UTTERANCES = """
COPY (
    SELECT r.id, r.conversation_id, r.reply_to, r.speaker, r.text, r.timestamp, r.score, r.position,
        CASE WHEN root.position IS NOT NULL THEN c.title END AS title,
        coalesce(c.subreddit, r.subreddit, $source) AS source,
        r.stickied, r.score_hidden, root.position IS NOT NULL AS is_root, reached.parent AS parent_position
    FROM read AS r JOIN reached USING (position)
    LEFT JOIN roots AS root USING (position)
    LEFT JOIN conversations AS c ON c.id = r.conversation_id
    ORDER BY position
) TO $path (FORMAT parquet, COMPRESSION zstd)
"""

WRITE_SET_ASIDE = """
COPY (
    SELECT r.id, r.conversation_id, s.position, s.reason, b.id AS because_of
    FROM set_aside AS s JOIN read AS r USING (position) LEFT JOIN read AS b ON b.position = s.because_of
    ORDER BY s.position
) TO $path (FORMAT parquet, COMPRESSION zstd)
"""

COUNTS = """
SELECT (SELECT count(*) FROM read) AS read,
    (SELECT count(*) FROM reached) AS taking_part,
    (SELECT count(*) FROM roots) AS roots,
    (SELECT count(*) FROM roots WHERE adopted) AS adopted_roots,
    (SELECT count(*) FROM set_aside) AS set_aside
"""


def write_utterances(
    corpus: Path, out: Path, settings: UtteranceSettings | None = None, engine: Engine | None = None
) -> dict[str, int]:
    """Read the ConvoKit corpus in the folder `corpus` and write two Parquet files into the folder `out`.

    `utterances.parquet` holds what takes part, in the order of the source; `set_aside.parquet` the rest,
    with a reason each. Returns the counts: `read` = `taking_part` + `set_aside`, the latter also by reason.
    Raises PipelineError for a corpus that is cut off, and where more than `max_set_aside` is set aside.
    """
    settings, engine = settings or UtteranceSettings(), engine or Engine()
    lines = corpus / "utterances.jsonl"
    refuse_cut_off(lines)
    with engine.connect(spill=out / "spill") as connection:
        connection.register("conversations", conversations_table(corpus))
        connection.execute(READ, {"path": str(lines)})
        for statement in (UNREADABLE, DUPLICATES, LINK):
            connection.execute(statement)
        connection.execute(ROOTS, {"adopt_roots": settings.adopt_roots})
        for statement in (UNFIT, CHILDREN, REACH, SET_ASIDE):
            connection.execute(statement)
        counts = count(connection)
        refuse_too_many_set_aside(counts, settings.max_set_aside)
        source = {"source": corpus_name(corpus), "path": str(out / "utterances.parquet")}
        connection.execute(WRITE_UTTERANCES, source)
        connection.execute(WRITE_SET_ASIDE, {"path": str(out / "set_aside.parquet")})
    return counts


def count(connection: "DuckDBPyConnection") -> dict[str, int]:
    """The counts of this stage, with one `set_aside.REASON` for each reason that occurred."""
    counts = only_row(connection, COUNTS)
    reasons = connection.execute("SELECT reason, count(*) FROM set_aside GROUP BY ALL ORDER BY ALL")
    return counts | {f"set_aside.{reason}": number for reason, number in reasons.fetchall()}


def refuse_too_many_set_aside(counts: dict[str, int], most: float) -> None:
    if not counts["read"]:
        raise PipelineError("The corpus holds no utterances: check the setting corpus (or ADC_CORPUS).")
    if counts["set_aside"] > most * counts["read"]:
        reasons = ", ".join(
            f"{number} {name.removeprefix('set_aside.')}"
            for name, number in counts.items()
            if name.startswith("set_aside.")
        )
        raise PipelineError(
            f"{counts['set_aside']} of {counts['read']} utterances would be set aside ({reasons}), more than"
            f" the setting max_set_aside = {most:g} allows: mend the corpus or raise the setting."
        )


def refuse_cut_off(lines: Path) -> None:
    """Raise PipelineError if the last line of a JSON lines file is not whole."""
    with lines.open("rb") as file:
        size = file.seek(0, 2)
        tail = b""
        while size and b"\n" not in tail[:-1]:
            step = min(size, 1 << 20)
            size = file.seek(size - step)
            tail = file.read(step) + tail
    last = tail[tail[:-1].rfind(b"\n") + 1 :]
    if last and not last.endswith(b"\n"):
        try:
            json.loads(last)
        except ValueError as error:
            raise PipelineError(
                f"{lines} ends in the middle of a line, so the copy is incomplete: fetch the corpus again."
            ) from error


def read_json(path: Path) -> dict:
    """One of the corpus' JSON files as a dictionary; empty where the corpus does not have it."""
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise PipelineError(f"{path} is not whole JSON, so the copy is incomplete: fetch the corpus again.") from error
    return content if isinstance(content, dict) else {}


def corpus_name(corpus: Path) -> str:
    name = read_json(corpus / "corpus.json").get("name")
    return name if isinstance(name, str) and name else corpus.resolve().name


def conversations_table(corpus: Path) -> "pa.Table":
    """Title and subreddit of every conversation; older corpora put them beside `meta` rather than in it."""
    import pyarrow as pa

    def told(entry: object) -> tuple[str | None, ...]:
        meta = entry.get("meta", entry) if isinstance(entry, dict) else None
        values = (meta.get(key) for key in ("title", "subreddit")) if isinstance(meta, dict) else (None, None)
        return tuple(value if isinstance(value, str) else None for value in values)

    rows = [(conversation, *told(entry)) for conversation, entry in read_json(corpus / "conversations.json").items()]
    schema = pa.schema([(name, pa.string()) for name in ("id", "title", "subreddit")])
    return (
        pa.Table.from_arrays([pa.array(column, pa.string()) for column in zip(*rows, strict=True)], schema=schema)
        if rows
        else schema.empty_table()
    )
