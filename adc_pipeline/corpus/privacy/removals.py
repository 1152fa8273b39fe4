"""The removal list: people and utterances that must not be in anything that is built.

`ADC_HOME/removed.txt` has one entry a line, `speaker NAME` or `utterance ID`; empty lines and lines that begin with `#`
are ignored. The stage `utterances` leaves these rows out, with all replies below them, before anything else sees them:
every later artefact is made of its rows. Mentions of a removed speaker in other texts (`u/NAME`, `@NAME`) and the
name in a source of theirs (`u_NAME`) become `[removed]`. The list counts as an input of `utterances`, so a change of it
rebuilds everything downstream. Without a list, or with an empty one, nothing is read twice and no byte changes.

Cost: the rows are written a second time, which takes about as long as splitting them into shards.
"""

import hashlib
import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adc_pipeline.core.engine import Engine, only_row
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.named_files import file_problem
from adc_pipeline.core.shards import Counts
from adc_pipeline.corpus.keys import read_keys
from adc_pipeline.corpus.privacy.mentions import MENTION, PREFIX, create_mention_macros
from adc_pipeline.corpus.readers.carried import ACCEPTED_REPLY
from adc_pipeline.corpus.tables import carried_columns, create_read_rows, row_files

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

FILE = "removed.txt"
KINDS = ("speaker", "utterance")

# DuckDB folds the case of some letters otherwise than Python does.
SPEAKERS = """
SET VARIABLE removed_speakers = list_distinct(list_transform($1::VARCHAR[], lambda name: name_key(name)))
"""
NAMES = """
SET VARIABLE removed_names = map_from_entries(
    list_transform(getvariable('removed_speakers'), lambda name: (name, '[removed]')))
"""
LISTED = """
CREATE OR REPLACE TEMP MACRO bare_id(id) AS regexp_replace(id, '^t[13]_', '');
CREATE OR REPLACE TEMP MACRO is_listed(kind, id, speaker) AS coalesce(
    list_contains(getvariable('removed_speakers'), name_key(speaker))
    OR (list_contains(getvariable('removed_bare_ids'), bare_id(id)) AND coalesce(
        list_contains(getvariable('removed_ids'), bare_id(id)) OR list_contains(getvariable('removed_ids'),
            coalesce(kind, nullif(regexp_extract(id, '^t[13]_'), '')) || bare_id(id)), true)), false);
CREATE OR REPLACE TEMP MACRO without_removed(content) AS regexp_replace(
    with_mentions(content, getvariable('removed_names'), NULL),
    getvariable('removed_spellings'), '\\1[removed]\\2', 'g')
"""
# Names that a mention would end in the middle of, such as one with a space. Nothing matches without such a name.
SPELLINGS = """
SET VARIABLE removed_spellings = coalesce((
    SELECT '(?i)(PREFIX)(?:' || string_agg(regexp_escape(spelling), '|' ORDER BY len(spelling) DESC, spelling)
        || ')([^\\pL\\pM\\pN_-]|$)'
    FROM (SELECT unnest($spellings::VARCHAR[]) AS spelling)
    WHERE NOT regexp_full_match('@' || spelling, 'MENTION')
), '([^\\s\\S])()')
""".replace("PREFIX", PREFIX).replace("MENTION", MENTION)

# Every copy of a removed utterance goes, also one that names another speaker. A conversation goes with its root, also
# the replies in it that nothing links to the root.
REMOVED = """
CREATE TABLE removed AS
WITH RECURSIVE linked AS MATERIALIZED (
    SELECT position, {key} AS key, {parent_key} AS parent_key, {conversation_key} AS conversation_key, namespace,
        id = conversation_id OR reply_to IS NULL AS is_root, is_listed(kind, id, speaker) AS listed
    FROM read_rows
), listed AS MATERIALIZED (
    SELECT DISTINCT key FROM linked WHERE listed
), ended AS (
    SELECT DISTINCT namespace, conversation_key FROM linked WHERE is_root AND key IN (FROM listed)
), gone AS (
    SELECT position, key FROM linked
    WHERE listed OR key IN (FROM listed) OR (namespace, conversation_key) IN (FROM ended)
    UNION
    SELECT linked.position, linked.key FROM gone JOIN linked ON linked.parent_key = gone.key
)
SELECT gone.position, any_value(linked.listed OR linked.key IN (FROM listed)) AS listed
FROM gone JOIN linked USING (position) GROUP BY ALL
"""
REMOVED_TITLES = """
CREATE TABLE removed_titles AS
SELECT DISTINCT namespace, conversation_id FROM read_rows
WHERE position IN (SELECT position FROM removed) AND (id = conversation_id OR reply_to IS NULL)
"""
REMAINING = """
SELECT * EXCLUDE (file_row_number) REPLACE (without_removed(text) AS text, without_removed(title) AS title,
    without_owner(source, getvariable('removed_names'), NULL) AS source {carried})
FROM read_parquet($file, file_row_number = true, hive_partitioning = false)
WHERE {position} NOT IN (SELECT position FROM removed) ORDER BY file_row_number
"""
# What a carried column says of somebody who is removed.
CARRIED = """, CASE WHEN NOT is_listed(NULL, {id}, "{name}") THEN without_removed("{name}") END AS "{name}" """
REMAINING_TITLES = """
SELECT * REPLACE (without_removed(title) AS title, without_owner(source, getvariable('removed_names'), NULL) AS source)
FROM read_parquet($file, hive_partitioning = false) AS titles
    ANTI JOIN removed_titles USING (namespace, conversation_id)
WHERE NOT is_listed('t3_', conversation_id, NULL)
"""
# `count_if` of no rows is NULL.
COUNTS = """
SELECT count(*) AS removed, count(*) FILTER (listed) AS "removed.listed",
    count(*) FILTER (NOT listed) AS "removed.below"
FROM removed
"""


