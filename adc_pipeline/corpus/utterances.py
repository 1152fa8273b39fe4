"""The stage `utterances`: read a raw corpus, place each row in its conversation, or set it aside with a reason.

Three steps: write the rows of the source, partitioned into shards (`corpus.sharding`); find rows with the same id, in
all shards; and build the tree of each shard (`corpus.tree`). A rerun reuses the steps and shards that an interrupted
run finished.
"""

from collections.abc import Mapping
from pathlib import Path

from adc_pipeline.core.engine import Engine, counts_by
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.shards import Counts, build_once, link_or_copy, map_shards, parts, shard_names, work_folder
from adc_pipeline.corpus.settings import CorpusSettings, UtteranceSettings
from adc_pipeline.corpus.sharding import TITLES, shard_rows
from adc_pipeline.corpus.tables import READ, SET_ASIDE, create_read_rows
from adc_pipeline.corpus.tree import write_tree

# Which of several rows with one id stays does not depend on the order in which they were read.
DUPLICATES = """
SELECT position FROM (
    SELECT position, row_number() OVER (
        PARTITION BY id ORDER BY conversation_id IS NULL, timestamp, score DESC, conversation_id, reply_to, speaker,
            text, position
    ) AS copy
    FROM read_rows SEMI JOIN (SELECT id FROM read_rows GROUP BY id HAVING count(*) > 1) AS repeated USING (id)
) WHERE copy > 1 ORDER BY position
"""

# A shard sees its own rows only. A parent that is missing in one shard may be in another conversation of another shard.
PARENT_IN_OTHER_SHARD = """
CREATE TABLE parent_in_other_shard AS
SELECT excluded.id FROM excluded JOIN (SELECT DISTINCT id FROM read_rows SEMI JOIN (
    SELECT reply_to AS id FROM excluded WHERE reason = 'missing_parent' AND because_of IS NULL
) AS wanted USING (id)) AS there ON there.id = excluded.reply_to
WHERE excluded.reason = 'missing_parent' AND excluded.because_of IS NULL
"""

SET_ASIDE_ROWS = """
SELECT id, conversation_id, reply_to, position, CASE
        WHEN reason = 'missing_parent' AND coalesce(because_of, id) IN (FROM parent_in_other_shard)
            THEN 'other_conversation'
        ELSE reason END AS reason, because_of
FROM excluded ORDER BY position
"""


def write_utterances(
    corpus: Path,
    out: Path,
    settings: UtteranceSettings | None = None,
    engine: Engine | None = None,
    source: CorpusSettings | None = None,
    work: Path | None = None,
) -> Counts:
    """Read the raw corpus `corpus` and write the tables of `corpus.tables` into the folder `out`.

    `corpus` is a folder that `corpus.source.fetch` wrote, or one ConvoKit folder, dump or table; `source` overrides
    the detected format and maps columns. `work` keeps finished steps for a rerun. Return the counts: `read` =
    `taking_part` + `set_aside`, the latter also by reason. Raise PipelineError for a corpus that is truncated or
    empty, and where a larger share than `max_set_aside` is set aside.
    """
    settings, engine, source = settings or UtteranceSettings(), engine or Engine(), source or CorpusSettings()
    out.mkdir(parents=True, exist_ok=True)
    names = shard_names(settings.shards)
    with work_folder(work, out) as finished:
        rows = build_once(finished / "rows", lambda folder: shard_rows(corpus, folder, source, settings, engine))
        duplicates = finished / "duplicates.parquet"
        write_duplicates(rows, duplicates, engine)

        def make(name: str, folder: Path) -> Counts:
            return write_tree(rows / name, duplicates, rows / TITLES, folder, settings.adopt_roots, engine)

        counts = map_shards(names, make, out, finished / "trees", engine.report)
        for name in names:
            for path in (rows / name).glob(READ):
                link_or_copy(path, out / name / path.name)
    counts |= write_set_aside(out, engine)
    refuse_too_many_set_aside(counts, settings.max_set_aside)
    return counts


def write_duplicates(rows: Path, path: Path, engine: Engine) -> None:
    """Write the positions of rows whose id another row has, except the one row of each id that stays."""
    with engine.connect(path.with_suffix(".spill")) as connection:
        create_read_rows(connection, rows)
        engine.write(connection, "finding duplicate ids", DUPLICATES, path)


def write_set_aside(out: Path, engine: Engine) -> Counts:
    """Merge the `set_aside.parquet` of all shards into one; return the counts by reason."""
    files = parts(out, SET_ASIDE)
    with engine.connect(out / "spill") as connection:
        connection.execute("CREATE TABLE excluded AS FROM read_parquet($files)", {"files": files})
        create_read_rows(connection, out)
        connection.execute(PARENT_IN_OTHER_SHARD)
        engine.write(connection, "writing rows set aside", SET_ASIDE_ROWS, out / SET_ASIDE)
        for file in files:
            Path(file).unlink()
        found = counts_by(
            connection, "SELECT reason, count(*) FROM read_parquet($path) GROUP BY ALL", {"path": str(out / SET_ASIDE)}
        )
    return {f"set_aside.{reason}": number for reason, number in found.items()}


def refuse_too_many_set_aside(counts: Mapping[str, int], most: float) -> None:
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
