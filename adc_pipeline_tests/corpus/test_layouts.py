"""Known layouts are recognised by their fields, whatever they come in, and read as what they mean."""

import bz2
import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch
from xml.sax.saxutils import quoteattr

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.corpus.parts import read_record
from adc_pipeline.corpus.readers.xml import records as rows_of_xml
from adc_pipeline.corpus.settings import CorpusSettings, UtteranceSettings
from adc_pipeline.corpus.source import check_source, fetch
from adc_pipeline.corpus.utterances import write_utterances
from adc_pipeline.ranking.ranked_replies import refuse_to_turn_round
from adc_pipeline.ranking.settings import RankingSettings
from adc_pipeline_tests.stages import read_utterances

Record = dict[str, Any]
# id, what is answered, speaker, text, time, score, title
Read = tuple[str, str | None, str, str, int | None, int | None, str | None]


def json_lines(path: Path, records: list[Record]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def comma_separated(path: Path, records: list[Record]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(records[0]))
        writer.writeheader()
        writer.writerows(records)


def parquet(path: Path, records: list[Record]) -> None:
    pq.write_table(pa.Table.from_pylist(records), path)


def arrow(path: Path, records: list[Record]) -> None:
    table = pa.Table.from_pylist(records)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def feather(path: Path, records: list[Record]) -> None:
    table = pa.Table.from_pylist(records)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def gzipped(path: Path, records: list[Record]) -> None:
    path.write_bytes(gzip.compress("".join(json.dumps(record) + "\n" for record in records).encode()))


Write = Callable[[Path, list[Record]], None]
FLAT: list[Write] = [json_lines, gzipped, comma_separated, parquet, arrow, feather]
NESTED: list[Write] = [json_lines, gzipped, parquet, arrow, feather]


def counts_of(folder: Path) -> dict[str, int]:
    """The counts of the corpus in `folder`, whatever is set aside."""
    settings, made = CorpusSettings(str(folder)), folder.with_name("made")
    made.mkdir()
    fetch(settings, {}, made / "corpus")
    return write_utterances(made / "corpus", made / "out", UtteranceSettings(max_set_aside=1), source=settings)


def read(folder: Path, columns: dict[str, str] | None = None) -> list[Read]:
    """The utterances of the corpus in `folder`, none of which may be set aside, ordered by time."""
    settings = CorpusSettings(str(folder), columns=columns or {})
    check_source(settings)
    made = folder.with_name("made")
    made.mkdir()
    fetch(settings, {}, made / "corpus")
    counts = write_utterances(made / "corpus", made / "out", UtteranceSettings(max_set_aside=0), source=settings)
    assert counts["set_aside"] == 0
    rows = read_utterances(made / "out", "id, reply_to, speaker, text, timestamp, score, title")
    return sorted(rows, key=lambda row: row[4])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "site").mkdir()
    return tmp_path / "site"


def message(number: str, parent: str | None, rank: int | None, role: str = "assistant", **more: Any) -> Record:
    """A message of OpenAssistant's trees."""
    return {
        "message_id": number, "parent_id": parent, "user_id": f"u{number}", "text": f"message {number}", "role": role,
        "created_date": f"2023-02-05T14:0{number}:00Z", "rank": rank, "message_tree_id": "1", "deleted": False,
    } | more  # fmt: skip


@pytest.mark.fast_first
@pytest.mark.parametrize("write", FLAT)
def test_open_assistant_where_the_lowest_rank_is_the_best(folder: Path, write: Write) -> None:
    records = [
        message("1", None, None, "prompter"), message("2", "1", 1), message("3", "1", 0), message("4", "3", None),
        message("5", "1", 2, deleted=True),
    ]  # fmt: skip
    write(folder / "messages", records)
    rows = read(folder)
    assert [(row[0], row[1], row[5]) for row in rows] == [
        ("1", None, None), ("2", "1", -1), ("3", "1", 0), ("4", "3", 0), ("5", "1", -2),
    ]  # fmt: skip
    assert rows[0] == ("1", None, "u1", "message 1", 1675605660, None, None)
    assert rows[4][3] == "[deleted]"
    negated = read_record(folder.with_name("made") / "corpus")["lower_is_better"]
    assert negated == ["OpenAssistant messages"]
    with pytest.raises(PipelineError, match="leave the setting score_order at higher"):
        refuse_to_turn_round(RankingSettings(score_order="lower"), negated, [])
    refuse_to_turn_round(RankingSettings(), negated, [])
    refuse_to_turn_round(RankingSettings(score_order="lower"), [], [])


@pytest.mark.fast_first
@pytest.mark.parametrize("write", [json_lines, gzipped])
@pytest.mark.parametrize("says_parent", [True, False])
def test_open_assistant_as_trees(folder: Path, write: Write, says_parent: bool) -> None:
    records = [message("1", None, None, "prompter"), message("2", "1", 1), message("3", "1", 0), message("4", "3", 0)]
    for record in records:
        del record["message_tree_id"]
        if not says_parent:
            del record["parent_id"]
    first, second, third, fourth = records
    first["replies"], third["replies"], second["replies"] = [second, third], [fourth], []
    write(folder / "trees", [{"message_tree_id": "1", "tree_state": "ready_for_export", "prompt": first}])
    assert [(row[0], row[1], row[5]) for row in read(folder)] == [
        ("1", None, None), ("2", "1", -1), ("3", "1", 0), ("4", "3", 0),
    ]  # fmt: skip


def xml(path: Path, root: str, records: list[Record]) -> None:
    rows = (" ".join(f"{name}={quoteattr(str(value))}" for name, value in record.items()) for record in records)
    path.write_text(f'<?xml version="1.0"?>\n<{root}>\n' + "".join(f"  <row {row} />\n" for row in rows) + f"</{root}>")


