"""Requests that MLflow's server cannot read for a model whose columns may hold lists.

The server parses a request before it calls the model, and refuses two of its own formats in words that do not help:
`text/csv`, since a column of any type has no type in pandas, and `instances` whose rows differ in fields or in the
length of a list, since it makes one array of each field. Loading a model replaces the two parsers of the server in
this process; others are left as they are.
"""

import sys
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

SERVER = "mlflow.pyfunc.scoring_server"
# Marks a server whose parsers are replaced.
REPLACED = "_adc_pipeline_reads_rows"


def read_rows_with_lists() -> None:
    """Have MLflow's server, if this process is one, read CSV and uneven `instances`."""
    server = sys.modules.get(SERVER)
    if server is None or hasattr(server, REPLACED):
        return
    setattr(server, REPLACED, True)
    parse_csv, parse_json, decode = server.parse_csv_input, server.infer_and_parse_data, server._decode_json_input

    @wraps(parse_csv)
    def csv(csv_input: Any, schema: Any = None) -> Any:
        return without_trace(parse_csv, csv_input, plain_columns(schema))

    @wraps(parse_json)
    def json(data: Any, schema: Any = None) -> Any:
        return parse_json(rows_as_records(data), schema)

    @wraps(decode)
    def decoded(json_input: Any) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            return decode(json_input)
        except RecursionError:
            raise MlflowException.invalid_parameter_value("The request is nested too deeply.") from None

    server.parse_csv_input, server.infer_and_parse_data = csv, json  # type: ignore[attr-defined]
    server._decode_json_input = decoded  # type: ignore[attr-defined]
    server.parse_parquet_input = partial(without_trace, server.parse_parquet_input)  # type: ignore[attr-defined]


def without_trace(parse: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """Return what `parse` returns; raise its error without the trace that the server would answer."""
    from mlflow.exceptions import MlflowException

    try:
        return parse(*given, **named)
    except MlflowException as error:
        raise MlflowException.invalid_parameter_value(error.message) from None


def plain_columns(schema: Any) -> Any:
    """Return the columns of a schema that have a type in pandas; None if none has."""
    from mlflow.types import DataType, Schema

    columns = [column for column in (schema.inputs if schema else []) if isinstance(column.type, DataType)]
    return Schema(columns) if columns else None


def rows_as_records(data: Any) -> Any:
    """Return a request whose `instances` are objects as the same rows in `dataframe_records`, which may be uneven."""
    rows = data.get("instances")
    if len(data) != 1 or not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        return data
    return {"dataframe_records": rows}
