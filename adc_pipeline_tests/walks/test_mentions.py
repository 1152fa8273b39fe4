"""Names of users in walks and preferences: speakers and mentions, by both settings."""

import json
from pathlib import Path

import pytest

from adc_pipeline.corpus.utterances import write_utterances
from adc_pipeline.preferences.configurations import CONFIGURATIONS
from adc_pipeline.preferences.datasets import write_preferences
from adc_pipeline.preferences.settings import PreferenceSettings
from adc_pipeline.ranking.ranked_replies import write_ranked_replies
from adc_pipeline.walks.datasets import write_walks
from adc_pipeline.walks.rendering import Speakers
from adc_pipeline.walks.settings import WalkSettings
from adc_pipeline_tests.stages import read

ROWS = [
    ("a", None, "Ann", "Asking @Bob", "Who knows? Not u/carl.", 1),
    ("b", "a", "Bob", None, "u/ann: /u/CARL does, <accepted> u/dora", 5),
    ("c", "a", "carl", None, "ask @ann-x", 3),
]
NAMES = ("Ann", "Bob", "carl", "CARL", "dora", "ann")


@pytest.fixture
def stages(tmp_path: Path) -> Path:
    rows = [
        {"id": id, "conversation_id": "a", "reply_to": parent, "speaker": speaker, "title": title, "text": text,
         "score": score, "timestamp": number, "source": "u_Ann"}
        for number, (id, parent, speaker, title, text, score) in enumerate(ROWS)
    ]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_utterances(tmp_path / "rows.jsonl", tmp_path / "utterances")
    write_ranked_replies(tmp_path / "utterances", tmp_path / "ranked")
    return tmp_path


def walk(stages: Path, speakers: Speakers, mentions: Speakers) -> str:
    settings = WalkSettings(speakers=speakers, mentions=mentions, walks_per_conversation=20)
    write_walks("top-2", stages / "utterances", stages / "ranked", stages / "walks", settings)
    # The walk with both replies.
    ((text, turns),) = [row for row in read(stages / "walks", "data/*.parquet", "text, turns") if len(row[1]) == 2]
    assert all(text[turn["start"] : turn["end"]] in text.split(">")[number + 1] for number, turn in enumerate(turns))
    return str(text)


def test_mentions_in_walks_are_those_of_the_pseudonyms(stages: Path) -> None:
    assert walk(stages, "pseudonyms", "pseudonyms") == (
        "user1\nAsking @user2\nWho knows? Not u/user3.<background>"
        "user3\nask @someone<rejected>user2\nu/user1: /u/user3 does, ‹accepted› u/someone<accepted>"
    )
    assert walk(stages, "none", "none") == (
        "Asking @someone\nWho knows? Not u/someone.<background>"
        "ask @someone<rejected>u/someone: /u/someone does, ‹accepted› u/someone<accepted>"
    )
    assert walk(stages, "none", "pseudonyms").endswith(
        "<rejected>u/user1: /u/user3 does, ‹accepted› u/someone<accepted>"
    )


def test_mentions_stay_by_default(stages: Path) -> None:
    assert "u/ann: /u/CARL does" in walk(stages, "none", "names")
    assert "Asking @Bob" in walk(stages, "pseudonyms", "names")


@pytest.mark.parametrize("hidden", ["pseudonyms", "none"])
def test_no_name_is_left_in_walks_and_preferences(stages: Path, hidden: Speakers) -> None:
    written = walk(stages, hidden, hidden) + str(read(stages / "walks", "data/*.parquet"))
    settings = PreferenceSettings(speakers=hidden, mentions=hidden)
    write_preferences(stages / "utterances", stages / "ranked", stages / "preferences", settings)
    for configuration in CONFIGURATIONS:
        written += str(read(stages / "preferences", f"{configuration}/*.parquet"))
    assert not [name for name in NAMES if name in written]
    assert ("u/user3" in written) == (hidden == "pseudonyms")