POSTS: list[Record] = [
    {"Id": 1, "PostTypeId": 1, "Title": "Why loud?", "CreationDate": "2015-03-01T08:00:00.000", "Score": 5,
     "Body": "<p>At dusk &amp; dawn.</p>", "OwnerUserId": 40},
    {"Id": 2, "PostTypeId": 2, "ParentId": 1, "CreationDate": "2015-03-02T08:00:00.000", "Score": 7,
     "Body": "<p>They <b>fan</b>.</p>\n<pre><code>a  b\n</code></pre>", "OwnerDisplayName": "ann"},
]  # fmt: skip
COMMENTS: list[Record] = [
    {"Id": 2, "PostId": 2, "Score": 1, "Text": "Really?", "CreationDate": "2015-03-03T08:00:00.000", "UserId": 41},
    {"Id": 1, "PostId": 1, "Score": 0, "Text": "1 < 2", "CreationDate": "2015-03-04T08:00:00.000", "UserId": 42},
]  # fmt: skip
STACK_EXCHANGE: list[Read] = [
    ("1", None, "user40", "At dusk & dawn.", 1425196800, 5, "Why loud?"),
    ("2", "1", "ann", "They fan.\n\na  b", 1425283200, 7, None),
    ("2", "2", "user41", "Really?", 1425369600, 1, None),
    ("1", "1", "user42", "1 < 2", 1425456000, 0, None),
]


@pytest.mark.fast_first
@pytest.mark.parametrize("names", [("Posts.xml", "Comments.xml"), ("a.txt", "b.txt")])
def test_a_stack_exchange_site(folder: Path, names: tuple[str, str]) -> None:
    xml(folder / names[0], "posts", POSTS)
    xml(folder / names[1], "comments", COMMENTS)
    xml(folder / "Users.xml", "users", [{"Id": 40, "DisplayName": "bob", "Reputation": 1}])
    assert read(folder) == STACK_EXCHANGE
    record = json.loads((folder.with_name("made") / "parts.json").read_text())
    assert list(record["left_out"]) == ["site/Users.xml"]


@pytest.mark.slow
def test_two_sites_of_stack_exchange_in_one_folder_stay_apart(folder: Path) -> None:
    for site in ("bees", "boats"):
        (folder / site).mkdir()
        xml(folder / site / "Posts.xml", "posts", POSTS)
        xml(folder / site / "Comments.xml", "comments", COMMENTS)
    assert read(folder) == [row for row in STACK_EXCHANGE for _ in range(2)]


def test_a_stack_exchange_site_packed_and_alone(folder: Path) -> None:
    xml(folder / "Posts.xml", "posts", POSTS)
    packed = folder / "Posts.xml.bz2"
    packed.write_bytes(bz2.compress((folder / "Posts.xml").read_bytes()))
    (folder / "Posts.xml").unlink()
    assert read(packed) == STACK_EXCHANGE[:2]


def test_what_is_neither_question_nor_answer_counts_as_no_utterance(folder: Path, tmp_path: Path) -> None:
    xml(folder / "Posts.xml", "posts", [*POSTS, {"Id": 9, "PostTypeId": 5, "Score": 0, "Body": "about a tag"}])
    settings = CorpusSettings(str(folder))
    fetch(settings, {}, tmp_path / "corpus")
    counts = write_utterances(
        tmp_path / "corpus", tmp_path / "out", UtteranceSettings(max_set_aside=1), source=settings
    )
    assert (counts["taking_part"], counts["set_aside"]) == (2, 1)


def test_comments_of_stack_exchange_without_their_posts_are_refused(folder: Path) -> None:
    xml(folder / "Comments.xml", "comments", COMMENTS)
    with pytest.raises(PipelineError, match=r"without Posts\.xml"):
        read(folder)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'<?xml version="1.0"?>\n<posts><row Id="1" PostTypeId="1" Score="1" Body="b" />\n', "no whole XML file"),
        (b'<?xml version="1.0"?><!DOCTYPE p [<!ENTITY e "e">]>\n<posts><row Id="&e;" /></posts>', "a document type"),
        (b'<?xml version="1.0"?>\n<feed><entry>text</entry></feed>', "without elements `row`"),
        (b'<?xml version="1.0"?>\n<posts><row Id="1" & /></posts>', r"no XML in line 2.*: correct it"),
        (b'<?xml version="1.0"?>\n<posts><row Id="1" Body="caf\xe9 " /></posts>', r"no XML in line 2"),
    ],
)
def test_other_xml_is_refused(folder: Path, content: bytes, sentence: str) -> None:
    (folder / "posts.xml").write_bytes(content)
    with pytest.raises(PipelineError, match=sentence):
        read(folder / "posts.xml")


@pytest.mark.parametrize("write", [comma_separated, parquet])
def test_a_stack_exchange_site_as_tables(folder: Path, write: Write) -> None:
    names = list(dict.fromkeys(name for post in POSTS for name in post))
    rows = [dict.fromkeys(names) | post | {"PostTypeId": float(post["PostTypeId"])} for post in POSTS]
    write(folder / "Posts", rows)
    write(folder / "Comments", COMMENTS)
    assert read(folder) == STACK_EXCHANGE


def test_texts_and_ids_of_a_table_may_be_bytes(folder: Path) -> None:
    number = bytes(range(240, 256))
    records = [message("1", None, None), message("2", "1", 0)]
    for record in records:
        record |= {"text": "é".encode(), "message_id": number + record["message_id"].encode()}
        record |= {"parent_id": record["parent_id"] and number + b"1", "message_tree_id": number + b"1"}
    parquet(folder / "messages", records)
    post = {"id": b"p", "title": "Té".encode(), "selftext": b"", "author": b"ann", "created_utc": 1, "score": 1}
    parquet(folder / "posts", [post | {"subreddit": "é".encode()}])
    found = [(row[0], row[1], row[3], row[6]) for row in read(folder)]
    first, second = number.hex() + "31", number.hex() + "32"
    assert found == [("p", None, "", "Té"), (first, None, "é", None), (second, first, "é", None)]


