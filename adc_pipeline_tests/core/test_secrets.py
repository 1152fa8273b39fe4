"""Secrets are hidden in sentences, log lines and settings, however an address or a variable is spelt."""

import logging

import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.secrets import has_credentials, masked
from adc_pipeline.core.settings import LONGEST_SHOWN, as_shown
from adc_pipeline.core.spellings import read_settings
from adc_pipeline.corpus.settings import CorpusSettings
from adc_pipeline.defs.console import adjusting

SECRET = "Invented-Quince-41"
ADDRESSES = [
    f"https://user:{SECRET}@host/corpus.zip",
    f"https://{SECRET}@host/corpus.zip",
    f"HTTPS://user:{SECRET}@host",
    f"https://host/corpus.zip?token={SECRET}",
    f"https://host?{SECRET}",
    f"https://user:a/{SECRET}@host",
    f"https://user:a?{SECRET}@host",
    f"https://user:a#{SECRET}@host",
    f"https://user:a@{SECRET}@host",
    f"https://user:{SECRET}",
    f"hf://{SECRET}@datasets/name",
    f"s3://key:{SECRET}@bucket/corpus",
    f"postgresql+psycopg2://user:{SECRET}@host:5432/name",
    f"sqlite:////srv/mlflow.db?key={SECRET}",
    f"ray://user:{SECRET}@[::1]:10001",
    f"git+ssh://{SECRET}@github.com/owner/name.git",
]
# Addresses of which a scheme or a slash is missing or wrong, so that no library would take them for addresses.
MISSPELT = [
    f"https:/user:{SECRET}@host/x",
    f"https:/{SECRET}@host/x",
    f"HTTPS:user:{SECRET}@host",
    f"https;//user:{SECRET}@host",
    f"https：//user:{SECRET}@host",
    f"https:\\\\user:{SECRET}@host",
    f"//user:{SECRET}@host/x",
    f"//{SECRET}@host/x",
    f"hf:/{SECRET}@datasets/name",
    f"user:{SECRET}@host:5432/name",
    f"https%3A%2F%2Fuser%3A{SECRET}%40host",
    f"host/corpus.zip?sv=2&sig={SECRET}",
    f"https:/host/corpus.zip?code={SECRET}",
    f"/corpus.zip?X-Amz-Expires=9&X-Amz-Signature={SECRET}",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_sentence_has_the_secret_of_an_address(address: str) -> None:
    for text in (f"The corpus {address} does not exist: correct it.", f"{address!r}; use `{address}`.", f"({address})"):
        assert SECRET not in str(PipelineError(text))
    assert has_credentials(address)
    assert str(PipelineError(f"The corpus {address} is gone: correct it.")).endswith(": correct it.")
    # What is quoted may hold spaces.
    assert "secret" not in masked("`corpus` is 'https://user:a secret@host'; use a path.")


@pytest.mark.parametrize(
    "text",
    [
        f"Max retries exceeded with url: /c.zip?X-Amz-Signature={SECRET} (Caused by NewConnectionError)",
        f"Max retries exceeded with url: /c.zip?{SECRET}",
        f'could not translate host name "{SECRET}@host" to address',
        f"connection failed: password={SECRET} host=db",
        f"storage_options={{'secret': '{SECRET}', \"aws_access_key\": \"{SECRET}\"}}",
        f"headers {{'Authorization': 'Bearer {SECRET}', 'Cookie': 'session={SECRET}'}}",
        f"Authorization: Basic {SECRET}==",
        f"https:/user:{SECRET}@host/x",
        f"https:\\\\user:{SECRET}@host",
        f"//user:{SECRET}@host/x and user:{SECRET}@host:5432/name",
        f"https://us er:{SECRET}@host/x",
        f"https%3A%2F%2Fuser%3A{SECRET}%40host",
        f"http://host/#/?token={SECRET}",
        f"eyJ{'a' * 20}.{SECRET}{'a' * 20}.a",
        f"AccountKey={SECRET}==;EndpointSuffix=core.windows.net",
        *MISSPELT,
    ],
)
def test_no_sentence_has_a_secret_in_the_form_of_a_library(text: str) -> None:
    assert SECRET not in masked(text)


@pytest.mark.parametrize(
    "token",
    [
        f"hf_{'a' * 34}",
        f"ghp_{'a' * 36}",
        f"AKIA{'A' * 16}",
        f"xoxb-{'1' * 12}",
        f"sk-{'a1B2' * 12}",
        f"sk-proj-{'a_B-' * 30}",
        f"sk-ant-api03-{'a_B-' * 20}",
        f"AIza{'b' * 35}",
        f"dapi{'0f' * 16}-2",
    ],
)
def test_a_token_is_known_by_its_shape(token: str) -> None:
    assert masked(f"The token {token} is refused.") == "The token ... is refused."


@pytest.mark.parametrize(
    "text",
    [
        "Give an MLflow server (http://HOST:PORT) or a database (postgresql://USER:PASSWORD@HOST/NAME).",
        "write smtp://user@host:587 or smtps://user@host into the variable",
        "sqlite:////srv/a b/mlflow.db, file:///srv/mlflow and http://127.0.0.1:5000/#/experiments/1/runs/a?workflowType=b",
        "models:/adc-top-2@champion, tokens_per_step=512, eos_token='<|endoftext|>', mail_to: ann@example.org",
        "http://[::1]:5000/ and models:/adc-top-2@latest, docs at https://host/docs/page.html#part",
        "sqlite:////home/ann@example.org/mlflow.db and file:///home/ann@example.org/adc",
        "user@host wrote: look?",
        "/srv/ann@example.org/posts.jsonl, //server/share/posts.jsonl, models:/name@champion and part-0?.jsonl",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert masked(text) == text
    assert not has_credentials(text)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HF_TOKEN", f"hf_{SECRET}"),
        ("HF_TOKEN", f"hf_{SECRET}\nnext"),
        ("MLFLOW_TRACKING_PASSWORD", f" {SECRET}"),
        ("AWS_SECRET_ACCESS_KEY", f"a/{SECRET}+b"),
        ("HTTPS_PROXY", f"http://user:{SECRET}@proxy:3128"),
        *((name, SECRET) for name in ("MYSQL_PWD", "DB_PASS", "AZURE_STORAGE_KEY", "GITHUB_PAT", "SSH_PASSPHRASE")),
        ("ADC_WEBHOOK", f"https://hooks.example/services/{SECRET}"),
    ],
)
def test_no_sentence_and_no_line_of_a_log_has_a_secret_of_the_environment(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    # As requests puts a header into its error.
    error = ValueError(f"Invalid header value {f'Bearer {value}'.encode()!r}, {value} and {value.strip()}")
    assert SECRET not in str(PipelineError(f"The Hub does not answer ({error}): check the network."))
    record = adjusting(logging.LogRecord)("urllib3", logging.WARNING, "", 1, "retry of %s (%s)", (error, value), None)
    assert SECRET not in record.getMessage()
    assert "retry of Invalid header value" in record.getMessage()


def test_a_line_of_a_log_cannot_steer_a_terminal() -> None:
    record = adjusting(logging.LogRecord)(
        "adc", logging.INFO, "", 1, "%s\n\tread again: é", ("\x1b]0;a\x07\x9b1m",), None
    )
    assert record.getMessage() == "\\x1b]0;a\\x07\\x9b1m\n\tread again: é"


def test_a_place_of_a_secret_is_none_and_a_message_that_does_not_fit_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN_PATH", "/home/ann/.cache/huggingface/token")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.setenv("OLDPWD", "/home/ann")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/home/ann")
    assert masked("/home/ann/.cache/huggingface/token is false") == "/home/ann/.cache/huggingface/token is false"
    assert adjusting(logging.LogRecord)("a", logging.INFO, "", 1, "%d", ("x",), None).args == ("x",)


@pytest.mark.parametrize("address", [*ADDRESSES, *MISSPELT, f"hf_{'a' * 34}"])
def test_a_setting_takes_no_address_with_a_secret(address: str) -> None:
    for given in ({"corpus": address}, {"corpus": f"sample,{address}"}, {"columns": {"text": address}}):
        with pytest.raises(PipelineError, match="use an address without user, password and query") as refused:
            read_settings(CorpusSettings, given, "raw_corpus")
        assert SECRET not in str(refused.value)
    # A folder of a partitioned table is no parameter.
    assert read_settings(CorpusSettings, {"corpus": "/srv/token=5/sig=a/posts.parquet"}, "raw_corpus").corpus
    # A value is cut to be shown, which must not cut what marks a secret.
    assert "x" * 20 not in as_shown(f"https://user:{'x' * LONGEST_SHOWN}@host")


@pytest.mark.parametrize("variable", ["HF_TOKEN", "db_password"])
def test_a_setting_takes_no_value_from_the_variable_of_a_secret(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, SECRET)
    with pytest.raises(PipelineError, match=f"`corpus` takes its value from the environment variable {variable}"):
        read_settings(CorpusSettings, {"corpus": {"env": variable}}, "raw_corpus")
