"""A version that was updated has the bytes of a build from nothing, whatever changed: files added, altered or removed.

Each example is a corpus of several Reddit dumps with every fault that crosses files: ids twice, parents in other
conversations and in none, replies without a conversation, conversations of several files. 3 s of CPU an example.
"""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from adc_pipeline.core.engine import Engine
from adc_pipeline.core.shards import Counts
from adc_pipeline.corpus import changes, readings
from adc_pipeline.corpus.changes import CHANGED, SINCE, moved
from adc_pipeline.corpus.kept_rows import KEPT
from adc_pipeline.corpus.opening.recorded_files import FILES, record_files
from adc_pipeline.corpus.settings import CorpusSettings, UtteranceSettings
from adc_pipeline.corpus.source import fetch
from adc_pipeline.corpus.utterances import write_utterances
from adc_pipeline.ranking import near_duplicates, ranked_replies
from adc_pipeline.ranking.near_duplicates import NEAR
from adc_pipeline.ranking.ranked_replies import write_ranked_replies
from adc_pipeline.walks.datasets import Previous, write_walks
from adc_pipeline.walks.settings import WalkSettings

KINDS = ("top-2", "random-walk")
TEXTS = ("a", "[deleted]", "", "b <accepted> c", "é &amp; d", "one two three")
Months = dict[str, list[str]]


def drawn_months(draw: random.Random) -> Months:
    """Return dumps by name, of which most rows are in order and some are not."""
    posts = [f"p{number}" for number in range(12)]
    ids = [f"c{number}" for number in range(40)]
    months: Months = {}
    for month in range(draw.randint(3, 6)):
        rows: list[Any] = []
        for post in draw.sample(posts, draw.randint(0, 4)):
            rows.append({"id": post, "title": draw.choice(TEXTS), "selftext": draw.choice(TEXTS)})
        for id in draw.choices(ids, k=draw.randint(0, 14)):
            link = draw.choice(posts)
            parent = draw.choice([f"t3_{link}", f"t1_{draw.choice(ids)}", f"t3_{draw.choice(posts)}", "t1_none"])
            rows.append({"id": id, "body": draw.choice(TEXTS), "link_id": f"t3_{link}", "parent_id": parent})
        for row in rows:
            row |= {"author": draw.choice(["ann", "bob", "AutoModerator"]), "score": draw.choice([None, 1, 2, 3])}
            row |= {
                "created_utc": 1_500_000_000 + draw.randint(0, 9),
                "retrieved_on": draw.choice([None, 1_500_009_999]),
            }
            if draw.random() < 0.1:
                row.pop(draw.choice(["link_id", "parent_id", "id"]), None)
        # A name of its own in each, since files with the same rows would be the same file.
        rows.append({"id": f"m{month}", "title": f"month {month}", "selftext": "", "author": "x", "score": 1})
        draw.shuffle(rows)
        months[f"RC_{month:02}.jsonl"] = [json.dumps(row) for row in rows]
        if draw.random() < 0.2:
            months[f"RC_{month:02}.jsonl"].append('{"broken')
    return months


def altered(months: Months, draw: random.Random) -> Months:
    """Return the dumps with one added, one removed, or rows of one removed or moved to the end."""
    now = dict(months)
    name = draw.choice(sorted(months))
    match draw.choice(["add", "before", "remove", "rows", "order", "nothing"]):
        case "add":
            now["RC_50.jsonl"] = drawn_months(draw)["RC_01.jsonl"]
        case "before":
            now["RC_-1.jsonl"] = drawn_months(draw)["RC_01.jsonl"]
        case "remove":
            del now[name]
        case "rows":
            now[name] = draw.sample(now[name], max(1, len(now[name]) - 2))
        case "order":
            now[name] = now[name][1:] + now[name][:1]
    return now


def build(
    folder: Path,
    months: Months,
    shards: int,
    before: tuple[Path, dict[str, Counts]] | None = None,
    engine: Engine | None = None,
) -> dict[str, Counts]:
    """Make both datasets of walks; return the counts by stage."""
    (folder / "source").mkdir(parents=True)
    for name, rows in months.items():
        (folder / "source" / name).write_text("\n".join(rows) + "\n")
    source, engine = CorpusSettings(str(folder / "source"), format="dump"), engine or Engine(threads=1)
    corpus = folder / "raw" / "corpus"
    corpus.parent.mkdir()
    fetch(source, {}, corpus)
    record_files(corpus, corpus.with_name(FILES))
    utterances, ranked = folder / "utterances", folder / "ranked"
    old, counts_before = before or (None, {})
    settings = UtteranceSettings(shards=shards, max_set_aside=1.0)
    counts = {
        "utterances": write_utterances(
            corpus, utterances, settings, engine, source, previous=old / "utterances" if old else None
        ),
        "ranked": write_ranked_replies(utterances, ranked, engine=engine, previous=old / "ranked" if old else None),
    }
    for kind in KINDS:
        previous = Previous(old / kind, counts_before[kind]) if old else None
        walks = WalkSettings(walks_per_conversation=2, speakers="pseudonyms")
        counts[kind] = write_walks(kind, utterances, ranked, folder / kind, walks, engine, previous=previous)
    return counts


