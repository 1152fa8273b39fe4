"""What a served model asks an index for, and which requests it understands."""

import json
import subprocess
import sys
from io import BytesIO, StringIO
from typing import Any

import numpy as np
import pandas as pd
import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.generation import serving
from adc_pipeline.generation.questions import FIELDS, refuse_misspelt
from adc_pipeline.generation.requests import read_rows_with_lists


@pytest.mark.parametrize(
    ("installed", "asked"),
    [
        ("2.13.0", "torch==2.13.0"),
        ("2.13.0+cpu", "torch==2.13.0"),
        ("2.13.0+cu130", "torch==2.13.0"),
        ("2.13.0.post1", "torch==2.13.0.post1"),
        # Builds of an image, of a night and of a repository, which no index keeps.
        ("2.13.0a0+ecf3bae40a.nv26.02", "torch>=2.13.0a0"),
        ("2.14.0.dev20260901+cpu", "torch>=2.14.0.dev20260901"),
        ("5.25.0.dev0", "torch>=5.25.0.dev0"),
        ("2.13.0rc1+cpu", "torch>=2.13.0rc1"),
        ("2.13.0+git1a2b3c4.abi.0", "torch==2.13.0"),
        ("1!2.13.0+cpu", "torch==1!2.13.0"),
        ("v2.13.0", "torch==2.13.0"),
        # No versions, and a package whose metadata lack one.
        ("2.13-custom_build-nv", "torch"),
        ("unknown", "torch"),
        ("", "torch"),
        (None, "torch"),
    ],
)
def test_a_requirement_can_be_installed_elsewhere(
    installed: str | None, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "version", lambda package: installed)
    assert serving.requirement("torch") == asked


@pytest.mark.slow
def test_a_server_says_how_threads_wait_before_torch_is_imported() -> None:
    """It imports the module that loads the model first; with torch, what is said then comes too late."""
    code = "import sys, mlflow.pyfunc, adc_pipeline.evaluation.served; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_rejected_is_a_list_or_is_not_given() -> None:
    for given in (["x", None], ("x", None), np.array(["x", None])):
        assert serving.listed("rejected", given) == ["x", None]
    assert serving.listed("rejected", None) == serving.listed("rejected", float("nan")) == []
    # A cell of CSV.
    assert serving.listed("rejected", '["x", null]') == ["x", None]
    for value in ("x", "[x]", b"x", 5, True, {"a": "b"}):
        with pytest.raises(PipelineError, match=r"`rejected` is .*; send a list of texts"):
            serving.listed("rejected", value)


def test_a_field_is_a_text_or_is_not_given() -> None:
    assert serving.text_of("post", "Title\r\nThe text\r\n") == "Title\nThe text"
    assert serving.text_of("speaker", None) is None
    assert serving.text_of("speaker", float("nan")) is serving.text_of("speaker", pd.NA) is None
    for value in (5, 1.5, True, ["a"], {"a": 1}):
        with pytest.raises(PipelineError, match=r"`title` is .*; send a text"):
            serving.text_of("title", value)


def test_the_text_none_is_one() -> None:
    row = {"post": "None", "title": "None", "rejected": ["None", None, "x"], "turns": ["None"]}
    asked = {**row, "rejected": ["None", "x"], "candidates": []}
    assert serving.question(row) == asked


def test_a_dict_of_columns_is_as_many_rows() -> None:
    rows: list[dict[str, Any]] = [{"post": "a", "speaker": None}, {"post": "b", "speaker": "ann"}]
    assert serving.as_rows([{"post": ["a", "b"], "speaker": np.array([None, "ann"])}]) == rows
    assert serving.as_rows(rows) == rows
    # Not as many of each: the post is refused by its name.
    others: list[dict[str, Any]] = [
        {"post": ["a", "b"], "rejected": ["x"]},
        {"post": ["a"], "speaker": "ann"},
        {"rejected": []},
    ]
    for other in others:
        assert serving.as_rows([other]) == [other]


