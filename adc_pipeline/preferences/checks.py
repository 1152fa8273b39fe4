"""Check the files of the dataset `preferences`: nothing is empty, and the chosen reply has the higher score."""

from pathlib import Path

from adc_pipeline.core.engine import Engine, only_row
from adc_pipeline.preferences.configurations import CONFIGURATIONS
from adc_pipeline.preferences.settings import Form
from adc_pipeline.walks.datasets import split_file
from adc_pipeline.walks.splits import SPLITS

# The columns that hold texts, of any configuration, and those of a list of messages whatever the setting `form`.
TEXTS = ("prompt", "chosen", "rejected", "reference", "completion", "privileged_context", "messages")
ALWAYS_TEXT, ALWAYS_MESSAGES = ("privileged_context",), ("messages",)

IS_EMPTY = {
    True: "coalesce(array_to_string(list_transform({0}, lambda each: trim(each.content)), ''), '') = ''",
    False: "coalesce(trim({0}), '') = ''",
}


def empty_rows(dataset: Path, form: Form, engine: Engine) -> dict[str, int]:
    """Return for each configuration how many rows have an empty prompt or an empty reply."""
    found = {}
    with engine.connect() as connection:
        for name, configuration in CONFIGURATIONS.items():
            empty = [
                IS_EMPTY[column in ALWAYS_MESSAGES or (form == "conversational" and column not in ALWAYS_TEXT)].format(
                    column
                )
                for column in configuration.columns
                if column in TEXTS
            ] or ["len(answers) < 2 OR len(list_filter(answers, lambda each: trim(each.answer) = '')) > 0"]
            query = (
                f"SELECT count_if({' OR '.join(empty)}) AS empty FROM read_parquet($files, hive_partitioning = false)"  # noqa: S608
            )
            found[name] = int(only_row(connection, query, {"files": files_of(dataset, name)})["empty"])
    return found


def pairs_out_of_order(dataset: Path, engine: Engine) -> int:
    """Return the number of pairs whose chosen reply does not have the higher score, or is the rejected one."""
    query = """
        SELECT count_if(score_chosen <= score_rejected OR score_gap <= 0 OR chosen_id = rejected_id) AS wrong
        FROM read_parquet($files, hive_partitioning = false)
    """
    with engine.connect() as connection:
        return int(only_row(connection, query, {"files": files_of(dataset, "pairs")})["wrong"])


def files_of(dataset: Path, configuration: str) -> list[str]:
    """Return the files of a configuration, in the order of the splits."""
    return [str(dataset / split_file(split, configuration)) for split in SPLITS]
