"""Near-duplicates, beside a search of all pairs."""

import json
import random
from itertools import combinations
from pathlib import Path

import duckdb
import pytest

from adc_pipeline.corpus.near_duplicates.minhash import near_pairs, runs, similarity
from adc_pipeline.corpus.near_duplicates.near_matches import near_matches
from adc_pipeline.corpus.settings import UtteranceSettings
from adc_pipeline.corpus.utterances import write_utterances
from adc_pipeline.ranking.ranked_replies import write_ranked_replies
from adc_pipeline.ranking.settings import NearDuplicates, RankingSettings
from adc_pipeline_tests.stages import read

WORDS = [f"word{number}" for number in range(400)]


def texts(count: int, seed: int) -> list[str]:
    """Return texts of which many are copies of others with some words changed."""
    dice = random.Random(seed)
    made = ["", "?!"]
    while len(made) < count:
        if dice.random() < 0.5 or len(made) < 10:
            made.append(" ".join(dice.choices(WORDS, k=dice.randint(1, 60))))
        else:
            words = dice.choice(made).split() or ["x"]
            for _ in range(dice.randint(0, 2)):
                words[dice.randrange(len(words))] = dice.choice(WORDS)
            made.append(" ".join(words).upper() + "!")
    return made


def test_what_is_found_is_nearly_alike_and_nearly_all_is_found() -> None:
    made = texts(400, 1)
    with duckdb.connect() as connection:
        found = set(near_pairs(connection, made))
    sets = [runs(text) for text in made]
    every = {(later, first) for first, later in combinations(range(len(made)), 2)
             if similarity(sets[first], sets[later]) >= 0.8}  # fmt: skip
    assert found <= every
    # Each text that has an earlier one nearly like it, whichever that is.
    wanted, got = {later for later, _ in every}, {later for later, _ in found}
    assert len(wanted) > 50
    assert len(wanted - got) <= len(wanted) * 0.02
    assert not {0, 1} & got


def test_exact_copies_are_all_found() -> None:
    made = texts(50, 2)
    with duckdb.connect() as connection:
        found = {later for later, _ in near_pairs(connection, made + made)}
    assert {len(made) + number for number, text in enumerate(made) if runs(text)} <= found


def test_held_out_texts_nearly_like_one_of_training_are_found() -> None:
    made = texts(600, 3)
    sets = [runs(text) for text in made]
    wanted = {one for one in range(0, 600, 3)
              if any(other % 3 and similarity(sets[one], sets[other]) >= 0.8 for other in range(600))}  # fmt: skip
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE made AS SELECT unnest($1::VARCHAR[]) AS text, unnest(range(600)) AS number", [made]
        )
        found = near_matches(connection, "SELECT number, number % 3 = 0 AS held_out, text FROM made")
    assert len(wanted) > 50
    assert found <= wanted
    assert len(wanted - found) <= len(wanted) * 0.02


BOT = (
    "I am a bot, and this action was performed automatically. Please contact the moderators of {} if you have any"
    " questions or concerns about the rules, which are listed beside this page for everybody to read before they write."
)


def rank(
    tmp_path: Path, choice: NearDuplicates, shards: int = 1
) -> tuple[dict[str, int], list[str], list[tuple[str, str]]]:
    rows = []
    for number in range(6):
        rows.append(
            {"id": f"q{number}", "conversation_id": f"q{number}", "reply_to": None, "text": f"Question {number}"}
        )
        for reply, text in enumerate(
            [BOT.format(f"forum{number}"), "Thank you so much!", f"Only {number} has this answer to its own question"]
        ):
            rows.append({"id": f"q{number}r{reply}", "conversation_id": f"q{number}", "reply_to": f"q{number}",
                         "text": text})  # fmt: skip
        rows.append({"id": f"q{number}rr", "conversation_id": f"q{number}", "reply_to": f"q{number}r0", "text": "good"})
    complete = [{"speaker": "ann", "score": 1, "timestamp": number, **row} for number, row in enumerate(rows)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in complete))
    out = tmp_path / choice
    write_utterances(tmp_path / "rows.jsonl", out / "utterances", UtteranceSettings(shards=shards))
    counts = write_ranked_replies(out / "utterances", out / "ranked", RankingSettings(near_duplicates=choice))
    ranked = [id for (id,) in read(out / "ranked", "ranked_replies.parquet", "id")]
    return counts, sorted(ranked), sorted(read(out / "ranked", "dropped.parquet", "id, reason"))


@pytest.mark.parametrize("shards", [1, 3])
def test_the_first_of_near_duplicates_stays_and_short_replies_do(tmp_path: Path, shards: int) -> None:
    counts, ranked, dropped = rank(tmp_path, "drop", shards)
    assert counts["near_duplicates"] == 5
    assert counts["dropped.near_duplicate"] == 10
    gone = [(f"q{number}{reply}", "near_duplicate") for number in range(1, 6) for reply in ("r0", "rr")]
    assert dropped == gone
    assert len(ranked) == 24 - 10
    assert all(f"q{number}r1" in ranked for number in range(6))


def test_near_duplicates_are_counted_or_not_looked_for(tmp_path: Path) -> None:
    counts, ranked, dropped = rank(tmp_path, "count")
    kept, same, none = rank(tmp_path, "keep")
    assert counts == kept | {"near_duplicates": 5, "near_duplicates.compared": 6 + 6}
    assert (ranked, dropped) == (same, none) == (same, [])
