"""`python -m adc_pipeline.lineage` prints a lineage, checks it on disk, and reports what it cannot find."""

import json
from pathlib import Path

import pytest

from adc_pipeline.core.store.manifests import Artefact
from adc_pipeline.corpus.opening.recorded_files import record_files
from adc_pipeline.corpus.settings import CorpusSettings
from adc_pipeline.corpus.source import fetch
from adc_pipeline.lineage import main
from adc_pipeline_tests.tracking.history import Chain, History, chain, history

__all__ = ["history"]

MODEL = "models:/adc-top-2@latest"


def linked_corpus(history: History, source: Path) -> Artefact:
    """Make the artefact `raw_corpus` from a table on disk."""
    store = history.store
    with store.aside("raw_corpus") as folder, history.tracking.run("raw_corpus", {}, {}) as run:
        fetch(CorpusSettings(str(source)), {}, folder / "corpus")
        digest = record_files(folder / "corpus", folder / "files.json")
        return history.put(run, folder, Artefact("raw_corpus", folder, digest))


def registered(history: History) -> Chain:
    made = chain(history)
    history.register(made.model)
    return made


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.csv"
    path.write_text("id,conversation_id,reply_to,speaker,text,timestamp,score\na,a,,ann,hello,1,1\n")
    return path


def test_the_tree_shows_digest_run_and_settings_of_each_artefact(
    history: History, capsys: pytest.CaptureFixture[str]
) -> None:
    made = registered(history)
    assert main([MODEL]) == 0
    text = capsys.readouterr().out
    for artefact in made.all:
        for fact in (
            f"{artefact.name} {artefact.digest}",
            f"MLflow run {history.runs[artefact.digest][0]}",
            f"Dagster run dagster of {artefact.name}",
            f"code of {artefact.name}",
        ):
            assert fact in text
    assert f"top_2_model {made.model.digest} = adc-top-2/1" in text
    assert "settings: learning_rate=0.1" in text
    assert f"utterances {made.utterances.digest} (see above)" in text
    assert text.count("made 20") == len(made.all)


@pytest.mark.slow
def test_json_is_the_same_tree(history: History, capsys: pytest.CaptureFixture[str]) -> None:
    made = registered(history)
    assert main([MODEL, "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert (tree["asset"], tree["digest"], tree["registered"]) == ("top_2_model", made.model.digest, ["adc-top-2/1"])
    assert tree["settings"] == {"learning_rate": "0.1"}
    assert [above["asset"] for above in tree["made_from"]] == ["top_2", "base_model"]
    assert main(["--from", "raw_corpus", "--json"]) == 0
    (down,) = json.loads(capsys.readouterr().out)
    assert down["digest"] == made.corpus.digest
    assert [below["asset"] for below in down["made_into"]] == ["utterances"]


def test_a_check_reports_what_no_longer_matches(
    history: History, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = linked_corpus(history, source)
    dataset = history.make("top_2", "a", (corpus,))
    model = history.make("top_2_model", "a", (dataset,))
    history.register(model)
    assert main([MODEL, "--check"]) == 0
    assert "3 of 3 artefacts are on disk and match their digests." in capsys.readouterr().out
    (model.path / "content").write_text("something else")
    source.write_text(source.read_text() + "b,a,a,bob,hello,2,1\n")
    assert main([MODEL, "--check"]) == 1
    text = capsys.readouterr().out
    assert f"top_2_model {model.digest}: CHANGED on disk" in text
    assert f"raw_corpus {corpus.digest}: CHANGED on disk" in text
    assert "these are others or gone: 00" in text
    source.unlink()
    assert main([MODEL, "--check", "--json"]) == 1
    tree = json.loads(capsys.readouterr().out)
    top = tree["made_from"][0]["made_from"][0]
    assert top["on_disk"]["state"] == "changed"
    assert "cannot be read (No such file or directory)" in top["on_disk"]["said"]


@pytest.mark.slow
def test_pruned_artefacts_are_reported_as_missing(history: History, capsys: pytest.CaptureFixture[str]) -> None:
    made = registered(history)
    history.make("raw_corpus", "newer")
    assert history.store.remove("raw_corpus", made.corpus.digest, history.store.made_at(made.corpus))
    assert main([MODEL, "--check"]) == 1
    text = capsys.readouterr().out
    assert "4 of 5 artefacts are on disk" in text
    assert f"raw_corpus {made.corpus.digest}: not on disk" in text


@pytest.mark.slow
def test_an_artefact_of_another_home_is_checked_in_that_home(
    history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = history.make("top_2", "a")
    history.register(history.make("top_2_model", "a", (dataset,)))
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setenv("ADC_HOME", str(tmp_path / "another"))
    assert main([MODEL]) == 2
    assert "There is no MLflow database" in capsys.readouterr().err
    assert not (tmp_path / "another").exists()
    assert main([MODEL, "--check", "--tracking-uri", history.tracking.uri]) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("models:/adc-top-2@champion", "has no alias 'champion'"),
        ("models:/adc-top-2", "names no model version"),
        ("models:/a/b/1", "names no model version"),
        ("0123456789", "0 artefacts at"),
    ],
)
def test_an_unknown_address_gives_one_sentence(
    history: History, capsys: pytest.CaptureFixture[str], address: str, sentence: str
) -> None:
    registered(history)
    assert main([address]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("address", ["foo://somewhere", "nosuchdatabase://user@host/name"])
def test_an_address_that_mlflow_does_not_know_is_refused(
    history: History, capsys: pytest.CaptureFixture[str], address: str
) -> None:
    assert main([MODEL, "--tracking-uri", address]) == 2
    output = capsys.readouterr().err
    assert "--tracking-uri" in output
    assert "cannot be used" in output


def test_no_server_receives_the_password_of_another(history: History, capsys: pytest.CaptureFixture[str]) -> None:
    servers = ["http://alice:one@127.0.0.1:9", "http://bob:two@127.0.0.1:9"]
    assert main([MODEL, "--tracking-uri", servers[0], "--tracking-uri", servers[1]]) == 2
    output = capsys.readouterr().err
    assert "ask one server at a time" in output
    assert not {"one@", "two@", "alice", "bob"} & set(output.split())


@pytest.mark.slow
def test_an_unreachable_server_is_reported(
    history: History, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Restored after the test, since they are set from the address, or for a short wait.
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    assert main([MODEL, "--tracking-uri", "http://someone:secret@127.0.0.1:9"]) == 2
    output = capsys.readouterr().err
    assert "MLflow at http://127.0.0.1:9 could not be asked (nothing answers): start it" in output
    assert "secret" not in output
