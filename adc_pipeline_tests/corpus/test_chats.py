"""Layouts that name no conversation, or hold messages below one object: chats, statuses, comments on videos."""

import json
from pathlib import Path
from typing import Any

import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.corpus.recognition.formats import recognise
from adc_pipeline.corpus.settings import CorpusSettings, UtteranceSettings
from adc_pipeline.corpus.source import fetch
from adc_pipeline.corpus.utterances import write_utterances
from adc_pipeline_tests.stages import read_utterances

Record = dict[str, Any]
REACTIONS = [{"emoji": "x", "name": "x", "count": 4}, {"emoji": "y", "name": "y", "count": 1}]


def status(number: int, parent: int | None, likes: int, **more: Any) -> Record:
    answered = None if parent is None else str(parent)
    return {
        "id": str(number), "in_reply_to_id": answered, "content": f"<p>text {number}</p>", "favourites_count": likes,
        "account": {"acct": "ann"}, "created_at": "2023-01-01T00:00:00.000Z", "reblog": None,
    } | more  # fmt: skip


def tweet(number: int, parent: int | None, likes: int, **more: Any) -> Record:
    return {
        "id": number, "full_text": f"text {number}", "in_reply_to_status_id": parent, "favorite_count": likes,
        "user": {"screen_name": "ann"}, "created_at": "Sun Jan 01 00:00:00 +0000 2023",
    } | more  # fmt: skip


def newer_tweet(number: int, parent: int | None, likes: int) -> Record:
    answered = {} if parent is None else {"referenced_tweets": [{"type": "replied_to", "id": str(parent)}]}
    return {
        "id": str(number), "text": f"text {number}", "conversation_id": "1", "author_id": "ann",
        "public_metrics": {"like_count": likes}, "created_at": "2023-01-01T00:00:00.000Z",
    } | answered  # fmt: skip


def bluesky(number: int, parent: int | None, likes: int) -> Record:
    record: Record = {"text": f"text {number}", "createdAt": "2023-01-01T00:00:00Z"}
    if parent is not None:
        record["reply"] = {"parent": {"uri": str(parent)}, "root": {"uri": "1"}}
    return {"uri": str(number), "cid": "c", "author": {"handle": "ann"}, "record": record, "likeCount": likes}


def telegram(number: int, parent: int | None, **more: Any) -> Record:
    answered = {} if parent is None else {"reply_to_message_id": parent}
    return {
        "id": number, "type": "message", "date": "2023-01-01T00:00:00", "date_unixtime": "1672531200", "from": "ann",
        "from_id": "user1", "text": f"text {number}",
    } | answered | more  # fmt: skip


def slack(time: str, thread: str | None, **more: Any) -> Record:
    answered = {} if thread is None else {"thread_ts": thread}
    return {"type": "message", "user": "ann", "ts": time, "text": f"text {time[-1]}"} | answered | more


def discord(number: int, parent: int | None, **more: Any) -> Record:
    answered = {} if parent is None else {"reference": {"messageId": str(parent), "channelId": "9"}}
    return {
        "id": str(number), "type": "Default" if parent is None else "Reply", "timestamp": "2023-01-01T00:00:00+00:00",
        "isPinned": False, "content": f"text {number}", "author": {"id": "7", "name": "ann"}, "reactions": [],
    } | answered | more  # fmt: skip


def youtube(number: str, parent: str | None, likes: int) -> Record:
    answered = {} if parent is None else {"parentId": parent}
    snippet = {"textOriginal": f"text {number[-1]}", "likeCount": likes, "authorDisplayName": "ann"}
    return {
        "kind": "youtube#comment",
        "id": number,
        "snippet": snippet | {"publishedAt": "2023-01-01T00:00:00Z"} | answered,
    }


def youtube_thread(top: Record, *answers: Record) -> Record:
    thread = {"kind": "youtube#commentThread", "id": top["id"], "snippet": {"videoId": "v", "topLevelComment": top}}
    return thread | {"replies": {"comments": list(answers)}}


