"""Requests that MLflow's server cannot read for a model whose columns may hold lists.

The server parses a request before it calls the model, and refuses two of its own formats in words that do not help:
`text/csv`, since a column of any type has no type in pandas, and `instances` whose rows differ in fields or in the
length of a list, since it makes one array of each field. Loading a model replaces the two parsers of the server in
this process; others are left as they are.

They also refuse a field whose name is misspelt, and a parameter that the model does not have: MLflow leaves out what
the signature does not name, with a warning in the log of the server.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import wraps
from typing import Any, NoReturn

from adc_pipeline.core.errors import PipelineError, did_you_mean, first_line
from adc_pipeline.core.terminal import printable
from adc_pipeline.generation.questions import FIELDS, MISSPELT, refuse_misspelt
from adc_pipeline.generation.settings import Sampling

SERVER = "mlflow.pyfunc.scoring_server"
# The formats of which the server makes an array of texts for each column of texts.
CONVERTED = ("inputs", "instances")
PARAMETERS = [each.name for each in fields(Sampling)]
# Marks a server whose parsers are replaced.
REPLACED = "_adc_pipeline_reads_rows"


def read_rows_with_lists() -> None:
    """Have MLflow's server, if this process is one, read CSV and uneven `instances`."""
    server = sys.modules.get(SERVER)
    if server is None or hasattr(server, REPLACED):
        return
    setattr(server, REPLACED, True)
    parse_csv, parse_json, decode = server.parse_csv_input, server.infer_and_parse_data, server._decode_json_input
    parse_parquet = server.parse_parquet_input

    @wraps(parse_csv)
    def csv(csv_input: Any, schema: Any = None) -> Any:
        return as_named(read_csv(csv_input), FIELDS)

    @wraps(parse_json)
    def json(data: Any, schema: Any = None) -> Any:
        return as_named(parse_json(rows_as_records(data), schema), FIELDS)

    @wraps(decode)
    def decoded(json_input: Any) -> Any:
        try:
            data = with_whole_characters(decode(json_input))
        except RecursionError:
            refuse("The request is nested too deeply.")
        check_parameters(data)
        return {name: with_texts(value) if name in CONVERTED else value for name, value in data.items()}

    @wraps(parse_parquet)
    def parquet(parquet_input: Any) -> Any:
        return as_named(without_trace(parse_parquet, parquet_input), FIELDS)

    server.parse_csv_input, server.infer_and_parse_data = csv, json  # type: ignore[attr-defined]
    server._decode_json_input, server.parse_parquet_input = decoded, parquet  # type: ignore[attr-defined]


def read_csv(given: Any) -> Any:
    """Return the cells of a CSV as texts; only an empty one is missing, since `NA` may be a name or a title."""
    import pandas as pd

    try:
        read = pd.read_csv(given, dtype=object, keep_default_na=False, na_values=[""])
    except ValueError as error:
        refuse(f"The request cannot be read as CSV ({first_line(error)}): put texts with a comma into quotes.")
    # pandas takes the first cell of a line for its name where the first line has no name for the last one.
    if not isinstance(read.index, pd.RangeIndex):
        refuse("A line has more cells than the first line has names; put texts with a comma into quotes.")
    # pandas calls a second column of a name so.
    if twice := [name for name in FIELDS if {name, f"{name}.1"} <= set(read.columns)]:
        refuse(f"`{twice[0]}` stands twice in the first line: give each column once.")
    return read


def with_texts(value: Any) -> Any:
    """Return the rows or columns of a request with an empty text for each `post` that is null; refuse other values.

    The server makes a text of whatever a column of texts holds, `None` and `{'a': 1}` among them.
    """
    if isinstance(value, list):
        return [with_texts(each) for each in value]
    if not isinstance(value, dict) or "post" not in value:
        return value
    return {**value, "post": as_text(value["post"])}


def as_text(post: Any) -> Any:
    if isinstance(post, list):
        return [as_text(each) for each in post]
    if not isinstance(post, str | None):
        refuse(f"`post` is {post!r:.40}; send a text.")
    return post or ""


def with_whole_characters(value: Any) -> Any:
    """Return a value of JSON with a `?` for each half of a surrogate pair, as of a cut emoji, which pandas refuses."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, list):
        return [with_whole_characters(each) for each in value]
    if isinstance(value, dict):
        return {with_whole_characters(name): with_whole_characters(each) for name, each in value.items()}
    return value


def refuse(sentence: str) -> NoReturn:
    """Raise the error that the server answers with a sentence and the status 400."""
    from mlflow.exceptions import MlflowException

    raise MlflowException.invalid_parameter_value(sentence) from None


def check_parameters(request: Mapping[str, Any]) -> None:
    """Refuse parameters that would be ignored: unknown ones, and those beside `params`.

    What else stands beside it, such as a number of the request, is the client's own.
    """
    given = request.get("params")
    for name in given if isinstance(given, Mapping) else ():
        if name not in PARAMETERS:
            known = f"use {', '.join(PARAMETERS)}"
            refuse(f"`{printable(str(name))}` is no parameter{did_you_mean(name, PARAMETERS, MISSPELT)}: {known}.")
    for name in request:
        if name in PARAMETERS or ("param" in name.lower() and name != "params"):
            refuse(f"`{printable(name)}` stands beside the rows of the request: put parameters into `params`.")


def as_named(values: Any, known: Sequence[str]) -> Any:
    """Return a data frame, a dict or rows of a request; refuse a misspelt one of the `known` names in it."""
    try:
        for each in values if isinstance(values, list) else [values]:
            refuse_misspelt(each if hasattr(each, "keys") else (), known)
    except PipelineError as error:
        refuse(str(error))
    return values


def without_trace(parse: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """Return what `parse` returns; raise its error without the trace that the server would answer."""
    from mlflow.exceptions import MlflowException

    try:
        return parse(*given, **named)
    except MlflowException as error:
        refuse(error.message)


def rows_as_records(data: Any) -> Any:
    """Return a request whose `instances` are objects as the same rows in `dataframe_records`, which may be uneven."""
    rows = data.get("instances")
    if len(data) != 1 or not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        return data
    return {"dataframe_records": rows}