def test_open_assistant_trees_in_parquet(folder: Path) -> None:
    reply = message("2", "1", 0)
    prompt = message("1", None, None, "prompter") | {"replies": [reply]}
    parquet(folder / "trees", [{"message_tree_id": "1", "prompt": prompt}])
    assert [(row[0], row[1], row[5]) for row in read(folder)] == [("1", None, None), ("2", "1", 0)]


def lemmy_post(number: int) -> Record:
    return {
        "post": {"id": number, "name": f"post {number}", "body": "text", "published": "2023-07-01T10:00:00Z"},
        "creator": {"id": 3, "name": "ink"}, "community": {"name": "tinkering"}, "counts": {"score": 10},
    }  # fmt: skip


def lemmy_comment(number: int, path: str, score: int, **more: Any) -> Record:
    return {
        "comment": {"id": number, "post_id": 5, "content": f"comment {number}", "path": path, "creator_id": 4,
                    "published": f"2023-07-02T0{number}:00:00Z"} | more,
        "post": {"id": 5, "name": "post 5"}, "creator": {"id": 4, "name": "quill"}, "counts": {"score": score},
    }  # fmt: skip


@pytest.mark.fast_first
@pytest.mark.parametrize("write", NESTED)
def test_lemmy(folder: Path, write: Write) -> None:
    write(folder / "z-posts", [lemmy_post(5)])
    comments = [
        lemmy_comment(5, "0.5", 2, removed=False, deleted=False),
        lemmy_comment(6, "0.5.6", -3, removed=False, deleted=True),
        lemmy_comment(7, "0.7", 1, removed=True, deleted=False),
        lemmy_comment(8, "0.8", 1, content="*Permanently Deleted*"),
    ]
    write(folder / "a-comments", comments)
    assert read(folder) == [
        ("5", None, "ink", "text", 1688205600, 10, "post 5"),
        ("5", "5", "quill", "comment 5", 1688274000, 2, None),
        ("6", "5", "quill", "[deleted]", 1688277600, -3, None),
        ("7", "5", "quill", "[removed]", 1688281200, 1, None),
        ("8", "5", "quill", "[deleted]", 1688284800, 1, None),
    ]


def test_lemmy_of_version_1_has_scores_in_posts_and_comments(folder: Path) -> None:
    def newer(view: Record, part: str) -> Record:
        own = {name: value for name, value in view[part].items() if name != "published"}
        own |= {"published_at": view[part]["published"], "score": view["counts"]["score"]}
        return {name: own if name == part else value for name, value in view.items() if name != "counts"}

    views = [newer(lemmy_post(5), "post"), newer(lemmy_comment(6, "0.6", 2), "comment")]
    (folder / "views").write_text("".join(json.dumps(view) + "\n" for view in views))
    assert read(folder) == [
        ("5", None, "ink", "text", 1688205600, 10, "post 5"),
        ("6", "5", "quill", "comment 6", 1688277600, 2, None),
    ]


def test_posts_and_comments_of_one_file(folder: Path) -> None:
    records = [lemmy_post(5), lemmy_comment(6, "0.6", 2), lemmy_comment(7, "0.6.7", 1)]
    json_lines(folder / "all", records)
    rows = [(row[0], row[1], row[6]) for row in read(folder)]
    assert rows == [("5", None, "post 5"), ("6", "5", None), ("7", "6", None)]


def test_lemmy_before_version_0_17_names_what_a_comment_answers(folder: Path) -> None:
    comments = [lemmy_comment(6, "", 2), lemmy_comment(7, "", 1)]
    for view, parent in zip(comments, (None, 6), strict=True):
        del view["comment"]["path"]
        view["comment"]["parent_id"] = parent
    json_lines(folder / "views", [*comments, lemmy_post(5)])
    assert [(row[0], row[1]) for row in read(folder)] == [("5", None), ("6", "5"), ("7", "6")]


def test_answers_of_an_interface_one_a_line_hold_posts_or_comments(folder: Path) -> None:
    answers: list[Record] = [{"posts": [lemmy_post(5)]}, {"comments": [lemmy_comment(6, "0.6", 2)]}, {"comments": []}]
    json_lines(folder / "answers", [*answers, {"comments": [lemmy_comment(7, "0.6.7", 1)], "next_page": "x"}])
    assert [(row[0], row[1]) for row in read(folder)] == [("5", None), ("6", "5"), ("7", "6")]


def test_one_post_of_lemmy_as_its_interface_gives_it(folder: Path) -> None:
    json_lines(folder / "a.json", [{"post_view": lemmy_post(5), "community_view": {"community": {"name": "c"}}}])
    json_lines(folder / "b.json", [lemmy_comment(6, "0.6", 2)])
    assert [(row[0], row[1], row[6]) for row in read(folder)] == [("5", None, "post 5"), ("6", "5", None)]


def flat_comment(number: int, path: str, **more: Any) -> Record:
    return {"id": number, "post_id": 5, "creator_id": 4, "content": f"comment {number}", "path": path, "score": number,
            "published": f"2023-07-02 0{number}:00:00", "removed": "f", "deleted": "f"} | more  # fmt: skip


LEMMY_TABLE = {"id": 5, "name": "post 5", "body": "text", "creator_id": 3, "community_id": 8, "score": 10,
               "published": "2023-07-01 10:00:00"}  # fmt: skip


@pytest.mark.fast_first
@pytest.mark.parametrize("write", [json_lines, comma_separated, parquet])
def test_lemmy_as_tables(folder: Path, write: Write) -> None:
    write(folder / "post", [LEMMY_TABLE])
    write(folder / "comment", [flat_comment(5, "0.5"), flat_comment(6, "0.5.6", deleted="t"), flat_comment(7, "0.7")])
    assert read(folder) == [
        ("5", None, "3", "text", 1688205600, 10, "post 5"),
        ("5", "5", "4", "comment 5", 1688274000, 5, None),
        ("6", "5", "4", "[deleted]", 1688277600, 6, None),
        ("7", "5", "4", "comment 7", 1688281200, 7, None),
    ]


