"""A conversation is in one split, the same in every dataset that contains it. 4 s of CPU."""

import json
import math
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.corpus.sample.threads import write_sample
from adc_pipeline.walks.settings import WalkSettings
from adc_pipeline.walks.splits import DEFAULT_SHARES, SPLITS, Shares, split_of, split_sql
from adc_pipeline_tests import oracle, trees
from adc_pipeline_tests.walks.test_walks_equal_oracle import KINDS, dataset_files, make_dataset, run_to_ranking

IDS = [*trees.SPEAKERS, *trees.NASTY_TEXTS, *(f"t3_{n:x}" for n in range(1000))]


@pytest.mark.parametrize("shares", [DEFAULT_SHARES, (34, 33, 33), (0, 50, 50), (100, 0, 0), (0, 0, 100)])
def test_a_split_is_the_same_in_python_in_sql_and_in_the_oracle(shares: Shares) -> None:
    splits = [split_of(id, shares) for id in IDS]
    query = f"SELECT {split_sql('id', shares)} FROM (SELECT unnest($1) AS id)"  # noqa: S608
    assert splits == [row[0] for row in duckdb.execute(query, [IDS]).fetchall()]
    assert splits == [oracle.split(id, shares) for id in IDS]
    assert set(splits) == {split for split, share in zip(SPLITS, shares, strict=True) if share}


def test_splits_have_their_shares() -> None:
    n = 100_000
    splits = [split_of(f"t3_{number:x}") for number in range(n)]
    for split, per_cent in zip(SPLITS, DEFAULT_SHARES, strict=True):
        share = per_cent / 100
        assert abs(splits.count(split) - n * share) < 5 * math.sqrt(n * share * (1 - share))


def splits_of(dataset: Path) -> dict[str, str]:
    """Return the split by conversation id, from the files; fail if a conversation is in two."""
    found: dict[str, str] = {}
    for split, path in zip(SPLITS, dataset_files(dataset), strict=True):
        for id in set(pq.read_table(path, columns=["conversation_id"])["conversation_id"].to_pylist()):
            assert id not in found
            found[id] = split
    return found


def every_other_conversation(corpus: Path, into: Path) -> Path:
    into.mkdir()
    for path in corpus.iterdir():
        (into / path.name).write_bytes(path.read_bytes())
    lines = [json.loads(line) for line in (corpus / "utterances.jsonl").open(encoding="utf-8")]
    kept = set(sorted({line["conversation_id"] for line in lines})[::2])
    with (into / "utterances.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines if line["conversation_id"] in kept)
    return into


@pytest.mark.slow
def test_a_conversation_has_the_same_split_in_every_dataset_and_in_a_larger_corpus(tmp_path: Path) -> None:
    (tmp_path / "sample").mkdir()
    write_sample(tmp_path / "sample", conversations=600, seed=4)
    ranked = run_to_ranking(tmp_path / "sample", tmp_path / "ranked")
    several = WalkSettings(walks_per_conversation=2)
    top_2, random_walk, ascending = (splits_of(make_dataset(kind, ranked, several)) for kind in KINDS)
    assert top_2 == random_walk == ascending
    assert set(top_2.values()) == set(SPLITS)

    half = every_other_conversation(tmp_path / "sample", tmp_path / "half")
    smaller = splits_of(make_dataset("top-2", run_to_ranking(half, tmp_path / "ranked-half"), WalkSettings(seed=9)))
    assert 0 < len(smaller) < len(top_2)
    assert smaller.items() <= top_2.items()


@pytest.mark.slow
def test_an_empty_split_is_a_file_with_the_same_columns_and_no_rows(tmp_path: Path) -> None:
    row = trees.Row("r", "r", None, "ann", "Why?", 0, {"score": 1})
    reply = trees.Row("a", "r", "r", "bob", "Because.", 0, {"score": 1})
    directory = trees.Corpus([row, reply], {"r": {"title": "Title"}}).write(tmp_path / "corpus")
    ranked = run_to_ranking(directory, tmp_path / "ranked")
    tables = [pq.read_table(path) for path in dataset_files(make_dataset("top-2", ranked, WalkSettings()))]
    assert sorted(table.num_rows for table in tables) == [0, 0, 1]
    # DuckDB declares a column without nulls as NOT NULL, but not an empty one.
    columns = [[(field.name, field.type) for field in table.schema] for table in tables]
    assert columns[0] == columns[1] == columns[2]


@pytest.mark.parametrize("shares", [(90, 5), (90, 5, 6), (110, -5, -5)])
def test_shares_that_do_not_add_up_are_refused(shares: tuple[int, ...]) -> None:
    with pytest.raises(PipelineError, match="shares"):
        WalkSettings(shares=shares)
