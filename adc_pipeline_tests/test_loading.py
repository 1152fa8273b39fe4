"""Datasets as other projects take them: a `DatasetDict`, a DuckDB relation, an Arrow table, metadata of ConvoKit."""

from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from adc_pipeline import loading
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.corpus.sample.threads import write_sample
from adc_pipeline.corpus.utterances import write_utterances
from adc_pipeline.preferences.datasets import write_preferences
from adc_pipeline.ranking.ranked_replies import write_ranked_replies
from adc_pipeline.walks.datasets import write_walks


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with two datasets of a small sample, and the sample beside it."""
    home = tmp_path_factory.mktemp("home")
    corpus, store = home / "sample", Store(home)
    places = {name: store.place(name) for name in ("utterances", "ranked_replies", "top_2", "preferences")}
    corpus.mkdir()
    write_sample(corpus, conversations=25)
    write_utterances(corpus, places["utterances"])
    write_ranked_replies(places["utterances"], places["ranked_replies"])
    write_walks("top-2", places["utterances"], places["ranked_replies"], places["top_2"])
    write_preferences(places["utterances"], places["ranked_replies"], places["preferences"])
    return home


@pytest.mark.slow
def test_a_dataset_is_the_same_in_every_form(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(home / "cache"))
    for name, configuration in (("top_2", ""), ("preferences", "pairs"), ("preferences", "groups")):
        table = loading.table(name, configuration, home=home)
        with duckdb.connect() as connection:
            assert loading.relation(connection, name, configuration, home=home).to_arrow_table() == table
        splits = [loading.table(name, configuration, split, home) for split in ("train", "validation", "test")]
        assert sum(map(len, splits)) == len(table)
        assert splits[0] == pq.read_table(loading.files(name, configuration, "train", home)[0])
    loaded = loading.dataset("top_2", home=home)
    assert loaded["train"].to_list() == loading.table("top_2", split="train", home=home).to_pylist()


@pytest.mark.slow
def test_a_split_of_several_files_is_loaded_whole(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(home / "cache"))
    whole = loading.table("top_2", split="train", home=home)
    data = Store(tmp_path).place("top_2") / "data"
    data.mkdir(parents=True)
    pq.write_table(whole[:5], data / "train-00000-of-00002.parquet")
    pq.write_table(whole[5:], data / "train-00001-of-00002.parquet")
    assert loading.dataset("top_2", home=tmp_path)["train"].to_list() == whole.to_pylist()


@pytest.mark.slow
def test_ranks_and_verdicts_come_back_into_a_corpus(home: Path) -> None:
    from convokit import Corpus

    corpus = Corpus(str(home / "sample"))
    stranger = next(corpus.iter_utterances())
    stranger.meta["adc_verdict_ascending"] = "of before"
    ranked = loading.annotate(corpus, home)
    with duckdb.connect() as connection:
        files = str(home / "store" / "ranked_replies" / "current" / "**" / "ranked_replies.parquet")
        rows = connection.read_parquet(files).select("id, rank, siblings, score").fetchall()
        expected = {id: others for id, *others in rows}
    assert ranked == len(expected)
    verdicts = {}
    for utterance in corpus.iter_utterances():
        found = [utterance.meta.get(name) for name in ("adc_rank", "adc_siblings", "adc_score")]
        assert found == expected.get(utterance.id, [None] * 3)
        assert utterance.meta.get("adc_verdict_ascending") is None
        verdicts[utterance.id] = utterance.meta.get("adc_verdict_top_2")
    shown = {
        turn["utterance_id"]: turn["verdict"]
        for walk in loading.table("top_2", home=home).to_pylist()
        for turn in walk["turns"]
    }
    assert {id: verdict for id, verdict in verdicts.items() if verdict} == shown
    assert set(shown.values()) == {"accepted", "rejected"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("top_3",), r"no dataset top_3 \(did you mean top_2\?\)"),
        (("preferences",), "no configuration of the preferences .none given."),
        (("top_2", "pairs"), "top_2 has no configuration pairs"),
        (("top_2", "", "dev"), "no split dev"),
        (("ascending",), "has no ascending: materialize it"),
    ],
)
def test_what_is_not_there_is_named(home: Path, arguments: tuple[str, ...], sentence: str) -> None:
    name, configuration, split = (*arguments, "", "")[:3]
    with pytest.raises(PipelineError, match=sentence):
        loading.files(name, configuration, split, home)