def postmill(number: int, parent: int | None, **more: Any) -> Record:
    return {"id": number, "submission_id": 5, "user_id": 4, "parent_id": parent, "body": f"comment {number}",
            "net_score": number, "timestamp": f"2023-07-02 0{number}:00:00+00", "visibility": "visible",
            } | more  # fmt: skip


POSTMILL = {"id": 5, "forum_id": 8, "user_id": 3, "title": "post 5", "body": "text", "net_score": 10,
            "timestamp": "2023-07-01 10:00:00+00", "visibility": "visible"}  # fmt: skip


@pytest.mark.fast_first
@pytest.mark.parametrize("write", [json_lines, comma_separated, parquet])
def test_postmill_as_tables(folder: Path, write: Write) -> None:
    write(folder / "submissions", [POSTMILL])
    write(folder / "comments", [postmill(5, None), postmill(6, 5, visibility="trashed"), postmill(7, None)])
    assert read(folder) == [
        ("5", None, "user3", "text", 1688205600, 10, "post 5"),
        ("5", "5", "user4", "comment 5", 1688274000, 5, None),
        ("6", "5", "user4", "[removed]", 1688277600, 6, None),
        ("7", "5", "user4", "comment 7", 1688281200, 7, None),
    ]


def test_postmill_as_its_interface_gives_it(folder: Path) -> None:
    def given(record: Record, **more: Any) -> Record:
        ids = ("net_score", "user_id", "forum_id", "submission_id", "parent_id")
        own = {name: value for name, value in record.items() if name not in ids}
        return own | {"netScore": record["net_score"], "user": {"id": 1, "username": "ann"}} | more

    (folder / "a.json").write_text(
        json.dumps({"entries": [given(POSTMILL, forum={"id": 8, "name": "moss"})], "nextPage": "x"})
    )
    submission = {"id": 5, "title": "post 5", "forum": {"name": "moss"}}
    comments = [postmill(5, None), postmill(6, 5)]
    json_lines(
        folder / "b.json",
        [given(comment, submission=submission, parentId=comment["parent_id"]) for comment in comments],
    )
    assert [row[:4] for row in read(folder)] == [
        ("5", None, "ann", "text"), ("5", "5", "ann", "comment 5"), ("6", "5", "ann", "comment 6"),
    ]  # fmt: skip


@pytest.mark.parametrize("write", [json_lines, parquet])
def test_questions_of_stack_exchange_with_their_answers_and_comments(folder: Path, write: Write) -> None:
    def given(kind: str, number: int, time: int, **more: Any) -> Record:
        owner = {"user_id": number, "display_name": "d &amp; e"} if kind == "comment" else {"display_name": "ann"}
        return {
            f"{kind}_id": number, "score": number, "creation_date": time, "body": f"<p>{kind} <i>{number}</i></p>",
            "owner": owner,
        } | more  # fmt: skip

    answers = [
        given("answer", 2, 12, question_id=1, comments=[given("comment", 2, 14, post_id=2)]),
        given("answer", 3, 13, question_id=1),
    ]
    comments = [given("comment", 1, 11, post_id=1)]
    question = given("question", 1, 10, title="Why &lt; that?", answers=answers, comments=comments)
    write(folder / "questions", [question])
    assert read(folder) == [
        ("1", None, "ann", "question 1", 10, 1, "Why < that?"),
        ("1", "1", "d & e", "comment 1", 11, 1, None),
        ("2", "1", "ann", "answer 2", 12, 2, None),
        ("3", "1", "ann", "answer 3", 13, 3, None),
        ("2", "2", "d & e", "comment 2", 14, 2, None),
    ]


REPLY = {"id": "c", "body": "hi", "link_id": "t3_p", "parent_id": "t3_p", "score": 3, "created_utc": 1500000000}
LISTING = {"kind": "Listing", "data": {"children": [{"kind": "t1", "data": REPLY}]}}


@pytest.mark.parametrize(
    ("record", "key"),
    [
        (REPLY | {"replies": [REPLY]}, "replies"),
        (REPLY | {"replies": LISTING}, "replies"),
        ({"id": "p", "title": "T", "selftext": "", "comments": [{"id": "c", "body": "hi"}]}, "comments"),
        ({"id": "p", "title": "T", "selftext": "", "thread": {"c": REPLY}}, "thread"),
        (lemmy_comment(6, "0.6", 2) | {"below": [lemmy_comment(7, "0.6.7", 1)]}, "below"),
    ],
)
def test_replies_inside_records_are_not_left_out_without_a_word(folder: Path, record: Record, key: str) -> None:
    json_lines(folder / "some.json", [REPLY | {"replies": ""}, record])
    with pytest.raises(PipelineError, match=f"records inside its records, under the key {key}, which would be left"):
        check_source(CorpusSettings(str(folder)))


@pytest.mark.parametrize(
    ("record", "key"),
    [({"event": "new", "value": REPLY}, "value"), ({"c": REPLY, "d": REPLY | {"id": "d"}}, "c")],
)
def test_records_that_are_inside_other_objects_are_named(folder: Path, record: Record, key: str) -> None:
    json_lines(folder / "some.json", [record])
    with pytest.raises(PipelineError, match=f"each record inside another object, under a key such as {key}: write"):
        check_source(CorpusSettings(str(folder)))


@pytest.mark.parametrize("column", [lambda values: values, lambda values: dict(enumerate(values))])
def test_a_table_by_columns_is_refused(tmp_path: Path, column: Callable[[list[str]], Any]) -> None:
    table = {name: column(["a", "b"]) for name in ("id", "conversation_id", "reply_to", "text", "score")}
    json_lines(tmp_path / "some.json", [table])
    with pytest.raises(PipelineError, match=r"a whole table as one JSON object, .*: write it by rows"):
        check_source(CorpusSettings(str(tmp_path / "some.json")))


