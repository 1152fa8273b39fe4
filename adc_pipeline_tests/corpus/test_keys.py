"""One id may name two utterances: of two sites, or a post and a comment. And what is counted apart from DuckDB."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from adc_pipeline.corpus.readers.convokit import titles
from adc_pipeline.corpus.settings import CorpusSettings, UtteranceSettings
from adc_pipeline.corpus.source import fetch
from adc_pipeline.corpus.titles import BATCH
from adc_pipeline.corpus.utterances import write_utterances
from adc_pipeline.ranking.ranked_replies import write_ranked_replies
from adc_pipeline.walks.datasets import write_walks
from adc_pipeline.walks.files import split_file
from adc_pipeline.walks.settings import WalkSettings
from adc_pipeline.walks.splits import SPLITS
from adc_pipeline_tests.corpus.test_dumps import COMMENT, SUBMISSION, line
from adc_pipeline_tests.stages import read, read_utterances
from adc_pipeline_tests.trees import Corpus, Row

SHARDS = pytest.mark.parametrize("shards", [1, 3])


def read_corpus(folder: Path, sources: Sequence[Path], shards: int = 1) -> dict[str, int]:
    """Read the sources of one run into `folder/out`; return the counts."""
    settings = CorpusSettings(corpus=",".join(map(str, sources)))
    (folder / "raw").mkdir()
    fetch(settings, {}, folder / "raw" / "corpus")
    read_settings = UtteranceSettings(max_set_aside=1.0, shards=shards)
    return write_utterances(folder / "raw" / "corpus", folder / "out", read_settings, source=settings)


def parents(folder: Path) -> dict[str, str | None]:
    """The text of what each utterance answers, by its own text."""
    rows = read_utterances(folder / "out", "position, text, parent_position")
    texts = {position: text for position, text, _ in rows}
    return {text: texts.get(parent) for _, text, parent in rows}


def site(path: Path, name: str) -> Path:
    """A table of one question and two answers, whose ids begin at 1 as on every site."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "conversation_id", "reply_to", "speaker", "text", "score"])
        writer.writerows([id, 1, id - 1 or "", "ann", f"{name} {id}", id] for id in (1, 2, 3))
    return path


@pytest.mark.parametrize(
    ("rows", "roots"),
    [
        ([(1, 1, 0), (2, 1, 1), (4, 4, 0), (5, 4, 4)], 2),
        ([(1, 1, "-1"), (2, 1, "1.0"), (4, 4, "-1.0"), (5, 4, 4)], 2),
        # An utterance has the id.
        ([(0, 0, ""), (1, 0, 0), (2, 0, 0), (3, 0, 1)], 1),
        ([(0, 0, -1), (1, 0, 0), (2, 0, 1), (3, 0, 1)], 1),
        ([(1, 1, "root"), (2, 1, 1), (3, 1, 9), (4, 4, "root")], 2),
        ([(1, 1, "-"), (2, 1, 1), (4, 4, "-"), (5, 4, "undefined")], 2),
        ([("root", "root", ""), (1, "root", "root"), (2, "root", 1), (3, "root", "root")], 1),
        # Or it lies outside.
        ([(1, 0, 0), (2, 0, 0), (4, 4, ""), (5, 4, 4)], 1),
    ],
    ids=["0", "-1", "an id", "both", "root", "words", "root as an id", "outside"],
)
def test_0_and_root_are_no_parents_unless_an_utterance_has_that_id(tmp_path: Path, rows: list[Any], roots: int) -> None:
    table = "id,conversation_id,reply_to,text,score\n" + "".join(f"{a},{b},{c},text {a},1\n" for a, b, c in rows)
    (tmp_path / "table.csv").write_text(table)
    counts = read_corpus(tmp_path, [tmp_path / "table.csv"])
    lost = sum(number for name, number in counts.items() if name.startswith("set_aside."))
    assert (counts["roots"], counts["taking_part"], counts["set_aside"]) == (roots, 4 - lost, lost)
    assert not counts["adopted_roots"]
    answered = dict(read_utterances(tmp_path / "out", "id, reply_to"))
    assert sum(reply_to is None for reply_to in answered.values()) == roots


