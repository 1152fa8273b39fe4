"""Where a run is said to stand: the address that a person opens."""

from pathlib import Path

import pytest

from adc_pipeline.tracking.runs import Tracking

RUN = "#/experiments/1/runs/abc"


@pytest.mark.parametrize(
    ("uri", "pages", "address"),
    [
        ("", "", f"http://127.0.0.1:5000/{RUN}"),
        ("http://mlflow:5000/", "", f"http://mlflow:5000/{RUN}"),
        ("http://mlflow:5000", "https://mlflow.example.org/", f"https://mlflow.example.org/{RUN}"),
        ("postgresql://db/mlflow", "https://mlflow.example.org", f"https://mlflow.example.org/{RUN}"),
    ],
)
def test_a_run_is_where_people_open_it(
    uri: str, pages: str, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("ADC_MLFLOW_PAGES", pages)
    assert Tracking.from_environment(tmp_path).run_address("1", "abc") == address
