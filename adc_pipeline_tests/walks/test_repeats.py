"""Walks with the same text are counted, and excluded within a conversation, where several walks are drawn."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from adc_pipeline.walks.card import repeats
from adc_pipeline.walks.datasets import write_walks
from adc_pipeline.walks.files import split_file
from adc_pipeline.walks.settings import WalkSettings
from adc_pipeline.walks.splits import SPLITS
from adc_pipeline_tests import trees
from adc_pipeline_tests.walks.test_walks_equal_oracle import run_to_ranking


def ranked(tmp_path: Path, shards: int = 1) -> Path:
    """Return the ranked replies of 40 conversations: in half of them nothing is chosen, and two pairs are the same."""
    rows = []
    for n in range(40):
        post = f"r{n}"
        rows.append(trees.Row(post, post, None, "ann", f"post {max(n, 2)}", 0, {"score": 1}))
        replies = 1 if n < 20 else 3
        rows += [trees.Row(f"{post}-{k}", post, post, "bob", f"reply {k}", 0, {"score": 3 - k}) for k in range(replies)]
    directory = trees.Corpus(rows, {f"r{n}": {"title": "Title"} for n in range(40)}).write(tmp_path / "corpus")
    return run_to_ranking(directory, tmp_path / f"ranked-{shards}", shards=shards)


def made(ranked: Path, settings: WalkSettings) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return the counts of a dataset, and conversation and text of each row."""
    out = ranked / "dataset"
    counts = write_walks("top-2", ranked / "utterances", ranked / "ranked", out, settings)
    tables = [pq.read_table(out / split_file(split)).to_pylist() for split in SPLITS]
    return counts, [(row["conversation_id"], row["text"]) for rows in tables for row in rows]


@pytest.mark.slow
def test_a_text_is_in_a_conversation_once_and_the_counts_add_up(tmp_path: Path) -> None:
    read = ranked(tmp_path)
    every, drawn = made(read, WalkSettings(walks_per_conversation=5, exclude_repeats=False))
    assert every["walks"] == len(drawn) == 40 * 5
    assert every["repeats.excluded"] == 0
    assert every["repeats.included"] == len(drawn) - len({text for _, text in drawn}) > 0

    counts, rows = made(read, WalkSettings(walks_per_conversation=5))
    assert rows == list(dict.fromkeys(drawn))
    assert counts["walks"] == sum(counts[f"walks.{split}"] for split in SPLITS) == len(rows)
    assert counts["walks"] + counts["repeats.excluded"] == 40 * 5
    assert counts["turns"] == counts["turns.accepted"] + counts["turns.rejected"]
    # The three conversations with the same post stay, each with its own walk.
    assert counts["repeats.included"] == 2
    assert counts["conversations"] == 40
    assert counts["conversations.test"] <= counts["walks.test"]
    assert repeats(counts) == (
        f"{200 - len(rows)} of 200 walks that were drawn are excluded, since an earlier walk of the conversation has"
        " the same text. 2 of these texts are exact repeats of another."
    )
    sharded, same = made(ranked(tmp_path / "sharded", shards=3), WalkSettings(walks_per_conversation=5))
    assert (sharded, same) == (counts, rows)


@pytest.mark.slow
def test_one_walk_a_conversation_is_the_same_with_and_without(tmp_path: Path) -> None:
    read = ranked(tmp_path)
    assert made(read, WalkSettings()) == made(read, WalkSettings(exclude_repeats=False))
    assert made(read, WalkSettings())[0]["repeats.included"] == 2
