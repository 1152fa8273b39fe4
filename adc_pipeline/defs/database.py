"""`adc.duckdb` in ADC_HOME: one view for each table of the data stages, for whoever wants to look.

    duckdb .adc/adc.duckdb          # or: duckdb -ui .adc/adc.duckdb

It holds no data, only where the data lies, so it is small and shows the current artefacts. It is written anew
beside the old file and then renamed: whoever has it open stops nobody, and goes on looking unless the
number of shards has changed.
"""

from typing import TYPE_CHECKING

from adc_pipeline.core.artefacts import Store, locked
from adc_pipeline.core.shards import parts
from adc_pipeline.corpus.tables import SET_ASIDE, create_utterances
from adc_pipeline.ranking.ranked_replies import DROPPED_REPLIES, RANKED_REPLIES
from adc_pipeline.walks.datasets import split_file
from adc_pipeline.walks.splits import SPLITS

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

DATABASE = "adc.duckdb"


def write_database(store: Store) -> None:
    """Write the views over everything that is in place."""
    import duckdb

    path = store.home / DATABASE
    aside = path.with_name(f".{path.name}-new")
    # One at a time and by one name, so that what a killed writer has left is found by the next.
    with locked(store.home, wait=True):
        for left in (aside, aside.with_name(f"{aside.name}.wal")):
            left.unlink(missing_ok=True)
        with duckdb.connect(str(aside)) as connection:
            create_views(connection, store)
        aside.replace(path)


def create_views(connection: "DuckDBPyConnection", store: Store) -> None:
    """The views, in an empty database."""
    utterances, ranked = store.place("utterances"), store.place("ranked_replies")
    if utterances.exists():
        create_utterances(connection, utterances)
        connection.read_parquet(str(utterances / SET_ASIDE)).create_view("set_aside")
    if ranked.exists():
        for pattern in (RANKED_REPLIES, DROPPED_REPLIES):
            connection.read_parquet(parts(ranked, pattern)).create_view(pattern.removesuffix(".parquet"))
    for name in ("top_2", "random_walk"):
        dataset = store.place(name)
        if dataset.exists():
            rows = [connection.read_parquet(str(dataset / split_file(split))) for split in SPLITS]
            splits = [row.project(f"'{split}' AS split, *") for row, split in zip(rows, SPLITS, strict=True)]
            splits[0].union(splits[1]).union(splits[2]).create_view(name)