@pytest.mark.parametrize("write", [json_lines, parquet])
@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        (REPLY | {"author": {"name": "ann", "id": "t2_1"}}, "under the key author, .*: write the name"),
        (dict.fromkeys(("id", "conversation_id", "reply_to", "text", "score"), "a") | {"speaker": {"name": "ann"}},
         "under the key speaker, .*: map a member"),
    ],
)  # fmt: skip
def test_a_name_that_is_an_object_is_refused(tmp_path: Path, write: Write, record: Record, sentence: str) -> None:
    write(tmp_path / "some.jsonl", [record])
    with pytest.raises(PipelineError, match=sentence):
        check_source(CorpusSettings(str(tmp_path / "some.jsonl")))


@pytest.mark.parametrize("key", ["author", "body"])
def test_one_object_among_names_and_texts_does_not_cost_the_file(tmp_path: Path, key: str) -> None:
    replies = [REPLY | {"id": f"c{number}", "author": "ann", "body": "hi"} for number in range(25)]
    path = tmp_path / "some.jsonl"
    json_lines(path, [*replies, REPLY | {key: {"name": "ann"}}])
    check_source(CorpusSettings(str(path)))
    json_lines(path, [*replies, *[REPLY | {key: {"name": "ann"}}] * 2])
    with pytest.raises(PipelineError, match=f"under the key {key}, .*: write the name"):
        check_source(CorpusSettings(str(path)))


def test_a_text_that_is_a_structure_is_refused(tmp_path: Path) -> None:
    parquet(
        tmp_path / "t", [dict.fromkeys(("id", "conversation_id", "reply_to", "score"), "a") | {"text": {"en": "hi"}}]
    )
    with pytest.raises(PipelineError, match=r"under the key text, .*: map a member"):
        check_source(CorpusSettings(str(tmp_path / "t")))


def test_a_speaker_of_convokit_that_is_an_object_is_refused(folder: Path) -> None:
    line = {"id": "p", "conversation_id": "p", "speaker": {"id": "ann"}, "text": "hi", "meta": {"score": 1}}
    json_lines(folder / "utterances.jsonl", [line])
    with pytest.raises(PipelineError, match=r"under the key speaker, .*: write the name"):
        check_source(CorpusSettings(str(folder)))


def test_what_is_no_reply_may_be_inside_a_record(folder: Path) -> None:
    post = {"id": "p", "title": "T", "selftext": "", "author": "ann", "created_utc": 1400000000, "score": 1}
    inside = {"crosspost_parent_list": [post], "all_awardings": [{"id": "a", "name": "gold"}], "replies": ""}
    json_lines(folder / "some.json", [post | inside, REPLY | {"author": "ann"}])
    assert [row[0] for row in read(folder)] == ["p", "c"]


def discourse(number: int, post_number: int, answers: int | None, likes: int, **more: Any) -> Record:
    return {
        "id": 900 + number, "user_id": 4, "topic_id": 70, "post_number": post_number, "raw": f"post {number}",
        "created_at": f"2020-01-01 0{number}:00:00 UTC", "reply_to_post_number": answers, "like_count": likes,
        "deleted_at": None,
    } | more  # fmt: skip


@pytest.mark.fast_first
@pytest.mark.parametrize("write", FLAT)
def test_discourse(folder: Path, write: Write) -> None:
    gone = {"deleted_at": "2020-02-01 08:00:00 UTC"}
    write(folder / "posts", [discourse(1, 1, None, 3), discourse(2, 2, None, 0), discourse(3, 3, 2, 8, **gone)])
    assert read(folder) == [
        ("70/1", None, "user4", "post 1", 1577840400, 3, None),
        ("70/2", "70/1", "user4", "post 2", 1577844000, 0, None),
        ("70/3", "70/2", "user4", "[deleted]", 1577847600, 8, None),
    ]


@pytest.mark.fast_first
@pytest.mark.parametrize("write", NESTED)
def test_discourse_as_its_public_interface_gives_it(folder: Path, write: Write) -> None:
    def post(number: int, actions: list[Record]) -> Record:
        return {
            "id": number, "username": "ann", "topic_id": 7, "topic_title": "Moss", "post_number": number,
            "cooked": f"<p>post <i>{number}</i></p>", "created_at": f"2020-01-01T0{number}:00:00.000Z",
            "reply_to_post_number": None, "actions_summary": actions,
        }  # fmt: skip

    write(
        folder / "posts", [post(1, [{"id": 3, "count": 9}, {"count": 12, "id": 2}]), post(2, [{"id": 3, "count": 4}])]
    )
    assert read(folder) == [
        ("7/1", None, "ann", "post 1", 1577840400, 12, "Moss"),
        ("7/2", "7/1", "ann", "post 2", 1577844000, 0, None),
    ]


def test_a_topic_of_discourse_with_its_posts(folder: Path) -> None:
    posts = [discourse(1, 1, None, 3), discourse(2, 2, 1, 0)]
    for number in range(3):
        inner = [post | {"topic_id": 70 + number} for post in posts]
        topic = {"id": 70 + number, "title": f"Topic {number}", "like_count": 99, "post_stream": {"posts": inner}}
        json_lines(folder / f"{number}.json", [topic])
    rows = [(id, reply_to, score, title) for id, reply_to, _, _, _, score, title in read(folder)]
    assert sorted(rows) == sorted(
        row
        for number in (70, 71, 72)
        for row in ((f"{number}/1", None, 3, f"Topic {number - 70}"), (f"{number}/2", f"{number}/1", 0, None))
    )


def test_pages_of_a_topic_and_what_the_site_writes_in_it(folder: Path) -> None:
    first = {"id": 70, "title": "Topic", "post_stream": {"posts": [discourse(1, 1, None, 3), discourse(2, 2, 1, 0)]}}
    closed = discourse(3, 3, None, 0, post_type=3, raw="closed")
    later = {"id": 70, "post_stream": {"posts": [closed, discourse(4, 4, 2, 1, post_type=1)]}}
    json_lines(folder / "a.json", [first])
    json_lines(folder / "b.json", [later])
    counts = counts_of(folder)
    assert (counts["taking_part"], counts["set_aside.not_an_utterance"]) == (3, 1)


