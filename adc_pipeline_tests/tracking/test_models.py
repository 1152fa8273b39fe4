"""A registered model is found by every address, equals the logged one, and responds by its signature."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.evaluation import served
from adc_pipeline.evaluation.scoring.candidates import Ranker
from adc_pipeline.generation.address import located
from adc_pipeline.generation.registration import describe_version, register_model
from adc_pipeline.tracking.runs import Tracking
from adc_pipeline_tests.training.conftest import small_model

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from starlette.testclient import TestClient

__all__ = ["small_model"]

NAME = "adc-top-2"
ROW = {"post": "A title\nand a text", "rejected": ["no <accepted>", "nor this"]}


@dataclass(frozen=True)
class Registered:
    home: Path
    run: str


@pytest.fixture(scope="module")
def registered(small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Registered:
    """Register two versions of a model, the first of which is the champion."""
    home = tmp_path_factory.mktemp("home")
    folder = home / "model"
    folder.mkdir()
    for path in small_model.iterdir():
        (folder / path.name).symlink_to(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        tracking = Tracking.from_environment(home)
    for number in (1, 2):
        (folder / "training.json").write_text(json.dumps({"objective": "mle", "version": number}))
        with tracking.run("top_2_model", {}, {}) as run:
            facts = register_model(run, folder, NAME, served)
            describe_version(run, facts, {})
            # The artefact is not stored yet at this moment.
            assert run.client.get_run(run.id).info.status == "RUNNING"
        assert facts["registered_model"] == NAME
        assert facts["registered_version"] == number
        assert run.client.get_model_version(NAME, str(number)).run_id == run.id
    run.client.set_registered_model_alias(NAME, "champion", "1")
    return Registered(home, run.id)


@pytest.fixture(autouse=True)
def at_home(registered: Registered, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.setenv("ADC_HOME", str(registered.home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    mlflow.set_tracking_uri(Tracking.from_environment(registered.home).uri)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("address", "version"),
    [
        (f"models:/{NAME}@latest", 2),
        (f"models:/{NAME}/latest", 2),
        (f"models:/{NAME}@champion", 1),
        (f"models:/{NAME}/1", 1),
        (f"runs:/RUN/{NAME}", 2),
    ],
)
def test_every_address_leads_to_its_version(registered: Registered, address: str, version: int) -> None:
    with located(address.replace("RUN", registered.run)) as place:
        assert json.loads((Path(place.weights) / "training.json").read_text())["version"] == version
        assert (Path(place.tokenizer) / "tokenizer.json").exists()
    assert not Path(place.weights).exists()


@pytest.mark.parametrize(
    "address", [f"models:/{NAME}@nobody", f"models:/{NAME}/3", "models:/other@latest", "runs:/x/y"]
)
def test_an_unknown_address_is_refused(address: str) -> None:
    with pytest.raises(PipelineError, match=r"cannot be loaded from MLflow at .* \(.*\); check"), located(address):
        pass


def test_transformers_weights_are_the_trained_ones(small_model: Path) -> None:
    import mlflow
    import torch
    from transformers import AutoModelForCausalLM

    ours = mlflow.transformers.load_model(f"models:/{NAME}@latest", return_type="components")["model"]
    theirs = AutoModelForCausalLM.from_pretrained(small_model)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.fixture(scope="module")
def server(registered: Registered) -> "TestClient":
    """Return a client of the application that `mlflow models serve` runs."""
    import mlflow
    from mlflow.pyfunc.scoring_server import init
    from starlette.testclient import TestClient

    mlflow.set_tracking_uri(Tracking.from_environment(registered.home).uri)
    return TestClient(init(mlflow.pyfunc.load_model(f"models:/{NAME}@latest")))


def test_a_served_model_answers_as_its_signature_says(server: "TestClient") -> None:
    asked = {
        "dataframe_records": [ROW, {"post": "Another", "rejected": []}],
        "params": {"seed": 1, "max_new_tokens": 20},
    }
    answers = [server.post("/invocations", json=asked) for _ in range(2)]
    assert answers[0].status_code == 200
    assert answers[0].json() == answers[1].json()
    replies = answers[0].json()["predictions"]
    assert [set(reply) for reply in replies] == [{"reply", "speaker"}] * 2
    for reply in replies:
        assert reply["reply"].strip()
        assert not any(marker in reply["reply"] for marker in ("<rejected>", "<accepted>", "<background>"))
    asked["dataframe_records"] = [ROW | {"rejected": []}]
    assert server.post("/invocations", json=asked).json()["predictions"] != replies[:1]


def test_a_served_model_requires_only_the_post(server: "TestClient") -> None:
    asked = {"dataframe_records": [{"post": "A title"}], "params": {"max_new_tokens": 5, "temperature": 0}}
    assert server.post("/invocations", json=asked).status_code == 200


def test_candidates_get_the_answer_of_the_command_in_all_formats(server: "TestClient", small_model: Path) -> None:
    turns = [{"text": "No.", "verdict": "rejected"}, {"text": "Well", "speaker": "bob"}]
    rows: list[dict[str, Any]] = [
        {"post": "a", "turns": turns, "candidates": ["x", "a longer one", {"text": "y", "speaker": "ann"}]},
        {"post": "b", "turns": [], "candidates": []},
    ]
    (expected,) = Ranker.load(str(small_model)).answers(iter([json.dumps(rows[0])]))
    columns = list(rows[0])
    for asked in (
        {"dataframe_records": rows},
        {"dataframe_split": {"columns": columns, "data": [list(row.values()) for row in rows]}},
        # MLflow makes arrays of the columns of these two: lists of one length.
        {"instances": rows[:1]},
        {"inputs": rows[:1]},
        {"inputs": {name: [rows[0][name]] for name in columns}},
    ):
        answer = server.post("/invocations", json=asked | {"params": {"max_new_tokens": 3}})
        assert answer.status_code == 200, answer.text
        first, *others = answer.json()["predictions"]
        assert first["reply"] is None
        for found, figures in zip(first["candidates"], expected["candidates"], strict=True):
            assert found == pytest.approx(figures, abs=1e-6)
        assert all(other["reply"] and other["candidates"] is None for other in others)
    wrong = {"dataframe_records": [{"post": "a", "candidates": "x"}]}
    assert "send a list of texts" in server.post("/invocations", json=wrong).text


def test_all_formats_answer_with_nulls(server: "TestClient") -> None:
    rows: list[dict[str, Any]] = [
        {"post": "a", "title": None, "rejected": ["x", "y"]},
        {"post": "b", "title": "t", "rejected": None},
    ]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    answers = [
        server.post("/invocations", json={**asked, "params": {"max_new_tokens": 3, "seed": 1}}).text
        for asked in (
            {"dataframe_records": rows},
            {"dataframe_records": [rows[0], {"post": "b", "title": "t"}]},
            {"dataframe_split": {"columns": list(columns), "data": [list(row.values()) for row in rows]}},
            {"inputs": columns},
            {"inputs": rows},
        )
    ]
    assert len(json.loads(answers[0])["predictions"]) == 2
    assert set(answers) == {answers[0]}


@pytest.mark.parametrize(
    ("row", "params", "sentence"),
    [
        ({"post": " "}, {}, "The post is empty"),
        ({"title": "x"}, {}, "post"),
        ({"post": None}, {}, "The post is empty"),
        ({"post": "x", "rejected": "no"}, {}, "`rejected` is 'no'; send a list of texts"),
        ({"post": "x"}, {"top_p": 2.0}, "`top_p` is 2.0"),
    ],
)
def test_an_invalid_request_is_a_client_error(
    server: "TestClient", row: dict[str, str | None], params: dict[str, float], sentence: str
) -> None:
    answer = server.post("/invocations", json={"dataframe_records": [row], "params": params})
    assert answer.status_code == 400
    assert sentence in answer.json()["message"]


def test_the_registry_documents_how_to_query_the_model(registered: Registered) -> None:
    version = Tracking.from_environment(registered.home).client().get_model_version(NAME, "2")
    assert f"mlflow models serve -m models:/{NAME}/2" in (version.description or "")
