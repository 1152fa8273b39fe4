"""Replies ranked by something else than their votes: their replies, or a column that was carried from the source."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.corpus.settings import CorpusSettings, UtteranceSettings
from adc_pipeline.corpus.source import check_source, fetch
from adc_pipeline.corpus.utterances import write_utterances
from adc_pipeline.ranking.ranked_replies import write_ranked_replies
from adc_pipeline.ranking.settings import RankingSettings
from adc_pipeline_tests import trees
from adc_pipeline_tests.corpus.test_layouts import FLAT, Record, Write, json_lines, message
from adc_pipeline_tests.stages import read, read_utterances

# id, parent, votes and a label
THREAD: list[tuple[str, str | None, int, str | None]] = [
    ("r", None, 9, None),
    ("a", "r", 5, "0.25"),
    ("b", "r", 7, "false"),
    ("c", "r", 1, "1"),
    ("d", "r", 1, None),
    ("e", "a", 1, "TRUE"),
    ("f", "c", 1, "-2"),
    ("g", "c", 1, "2.5"),
    ("h", "f", 1, "3"),
    ("i", "d", 1, "3"),
]  # fmt: skip


def ranked(folder: Path, columns: dict[str, str], shards: int = 1, **ranking: Any) -> dict[str, list[tuple[str, int]]]:
    """The replies to each utterance of the corpus in `folder`, in their order, each with its value."""
    source = CorpusSettings(str(folder), columns=columns)
    check_source(source)
    made = folder.with_name(f"made-{len(list(folder.parent.iterdir()))}")
    made.mkdir()
    fetch(source, {}, made / "corpus")
    split = UtteranceSettings(max_set_aside=0, shards=shards)
    write_utterances(made / "corpus", made / "utterances", split, source=source)
    write_ranked_replies(made / "utterances", made / "ranked", RankingSettings(**ranking))
    rows = sorted(read(made / "ranked", "ranked_replies.parquet", "reply_to, rank, id, score"))
    found: dict[str, list[tuple[str, int]]] = {}
    for parent, _, id, value in rows:
        found.setdefault(parent, []).append((id, value))
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "site").mkdir()
    return tmp_path / "site"


@pytest.fixture
def thread(folder: Path) -> Path:
    json_lines(
        folder / "table.jsonl",
        [
            {"id": id, "conversation_id": "r", "reply_to": parent, "speaker": "s", "text": id, "score": votes,
             "timestamp": number, "mark": label}
            for number, (id, parent, votes, label) in enumerate(THREAD)
        ],
    )  # fmt: skip
    return folder


@pytest.mark.slow
def test_by_replies_and_by_depth(thread: Path) -> None:
    assert ranked(thread, {}, rank_by="replies")["r"] == [("c", 2), ("a", 1), ("d", 1), ("b", 0)]
    found = ranked(thread, {}, shards=2, rank_by="depth")
    assert found["r"] == [("c", 2), ("a", 1), ("d", 1), ("b", 0)]
    assert found["c"] == [("f", 1), ("g", 0)]
    assert ranked(thread, {}, rank_by="replies", score_order="lower")["r"][0] == ("b", 0)
    assert ranked(thread, {}, rank_by="replies", min_score=1)["r"] == [("c", 2), ("a", 1), ("d", 1)]


def test_by_a_column_with_fractions_and_without_values(thread: Path) -> None:
    found = ranked(thread, {"quality": "mark"}, rank_by="quality")
    assert found["r"] == [("c", 1_000_000), ("a", 250_000), ("b", 0)], "d has no value"
    assert found["c"] == [("g", 2_500_000), ("f", -2_000_000)]
    assert "d" not in found


@pytest.mark.parametrize(
    ("columns", "rank_by", "sentence"),
    [
        ({}, "quality", "rank_by names quality, which is no column of utterances"),
        ({"quality": "mark"}, "qualty", r"did you mean quality\?"),
        ({"quality": "nothing"}, "quality", "No utterance has a number, true or false in the column quality"),
        ({"rank": "mark"}, "rank", "maps rank, which is a name of the pipeline's own"),
        ({'q"; DROP': "mark"}, "x", "no utterance has"),
    ],
)
def test_a_column_that_is_not_there_is_named(
    thread: Path, columns: dict[str, str], rank_by: str, sentence: str
) -> None:
    with pytest.raises(PipelineError, match=sentence):
        ranked(thread, columns, rank_by=rank_by)


def post(id: int, kind: int, parent: int | None, score: int, accepted: int | None = None) -> Record:
    return {
        "Id": id, "PostTypeId": kind, "ParentId": parent, "Score": score, "Body": "words", "OwnerUserId": id,
        "CreationDate": f"2020-01-0{id}T00:00:00.000", "Title": "Title", "AcceptedAnswerId": accepted,
    }  # fmt: skip


@pytest.mark.parametrize("write", [FLAT[0], *FLAT[2:]])
def test_the_accepted_answer_of_stack_exchange_is_above_its_siblings(folder: Path, write: Write) -> None:
    posts = [post(1, 1, None, 3, 4), post(2, 2, 1, 9), post(3, 2, 1, 11), post(4, 2, 1, 0)]
    write(folder / "posts", [*posts, post(5, 1, None, 3), post(6, 2, 5, 1), post(7, 2, 5, 2)])
    found = ranked(folder, {"accepted_reply": "AcceptedAnswerId"}, rank_by="accepted_reply")
    assert found == {"1": [("4", 1), ("3", 0), ("2", 0)], "5": [("7", 0), ("6", 0)]}


@pytest.mark.parametrize(
    "labels",
    [
        lambda value: {"quality": {"value": value, "count": 3}},
        lambda value: {"name": ["spam", "quality"], "value": [0.0, value], "count": [3, 3]},
    ],
)
@pytest.mark.parametrize("write", [FLAT[0], FLAT[3]])
def test_labels_of_open_assistant(folder: Path, write: Write, labels: Any) -> None:
    messages = [message("1", None, None, "prompter"), message("2", "1", 0), message("3", "1", 1)]
    marks = {"1": 0.1, "2": 0.25, "3": 0.75}
    write(folder / "messages", [each | {"labels": labels(marks[each["message_id"]])} for each in messages])
    found = ranked(folder, {"quality": "labels.quality"}, rank_by="quality")
    assert found == {"1": [("3", 750_000), ("2", 250_000)]}


def test_a_field_of_reddit_and_of_convokit(folder: Path) -> None:
    lines = [
        {"id": "p", "title": "T", "selftext": "", "author": "x", "created_utc": 1, "score": 5, "subreddit": "s"},
        *({"id": f"c{n}", "link_id": "t3_p", "parent_id": "t3_p", "body": "b", "author": "y", "created_utc": n,
           "score": n, "subreddit": "s", "gilded": 3 - n} for n in range(3)),
    ]  # fmt: skip
    for number in range(2):
        (folder / f"{number}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = ranked(folder, {"gold": "gilded"}, rank_by="gold")
    assert found["p"] == [("c0", 3), ("c1", 2), ("c2", 1)]

    corpus = folder.with_name("convokit")
    corpus.mkdir()
    utterances = [
        {"id": id, "conversation_id": "r", "reply_to": parent, "speaker": "s", "text": "words", "timestamp": 1,
         "meta": {"score": votes, "mark": label, "subreddit": "here"}}
        for id, parent, votes, label in THREAD
    ]  # fmt: skip
    (corpus / "utterances.jsonl").write_text("".join(json.dumps(u) + "\n" for u in utterances))
    for name in ("speakers.json", "conversations.json", "corpus.json", "index.json"):
        (corpus / name).write_text("{}")
    found = ranked(corpus, {"quality": "meta.mark"}, rank_by="quality")
    assert [id for id, _ in found["r"]] == ["c", "a", "b"]
    made = max(corpus.parent.glob("made-*"), key=lambda path: int(path.name.removeprefix("made-")))
    assert read_utterances(made / "utterances", "quality, source", "id = 'a'") == [("0.25", "here")]


@pytest.mark.slow
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(corpus=trees.corpora(), rank_by=st.sampled_from(["replies", "depth"]))
def test_replies_and_depth_equal_a_slow_count(corpus: trees.Corpus, rank_by: str) -> None:
    with TemporaryDirectory() as place:
        utterances, out = Path(place) / "utterances", Path(place) / "ranked"
        write_utterances(corpus.write(Path(place) / "corpus"), utterances, UtteranceSettings(max_set_aside=1.0))
        write_ranked_replies(utterances, out, RankingSettings(rank_by=rank_by))
        tree = read_utterances(utterances, "position, parent_position")
        below = {position: [child for child, parent in tree if parent == position] for position, _ in tree}

        def depth(position: int) -> int:
            return max((1 + depth(child) for child in below[position]), default=0)

        for position, value in read(out, "ranked_replies.parquet", "position, score"):
            assert value == (depth(position) if rank_by == "depth" else len(below[position]))