@pytest.mark.fast_first
@pytest.mark.parametrize("write", FLAT)
@pytest.mark.parametrize(("nobody", "ids"), [(None, "id"), (0, "submissionid")])
def test_voat(folder: Path, write: Write, nobody: int | None, ids: str) -> None:
    votes = {"subverse": "building", "userName": "gable", "upCount": 6, "downCount": 5}
    comment = "id" if ids == "id" else "commentid"

    def answer(number: int, parent: int | None, hour: int) -> Record:
        return {comment: number, "submissionID": 31, "parentID": parent, "content": f"comment {number}",
                "creationDate": f"2016-05-01T{hour}:00:00"} | votes  # fmt: skip

    post = {ids: 31, "title": "Barn?", "content": "Twelve of us.", "creationDate": "2016-05-01T10:00:00"} | votes
    write(folder / "submissions", [post])
    write(folder / "comments", [answer(31, nobody, 11), answer(32, 31, 12)])
    assert read(folder) == [
        ("31", None, "gable", "Twelve of us.", 1462096800, 1, "Barn?"),
        ("31", "31", "gable", "comment 31", 1462100400, 1, None),
        ("32", "31", "gable", "comment 32", 1462104000, 1, None),
    ]


def test_voat_as_pandas_writes_it_with_ids_as_floats(folder: Path) -> None:
    (folder / "submissions.csv").write_text(
        "id,title,content,userName,creationDate,upCount,downCount\n31,Barn?,text,gable,2016-05-01T10:00:00,3.0,1.0\n"
    )
    (folder / "comments.csv").write_text(
        "id,submissionID,parentID,content,userName,creationDate,upCount,downCount\n"
        "31,31.0,,one,gable,2016-05-01T11:00:00,1,0\n32,31.0,31.0,two,gable,2016-05-01T12:00:00,1,4\n"
    )
    assert [row[:2] + row[5:6] for row in read(folder)] == [("31", None, 2), ("31", "31", 1), ("32", "31", -3)]


@pytest.mark.fast_first
@pytest.mark.parametrize(
    ("write", "guild"),
    # rDrama goes on with the code of Ruqqus, and calls a guild a hole.
    [*((write, "guild_name") for write in NESTED), (json_lines, "hole")],
)
def test_ruqqus(folder: Path, write: Write, guild: str) -> None:
    votes = {"author_name": "ann", "upvotes": 5, "downvotes": 2, "score": 3}
    write(folder / "posts", [{"id": "a1", "title": "Hm", "body": "text", guild: "g", "created_utc": 1} | votes])

    def comment(name: str, parents: list[str], time: int) -> Record:
        return {"id": name, "post_id": "a1", "parent_comment_id": parents, "body": f"comment {name}",
                "guild": {"name": "g"}, "created_utc": time} | votes  # fmt: skip

    write(folder / "comments", [comment("a1", [], 2), comment("b2", ["a1"], 3), comment("c3", ["a1", "b2"], 4)])
    rows = [(id, reply_to, score) for id, reply_to, _, _, _, score, _ in read(folder)]
    assert rows == [("a1", None, 3), ("a1", "a1", 3), ("b2", "a1", 3), ("c3", "b2", 3)]


@pytest.mark.fast_first
@pytest.mark.parametrize("write", FLAT)
def test_reddit_in_a_table_is_read_as_the_dump_it_was_made_from(folder: Path, write: Write) -> None:
    common = {"author": "ann", "subreddit": "sheds", "stickied": False}
    post = {"id": "a", "title": "Why?", "selftext": "it hums", "created_utc": 1, "score": 7} | common
    write(folder / "z", [post])

    def comment(name: str, parent: str, time: int) -> Record:
        return {
            "id": name,
            "link_id": "t3_a",
            "parent_id": parent,
            "body": name,
            "created_utc": time,
            "score": 1,
        } | common

    write(folder / "a", [comment("a", "t3_a", 2), comment("b", "t1_a", 3), comment("c", "t3_a", 4)])
    rows = read(folder)
    assert rows[0] == ("a", None, "ann", "it hums", 1, 7, "Why?")
    assert [row[:2] for row in rows[1:]] == [("a", "a"), ("b", "a"), ("c", "a")]


def reddit_table(**columns: Any) -> pa.Table:
    """A post and two comments, of which the second answers the first."""
    found: Record = {
        "id": ["9", "11", "12"], "link_id": [None, "9", "9"], "parent_id": [None, "9", "11"], "score": [7, 1, 2],
        "title": ["Why?", None, None], "selftext": ["it hums", None, None], "body": [None, "yes", "no"],
        "author": ["ann"] * 3, "created_utc": [1, 2, 3], "subreddit": ["sheds"] * 3,
    }  # fmt: skip
    return pa.table(found | columns)


@pytest.mark.parametrize(
    "columns",
    [
        {"id": [9, 11, 12], "link_id": [None, 9, 9], "parent_id": [None, 9, 11]},
        {"id": [9, 11, 12], "link_id": [None, 9.0, 9.0], "parent_id": [None, 9.0, 11.0]},
        {"id": [9.0, 11.0, 12.0], "link_id": ["nan", "9.0", "9.0"], "parent_id": ["nan", "9.0", "11.0"],
         "body": ["nan", "yes", "no"], "title": ["Why?", "nan", "nan"], "selftext": ["it hums", "nan", "nan"]},
        {"link_id": [None, "t3_9", "t3_9"], "parent_id": [None, None, 37]},
        {"link_id": ["None", "t3_9", "t3_9"], "parent_id": [None, None, 37.0], "body": ["None", "yes", "no"]},
    ],
    ids=["numbers", "floats", "texts of pandas", "a parent in base 10", "a parent in base 10 as a float"],
)  # fmt: skip
def test_ids_of_reddit_in_a_table_may_be_numbers(folder: Path, columns: Record) -> None:
    pq.write_table(reddit_table(**columns), folder / "some.parquet")
    assert read(folder) == [
        ("9", None, "ann", "it hums", 1, 7, "Why?"),
        ("11", "9", "ann", "yes", 2, 1, None),
        ("12", "11", "ann", "no", 3, 2, None),
    ]