@pytest.mark.parametrize(
    ("rows", "lost"),
    [
        ("p1,T9,\nc1,T9,T9\nc2,T9,c1\np2,T8,0\nc3,T8,T8\nc4,T8,p2", ""),
        # One thread of several lacks its root, and is as incomplete as before.
        ("p1,T9,\nc1,T9,T9\nc2,T8,T8\nc3,T8,T8", "root_outside"),
        # An excerpt, in which one row lacks its parent; and threads that are named by their roots.
        ("c1,T9,T9\nc2,T9,T9\nc3,T8,T8\nc4,T8,T8\nc5,T7,\nc6,T7,T7", "root_outside missing_parent"),
        ("T8,T8,\nc1,T8,T8\nc2,T9,\nc3,T9,T9", "missing_parent"),
        # An utterance has the number of a thread.
        ("1,2,\n2,1,\n3,2,2\n4,1,1", "other_conversation"),
    ],
    ids=["apart", "a root is missing", "excerpt", "named by roots", "same numbers"],
)
def test_who_answers_a_thread_that_is_numbered_apart_answers_its_root(tmp_path: Path, rows: str, lost: str) -> None:
    table = "id,conversation_id,reply_to,text,score\n" + "".join(f"{row},text,1\n" for row in rows.split("\n"))
    (tmp_path / "table.csv").write_text(table)
    counts = read_corpus(tmp_path, [tmp_path / "table.csv"])
    assert {name for name in counts if name.startswith("set_aside.")} == {f"set_aside.{name}" for name in lost.split()}
    parents = dict(read_utterances(tmp_path / "out", "id, parent_position"))
    if not lost:
        assert parents == {"p1": None, "c1": 0, "c2": 1, "p2": None, "c3": 3, "c4": 3}


@pytest.mark.slow
@SHARDS
def test_ids_of_two_sites_do_not_meet(tmp_path: Path, shards: int) -> None:
    sites = [site(tmp_path / f"{name}.csv", name) for name in ("garden", "harbour")]
    counts = read_corpus(tmp_path, sites, shards)
    assert (counts["read"], counts["taking_part"], counts["roots"], counts["records"]) == (6, 6, 2, 6)
    tree = {
        f"{name} {id}": f"{name} {id - 1}" if id > 1 else None for name in ("garden", "harbour") for id in (1, 2, 3)
    }
    assert parents(tmp_path) == tree
    assert sorted(read_utterances(tmp_path / "out", "id, source")) == [
        (str(id), name) for id in (1, 2, 3) for name in ("garden", "harbour")
    ]
    write_ranked_replies(tmp_path / "out", tmp_path / "ranked")
    settings = WalkSettings(speakers="pseudonyms")
    write_walks("top-2", tmp_path / "out", tmp_path / "ranked", tmp_path / "walks", settings)
    walks = [
        row for split in SPLITS for row in read(tmp_path / "walks", split_file(split), "conversation_id, source, text")
    ]
    assert [(id, source) for id, source, _ in walks] == [("1", "garden"), ("1", "harbour")]
    assert all(
        source in text and other not in text
        for (_, source, text), other in zip(walks, ("harbour", "garden"), strict=True)
    )


def test_the_files_of_one_folder_are_one_site(tmp_path: Path) -> None:
    whole = site(tmp_path / "whole.csv", "forum").read_text().splitlines(keepends=True)
    (tmp_path / "forum").mkdir()
    (tmp_path / "forum" / "a.csv").write_text(whole[0] + whole[1])
    (tmp_path / "forum" / "b.csv").write_text(whole[0] + "".join(whole[2:]))
    assert read_corpus(tmp_path, [tmp_path / "forum"])["roots"] == 1
    assert parents(tmp_path) == {"forum 1": None, "forum 2": "forum 1", "forum 3": "forum 2"}


@pytest.mark.slow
@pytest.mark.parametrize("order", [("posts", "replies", "other"), ("other", "posts", "replies"), ("replies", "posts")])
def test_a_file_without_roots_belongs_to_the_site_named_before_it(tmp_path: Path, order: Sequence[str]) -> None:
    whole = site(tmp_path / "other.csv", "forum").read_text().splitlines(keepends=True)
    (tmp_path / "posts.csv").write_text(whole[0] + whole[1])
    (tmp_path / "replies.csv").write_text(whole[0] + "".join(whole[2:]))
    site(tmp_path / "other.csv", "other")
    counts = read_corpus(tmp_path, [tmp_path / f"{name}.csv" for name in order])
    assert (counts["roots"], counts["set_aside"]) == (len(order) - 1, 0)
    expected = {"forum 1": None, "forum 2": "forum 1", "forum 3": "forum 2"}
    assert parents(tmp_path).items() >= expected.items()


