"""A dataset's folder is what `datasets.load_dataset` expects, and no value in its card becomes markup."""

import json
from pathlib import Path

import pytest
from datasets import load_dataset
from markdown_it import MarkdownIt

from adc_pipeline.core.store.manifests import Artefact
from adc_pipeline.corpus.utterances import write_utterances
from adc_pipeline.ranking.ranked_replies import write_ranked_replies
from adc_pipeline.ranking.settings import RankingSettings
from adc_pipeline.walks.card import write_card
from adc_pipeline.walks.datasets import write_walks
from adc_pipeline.walks.settings import WalkSettings


def written(tmp_path: Path, shares: tuple[int, ...], corpus: str = "/data/mine", **read_settings: object) -> Path:
    """Return a dataset's folder with its card."""
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
        Artefact("raw_corpus", tmp_path, "0" * 32, {"corpus": corpus}),
        Artefact("utterances", tmp_path, "1" * 32, read_settings, counts={**read}),
        Artefact("ranked_replies", tmp_path, "2" * 32, vars(RankingSettings()), counts={**ranked}),
    )
    return dataset


@pytest.mark.fast_first
@pytest.mark.parametrize(("shares", "splits"), [((100, 0, 0), ["train"]), ((0, 0, 100), ["test"])])
def test_a_card_names_the_splits_that_have_rows(tmp_path: Path, shares: tuple[int, ...], splits: list[str]) -> None:
    dataset = written(tmp_path, shares)
    loaded = load_dataset(str(dataset), cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == splits
    assert loaded[splits[0]][0]["text"] == "ann\n\npost<background>bob\nyes<accepted>"


def test_a_hostile_value_stays_in_its_cell(tmp_path: Path) -> None:
    value = "a|b\n| <img src=x> | ![c](http://d/e.png) |\x1b[31m"
    card = (written(tmp_path, (100, 0, 0), corpus=f"/data/{value}", columns=value) / "README.md").read_text()
    body = card.split("---\n", 2)[2]
    (row,) = [line for line in body.splitlines() if line.startswith("| utterances.columns")]
    assert row == (
        r"| utterances.columns | a\|b \| &lt;img src=x&gt; \| ![c\](http://d/e.png) \|"
        "\N{REPLACEMENT CHARACTER}[31m |"
    )
    assert body.splitlines()[1].startswith("# top-2 walks from ")
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(body)
    assert "<img" not in html
    assert "\x1b" not in body