@pytest.mark.fast_first
@pytest.mark.parametrize("write", FLAT)
def test_a_table_is_read_through_the_setting_columns_whatever_it_comes_in(folder: Path, write: Write) -> None:
    columns = {
        "id": "msg",
        "conversation_id": "thread",
        "reply_to": "answers to",
        "text": "content {x}",
        "score": "likes",
    }
    columns |= {"timestamp": "posted", "speaker": "user.name"}

    def row(number: int, answers: int | None) -> Record:
        return {"msg": number, "thread": 1, "answers to": answers, "content {x}": f"text {number}", "likes": number,
                "posted": f"2021-05-0{number}T10:00:00Z", "user.name": "olive", "other": None}  # fmt: skip

    write(folder / "messages.data", [row(1, None), row(2, 1)])
    assert read(folder, columns) == [
        ("1", None, "olive", "text 1", 1619863200, 1, None),
        ("2", "1", "olive", "text 2", 1619949600, 2, None),
    ]
    nearest = r"has no column answers \(did you mean answers to\?\) but .*setting columns"
    with pytest.raises(PipelineError, match=nearest):
        check_source(CorpusSettings(str(folder / "messages.data"), "table", columns | {"reply_to": "answers"}))


@pytest.mark.fast_first
@pytest.mark.parametrize("write", NESTED)
def test_what_has_our_own_columns_is_a_table_whatever_it_comes_in(folder: Path, write: Write) -> None:
    rows: list[Record] = [
        {"id": "r", "conversation_id": "r", "reply_to": None, "text": "post", "score": None, "timestamp": 1},
        {"id": "a", "conversation_id": "r", "reply_to": "r", "text": "yes", "score": 3, "timestamp": 2},
    ]
    write(folder / "utterances", rows)
    assert read(folder) == [("r", None, "", "post", 1, None, None), ("a", "r", "", "yes", 2, 3, None)]


@pytest.mark.parametrize("write", FLAT)
def test_of_two_recordings_in_a_table_the_later_stays_whatever_its_time_is_called(folder: Path, write: Write) -> None:
    root: Record = {"id": "r", "conversation_id": "r", "reply_to": None, "text": "post", "score": None}
    reply = root | {"id": "a", "reply_to": "r"}
    rows = [root, reply | {"score": 9, "retrieved_utc": 14}, reply | {"score": 4, "Retrieved_On": 15}]
    write(folder / "utterances", [row | {each: row.get(each) for each in rows[1] | rows[2]} for row in rows])
    counts = counts_of(folder)
    assert (counts["set_aside"], counts["set_aside.earlier_recording"]) == (1, 1)
    found = read_utterances(folder.with_name("made") / "out", "score, recorded_at", "id = 'a'")
    assert found == [(4, 15)]


def test_hacker_news_is_refused_because_its_comments_have_no_score(folder: Path) -> None:
    items = [
        {
            "id": 501,
            "type": "story",
            "by": "pebble",
            "time": 1300000501,
            "title": "a clock",
            "score": 87,
            "kids": [502],
        },
        {"id": 502, "type": "comment", "by": "gull", "time": 1300000502, "parent": 501, "text": "How?"},
    ]
    json_lines(folder / "items.jsonl", items)
    with pytest.raises(PipelineError, match="Hacker News items, whose comments carry no score"):
        read(folder)


def test_an_id_and_a_title_do_not_make_a_post_of_reddit(folder: Path) -> None:
    article = {"id": "1000", "url": "https://encyclopedia.example/0", "title": "Lake Orrin", "text": "A lake."}
    json_lines(folder / "articles.jsonl", [article])
    with pytest.raises(PipelineError, match=r"the keys id, text, title, url, which no known layout has: .*columns"):
        read(folder)
    issue = {"id": 7, "title": "It crashes", "body": "When I start it.", "state": "open", "comments": 3}
    json_lines(folder / "articles.jsonl", [issue])
    with pytest.raises(PipelineError, match="which no known layout has"):
        read(folder)


def test_a_csv_file_of_a_layout_sets_aside_what_does_not_fit(folder: Path, tmp_path: Path) -> None:
    file = io.StringIO()
    writer = csv.DictWriter(file, list(discourse(1, 1, None, 3)))
    writer.writeheader()
    writer.writerow(discourse(1, 1, None, 3))
    (folder / "posts.csv").write_text(file.getvalue() + "1,2,3\r\n")
    settings = CorpusSettings(str(folder))
    fetch(settings, {}, tmp_path / "corpus")
    counts = write_utterances(
        tmp_path / "corpus", tmp_path / "out", UtteranceSettings(max_set_aside=1), source=settings
    )
    assert (counts["taking_part"], counts["set_aside.malformed"]) == (1, 1)


def test_a_line_that_is_no_object_is_set_aside(folder: Path, tmp_path: Path) -> None:
    lines = [json.dumps(lemmy_post(5)), "{broken", "[1]", "null"]
    (folder / "posts.jsonl").write_text("\n".join(lines) + "\n")
    settings = CorpusSettings(str(folder))
    fetch(settings, {}, tmp_path / "corpus")
    counts = write_utterances(
        tmp_path / "corpus", tmp_path / "out", UtteranceSettings(max_set_aside=1), source=settings
    )
    assert (counts["taking_part"], counts["set_aside.malformed"]) == (1, 3)


