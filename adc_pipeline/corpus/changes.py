"""Work on the conversations that have changed since the previous version, and reuse what was computed of the others.

Every stage behind the reading computes one conversation at a time. Where most source files are those of the previous
version (`corpus.kept_rows`), a stage therefore computes the conversations that the other files touch, and takes the
rest from its own previous result: a month that is added costs a month, and the rewriting of the files.

A shard of `utterances` has the rows of these conversations a second time, as folders that look like a shard:
`changed/now`, and `changed/before` as they were in the previous version. A stage computes both. It takes the rows of
`before` out of its previous result, and puts those of `now` in; it does the same with the counts. Positions of the
previous version are moved to where the kept files begin now.

A conversation is touched if one of its rows lies in a file that is new or gone, or has the id, or the parent, that such
a row has as its id. Ids of two conversations may be equal (`corpus.namespaces`): both are touched then.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adc_pipeline.core.columns import row_count
from adc_pipeline.core.engine import Engine, only_row
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.records import read_record
from adc_pipeline.core.shards import COUNTS, Counts, parts
from adc_pipeline.corpus.kept_rows import KEPT
from adc_pipeline.corpus.keys import Keys
from adc_pipeline.corpus.tables import CONVERSATIONS, FROM, READ, SET_ASIDE, TREE, create_read_rows, row_files
from adc_pipeline.corpus.titles import create_titles
from adc_pipeline.corpus.tree import write_tree

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

CHANGED, SINCE = "changed", "since.json"
NOW, BEFORE = f"{CHANGED}/now", f"{CHANGED}/before"
# Two files, since DuckDB treats several in another way than one (`merge`).
KEPT_ROWS, OTHER_ROWS = (f"utterances-{number:05}{FROM}{0:012}.parquet" for number in (0, 1))
# Above this share of changed rows, computing everything is cheaper.
MOST_CHANGED = 0.5
# Runs of kept pieces that moved by the same number of rows. A file that changes makes two of one.
MOST_RUNS = 100

# A row without a conversation may become part of one, so it is always computed again.
CHANGED_IDS = (
    "SELECT DISTINCT {key} AS key FROM (FROM new_rows UNION ALL BY NAME FROM gone_rows) WHERE {key} IS NOT NULL"
)
TOUCHED = """
CREATE TABLE touched AS SELECT DISTINCT conversation_id FROM (
    SELECT conversation_id FROM new_rows UNION ALL SELECT conversation_id FROM gone_rows
    UNION ALL SELECT conversation_id FROM (
        SELECT {key} AS key, {parent_key} AS parent_key, conversation_id FROM kept_rows
    ) WHERE key IN (SELECT key FROM changed_ids) OR parent_key IN (SELECT key FROM changed_ids)
    UNION ALL SELECT conversation_id FROM (
        (FROM titles EXCEPT FROM titles_before) UNION ALL (FROM titles_before EXCEPT FROM titles))
) WHERE conversation_id IS NOT NULL
"""
TOUCHED_ROWS = """
CREATE TABLE touched_rows AS SELECT position FROM kept_rows
WHERE conversation_id IS NULL OR conversation_id IN (SELECT conversation_id FROM touched)
"""
ROWS_NOW = "SELECT * FROM kept_rows SEMI JOIN touched_rows USING (position)"
ROWS_BEFORE = "SELECT * REPLACE ({moved} AS position) FROM read_parquet($now, hive_partitioning = false)"
# Of the previous version, by the name of the column with the position.
PART_BEFORE = """
SELECT * FROM read_parquet($all, hive_partitioning = false) AS rows
SEMI JOIN (SELECT position FROM read_parquet($before, hive_partitioning = false)) AS before
    ON rows.{position} = before.position
ORDER BY ALL
"""
COUNTS_BEFORE = """
SELECT (SELECT count(*) FROM read_rows) AS read, (SELECT count(*) FROM tree) AS taking_part,
    (SELECT count(*) FROM conversations) AS roots, (SELECT count(*) FROM conversations WHERE adopted) AS adopted_roots,
    (SELECT count(*) FROM read_rows) - (SELECT count(*) FROM tree) AS set_aside
