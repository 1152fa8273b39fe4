"""Find replies that nearly repeat an earlier one of the corpus: all of them to drop them, a sample to count them."""

from pathlib import Path

from adc_pipeline.core.atomic import atomic_file
from adc_pipeline.core.columns import row_count
from adc_pipeline.core.engine import Engine
from adc_pipeline.core.records import read_record
from adc_pipeline.core.shards import Counts, parts
from adc_pipeline.core.store.finished import finish
from adc_pipeline.corpus.changes import BEFORE, NOW, Changes
from adc_pipeline.corpus.near_duplicates.minhash import near_pairs
from adc_pipeline.corpus.tables import TREE, create_read_rows, create_tree
from adc_pipeline.ranking.settings import RankingSettings

# What was counted of near-duplicates, for the next version.
NEAR = "near_duplicates.json"

# What is compared to be counted: replies of the first rows of the source, and of those a share by how they begin, so
# that copies are compared with one another. The hash has 32 bits.
COMPARED = """
SELECT position, text FROM (SELECT position, text, missing_text FROM read_rows)
    SEMI JOIN (FROM tree WHERE depth > 0) AS replies USING (position)
WHERE missing_text IS NULL AND len(string_split(trim(text), ' ')) >= $words
    AND ($share >= 1 OR ('0x' || left(md5(left(lower(text), 24)), 8))::BIGINT < $share * 4294967296)
ORDER BY position
"""
COUNTED_ROWS, COUNTED_REPLIES = 100_000, 4_000


def write_near_duplicates(utterances: Path, path: Path, settings: RankingSettings, engine: Engine) -> None:
    """Write which replies of all shards are nearly an earlier one, as the columns `position` and `near`.

    To drop them, all are compared; to count them, a sample.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with engine.connect(path.with_suffix(".spill")) as connection:
        create_tree(connection, utterances)
        before, share = None, 1.0
        if settings.near_duplicates == "count":
            before = COUNTED_ROWS
            share = COUNTED_REPLIES / max(min(row_count(parts(utterances, TREE)), COUNTED_ROWS), 1)
        create_read_rows(connection, utterances, before=before)
        values = {"words": settings.near_duplicate_words, "share": share}
        compared = connection.execute(COMPARED, values).fetchall()
        engine.report(f"Comparing {len(compared):,} replies")
        found = {number for number, _ in near_pairs(connection, [text for _, text in compared])}
    with atomic_file(path) as partial:
        table = {
            "position": pa.array([position for position, _ in compared], pa.int64()),
            "near": pa.array([number in found for number in range(len(compared))], pa.bool_()),
        }
        pq.write_table(pa.table(table), partial)
    finish(path)


def near_counts(path: Path) -> Counts:
    """Return how many replies were compared, and how many are nearly an earlier one."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    near = pq.read_table(path, columns=["near"], partitioning=None)["near"]
    return {"near_duplicates.compared": len(near), "near_duplicates": pc.sum(near, min_count=0).as_py()}


def kept_near_counts(utterances: Path, previous: Path, changes: Changes) -> Counts:
    """Return what the previous version has counted of near-duplicates if the same replies would be compared now.

    That is so if the first rows of the source are where they were, and those of them that take part are the same.
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    begin, end, by = changes.runs[0] if changes.runs else (0, 0, 0)
    if (begin, by) != (0, 0) or end < COUNTED_ROWS or not (previous / NEAR).is_file():
        return {}
    rows, first = [], []
    for part in (BEFORE, NOW):
        files = parts(utterances, f"{part}/{TREE}")
        rows.append(row_count(files))
        found = pq.ParquetDataset(files, filters=pc.field("position") < COUNTED_ROWS).read(["position"])
        first.append(set(found["position"].to_pylist()))
    now = row_count(parts(utterances, TREE))
    if first[0] != first[1] or min(now, now - rows[1] + rows[0]) < COUNTED_ROWS:
        return {}
    kept: Counts = read_record(previous / NEAR)
    return kept
