"""Check the files of the dataset `preferences`: nothing is empty, and the chosen reply has the higher score."""

from collections.abc import Mapping
from pathlib import Path

from adc_pipeline.core.engine import Engine, only_row
from adc_pipeline.preferences.configurations import CONFIGURATIONS
from adc_pipeline.preferences.settings import Form
from adc_pipeline.walks.files import split_files
from adc_pipeline.walks.splits import SPLITS

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
    conditions = {
        name: " OR ".join(wrong[column].format(column) for column in configuration.columns if column in wrong)
        for name, configuration in CONFIGURATIONS.items()
    }
    return rows_with(dataset, conditions, engine)


def pairs_out_of_order(dataset: Path, engine: Engine) -> int:
    """Return the number of pairs whose chosen reply does not have the higher score, or is the rejected one."""
    condition = "score_chosen <= score_rejected OR score_gap <= 0 OR chosen_id = rejected_id"
    return rows_with(dataset, {"pairs": condition}, engine)["pairs"]


def rows_with(dataset: Path, conditions: Mapping[str, str], engine: Engine) -> dict[str, int]:
    """Return the number of rows of each configuration for which its condition holds.

    A file has few row groups, each of which one core reads; one statement reads several files at a time.
    """
    counts = (
        f"(SELECT count(*) FROM read_parquet(${name}, hive_partitioning = false) WHERE {condition}) AS {name}"  # noqa: S608
        for name, condition in conditions.items()
    )
    with engine.connect() as connection:
        files = {name: files_of(dataset, name) for name in conditions}
        return only_row(connection, f"SELECT {', '.join(counts)}", files)


def files_of(dataset: Path, configuration: str) -> list[str]:
    """Return the files of a configuration, in the order of the splits."""
    return [file for split in SPLITS for file in split_files(dataset, split, configuration)]