def disqus(number: int, parent: int | None, points: int) -> Record:
    return {
        "id": str(number), "parent": parent, "thread": "77", "message": f"<p>text {number}</p>", "points": points,
        "likes": points, "isDeleted": False, "createdAt": "2023-01-01T00:00:00", "author": {"name": "ann"},
    }  # fmt: skip


YT_DLP = {
    "id": "1", "title": "T", "description": "text 1", "extractor": "youtube", "webpage_url": "u", "uploader": "ann",
    "timestamp": 1672531200, "comments": [
        {"id": "2", "text": "text 2", "author": "ann", "timestamp": 1672531200, "like_count": 5, "parent": "root"},
        {"id": "3", "text": "text 3", "author": "ann", "timestamp": 1672531200, "like_count": 2, "parent": "2"},
    ],
}  # fmt: skip
CHAT = {"name": "Chat", "type": "public_supergroup", "id": 9}
EXPORT = {"guild": {"id": "1", "name": "g"}, "channel": {"id": "2", "topic": None}, "exportedAt": "2023"}
ANSWER = {
    "kind": "youtube#commentThreadListResponse",
    "etag": "e",
    "nextPageToken": "n",
    "pageInfo": {"totalResults": 1},
}
# Replies to 1 and to 2, of which the first was written before what it answers.
IN_ROOT = [("2", "1", "1", 5), ("3", "1", "2", 2)]


def downloaded(number: str, votes: str) -> Record:
    text = f"text {number[-1]}"
    return {
        "cid": number,
        "text": text,
        "author": "ann",
        "votes": votes,
        "time": "1 year ago",
        "time_parsed": 1672531200,
    }


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([status(3, 2, 2), status(2, 1, 5), status(1, None, 0), status(4, None, 0, reblog={"id": "1"})], IN_ROOT),
        ([tweet(3, 2, 2), tweet(2, 1, 5), tweet(1, None, 0), tweet(4, None, 0, retweeted_status={"id": 1})], IN_ROOT),
        ({"data": [newer_tweet(3, 2, 2), newer_tweet(2, 1, 5), newer_tweet(1, None, 0)], "meta": {}}, IN_ROOT),
        ([bluesky(3, 2, 2), bluesky(2, 1, 5), bluesky(1, None, 0)], IN_ROOT),
        (
            CHAT
            | {
                "messages": [
                    telegram(0, None, type="service"), telegram(1, None),
                    telegram(2, 1, reactions=REACTIONS, text=["te", {"type": "bold", "text": "xt"}, " 2"]),
                    telegram(3, 2, reactions=[{"count": 2}]),
                ]
            },
            IN_ROOT,
        ),
        (
            EXPORT
            | {
                "messages": [
                    discord(1, None), discord(2, 1, reactions=REACTIONS), discord(3, 2, reactions=[{"count": 2}]),
                    discord(4, None, type="GuildMemberJoin"),
                ]
            },
            IN_ROOT,
        ),
        (
            [
                slack("1672531200.000001", None), slack("1672531200.000002", "1672531200.000001", reactions=REACTIONS),
                slack("1672531200.000004", None, subtype="channel_join"),
            ],
            [("1672531200.000002", "1672531200.000001", "1672531200.000001", 5)],
        ),
        ([youtube("1", None, 1), youtube("1.2", "1", 5)], [("1.2", "1", "1", 5)]),
        (ANSWER | {"items": [youtube_thread(youtube("1", None, 1), youtube("1.2", "1", 5))]}, [("1.2", "1", "1", 5)]),
        (
            [{"commentId": "2", "parentId": "1", "textDisplay": "text 2", "authorDisplayName": "ann", "likeCount": 5,
              "publishedAt": "2023-01-01"}, {"commentId": "1", "textDisplay": "text 1", "likeCount": 5,
              "authorDisplayName": "ann", "publishedAt": "2023-01-01"}],
            [("2", "1", "1", 5)],
        ),
        ([downloaded("1", "1.2K"), downloaded("1.2", "5")], [("1.2", "1", "1", 5)]),
        (YT_DLP, IN_ROOT),
        (
            {"cursor": {"next": "x"}, "code": 0, "response": [disqus(3, 2, 2), disqus(2, 1, 5), disqus(1, None, 0)]},
            IN_ROOT,
        ),
    ],
    ids=[
        *("mastodon", "twitter", "twitter 2", "bluesky", "telegram", "discord", "slack", "youtube", "threads", "flat"),
        *("downloader", "yt-dlp", "disqus"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("indent", [None, 1], ids=["one line", "spread"])
def test_replies_have_a_root_and_a_score(
    tmp_path: Path, content: Any, expected: list[tuple[Any, ...]], indent: int | None
) -> None:
    (tmp_path / "some.json").write_text(json.dumps(content, indent=indent))
    settings, out = CorpusSettings(str(tmp_path / "some.json")), tmp_path / "out"
    fetch(settings, {}, tmp_path / "corpus")
    counts = write_utterances(tmp_path / "corpus", out, UtteranceSettings(max_set_aside=0), source=settings)
    assert counts["set_aside"] == counts.get("set_aside.not_an_utterance", 0)
    rows = read_utterances(out, "id, conversation_id, reply_to, score", where="reply_to IS NOT NULL")
    assert sorted(rows) == expected
    roots = read_utterances(out, "text, speaker, timestamp", where="reply_to IS NULL")
    assert roots == [("text 1", "ann", 1672531200)]
    assert all(text == f"text {id[-1]}" for id, text in read_utterances(out, "id, text"))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"posts": [{"no": 1, "resto": 0, "time": 1, "com": "x"}]}, "holds posts of 4chan, which carry no score"),
        ([{"num": 1, "subnum": 0, "thread_num": 1, "op": 1, "comment": "x"}], "holds posts of 4chan"),
        ([{"type": "Create", "actor": "a", "object": {"content": "x"}}], "activities of ActivityPub, which carry no"),
        ({"type": "OrderedCollection", "orderedItems": []}, "activities of ActivityPub, which carry no score"),
        ({"took": 1, "hits": {"total": 1, "hits": [{"_source": {"id": 1}}]}}, "answer of Elasticsearch, .* `jq -c"),
        ({"about": "x", "chats": {"list": [CHAT]}}, "all chats of a Telegram account.*: write each of `chats.list`"),
    ],
)
def test_what_has_no_score_or_is_wrapped_says_so(tmp_path: Path, content: Any, sentence: str) -> None:
    (tmp_path / "some.json").write_text(json.dumps(content))
    with pytest.raises(PipelineError, match=sentence):
        recognise(tmp_path / "some.json")


