"""Take the datasets of the pipeline into another project: as a `DatasetDict`, a DuckDB relation or an Arrow table.

A downstream Dagster project declares its asset with `deps=["top_2"]` and calls one of these functions:

    from adc_pipeline import loading

    loading.dataset("top_2")                           # datasets.DatasetDict
    loading.relation(connection, "preferences", "pairs")   # duckdb.DuckDBPyRelation, read when it is used
    loading.table("ascending", split="test")           # pyarrow.Table

Each reads the current version below ADC_HOME. `annotate` brings ranks and verdicts back into a `convokit.Corpus`.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from adc_pipeline.core.engine import connected
from adc_pipeline.core.errors import PipelineError, did_you_mean
from adc_pipeline.core.shards import parts
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.preferences.configurations import CONFIGURATIONS
from adc_pipeline.ranking.ranked_replies import RANKED_REPLIES
from adc_pipeline.walks.files import split_files
from adc_pipeline.walks.kinds import KINDS
from adc_pipeline.walks.splits import SPLITS

if TYPE_CHECKING:
    import pyarrow as pa
    from convokit import Corpus
    from datasets import DatasetDict
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

PREFERENCES = "preferences"
WALKS = tuple(kind.dataset for kind in KINDS.values())
NAMES = (*WALKS, PREFERENCES)

# The walk with the smallest number of each conversation. A walk shows a reply once.
VERDICTS = """
SELECT conversation_id, turn.utterance_id AS id, turn.verdict AS verdict
FROM (SELECT conversation_id, unnest(turns) AS turn FROM walks WHERE walk = 0)
"""


def folder(name: str, home: Path | str | None = None) -> Path:
    """Return the folder of an asset's current version.

    `home` is the pipeline's ADC_HOME, by default that of the environment. Raise PipelineError if there is no version.
    """
    place = store_of(home).place(name)
    if not place.exists():
        raise PipelineError(f"{store_of(home).home} has no {name}: materialize it, or point ADC_HOME to where it is.")
    return place.resolve()


def store_of(home: Path | str | None) -> Store:
    return Store(Path(home)) if home is not None else Store.from_environment()


def files(name: str, configuration: str = "", split: str = "", home: Path | str | None = None) -> list[str]:
    """Return the Parquet files of a dataset: of one split, or of all in their order.

    `configuration` is one of the preferences'. Raise PipelineError for an unknown configuration.
    """
    check(name, "dataset", NAMES)
    if name == PREFERENCES:
        check(configuration, "configuration of the preferences", tuple(CONFIGURATIONS))
    elif configuration:
        raise PipelineError(f"{name} has no configuration {configuration}: only the preferences have some.")
    if split:
        check(split, "split", SPLITS)
    place = folder(name, home)
    below = {"configuration": configuration} if configuration else {}
    return [file for each in SPLITS if split in ("", each) for file in split_files(place, each, **below)]


def check(name: str, what: str, names: tuple[str, ...]) -> None:
    if name not in names:
        meant = did_you_mean(name, names)
        raise PipelineError(f"There is no {what} {name or '(none given)'}{meant}: use one of {', '.join(names)}.")


def dataset(name: str, configuration: str = "", home: Path | str | None = None) -> "DatasetDict":
    """Return a dataset with its splits; a split without rows is left out, as `load_dataset` does."""
    import pyarrow.parquet as pq
    from datasets import DatasetDict, load_dataset

    found = {split: files(name, configuration, split, home) for split in SPLITS}
    filled = {split: paths for split, paths in found.items() if any(pq.read_metadata(path).num_rows for path in paths)}
    loaded: DatasetDict = load_dataset("parquet", data_files=filled)
    return loaded


def relation(
    connection: "DuckDBPyConnection",
    name: str,
    configuration: str = "",
    split: str = "",
    home: Path | str | None = None,
) -> "DuckDBPyRelation":
    """Return a dataset as a relation of a connection, which reads the files when it is used."""
    return connection.read_parquet(files(name, configuration, split, home), hive_partitioning=False)


def table(name: str, configuration: str = "", split: str = "", home: Path | str | None = None) -> "pa.Table":
    """Return a dataset as an Arrow table."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = files(name, configuration, split, home)
    return pa.concat_tables([pq.read_table(file, partitioning=None) for file in found])


def annotate(corpus: "Corpus", home: Path | str | None = None) -> int:
    """Write ranks and verdicts into the metadata of a ConvoKit corpus' utterances; return how many got a rank.

    The corpus is the one that the pipeline read, or a part of it. A ranked reply gets `adc_rank` (1 is the best of its
    siblings), `adc_siblings` and `adc_score` (what it is ranked by), and `adc_verdict_top_2` and so on, `accepted` or
    `rejected`, for each dataset of walks that there is and that shows it. An earlier annotation is replaced.
    """
    ids = {utterance.id: utterance for utterance in corpus.iter_utterances()}
    # ConvoKit deletes metadata of all utterances at once only.
    for key in {key for utterance in ids.values() for key in utterance.meta if key.startswith("adc_")}:
        corpus.delete_metadata("utterance", key)
    store, ranked = store_of(home), 0
    with connected() as connection:
        rows = connection.read_parquet(parts(folder("ranked_replies", home), RANKED_REPLIES), hive_partitioning=False)
        columns = "id, conversation_id, rank, siblings, score"
        for id, conversation, rank, siblings, score in rows.select(columns).fetchall():
            utterance = ids.get(id)
            if utterance is not None and utterance.conversation_id == conversation:
                utterance.meta.update({"adc_rank": rank, "adc_siblings": siblings, "adc_score": score})
                ranked += 1
        for name in WALKS:
            if not store.place(name).exists():
                continue
            relation(connection, name, home=store.home).create_view("walks", replace=True)
            for conversation, id, verdict in connection.execute(VERDICTS).fetchall():
                utterance = ids.get(id)
                if utterance is not None and utterance.conversation_id == conversation:
                    utterance.meta[f"adc_verdict_{name}"] = verdict
    return ranked