"""
MERGED = """
SELECT {moved} FROM read_parquet($previous, hive_partitioning = false) AS rows
ANTI JOIN (SELECT {position} AS gone FROM read_parquet($before, hive_partitioning = false)) AS before
    ON rows.{position} = before.gone
UNION ALL BY NAME FROM read_parquet($now, hive_partitioning = false)
"""
POSITIONS = ("position", "parent_position", "root_position")


@dataclass(frozen=True)
class Difference:
    """The difference between a version of `utterances` and `previous`, the one before.

    `runs` are ranges of positions whose rows were kept: begin and end in the previous version, and by how much they
    moved. `new` and `gone` are the numbers of files of rows without a counterpart.
    """

    previous: Path
    runs: tuple[tuple[int, int, int], ...]
    new: frozenset[int]
    gone: frozenset[int]


def moved(runs: Sequence[Sequence[int]], position: str, back: bool = False) -> str:
    """Return a SQL expression: a position of the previous version in this one, or `back`, the other way round."""
    if not any(by for _, _, by in runs):
        return position
    # In the order of the positions that it is given.
    cases = sorted((end + (by if back else 0), -by if back else by) for _, end, by in runs)
    whens = "".join(f" WHEN {position} < {end} THEN {by}" for end, by in cases[:-1])
    return f"{position} + CASE{whens} ELSE {cases[-1][1]} END" if whens else f"{position} + {cases[-1][1]}"


def find_changes(previous: Path | None, rows: Path, keys: Keys, adopt_roots: bool) -> Difference | None:
    """Return what has changed since `previous` where its trees can be reused; None if all have to be built.

    `rows` is the folder of the rows that were read.
    """
    if previous is None or not (previous / KEPT).is_file():
        return None
    with suppress(PipelineError, KeyError):
        before, now = read_record(previous / KEPT), read_record(rows / KEPT)
        if (before["keys"], before["adopt_roots"]) != (asdict(keys), adopt_roots):
            return None
        return compared(previous, before, now)
    return None


def compared(previous: Path, record_before: dict[str, Any], record_now: dict[str, Any]) -> Difference | None:
    """Compare the pieces of two versions, by task.

    None if a record does not have all of them, or if there is only one, of which nothing could be reused (`merge`).
    """
    firsts_before, firsts = first_rows(record_before), first_rows(record_now)
    if firsts_before is None or firsts is None or len(firsts) == 1:
        return None
    before, now = record_before["tasks"], record_now["tasks"]
    runs: list[tuple[int, int, int]] = []
    kept = 0
    found = sorted(
        (firsts_before[number], rows, firsts[number_now] - firsts_before[number])
        for task in before.keys() & now.keys()
        for (number, rows), (number_now, _) in zip(before[task]["pieces"], now[task]["pieces"], strict=True)
    )
    for first, rows, by in found:
        kept += rows
        if runs and runs[-1][1:] == (first, by):
            runs[-1] = (runs[-1][0], first + rows, by)
        else:
            runs.append((first, first + rows, by))
    total = sum(rows for task in now.values() for _, rows in task["pieces"])
    if len(runs) > MOST_RUNS or total - kept > MOST_CHANGED * total:
        return None
    new, gone = (
        frozenset(number for task in some.keys() - other.keys() for number, _ in some[task]["pieces"])
        for some, other in ((now, before), (before, now))
    )
    return Difference(previous, tuple(runs), new, gone)


def first_rows(record: dict[str, Any]) -> dict[int, int] | None:
    """Return the position of the first row of each piece, by number; None if some pieces are not recorded.

    That is so for rows that are not as in the source: something was removed or replaced in them.
    """
    pieces = sorted((number, rows) for task in record["tasks"].values() for number, rows in task["pieces"])
    if [number for number, _ in pieces] != list(range(record["pieces"])):
        return None
    return dict(zip(range(len(pieces)), accumulate((rows for _, rows in pieces), initial=0), strict=False))


def create_changed_rows(
    connection: "DuckDBPyConnection", rows: Path, name: str, difference: Difference
) -> list[tuple[str, int]]:
    """Create the views `new_rows` and `gone_rows`, of a shard or, if `name` is empty, of all; return the kept files."""
    files, before = row_files(rows / name), row_files(difference.previous / name)
    create_read_rows(connection, rows / name, "new_rows", [each for each in files if number_of(each) in difference.new])
    gone = [each for each in before if number_of(each) in difference.gone]
    create_read_rows(connection, difference.previous / name, "gone_rows", gone)
    return [each for each in files if number_of(each) not in difference.new]


def number_of(file: tuple[str, int]) -> int:
    """Return the number of the piece that a file of rows is a part of."""
    return int(Path(file[0]).name.removeprefix("utterances-")[:5])


def write_changed_ids(rows: Path, path: Path, difference: Difference, keys: Keys, engine: Engine) -> None:
    """Write the keys of the rows that are new or gone."""
    with engine.connect(path.with_suffix(".spill")) as connection:
        create_changed_rows(connection, rows, "", difference)
        engine.write(connection, "collecting changed ids", CHANGED_IDS.format(key=keys.key), path)


def update_tree(
    rows: Path,
    name: str,
    difference: Difference,
    ids: Path,
    keys: Keys,
    duplicates: Path,
    titles: Path,
    out: Path,
    adopt_roots: bool,
    engine: Engine,
) -> Counts:
    """Write what `write_tree` writes of the shard `name`, by building the trees of touched conversations only.

    `ids` is the file of `write_changed_ids`. `set_aside.parquet` has the rows of touched conversations only.
    """
    previous, now, before = difference.previous / name, out / NOW, out / BEFORE
    now.mkdir(parents=True)
    before.mkdir()
    with engine.connect(out / "spill") as connection:
        kept = create_changed_rows(connection, rows, name, difference)
        create_read_rows(connection, rows / name, "kept_rows", kept)
        connection.read_parquet(str(ids), hive_partitioning=False).create_view("changed_ids")
        create_titles(connection, titles, name)
        create_titles(connection, difference.previous / titles.name, name, "titles_before")
        engine.run(connection, "finding touched conversations", TOUCHED.format(**asdict(keys)))
        engine.run(connection, "finding their rows", TOUCHED_ROWS)
        connection.execute("DROP VIEW kept_rows")
        # Texts are read of the files that have such rows: mostly the last months.
        create_read_rows(connection, rows / name, "kept_rows", files_with(connection, kept))
        engine.write(connection, "reading their texts", ROWS_NOW, now / KEPT_ROWS)
        engine.write(connection, "reading new rows", "FROM new_rows", now / OTHER_ROWS)
        unmoved = ROWS_BEFORE.format(moved=moved(difference.runs, "position", back=True))
        engine.write(connection, "", unmoved, before / KEPT_ROWS, {"now": str(now / KEPT_ROWS)})
        engine.write(connection, "reading rows that are gone", "FROM gone_rows", before / OTHER_ROWS)
        for file, position in ((TREE, "position"), (CONVERSATIONS, "root_position")):
            paths = {"all": str(previous / file), "before": parts(before, READ)}
            engine.write(connection, "", PART_BEFORE.format(position=position), before / file, paths)
        create_read_rows(connection, before)
        for file in (TREE, CONVERSATIONS):
            view = file.removesuffix(".parquet")
            connection.read_parquet(str(before / file), hive_partitioning=False).create_view(view)
        counts_before = only_row(connection, COUNTS_BEFORE)
    counts = write_tree(now, name, keys, duplicates, titles, now, adopt_roots, engine)
    (now / SET_ASIDE).rename(out / SET_ASIDE)

    def compute(folder: Path) -> Counts:
        return write_tree(rows / name, name, keys, duplicates, titles, folder, adopt_roots, engine)

    files = (TREE, "position"), (CONVERSATIONS, "root_position")
    merge(out, previous, files, difference.runs, rows / name, compute, engine)
    return changed_counts(read_record(previous / COUNTS), counts_before, counts)


def files_with(connection: "DuckDBPyConnection", files: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return those files of rows that have one of `touched_rows`."""
    import numpy as np

    positions = connection.execute("SELECT position FROM touched_rows").fetchnumpy()["position"]
    found = np.unique(np.searchsorted([first for _, first in files], positions, side="right") - 1)
    return [files[number] for number in found.tolist()]


