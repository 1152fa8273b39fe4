"""Tracking addresses: which are accepted, what is shown of them, and the address of a run's page."""

from pathlib import Path

import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.tracking.address import accepted, shown
from adc_pipeline.tracking.failures import explanation, words
from adc_pipeline.tracking.runs import Tracking

RUN = "#/experiments/1/runs/abc?workflowType=machine_learning"
SECRET = "Invented-Quince-41"
ACCEPTED = [
    f"http://user:{SECRET}@127.0.0.1:9",
    f"HTTP://user:{SECRET}@127.0.0.1:9",
    f"https://{SECRET}@host",
    f"https://host:9/{SECRET}/mlflow",
    f"http://user:{SECRET}@[::1]:5000",
    f"http://user:{SECRET}%40@host",
    f"postgresql://user:{SECRET}@host/name",
    f"postgresql+psycopg2://{SECRET}:word@host:5432/name",
    f"postgresql://host/{SECRET}",
    f"postgresql://host/name?user=user&password={SECRET}",
    f"postgresql:///name?host=/run/db&password={SECRET}",
    f"mysql+pymysql://user:{SECRET}@host/name",
    f"mssql+pyodbc:///?odbc_connect=PWD%3D{SECRET}",
    f"sqlite:////srv/mlflow.db?key={SECRET}",
]
REFUSED = [
    f"http://host/?access_token={SECRET}",
    f"http://host/#{SECRET}",
    f"http://user:pass@{SECRET}@host",
    f"http://user:pass/{SECRET}@host",
    f"http://user:pass?{SECRET}@host",
    f"http://user:pass#{SECRET}@host",
    f"http://user:9?{SECRET}@host",
    f"http://user:9/{SECRET}@host",
    f"http://user:{SECRET}@host:port",
    f"http://user:{SECRET}@[::1",
    f"http://user:{SECRET}@",
    f"http://user:{SECRET}@host\n",
    f" http://user:{SECRET}@host",
    f"http://host:9;{SECRET}",
    f"http:/user:{SECRET}@host",
    f"http:user:{SECRET}@host",
    f"//user:{SECRET}@host",
    f"user:{SECRET}@host:5000",
    f"ftp://user:{SECRET}@host",
    f"postgres://user:{SECRET}@host/name",
    f"postgresql://user:pass/{SECRET}@host/name",
    f"postgresql://user:9/{SECRET}@host/name",
    f"sqlite://user:{SECRET}@host/name",
    f"http://user:%00{SECRET}@host",
    f"http://user:%0a{SECRET}@host",
    f"http://user:{SECRET}@\u200bhost",
    f"http://user:{SECRET}@host\u202e",
    f"http://host\\@{SECRET}",
    f"http://host,{SECRET}",
    f"http+unix://{SECRET}",
    "sqlite:///:memory:",
    "sqlite:///file:name?mode=memory&uri=true",
    SECRET,
]


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore what `accepted` sets."""
    for name in ("USERNAME", "PASSWORD"):
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", "")


@pytest.mark.parametrize("address", ACCEPTED)
def test_no_secret_of_an_accepted_address_is_shown(address: str) -> None:
    used = accepted(address, "MLFLOW_TRACKING_URI")
    assert SECRET not in shown(address) + shown(used) + repr(Tracking(used))
    error = OSError(f"no answer at {used} for {SECRET}")
    if not address.lower().startswith(("http", "sqlite")):
        assert words(error, [used]) == "OSError"


def test_a_database_without_its_driver_says_what_to_install() -> None:
    error = ModuleNotFoundError(f"No module at {SECRET}", name="psycopg2")
    told = str(explanation(error, f"postgresql://user:{SECRET}@db/name", "MLFLOW_TRACKING_URI"))
    assert "postgresql://db needs the Python package psycopg2" in told
    assert SECRET not in told


@pytest.mark.parametrize("address", REFUSED)
def test_a_malformed_address_is_refused_without_showing_it(address: str) -> None:
    with pytest.raises(PipelineError, match=r"MLFLOW_TRACKING_URI = .* cannot be used") as refused:
        accepted(address, "MLFLOW_TRACKING_URI")
    assert SECRET not in str(refused.value) + shown(address)


@pytest.mark.parametrize("path", ["~/mlflow.db", "a%20b/mlflow.db", "/srv/a%2Fb.db", "file:mlflow.db?uri=true"])
def test_a_path_that_mlflow_would_read_as_another_is_refused(path: str) -> None:
    """SQLAlchemy takes `%20` for a space, and a folder named ~ is nobody's home."""
    with pytest.raises(PipelineError, match="in full and as it is"):
        accepted(f"sqlite:///{path}", "MLFLOW_TRACKING_URI")
    assert accepted("sqlite:///50%/a b~.db", "MLFLOW_TRACKING_URI") == "sqlite:///50%/a b~.db"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("http://user:word@127.0.0.1:9/path", "http://127.0.0.1:9"),
        ("postgresql://user:word@db.example:5432/mlflow", "postgresql://db.example:5432"),
        ("sqlite:////srv/a b/mlflow.db", "sqlite:////srv/a b/mlflow.db"),
        ("", "..."),
    ],
)
def test_host_and_port_are_shown(address: str, expected: str) -> None:
    assert shown(address) == expected


def test_user_and_password_are_passed_to_mlflow_by_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    assert accepted("https://a%40b:c%2Fd@host:1/mlflow", "X") == "https://host:1/mlflow"
    assert (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]) == ("a@b", "c/d")


@pytest.mark.parametrize(
    ("uri", "pages", "address"),
    [
        ("", "", f"http://127.0.0.1:5000/{RUN}"),
        ("http://mlflow:5000/", "", f"http://mlflow:5000/{RUN}"),
        (f"http://user:{SECRET}@mlflow:5000/{SECRET}", "", f"http://mlflow:5000/{RUN}"),
        ("http://mlflow:5000", "https://mlflow.example.org/", f"https://mlflow.example.org/{RUN}"),
        (
            "postgresql://db/mlflow",
            f"https://user:{SECRET}@mlflow.example.org/a",
            f"https://mlflow.example.org/a/{RUN}",
        ),
    ],
)
def test_a_runs_page_has_the_public_address(
    uri: str, pages: str, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("ADC_MLFLOW_PAGES", pages)
    assert Tracking.from_environment(tmp_path).run_address("1", "abc") == address


@pytest.mark.slow
def test_what_mlflow_prints_shows_no_part_of_an_address(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A server that is gone: requests are retried. At the end of a run MLflow would print its page."""
    from mlflow.environment_variables import MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    client = Tracking(f"http://127.0.0.1:1/{SECRET}").client()
    with pytest.raises(Exception, match=SECRET):
        client.search_experiments()
    assert MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.get()
    assert SECRET not in "".join(capfd.readouterr()) + caplog.text


@pytest.mark.parametrize("pages", [f"http://host/?t={SECRET}", f"sqlite:///{SECRET}", SECRET, f"http://u:{SECRET}@h:x"])
def test_malformed_pages_are_refused(pages: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("ADC_MLFLOW_PAGES", pages)
    with pytest.raises(PipelineError, match="ADC_MLFLOW_PAGES") as refused:
        Tracking.from_environment(tmp_path)
    assert SECRET not in str(refused.value)