@pytest.mark.slow
def test_a_server_reads_csv_and_uneven_instances() -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.pyfunc import scoring_server

    read_rows_with_lists()
    read_rows_with_lists()
    schema = serving.signature().inputs
    cells = scoring_server.parse_csv_input(csv_input=StringIO('post,rejected\n5,"[""x""]"\n'), schema=schema)
    assert cells.to_dict("records") == [{"post": "5", "rejected": '["x"]'}]
    rows = [{"post": "a", "rejected": ["x"]}, {"post": "b", "rejected": ["x", "y"]}, {"post": "c", "title": "t"}]
    read = scoring_server.infer_and_parse_data({"instances": rows}, schema)
    assert [list(each) for each in read["rejected"][:2]] == [["x"], ["x", "y"]]
    assert list(read["post"]) == ["a", "b", "c"]
    # An emoji that JavaScript cut in half, escaped as JSON.
    data, _ = scoring_server._split_data_and_params(
        '{"dataframe_records": [{"post": "a \\ud83d", "turns": [{"text": "\\ud83d"}]}]}'
    )
    (row,) = scoring_server.infer_and_parse_data(data, schema).to_dict("records")
    assert row == {"post": "a ?", "turns": [{"text": "?"}]}
    # A null is an empty post, and no text that says None.
    for given in ("inputs", "instances"):
        data, _ = scoring_server._split_data_and_params(json.dumps({given: {"post": [None, "None"]}}))
        assert list(scoring_server.infer_and_parse_data(data, schema)["post"]) == ["", "None"]
    # Only an empty cell is missing.
    cells = scoring_server.parse_csv_input(csv_input=StringIO("post,title\nNA,null\n007,\n"), schema=schema)
    assert cells.values[0].tolist() == ["NA", "null"]
    assert cells["post"][1] == "007"
    assert cells["title"].isna().tolist() == [False, True]
    # As MLflow reads it, and refuses it.
    assert list(scoring_server.infer_and_parse_data({"instances": ["a"]}, schema)) == ["a"]
    for parse in (
        lambda: scoring_server.parse_csv_input(csv_input=StringIO(""), schema=schema),
        lambda: scoring_server.parse_csv_input(csv_input=StringIO("post\na,b\nc,d,e"), schema=schema),
        # Every line has a cell more, so that pandas would take its first cell for the line's name.
        lambda: scoring_server.parse_csv_input(csv_input=StringIO("post,title\na,b,c"), schema=schema),
        lambda: scoring_server.parse_parquet_input(parquet_input=BytesIO(b"abc")),
        lambda: scoring_server._split_data_and_params("[" * 100_000),
    ):
        with pytest.raises(MlflowException) as refused:
            parse()
        assert refused.value.get_http_status_code() == 400
        assert "stack_trace" not in refused.value.serialize_as_json()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"dataframe_records": [{"post": "a"}, {"post": "a", "turn": []}]}, "turn` is not known (did you mean turns?)"),
        ({"dataframe_split": {"columns": ["post", "candidate"], "data": [["a", []]]}}, "mean candidates?"),
        ({"instances": [{"post": "a", "titl": "t"}]}, "mean title?"),
        ({"inputs": [{"post": "a", "reject": []}]}, "mean rejected?"),
        ({"inputs": {"post": ["a"], "Speaker": ["t"]}}, "mean speaker?"),
        ({"inputs": [{"post": "a"}], "params": {"max_tokens": 5}}, "mean max_new_tokens?"),
        (
            {"inputs": [{"post": "a"}], "params": {"top_k": 5}},
            "`top_k` is no parameter: use temperature, top_p",
        ),
        ({"inputs": [{"post": "a"}], "params": {"do_sample": True}}, "`do_sample` is no parameter: use temperature"),
        ({"inputs": [{"post": "a"}], "params": {"seed": 1, "stop": ["x"]}}, "`stop` is no parameter"),
        ({"inputs": [{"post": "a"}], "parameters": {"seed": 1}}, "`parameters` stands beside the rows of the request"),
        ({"inputs": [{"post": "a"}], "temperature": 0}, "put parameters into `params`"),
        ("post,titl\na,t\n", "mean title?"),
        ("post,post\na,b\n", "`post` stands twice in the first line"),
        ({"inputs": {"post": 5}}, "`post` is 5; send a text."),
        ({"inputs": {"post": ["a", {"b": 1}]}}, "`post` is {'b': 1}; send a text."),
        ({"inputs": [{"post": True}]}, "`post` is True; send a text."),
        ({"instances": {"post": ["a", 5]}}, "`post` is 5; send a text."),
        (pd.DataFrame({"post": ["a"], "titl": ["t"]}), "mean title?"),
    ],
)
def test_a_server_names_what_it_would_ignore(given: Any, meant: str) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.pyfunc import scoring_server

    read_rows_with_lists()
    schema = serving.signature().inputs

    def read() -> None:
        if isinstance(given, str):
            scoring_server.parse_csv_input(csv_input=StringIO(given), schema=schema)
        elif isinstance(given, pd.DataFrame):
            scoring_server.parse_parquet_input(parquet_input=BytesIO(given.to_parquet()))
        else:
            data, _ = scoring_server._split_data_and_params(json.dumps(given))
            scoring_server.infer_and_parse_data(data, schema)

    with pytest.raises(MlflowException) as refused:
        read()
    assert meant in refused.value.message
    assert refused.value.get_http_status_code() == 400