def test_a_file_without_roots_in_another_folder_stays_alone(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    whole = site(tmp_path / "elsewhere" / "a.csv", "excerpt").read_text().splitlines(keepends=True)
    (tmp_path / "elsewhere" / "a.csv").write_text(whole[0] + "".join(whole[2:]))
    counts = read_corpus(tmp_path, [site(tmp_path / "forum.csv", "forum"), tmp_path / "elsewhere" / "a.csv"])
    assert (counts["taking_part"], counts["roots"], counts["adopted_roots"]) == (5, 2, 1)


def convokit(folder: Path, subreddit: str | None, text: str) -> Path:
    meta = {"score": 1} | ({"subreddit": subreddit} if subreddit else {})
    rows = [
        Row("p1", "p1", None, "ann", f"{text} root", 1, meta),
        Row("c9", "p1", "p1", "bob", f"{text} reply", 2, meta),
    ]
    return Corpus(rows, {"p1": {"title": text}}).write(folder)


@pytest.mark.fast_first
@pytest.mark.parametrize(("subreddit", "roots"), [("fixit", 1), (None, 2)])
def test_two_corpora_meet_if_their_ids_are_reddits(tmp_path: Path, subreddit: str | None, roots: int) -> None:
    sources = [convokit(tmp_path / name, subreddit, name) for name in ("one", "two")]
    counts = read_corpus(tmp_path, sources)
    assert (counts["roots"], counts.get("set_aside.duplicate_id", 0)) == (roots, 4 - 2 * roots)
    titles = [title for (title,) in read(tmp_path / "out", "conversations.parquet", "title")]
    assert sorted(titles) == (["two"] if roots == 1 else ["one", "two"])


@pytest.mark.fast_first
@SHARDS
def test_a_dump_and_a_corpus_of_the_same_thread_are_one_thread(tmp_path: Path, shards: int) -> None:
    (tmp_path / "dump.jsonl").write_bytes(line(SUBMISSION) + line(COMMENT))
    counts = read_corpus(tmp_path, [convokit(tmp_path / "corpus", "fixit", "corpus"), tmp_path / "dump.jsonl"], shards)
    assert (counts["roots"], counts["taking_part"], counts["set_aside.duplicate_id"]) == (1, 3, 1)


@pytest.mark.fast_first
@SHARDS
def test_a_comment_may_have_the_id_of_a_post(tmp_path: Path, shards: int) -> None:
    other = SUBMISSION | {"id": "c1", "selftext": "a post"}
    posts = [SUBMISSION, other]
    comments = [COMMENT, COMMENT | {"id": "d1", "parent_id": "t1_c1", "body": "to the comment"},
                COMMENT | {"id": "d2", "link_id": "t3_c1", "parent_id": "t3_c1", "body": "to the post"}]  # fmt: skip
    (tmp_path / "dumps").mkdir()
    (tmp_path / "dumps" / "RS").write_bytes(b"".join(map(line, posts)))
    (tmp_path / "dumps" / "RC").write_bytes(b"".join(map(line, comments)))
    counts = read_corpus(tmp_path, [tmp_path / "dumps"], shards)
    assert (counts["taking_part"], counts["roots"], counts["set_aside"]) == (5, 2, 0)
    assert parents(tmp_path) == {
        "it hums": None, "a post": None, "the fuse": "it hums", "to the comment": "the fuse", "to the post": "a post",
    }  # fmt: skip


def test_an_entry_of_a_list_of_subreddits_is_no_utterance(tmp_path: Path) -> None:
    entry: dict[str, Any] = {"id": "p1", "name": "t5_p1", "title": "Kettles", "created_utc": 1}
    (tmp_path / "dump.jsonl").write_bytes(line(SUBMISSION) + line(COMMENT) + line(entry))
    counts = read_corpus(tmp_path, [tmp_path / "dump.jsonl"])
    assert (counts["roots"], counts["set_aside.not_an_utterance"]) == (1, 1)


def test_a_link_names_the_source(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "links").mkdir()
    site(tmp_path / "blobs" / "59da66", "attic")
    (tmp_path / "links" / "attic.csv").symlink_to(tmp_path / "blobs" / "59da66")
    read_corpus(tmp_path, [tmp_path / "links"])
    assert set(read_utterances(tmp_path / "out", "source")) == {("attic",)}


# --- Titles, and counts apart from DuckDB -------------------------------------------------------------


@pytest.mark.fast_first
@pytest.mark.parametrize(
    ("entry", "title"),
    [
        ({"meta": {"title": "Half \ud83d a sign"}}, "Half \ufffd a sign"),
        ({"meta": {"title": "Whole \U0001f600 sign", "flair": "\ud83d"}}, "Whole \U0001f600 sign"),
        ({"meta": {"title": "The long one", "notes": "x" * 40_000_000}}, "The long one"),
        ({"title": "Beside meta"}, "Beside meta"),
        ({"meta": {"title": None}, "title": "Either"}, "Either"),
        ({"meta": {"title": ["a", 1]}}, '["a",1]'),
        ({"meta": None}, None),
    ],
    ids=lambda value: str(value)[:40],
)
def test_titles_are_read_whatever_else_an_entry_holds(
    tmp_path: Path, entry: Mapping[str, Any], title: str | None
) -> None:
    corpus = Corpus([Row("r", "r", None, "ann", "text", 1, {"score": 1})]).write(tmp_path / "corpus")
    (corpus / "conversations.json").write_text(json.dumps({"r": entry, "s": 7}))
    counts = write_utterances(corpus, tmp_path / "out")
    assert read_utterances(tmp_path / "out", "title") == [(title,)]
    assert counts["titles_unreadable"] == 1


@pytest.mark.parametrize(
    ("entry", "title", "unreadable"),
    [
        (b'{"title": "caf\xe9 "}', "caf\ufffd ", 1),
        (b'{"meta": {"title": "T", "subreddit": "caf\xe9 "}}', "T", 1),
        (b'{"title": "T", "flair": "caf\xe9 "}', "T", 0),
        ('{"title": "café"}'.encode(), "café", 0),
    ],
)
def test_titles_that_are_no_utf_8_are_counted(tmp_path: Path, entry: bytes, title: str, unreadable: int) -> None:
    (tmp_path / "conversations.json").write_bytes(b'{"r": ' + entry + b"}")
    found = list(titles(tmp_path))
    assert [each.title for each in found if each] == [title]
    assert found.count(None) == unreadable


@pytest.mark.slow
def test_of_two_entries_of_a_conversation_the_last_holds_however_far_apart(tmp_path: Path) -> None:
    corpus = Corpus([Row("r", "r", None, "ann", "text", 1, {"score": 1})]).write(tmp_path / "corpus")
    others = ", ".join(f'"c{number}": {{}}' for number in range(BATCH))
    (corpus / "conversations.json").write_text(f'{{"r": {{"title": "first"}}, {others}, "r": {{"title": "last"}}}}')
    write_utterances(corpus, tmp_path / "out")
    assert read_utterances(tmp_path / "out", "title") == [("last",)]


@pytest.mark.fast_first
@pytest.mark.parametrize("filler", [b"", b"\n\n", b" \t\r\n", b"{bad}\n", b'{"id": "' + b"x" * (17 << 20) + b'"}\n'])
def test_records_are_counted_as_they_are_read(tmp_path: Path, filler: bytes) -> None:
    dump = tmp_path / "dump.jsonl"
    dump.write_bytes(line(SUBMISSION) + filler + line(COMMENT).rstrip())
    counts = read_corpus(tmp_path, [dump])
    assert counts["records"] == counts["read"] == 2 + bool(filler.strip())


def test_a_time_that_cannot_be_read_is_counted(tmp_path: Path) -> None:
    times = ["soon", "2020-01-01", None, "nan", 7]
    (tmp_path / "dump.jsonl").write_bytes(
        line(SUBMISSION) + b"".join(line(COMMENT | {"id": f"c{n}", "created_utc": t}) for n, t in enumerate(times))
    )
    assert read_corpus(tmp_path, [tmp_path / "dump.jsonl"])["times_unreadable"] == 1