def merge(
    out: Path,
    previous: Path,
    files: Sequence[tuple[str, str]],
    runs: Sequence[Sequence[int]],
    rows: Path,
    compute: Callable[[Path], object],
    engine: Engine,
) -> None:
    """Write files of a shard, each with the column by which it is sorted, from those of the previous version.

    The rows that `out/changed/before` has of a file are replaced by those of `out/changed/now`. DuckDB declares a
    column as required where it knows that no value is null: from the statistics of tables, and of a single Parquet
    file, but not of several. Where the declarations could differ from those of a build from nothing, `compute` fills a
    folder with the files from all rows of the shard, which lie in the folder `rows`.
    """
    paths = {
        file: {"previous": previous / file, "before": out / BEFORE / file, "now": out / NOW / file} for file, _ in files
    }
    if len(row_files(rows)) == 1 or not all(same_declarations(**paths[file]) for file, _ in files):
        whole = out / "whole"
        whole.mkdir()
        compute(whole)
        for file, _ in files:
            (whole / file).rename(out / file)
        shutil.rmtree(whole)
        return
    with engine.connect(out / "spill") as connection:
        for file, position in files:
            columns = declared(paths[file]["now"])
            selected = ", ".join(f"{moved(runs, name)} AS {name}" if name in POSITIONS else name for name in columns)
            # A position is never below 0, which DuckDB does not know (`walks.files.nullable`).
            names = ", ".join(
                f"if({position} >= 0, {name}, NULL) AS {name}" if optional else name
                for name, optional in columns.items()
            )
            merged = MERGED.format(moved=selected, position=position)
            query = f"SELECT {names} FROM ({merged}) ORDER BY {position}"  # noqa: S608
            values = {key: str(path) for key, path in paths[file].items()}
            engine.write(connection, f"merging {file}", query, out / file, values)


