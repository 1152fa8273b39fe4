"""Check the files of the dataset `preferences`: nothing is empty, and the chosen reply has the higher score."""

from pathlib import Path
from typing import TYPE_CHECKING

from adc_pipeline.core.engine import Engine, only_row
from adc_pipeline.preferences.configurations import CONFIGURATIONS
from adc_pipeline.preferences.settings import Form
from adc_pipeline.walks.datasets import split_files
from adc_pipeline.walks.splits import SPLITS

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# What is wrong with a value of a column, by what the column holds. Of messages the last one counts: what is answered,
# or the reply.
NO_TEXT = "coalesce({0}, '') = ''"
NO_MESSAGES = "coalesce({0}[-1].content, '') = ''"
NO_ANSWERS = "len({0}) < 2 OR len(list_filter({0}, lambda each: coalesce(each.answer, '') = '')) > 0"
# Columns with texts or messages, as the setting `form` asks.
IN_FORM = ("prompt", "chosen", "rejected", "reference", "completion")


def empty_rows(dataset: Path, form: Form, engine: Engine) -> dict[str, int]:
    """Return for each configuration how many rows have an empty prompt or an empty reply."""
    wrong = dict.fromkeys(IN_FORM, NO_MESSAGES if form == "conversational" else NO_TEXT)
    wrong |= {"privileged_context": NO_TEXT, "messages": NO_MESSAGES, "answers": NO_ANSWERS}
    found = {}
    with engine.connect() as connection:
        for name, configuration in CONFIGURATIONS.items():
            conditions = [wrong[column].format(column) for column in configuration.columns if column in wrong]
            found[name] = rows_with(connection, dataset, name, " OR ".join(conditions))
    return found


def pairs_out_of_order(dataset: Path, engine: Engine) -> int:
    """Return the number of pairs whose chosen reply does not have the higher score, or is the rejected one."""
    condition = "score_chosen <= score_rejected OR score_gap <= 0 OR chosen_id = rejected_id"
    with engine.connect() as connection:
        return rows_with(connection, dataset, "pairs", condition)


def rows_with(connection: "DuckDBPyConnection", dataset: Path, configuration: str, condition: str) -> int:
    """Return the number of rows of a configuration for which a condition holds."""
    query = f"SELECT count(*) AS found FROM read_parquet($files, hive_partitioning = false) WHERE {condition}"  # noqa: S608
    return int(only_row(connection, query, {"files": files_of(dataset, configuration)})["found"])


def files_of(dataset: Path, configuration: str) -> list[str]:
    """Return the files of a configuration, in the order of the splits."""
    return [file for split in SPLITS for file in split_files(dataset, split, configuration)]
