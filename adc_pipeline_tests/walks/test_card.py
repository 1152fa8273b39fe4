"""A dataset's folder is what `datasets.load_dataset` expects, also where a split has no rows."""

import json
from pathlib import Path

import pytest
from datasets import load_dataset

from adc_pipeline.core.artefacts import Artefact
from adc_pipeline.corpus.utterances import write_utterances
from adc_pipeline.ranking.ranked_replies import write_ranked_replies
from adc_pipeline.ranking.settings import RankingSettings
from adc_pipeline.walks.card import write_card
from adc_pipeline.walks.datasets import write_walks
from adc_pipeline.walks.settings import WalkSettings


@pytest.mark.parametrize(("shares", "splits"), [((100, 0, 0), ["train"]), ((0, 0, 100), ["test"])])
def test_a_card_speaks_of_the_splits_that_have_rows(tmp_path: Path, shares: tuple[int, ...], splits: list[str]) -> None:
    lines = [
        {"id": "r", "conversation_id": "r", "reply_to": None, "speaker": "ann", "text": "post"},
        {"id": "a", "conversation_id": "r", "reply_to": "r", "speaker": "bob", "text": "yes", "meta": {"score": 3}},
    ]
    for name in ("corpus", "utterances", "ranked", "dataset"):
        (tmp_path / name).mkdir()
    (tmp_path / "corpus" / "utterances.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    read = write_utterances(tmp_path / "corpus", tmp_path / "utterances")
    ranked = write_ranked_replies(tmp_path / "utterances", tmp_path / "ranked")
    settings = WalkSettings(shares=shares)
    dataset = tmp_path / "dataset"
    counts = write_walks("top-2", tmp_path / "utterances", tmp_path / "ranked", dataset, settings)
    write_card(
        "top-2",
        dataset,
        settings,
        counts,
        Artefact("raw_corpus", tmp_path, "0" * 32, {"corpus": "/data/mine"}),
        Artefact("utterances", tmp_path, "1" * 32, {}, counts={**read}),
        Artefact("ranked_replies", tmp_path, "2" * 32, vars(RankingSettings()), counts={**ranked}),
    )
    loaded = load_dataset(str(dataset), cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == splits
    assert loaded[splits[0]][0]["text"] == "ann\n\npost<background>bob\nyes<accepted>"