@pytest.mark.slow
def test_a_column_without_a_value_is_not_given() -> None:
    from mlflow.models.utils import _enforce_schema

    # pandas reads it as numbers.
    frame = pd.read_csv(StringIO("post,title,speaker,rejected\na,,,\nb,,,\n"))
    assert str(frame["title"].dtype) == "float64"
    rows = _enforce_schema(frame, serving.signature().inputs).to_dict("records")
    assert [serving.question(row) for row in rows] == [
        {"post": post, "turns": [], "rejected": [], "candidates": []} for post in ("a", "b")
    ]


def test_a_name_that_is_a_persons_own_is_no_misspelt_field() -> None:
    own = ["id", "score", "post_id", "speaker_id", "created", "posted", "poster", "prompt", "next", 5, *FIELDS]
    refuse_misspelt(own, FIELDS)
    for name in ("turn", "candidate", "titl", "reject", "speakers", "TURNS"):
        with pytest.raises(PipelineError, match=rf"`{name}` is not known \(did you mean"):
            refuse_misspelt([name], FIELDS)


def test_a_server_refuses_rows_that_it_cannot_answer_in_time_and_says_how_many_it_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    monkeypatch.setattr(serving, "monotonic", lambda: clock[0])

    def answered_before_refusal(rows: int, waits: float = 0.0) -> int:
        deadline = serving.Deadline()
        clock[0] += waits
        for answered in range(rows):
            deadline.check(answered, rows)
            clock[0] += 0.5
        return rows

    # Outside a server, such as with `mlflow models predict`, nothing ends a request.
    assert answered_before_refusal(1_000) == 1_000
    monkeypatch.setenv(serving.IN_SERVER, "true")
    assert answered_before_refusal(1_000) == 1_000
    monkeypatch.setenv(serving.TIMEOUT, "60")
    assert answered_before_refusal(100) == 100
    before = clock[0]
    with pytest.raises(PipelineError, match=r"1,000 rows take about 500 s, and this server ends .* at most 54 rows at"):
        answered_before_refusal(1_000)
    # Soon enough for others to be answered.
    assert clock[0] - before < 6
    with pytest.raises(PipelineError, match=r"other requests for 55 s first and ends this one after 60 s"):
        answered_before_refusal(1, waits=55.0)