def same_declarations(previous: Path, before: Path, now: Path) -> bool:
    """Return whether merged rows would be declared as those of the two files; not where one of them has no rows."""
    files = [str(previous), str(before)]
    left, there = row_count(files[:1]) - row_count(files[1:]), row_count([str(now)])
    return left > 0 and there > 0 and declared(previous) == declared(now)


def declared(path: Path) -> dict[str, bool]:
    """Return by column of a file whether it is declared as optional."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        columns = [file.schema.column(number) for number in range(len(file.schema))]
    return {column.name: column.max_definition_level > 0 for column in columns}


def changed_counts(counts: Mapping[str, int], before: Counts, now: Counts) -> Counts:
    """Return counts of the previous version without what is gone, and with what is new."""
    return {name: counts.get(name, 0) - before.get(name, 0) + now.get(name, 0) for name in {**counts, **before, **now}}


@dataclass(frozen=True)
class Changes:
    """The changes that a version was updated by: the name of the version before, and `runs` as in `Difference`."""

    previous: str
    runs: tuple[tuple[int, int, int], ...]

    @classmethod
    def read(cls, version: Path) -> "Changes | None":
        """Return what `record` wrote; None if everything was computed."""
        if not (version / SINCE).is_file():
            return None
        record = read_record(version / SINCE, previous=str, runs=list)
        return cls(record["previous"], tuple(record["runs"]))

    def record(self, out: Path) -> None:
        """Write what stages downstream need."""
        (out / SINCE).write_text(json.dumps(asdict(self)) + "\n")