def content(folder: Path) -> dict[str, bytes]:
    """Return the files of all stages by path, but for what only says how they were made."""
    files = (path for path in folder.rglob("*") if path.is_file())
    names = ((path, path.relative_to(folder).parts) for path in files)
    return {
        "/".join(parts): path.read_bytes()
        for path, parts in names
        if parts[0] not in ("source", "raw") and not {CHANGED, SINCE, KEPT, NEAR} & set(parts)
    }


@pytest.mark.parametrize(
    ("seed", "shards"),
    [(1, 1), *(pytest.param(seed, shards, marks=pytest.mark.slow) for seed in (2, 3) for shards in (1, 3))],
)
def test_an_updated_version_has_the_bytes_of_a_build_from_nothing(
    seed: int, shards: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_update(seed, shards, tmp_path, monkeypatch)


def check_update(seed: int, shards: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "MOST_CHANGED", 0.99)
    # Small files are read together, and kept together.
    monkeypatch.setattr(readings, "SMALL_FILE", 0)
    monkeypatch.setattr(near_duplicates, "COUNTED_ROWS", 10)
    draw = random.Random(seed)
    months = drawn_months(draw)
    old, now, whole = folder / "old", folder / "now", folder / "whole"
    counts = build(old, months, shards)
    months = altered(months, draw)
    updated = build(now, months, shards, (old, counts))
    assert build(whole, months, shards) == updated
    assert content(now) == content(whole)
    # Some files are kept by every change, and so are their trees, if namespaces and kinds of ids are the same.
    assert (now / "utterances" / SINCE).exists() == (now / "ranked" / SINCE).exists()


@pytest.mark.parametrize("late", ["RC_99.jsonl", "RC_-1.jsonl"])
def test_near_duplicates_are_counted_again_only_where_others_are_compared(
    late: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readings, "SMALL_FILE", 0)
    monkeypatch.setattr(near_duplicates, "COUNTED_ROWS", 10)
    post: dict[str, Any] = {"id": "p", "title": "t", "selftext": "", "author": "a", "score": 1, "created_utc": 1}

    def comments(month: int, post_id: str = "p") -> list[str]:
        text = "one text of many words that others copied from each other word for word without a thought of their own"
        link = {"link_id": f"t3_{post_id}", "parent_id": f"t3_{post_id}"}
        return [json.dumps(post | link | {"id": f"{post_id}{month}{n}", "body": f"{text} {n // 2}"}) for n in range(12)]

    posts = [json.dumps(post), json.dumps(post | {"id": "q"})]
    # The late file touches one of two conversations.
    months = {"RC_01.jsonl": [*posts, *comments(1), *comments(1, "q")], "RC_02.jsonl": comments(2)}
    before = build(tmp_path / "old", months, 1)
    assert before["ranked"]["near_duplicates"] > 0
    months[late] = comments(9)
    counted: list[Path] = []
    count = ranked_replies.write_near_duplicates

    def counting(utterances: Path, path: Path, *others: Any) -> None:
        counted.append(path)
        count(utterances, path, *others)

    monkeypatch.setattr(ranked_replies, "write_near_duplicates", counting)
    merged: dict[str, bool] = {}
    alike = changes.same_declarations

    def told(previous: Path, before: Path, now: Path) -> bool:
        return merged.setdefault(now.name, alike(previous, before, now))

    monkeypatch.setattr(changes, "same_declarations", told)
    now = build(tmp_path / "now", months, 1, (tmp_path / "old", before))
    assert len(counted) == (late == "RC_-1.jsonl")
    assert merged["ranked_replies.parquet"]
    assert now == build(tmp_path / "whole", months, 1)


def test_positions_move_with_their_files() -> None:
    runs = [(0, 5, 0), (8, 10, -3), (10, 12, 4)]
    import duckdb

    def at(position: int, back: bool = False) -> int:
        ((found,),) = duckdb.execute(f"SELECT {moved(runs, str(position), back)}").fetchall()
        return int(found)

    there = {0: 0, 4: 4, 8: 5, 9: 6, 10: 14, 11: 15}
    assert {position: at(position) for position in there} == there
    assert {at(now, back=True) for now in there.values()} == set(there)