@pytest.mark.parametrize("write", [parquet, arrow])
@pytest.mark.parametrize("files", [1, 2])
def test_a_text_that_is_no_utf8_is_mended(folder: Path, write: Write, files: int) -> None:
    for number in range(files):
        path = folder / f"posts{number}"
        write(path, [discourse(1, 1, None, 3) | {"topic_id": number}, discourse(2, 2, None, 0) | {"topic_id": number}])
        path.write_bytes(path.read_bytes().replace(b"post 2", b"post \xff"))
    assert [row[3] for row in read(folder)] == ["post 1"] * files + ["post \ufffd"] * files


def test_ranks_of_a_table_are_not_turned_round_together_with_the_scores_of_a_dump(tmp_path: Path) -> None:
    json_lines(tmp_path / "dump.jsonl", [{"id": "p", "title": "t", "selftext": "", "score": 1}])
    table = [{"id": "1", "conversation_id": "1", "reply_to": None, "text": "a", "score": 1}]
    json_lines(tmp_path / "ranks.jsonl", table)

    def record(name: str, *files: str) -> Record:
        (tmp_path / name).mkdir()
        fetch(CorpusSettings(",".join(str(tmp_path / file) for file in files)), {}, tmp_path / name / "corpus")
        return read_record(tmp_path / name / "corpus")

    both = record("both", "dump.jsonl", "ranks.jsonl")["higher_is_better"]
    assert both == ["Reddit dump"]
    lower = RankingSettings(score_order="lower")
    with pytest.raises(PipelineError, match="would turn round the scores of Reddit dump"):
        refuse_to_turn_round(lower, [], both)
    refuse_to_turn_round(RankingSettings(), [], both)
    for name in ("dump.jsonl", "ranks.jsonl"):
        refuse_to_turn_round(lower, [], record(name.removesuffix(".jsonl"), name)["higher_is_better"])


SNAKE = {"owner_user_id": "OwnerUserId", "creation_date": "CreationDate", "parent_id": "ParentId"}


@pytest.mark.parametrize("camel", [False, True])
def test_stack_exchange_tables_of_others(folder: Path, camel: bool) -> None:
    """Google's tables and those of a collection of questions and answers, in files of their own."""
    questions = [{"id": "1", "title": "Why?", "body": "<p>it hums</p>", "owner_user_id": "5",
                  "creation_date": "2020-09-13 12:26:40 UTC", "score": "3"}]  # fmt: skip
    answers = [
        {"id": number, "parent_id": "1", "body": "<p>fuse</p>", "owner_user_id": "6",
         "creation_date": "2020-09-13 12:26:41 UTC", "score": number} for number in ("2", "3")
    ]  # fmt: skip
    for name, records in (("questions.csv", questions), ("answers.csv", answers)):
        if camel:
            records = [{SNAKE.get(key, key.title()): value for key, value in each.items()} for each in records]
        else:
            records = [each | {"post_type_id": "1" if name[0] == "q" else "2"} for each in records]
        comma_separated(folder / name, records)
    assert read(folder) == [
        ("1", None, "user5", "it hums", 1600000000, 3, "Why?"),
        ("2", "1", "user6", "fuse", 1600000001, 2, None),
        ("3", "1", "user6", "fuse", 1600000001, 3, None),
    ]


def test_control_characters_do_not_end_the_reading_of_xml(folder: Path) -> None:
    rows = '<row Id="1" PostTypeId="1" Score="1" Title="a&#x1F;b&#0;c" Body="d\x08e&#xA;f" CreationDate="2020-09-13" />'
    (folder / "Posts.xml").write_text(f"<posts>{rows}</posts>")
    assert read(folder) == [("1", None, "", "d e\nf", 1599955200, 1, "a b c")]


@pytest.mark.parametrize("cut", range(1, 8))
def test_a_reference_to_a_control_character_may_begin_in_one_block_and_end_in_the_next(
    tmp_path: Path, cut: int
) -> None:
    content = b'<posts><row Id="1" Body="a&#x0001F;b" /></posts>'
    place = content.index(b"&") + cut
    blocks = iter([content[:place], content[place:]])
    with patch("adc_pipeline.corpus.readers.xml.blocks", lambda *_: blocks):
        assert list(rows_of_xml(io.BytesIO(), tmp_path / "Posts.xml")) == [{"Id": "1", "Body": "a b"}]


@pytest.mark.parametrize("write", [parquet, arrow, feather])
def test_replies_in_a_list_of_structures_are_not_lost(folder: Path, write: Write) -> None:
    row = {"id": "1", "conversation_id": "1", "reply_to": "", "text": "x", "score": 1}
    write(folder / "table.parquet", [row | {"awards": [{"id": "a", "count": 1}]}])
    check_source(CorpusSettings(str(folder)))
    write(folder / "table.parquet", [row | {"comments": [{"id": "2", "text": "y", "score": 1}]}])
    with pytest.raises(PipelineError, match="holds records inside its records, under the key comments"):
        check_source(CorpusSettings(str(folder)))


INSIDE = [{"id": "2", "body": "it's", "score": 1}]


@pytest.mark.parametrize("write", [comma_separated, parquet])
@pytest.mark.parametrize(
    ("cell", "lost"),
    [(json.dumps(INSIDE), True), (str(INSIDE), True), ("3", False), ("see [body: x]", False), ('["c1"]', False)],
)
@pytest.mark.parametrize(
    "row",
    [
        {"id": "1", "conversation_id": "1", "reply_to": "", "text": "x", "score": 1},
        {"id": "1", "title": "T", "selftext": "x", "created_utc": 1, "score": 1},
    ],
    ids=["table", "Reddit"],
)
def test_replies_as_text_in_a_cell_are_not_lost(folder: Path, write: Write, cell: str, lost: bool, row: Record) -> None:
    write(folder / "table", [row | {"Comments": cell}])
    if lost:
        with pytest.raises(PipelineError, match="holds records inside its records, under the key comments"):
            read(folder)
    else:
        assert len(read(folder)) == 1