@dataclass(frozen=True)
class Removals:
    """Who and what is removed: names of speakers, and ids of utterances, which may begin with Reddit's `t1_`."""

    speakers: frozenset[str] = frozenset()
    utterances: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.speakers or self.utterances)

    @property
    def digest(self) -> str:
        """Return a hash of the entries, whatever their order."""
        entries = {f"speaker {name.lower()}" for name in self.speakers} | {f"utterance {id}" for id in self.utterances}
        return hashlib.sha256("\n".join(sorted(entries)).encode()).hexdigest()[:32]

    def define(self, connection: "DuckDBPyConnection") -> None:
        """Create `is_listed(kind, id, speaker)` and `without_removed(content)`; needs the macros of mentions."""
        values = {
            "removed_ids": self.utterances,
            "removed_bare_ids": {id[3:] if id[:3] in ("t1_", "t3_") else id for id in self.utterances},
        }
        for name, ids in values.items():
            connection.execute(f"SET VARIABLE {name} = $1::VARCHAR[]", [sorted(ids)])
        connection.execute(SPEAKERS, [sorted(self.speakers)])
        connection.execute(NAMES)
        forms = {unicodedata.normalize(form, name) for form in ("NFC", "NFD") for name in self.speakers}
        connection.execute(SPELLINGS, {"spellings": sorted(forms)})
        connection.execute(LISTED)


def read_removals(home: Path) -> Removals:
    """Return the removal list of an ADC_HOME, which is empty where there is none.

    Raise PipelineError for a file that cannot be read, as one that lies on a disk that is not mounted, and for a line
    that is none of its entries.
    """
    path = home / FILE
    if not os.path.lexists(path):
        return Removals()
    if problem := file_problem(path):
        raise PipelineError(f"The removal list {path} {problem}.")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise PipelineError(f"The removal list {path} cannot be read: save it as UTF-8 text.") from error
    found: dict[str, set[str]] = {kind: set() for kind in KINDS}
    for number, line in enumerate(lines, 1):
        kind, _, value = line.strip().partition(" ")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if kind not in found or not value.strip():
            raise PipelineError(
                f"Line {number} of the removal list {path} is no entry: write `speaker NAME` or `utterance ID`."
            )
        found[kind].add(value.strip())
    return Removals(frozenset(found["speaker"]), frozenset(found["utterance"]))


def remove_rows(
    rows: Path, titles: Path, removals: Removals, connection: "DuckDBPyConnection", engine: Engine, options: str
) -> Counts:
    """Rewrite the files of all shards in the folder `rows`, and `titles`, without what is removed; return counts.

    `options` are those of the files.
    """
    import pyarrow.parquet as pq

    files = row_files(rows)
    create_read_rows(connection, rows)
    create_mention_macros(connection)
    removals.define(connection)
    keys = read_keys(connection)
    statement = REMOVED.format(key=keys.key, parent_key=keys.parent_key, conversation_key=keys.conversation_key)
    engine.run(connection, "finding what is removed", statement)
    connection.execute(REMOVED_TITLES)
    counts = only_row(connection, COUNTS)
    stored = "position" in pq.read_schema(files[0][0]).names
    carried = "".join(
        CARRIED.format(name=name, id=name if name == ACCEPTED_REPLY else "NULL") for name in carried_columns(connection)
    )
    for file, begin in files:
        path = Path(file)
        query = REMAINING.format(position=f"{begin} + {'position' if stored else 'file_row_number'}", carried=carried)
        engine.write(
            connection, "leaving out what is removed", query, path.with_suffix(".new"), {"file": file}, options
        )
    engine.write(connection, "leaving out titles", REMAINING_TITLES, titles.with_suffix(".new"), {"file": str(titles)})
    for path in [*(Path(file) for file, _ in files), titles]:
        path.with_suffix(".new").replace(path)
    return counts
