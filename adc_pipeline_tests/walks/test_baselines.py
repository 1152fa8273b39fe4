"""The card's baselines equal a slow count over all pairs, and their section is only there where one decides a pair."""

from itertools import permutations
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from adc_pipeline.core.engine import Engine
from adc_pipeline.corpus.sample.threads import write_sample
from adc_pipeline.preferences.baselines import pair_baselines
from adc_pipeline.preferences.datasets import write_preferences
from adc_pipeline.preferences.settings import PreferenceSettings
from adc_pipeline.walks.baselines import Baseline, baseline_rows, baselines_section, dataset_baselines
from adc_pipeline.walks.files import split_file
from adc_pipeline.walks.splits import SPLITS, split_of
from adc_pipeline_tests.evaluation.conftest import Stages, run_stages
from adc_pipeline_tests.stages import read_records, utterance_records


def walks_of(dataset: Path, split: str) -> list[Any]:
    return pq.read_table(dataset / f"data/{split}-00000-of-00001.parquet").to_pylist()


@pytest.mark.slow
def test_the_baselines_of_a_dataset_equal_a_slow_count(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    write_sample(tmp_path / "corpus", conversations=30)
    stages = run_stages(tmp_path / "corpus", tmp_path, "ascending", (40, 30, 30))
    found = dataset_baselines(stages.dataset, stages.ranked, Engine())
    written = {row["id"]: row["timestamp"] for row in read_records(stages.ranked, "ranked_replies.parquet")}
    trained: dict[str, list[int]] = {}
    for walk in walks_of(stages.dataset, "train"):
        for turn in walk["turns"]:
            trained.setdefault(turn["speaker"], []).append(turn["score"])
    every = [score for scores in trained.values() for score in scores]

    def mean_of(turn: Any) -> float:
        scores = trained.get(turn["speaker"], every)
        return sum(scores) / len(scores)

    values = {
        "length: the longer reply": lambda turn: turn["end"] - turn["start"],
        "time: the earlier reply": lambda turn: -written[turn["utterance_id"]],
        "time, pairs written within an hour": lambda turn: -written[turn["utterance_id"]],
        "the speaker's mean score in the training split": mean_of,
    }
    pairs = []
    for walk in [*walks_of(stages.dataset, "validation"), *walks_of(stages.dataset, "test")]:
        group: list[Any] = []
        for turn in walk["turns"]:
            group.append(turn)
            if turn["verdict"] == "accepted":
                pairs += [(a, b) for a, b in permutations(group, 2) if a["score"] > b["score"]]
                group = []
    expected = []
    for name, value in values.items():
        near = [(a, b) for a, b in pairs if abs(written[a["utterance_id"]] - written[b["utterance_id"]]) <= 3600]
        of = near if "hour" in name else pairs
        apart = [value(a) - value(b) for a, b in of]
        expected.append(Baseline(name, len(of), sum(each != 0 for each in apart), sum(each > 0 for each in apart)))
    assert found == expected
    assert min(each.right for each in found) > 3
    of_pairs(stages, tmp_path / "preferences")


def of_pairs(stages: Stages, folder: Path) -> None:
    """Compare the baselines of the preferences' card with a slow count over all pairs."""
    settings = PreferenceSettings(shares=stages.shares)
    write_preferences(stages.utterances, stages.ranked, folder, settings)
    speaker = {row["id"]: row["speaker"] for row in utterance_records(stages.utterances)}
    ranked = read_records(stages.ranked, "ranked_replies.parquet")
    written = {row["id"]: row["timestamp"] for row in ranked}
    every = [row for row in ranked if split_of(row["conversation_id"], stages.shares) == "train"]
    trained: dict[str, list[int]] = {}
    for row in every:
        trained.setdefault(speaker[row["id"]], []).append(row["score"])

    def mean_of(id: str) -> float:
        scores = trained.get(speaker[id]) or [row["score"] for row in every]
        return sum(scores) / len(scores)

    pairs = [row for split in SPLITS[1:] for row in pq.read_table(folder / split_file(split, "pairs")).to_pylist()]
    signs = {
        "length": [len(row["chosen"][0]["content"]) - len(row["rejected"][0]["content"]) for row in pairs],
        "time": [written[row["rejected_id"]] - written[row["chosen_id"]] for row in pairs],
        "speaker": [mean_of(row["chosen_id"]) - mean_of(row["rejected_id"]) for row in pairs],
    }
    found = {each.name.split("'")[0].split(":")[0]: each for each in
             pair_baselines(folder, stages.utterances, stages.ranked, settings, Engine())}  # fmt: skip
    assert len(found) == 4
    for name, apart in {**signs, "the speaker": signs["speaker"]}.items():
        if name in found:
            decided, right = sum(each != 0 for each in apart), sum(each > 0 for each in apart)
            assert found[name] == Baseline(found[name].name, len(pairs), decided, right)
    assert found["the speaker"].right > 3


def test_the_card_shows_shares() -> None:
    assert baseline_rows([Baseline("length", 200, 150, 90)]) == [("length", "200", "0.750", "0.600")]
    assert "| length | 200 | 0.750 | 0.600 |" in baselines_section([Baseline("length", 200, 150, 90)], "turns")
    assert baselines_section([], "turns") == ""
