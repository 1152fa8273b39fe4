"""From a raw corpus to `utterances`: every row read, its place in its conversation, and why the rest has none.

Three steps: the source is dealt out to shards (`corpus.deal`), rows that share an id are found among all of
them, and each shard's rows are linked to a tree (`corpus.tree`). What a killed run has finished of these is
taken over by the next.
"""

from collections.abc import Mapping
from pathlib import Path

from adc_pipeline.core.engine import Engine, counts_by
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.shards import Counts, bring, map_shards, parts, shard_names, whole, work_folder
from adc_pipeline.corpus.deal import TITLES, deal
from adc_pipeline.corpus.settings import CorpusSettings, UtteranceSettings
from adc_pipeline.corpus.tables import READ, SET_ASIDE, create_read_rows
from adc_pipeline.corpus.tree import write_tree

# Which of several rows with one id stays must not depend on the order in which they were read.
DOUBLED = """
SELECT position FROM (
    SELECT position, row_number() OVER (
        PARTITION BY id ORDER BY conversation_id IS NULL, timestamp, score DESC, conversation_id, reply_to, speaker,
            text, position
    ) AS copy
    FROM read_rows SEMI JOIN (SELECT id FROM read_rows GROUP BY id HAVING count(*) > 1) AS doubled USING (id)
) WHERE copy > 1 ORDER BY position
"""

# A shard knows its own rows only: a parent that it calls missing may stand in another conversation elsewhere.
ABROAD = """
CREATE TABLE abroad AS
SELECT aside.id FROM aside JOIN (SELECT DISTINCT id FROM read_rows SEMI JOIN (
    SELECT reply_to AS id FROM aside WHERE reason = 'missing_parent' AND because_of IS NULL
) AS wanted USING (id)) AS there ON there.id = aside.reply_to
WHERE aside.reason = 'missing_parent' AND aside.because_of IS NULL
"""

SET_ASIDE_ROWS = """
SELECT id, conversation_id, reply_to, position, CASE
    WHEN reason = 'missing_parent' AND coalesce(because_of, id) IN (FROM abroad) THEN 'other_conversation'
    ELSE reason END AS reason, because_of
FROM aside ORDER BY position
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

    `corpus` is what `corpus.source.fetch` brought, or one ConvoKit folder, dump or table; `source` holds its
    format and columns where they are not to be recognised. `work` keeps what is finished until all is. Returns
    the counts: `read` = `taking_part` + `set_aside`, the latter also by reason. Raises PipelineError for a
    corpus that is cut off or empty, and where more than `max_set_aside` is set aside.
    """
    settings, engine, source = settings or UtteranceSettings(), engine or Engine(), source or CorpusSettings()
    out.mkdir(parents=True, exist_ok=True)
    names = shard_names(settings.shards)
    with work_folder(work, out) as finished:
        rows = whole(finished / "rows", lambda folder: deal(corpus, folder, source, settings, engine))
        doubled = finished / "doubled.parquet"
        write_doubled(rows, doubled, engine)

        def make(name: str, folder: Path) -> Counts:
            return write_tree(rows / name, doubled, rows / TITLES, folder, settings.adopt_roots, engine)

        counts = map_shards(names, make, out, finished / "trees", engine.report)
        for name in names:
            for path in (rows / name).glob(READ):
                bring(path, out / name / path.name)
    counts |= write_set_aside(out, engine)
    refuse_too_many_set_aside(counts, settings.max_set_aside)
    return counts


def write_doubled(rows: Path, path: Path, engine: Engine) -> None:
    """The positions of all rows but one of those that share an id, in whichever shards they lie."""
    with engine.connect(path.with_suffix(".spill")) as connection:
        create_read_rows(connection, rows)
        engine.write(connection, "looking for ids that occur twice", DOUBLED, path)


def write_set_aside(out: Path, engine: Engine) -> Counts:
    """One `set_aside.parquet` out of the shards'; returns the counts by reason."""
    files = parts(out, SET_ASIDE)
    with engine.connect(out / "spill") as connection:
        connection.execute("CREATE TABLE aside AS FROM read_parquet($files)", {"files": files})
        create_read_rows(connection, out)
        connection.execute(ABROAD)
        engine.write(connection, "writing what is set aside", SET_ASIDE_ROWS, out / SET_ASIDE)
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