def test_an_export_of_disqus_carries_no_score(tmp_path: Path) -> None:
    (tmp_path / "some.xml").write_text('<?xml version="1.0"?>\n<disqus xmlns="http://disqus.com"><post/></disqus>')
    with pytest.raises(PipelineError, match="is an export of Disqus, whose posts carry no score"):
        recognise(tmp_path / "some.xml")


def test_a_thread_with_a_name_beside_its_messages_is_no_chat_if_these_are_its_replies(tmp_path: Path) -> None:
    thread = {"id": 1, "title": "T", "messages": [{"id": 2, "text": "x"}]}
    (tmp_path / "some.json").write_text(json.dumps(thread))
    with pytest.raises(PipelineError, match="holds JSON objects with the keys id, messages, title"):
        recognise(tmp_path / "some.json")


def test_loops_have_no_root_and_do_not_hang(tmp_path: Path) -> None:
    records = [status(1, 2, 1), status(2, 1, 1), status(3, None, 1), status(3, 4, 1), status(4, 3, 1), status(5, 3, 1)]
    (tmp_path / "some.json").write_text("".join(json.dumps(record) + "\n" for record in records))
    counts = write_utterances(tmp_path / "some.json", tmp_path / "out", UtteranceSettings(max_set_aside=1))
    assert counts["read"] == 6
    assert read_utterances(tmp_path / "out", "id", where="id IN ('1', '2')") == []
