"""The table `cases.parquet`: every case of every measure, so that two models can be compared case by case.

A case's name is made of its conversation's and its utterances' ids. Equal names are therefore equal cases in the tables
of two evaluations.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from adc_pipeline.evaluation.baselines import BASELINES
from adc_pipeline.evaluation.measures import Measured

if TYPE_CHECKING:
    import pyarrow

CASE_TABLE = "cases.parquet"
# The source of a case's conversation, from which figures are read by source (`by_source`).
SOURCE = "source"
# `weight`, `model`, `base` (none for policy improvement) and, for preference accuracy, the baselines: a measure is the
# sum of a column of values over the sum of the weights.
KEY = ("measure", "conversation_id", "case")
VALUES = ("weight", "model", "base", *BASELINES)

CaseKey = tuple[str, str, str]


def case_schema() -> "pyarrow.Schema":
    import pyarrow as pa

    return pa.schema({name: pa.string() for name in (*KEY, SOURCE)} | {name: pa.float64() for name in VALUES})


def write_case_table(
    folder: Path, conversations: Sequence[str], sources: Sequence[str], series: Mapping[str, Sequence[Measured]]
) -> None:
    """Write the table into `folder`; `series` are the measures of `model`, `base` and the baselines that there are.

    `conversations` are the ids by the conversation numbers of the measures, and `sources` where each is from.
    """
    import pyarrow as pa
    import pyarrow.parquet

    # Lists, since pyarrow imports pandas (0.6 s) to look at an array of numpy.
    beside = [
        {measured.name: measured.value.tolist() for measured in series.get(name, ())} for name in ("base", *BASELINES)
    ]
    ids, origins = np.array(conversations, dtype=np.str_), np.array(sources, dtype=np.str_)
    schema = case_schema()
    tables = [
        pa.table(
            [
                pa.array([ours.name] * len(ours.value), pa.string()),
                pa.array(ids[ours.conversation].tolist(), pa.string()),
                pa.array(ours.case.tolist(), pa.string()),
                pa.array(origins[ours.conversation].tolist(), pa.string()),
                pa.array(ours.weight.tolist(), pa.float64()),
                pa.array(ours.value.tolist(), pa.float64()),
                *(pa.array(each.get(ours.name, [None] * len(ours.value)), pa.float64()) for each in beside),
            ],
            schema=schema,
        )
        for ours in series["model"]
    ]
    pyarrow.parquet.write_table(pa.concat_tables(tables), folder / CASE_TABLE, compression="zstd")


def read_case_values(folder: Path) -> dict[CaseKey, tuple[float, float]]:
    """Read the model's value and the weight of every case."""
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(folder / CASE_TABLE, columns=[*KEY, "model", "weight"], partitioning=None)
    columns = table.to_pydict()
    keys = zip(*(columns[name] for name in KEY), strict=True)
    return dict(zip(keys, zip(columns["model"], columns["weight"], strict=True), strict=True))
