"""Make the dataset `preferences` from ranked replies: six configurations as Parquet files.

Every configuration but `messages` is made of groups (`groups.py`): the tables of prompts (`prompts.py`) and of the
groups' answers are computed once, and each configuration is one query over them and what else it needs (`pairs.py`,
`teacher.py`, `best_paths.py`; the queries are in `configurations.py`).

Rows are ordered by a hash of the conversation id, as walks are, so that the bytes depend neither on the order of the
source nor on threads or shards.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from adc_pipeline.core.columns import row_count
from adc_pipeline.core.engine import Engine, only_row
from adc_pipeline.core.shards import Counts, map_shards, shards_of, work_folder
from adc_pipeline.corpus.tables import create_utterances
from adc_pipeline.preferences.best_paths import create_best_paths
from adc_pipeline.preferences.configurations import CONFIGURATIONS, ORIGIN, PAIRS, Configuration
from adc_pipeline.preferences.groups import add_texts, create_groups, create_roots, create_texts
from adc_pipeline.preferences.pairs import create_pairs
from adc_pipeline.preferences.prompts import create_prompts
from adc_pipeline.preferences.settings import Form, PreferenceSettings
from adc_pipeline.preferences.teacher import HEADINGS, create_teachers_contexts
from adc_pipeline.ranking.ranked_replies import RANKED_REPLIES
from adc_pipeline.walks.files import PUBLISHED, join_shards, nullable, split_file
from adc_pipeline.walks.splits import SPLITS

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

COMPLETION_FORMS: dict[Form, str] = {
    "conversational": "CREATE MACRO completion(content) AS [{role: 'assistant', content: content}]",
    "text": "CREATE MACRO completion(content) AS content",
}

COUNTS = """
SELECT $tied AS groups_tied, $unasked AS groups_without_prompt,
    (SELECT count(*) FROM conversations) - (SELECT count(*) FROM roots) AS roots_left_out,
    (SELECT count(*) FROM ranked JOIN texts USING (position) WHERE NOT visible) AS replies_without_text,
    (SELECT count(*) FROM unfit) AS texts_excluded,
    (SELECT count(*) FROM answers) AS replies_compared, (SELECT count(*) FROM candidates) AS pairs_possible,
    (SELECT count(*) FROM prompts WHERE shortened) AS prompts_shortened,
    (SELECT count(*) FROM pairs WHERE chosen_is_later) AS pairs_whose_later_reply_is_chosen,
    (SELECT count(*) FROM pairs WHERE chosen_is_longer) AS pairs_whose_longer_reply_is_chosen
"""
# What no configuration reads, so that a large shard's rows need not go to disk.
DROP = "DROP VIEW contents; " + "".join(
    f"DROP TABLE {table}; " for table in ("texts", "replies", "above", "context", "few", "candidates", "best_path")
)


def columns(configuration: Configuration, settings: PreferenceSettings) -> tuple[str, ...]:
    """Return the columns of a configuration; the setting `margin` adds one to `pairs`."""
    margin = ("margin",) if configuration is PAIRS and settings.margin != "none" else ()
    return (*configuration.columns, *margin, *ORIGIN)


def write_preferences(
    utterances: Path,
    ranked: Path,
    out: Path,
    settings: PreferenceSettings | None = None,
    engine: Engine | None = None,
    work: Path | None = None,
) -> Counts:
    """Write each configuration as `out/CONFIGURATION/SPLIT-00000-of-00001.parquet`.

    The folder `work` keeps finished shards until all are finished. Return counts of groups, of pairs before and after
    their choice, and of the rows of each configuration and split.
    """
    settings, engine = settings or PreferenceSettings(), engine or Engine()
    names = [shard.name for shard in shards_of(ranked)]

    def make(name: str, folder: Path, engine: Engine) -> Counts:
        return preference_shard(utterances / name, ranked / name, folder, settings, engine)

    with work_folder(work, out) as finished, engine.connect(out / "spill") as connection:
        counts = map_shards(names, make, finished, finished / "shards", engine)
        for configuration in CONFIGURATIONS.values():
            (out / configuration.name).mkdir(parents=True, exist_ok=True)
            rows = nullable(columns(configuration, settings), "conversation_id >= ''")
            for split in SPLITS:
                parts = [finished / name / f"{configuration.name}-{split}.parquet" for name in names]
                file = out / split_file(split, configuration.name)
                join_shards(connection, engine, f"{configuration.name} of {split}", rows, parts, file)
    return counts


def preference_shard(utterances: Path, ranked: Path, out: Path, settings: PreferenceSettings, engine: Engine) -> Counts:
    """Write the rows of one shard as `out/CONFIGURATION-SPLIT.parquet`, in the order of the dataset; return counts."""
    with engine.connect(out / "spill") as connection:
        create_utterances(connection, utterances)
        connection.read_parquet(str(ranked / RANKED_REPLIES), hive_partitioning=False).create_view("ranked")
        variables = {"seed": settings.seed, "heading": HEADINGS[settings.privileged] + "\n\n", "blank_line": "\n\n"}
        for name, value in variables.items():
            connection.execute(f"SET VARIABLE {name} = $1", [value])
        connection.execute(COMPLETION_FORMS[settings.form])
        create_texts(connection, engine, settings)
        create_roots(connection, engine, settings)
        left_out = create_groups(connection, engine, settings)
        create_prompts(connection, engine, settings)
        add_texts(connection, engine)
        create_pairs(connection, engine, settings)
        create_teachers_contexts(connection, engine, settings)
        create_best_paths(connection, engine, settings)
        counts = only_row(connection, COUNTS, left_out)
        connection.execute(DROP)
        for configuration in CONFIGURATIONS.values():
            counts |= write_configuration(connection, engine, configuration, out, settings)
        return counts


def write_configuration(
    connection: "DuckDBPyConnection",
    engine: Engine,
    configuration: Configuration,
    out: Path,
    settings: PreferenceSettings,
) -> Counts:
    """Write the rows of one configuration, a file a split; return their numbers."""
    name = configuration.name
    engine.run(connection, f"collecting {name}", f"CREATE OR REPLACE TEMP TABLE rows AS {configuration.query}")
    rows = f"""
        SELECT {nullable(columns(configuration, settings), "place >= 0")}
        FROM (FROM rows JOIN {configuration.joined} WHERE split = $split ORDER BY place, turn)
    """  # noqa: S608
    counts = {}
    for split in SPLITS:
        file = out / f"{name}-{split}.parquet"
        engine.write(connection, f"writing {name} of {split}", rows, file, {"split": split}, PUBLISHED)
        counts[f"{name}.{split}"] = row_count([str(file)])
    return {name: sum(counts.values())} | counts
