"""Hypothesis strategies that generate corpora, and write them in every layout that ConvoKit has used.

A corpus is drawn as a list of conversations, each a list of replies that name their parent by number, so that every
tree is possible and hypothesis can shrink it to the few replies that matter. Faults (a missing parent, a loop, a reply
into another conversation and so on) are added. Most texts come from a list of strings that are known to break programs,
because random Unicode rarely contains a marker. An example has several conversations, since DuckDB takes some 100 ms
per example, however small.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hypothesis import strategies as st

Fault = Literal["missing_parent", "other_conversation", "loop", "no_score", "second_root", "no_parent"]
FAULTS: tuple[Fault, ...] = ("missing_parent", "other_conversation", "loop", "no_score", "second_root", "no_parent")

NASTY_TEXTS = [
    "",
    " ",
    "\n\t\r",
    "\u3000\u00a0\u2028",
    "\u2003\u0085\u205f\u200b",
    "\u200b[deleted]\x1f",
    "[deleted]",
    " [removed]\n",
    "[deleted] by me",
    "[ Removed by Reddit on account of violating the [content policy](/help/contentpolicy). ]",
    "[unavailable]",
    "[Deleted by user]",
    "[Комментарий УДАЛЁН]",
    "[Von der Moderation gelöscht]",
    "`[deleted]`",
    "[REMOVED].",
    "[deleted] or [removed]",
    "[I undeleted it]",
    "[[[removed]]]",
    "[removed" + " and more" * 20 + "]",
    "<background>",
    "a <rejected> b <accepted> c",
    "<rejec<rejected>ted>",
    "<<accepted>>",
    "< rejected >",
    "<REJECTED>",
    "‹rejected›",
    "<SELECTED_UTTERANCE><REJECTED_UTTERANCE><BACKGROUND_INDEX_TOKEN>",
    "<rejected",
    "ted>",
    "line\r\nline\rline\u2028line\u2029line\x0bline\x85line",
    "tab\tand 'quotes' \"double\" `back` \\ \\n \\u0041 $1 %s {} ;--",
    "e\u0301 n\u0303 \u0041\u030a \u1e9b\u0323",
    "שלום <accepted> مرحبا \u202eabc\u202c",
    "👩‍👩‍👧‍👦 🇺🇳 👍🏽 \U0001f9d1\u200d\U0001f680 𝕏",
    "null",
    "true",
    "007",
    "1e5",
    "2020-01-01",
    '{"a": [1, null]}',
    "nul\0nul",
    "\ufeffbom \u200bzero width",
    "&gt; quoted &amp;gt; &amp;amp; &quot;&#39;&lt;rejected&gt;",
    "a &lt b && &amp;#39; &AMP; &nbsp;",
]
SPEAKERS = [
    "ann",
    "bob",
    "[deleted]",
    "AutoModerator",
    "automoderator",
    "user1",
    "user2",
    "7",
    "<accepted>",
    "x<rejected>y",
    "<REJECTED_UTTERANCE>",
    "two\nlines",
    "Å\u030a 👍🏽",
    "o'\"\\",
]
ID_STYLES = ["{}", "{:03}", "t1_{}", "ü:{}", "'{}\"\\", "👍{}", "{}<accepted>"]

texts = st.one_of(
    st.sampled_from(NASTY_TEXTS),
    st.sampled_from(["yes", "no", "why?"]),
    # Excludes lone surrogates, which are not text; the tests of `corpus` cover how they are set aside.
    st.text(st.characters(codec="utf-8"), max_size=12),
)
speakers = st.sampled_from(SPEAKERS)
# Few distinct values in a conversation make ties; many values, of any size, test the order.
scores = st.sampled_from(
    [
        st.just(1),
        st.integers(-1, 1),
        st.integers(-2, 9),
        st.sampled_from([-(2**31) - 1, -209, 1, 11_035, 2**31]) | st.integers(-(2**53), 2**53),
    ]
)
timestamps = st.sampled_from([st.just(1_600_000_000), st.integers(1_600_000_000, 1_600_000_001), st.integers(0, 2**33)])
# Seconds from the writing of an utterance to its recording; not known, as a rule.
ages = st.sampled_from([None, None, None, 60, 3599, 3600, 10**6])
titles = st.one_of(st.none(), texts)
flags = st.sampled_from([None, False, False, False, True])


@dataclass
class Row:
    """An utterance to be written; `meta` has score, stickied and so on."""

    id: str
    conversation_id: str
    reply_to: str | None
    speaker: str
    text: str
    timestamp: int
    meta: dict[str, Any]


@dataclass
class Corpus:
    """The rows of `utterances.jsonl` in order, the entries of `conversations.json`, and the names of keys."""

    rows: list[Row]
    conversations: dict[str, dict[str, Any]] = field(default_factory=dict)
    reply_key: str = "reply-to"
    speaker_key: str = "speaker"
    conversation_key: str = "conversation_id"
    nested_meta: bool = True

    def write(self, folder: Path) -> Path:
        """Write a ConvoKit directory with this corpus' key names and layout."""
        folder.mkdir(parents=True, exist_ok=True)
        lines = [
            json.dumps(
                {
                    "id": row.id,
                    self.conversation_key: row.conversation_id,
                    "text": row.text,
                    self.speaker_key: row.speaker,
                    "meta": row.meta,
                    self.reply_key: row.reply_to,
                    "timestamp": row.timestamp,
                    "vectors": [],
                },
                ensure_ascii=len(self.rows) % 2 == 0,
            )
            for row in self.rows
        ]
        (folder / "utterances.jsonl").write_text("".join(line + "\n" for line in lines), "utf-8")

        def nested(meta: dict[str, Any]) -> dict[str, Any]:
            return {"meta": meta, "vectors": []} if self.nested_meta else meta

        speakers = {row.speaker: nested({}) for row in self.rows}
        for name, content in {
            f"{self.speaker_key}s.json": speakers,
            "conversations.json": {id: nested(meta) for id, meta in self.conversations.items()},
            "corpus.json": {"name": "trees"},
            "index.json": {
                "utterances-index": {"score": ["<class 'int'>"], "subreddit": ["<class 'str'>"]},
                f"{self.speaker_key}s-index": {},
                "conversations-index": {"title": ["<class 'str'>"]},
                "overall-index": {"name": ["<class 'str'>"]},
                "version": 1,
            },
        }.items():
            (folder / name).write_text(json.dumps(content), "utf-8")
        return folder


@st.composite
def conversations(draw: st.DrawFn, number: int, faults: tuple[Fault, ...]) -> tuple[list[Row], dict[str, Any]]:
    """Draw the rows of one conversation, root first, and its entry in `conversations.json`."""
    size = draw(st.integers(0, 12))
    shape = draw(st.sampled_from(["any", "any", "deep", "wide"]))
    style = draw(st.sampled_from(ID_STYLES))
    # Ids in an order of their own, since they break ties.
    numbers = draw(st.permutations(range(size + 1)))
    ids = [style.format(100 * number + n) for n in numbers]
    conversation_id = draw(st.sampled_from([ids[0], f"c{number}"]))
    subreddit = draw(st.sampled_from([None, "AskScience"]))
    score, timestamp = draw(scores), draw(timestamps)

    rows = []
    for n, id in enumerate(ids):
        parent = 0 if shape == "wide" else n - 1 if shape == "deep" else draw(st.integers(0, max(n - 1, 0)))
        meta = {"score": draw(score), "top_level_comment": None if n == 0 else id}
        if (stickied := draw(flags)) is not None:
            meta |= {"stickied": stickied, "score_hidden": draw(flags)}
        if subreddit:
            meta["subreddit"] = subreddit
        written = draw(timestamp)
        if (age := draw(ages)) is not None:
            meta["retrieved_on"] = written + age
        reply_to = None if n == 0 else ids[parent]
        rows.append(Row(id, conversation_id, reply_to, draw(speakers), draw(texts), written, meta))

    for fault in draw(st.lists(st.sampled_from(faults), max_size=3)) if faults and size else []:
        row = rows[draw(st.integers(0 if fault == "missing_parent" else 1, size))]
        match fault:
            case "missing_parent":
                row.reply_to = f"gone{number}"
            case "second_root":
                row.reply_to = None
            case "loop":
                # Not itself, which means that it has no parent.
                row.reply_to = draw(st.sampled_from([each for each in ids if each != row.id] or ids))
            case "no_score":
                row.meta["score"] = None
            case "no_parent":
                rows[0].reply_to = draw(st.sampled_from(["", "nan", rows[0].id]))
            case "other_conversation":
                row.conversation_id = f"c{draw(st.integers(0, 7))}"
    return rows, {"title": draw(titles), "subreddit": draw(st.sampled_from([None, "philosophy"]))}


@st.composite
def corpora(draw: st.DrawFn, faults: tuple[Fault, ...] = FAULTS, titled: bool = False) -> Corpus:
    """Draw a corpus of up to eight conversations in one of the layouts that ConvoKit has used.

    Rows are shuffled, so that a reply may come before its parent. With `titled` every conversation has an entry and a
    title.
    """
    rows: list[Row] = []
    entries: dict[str, dict[str, Any]] = {}
    for number in range(draw(st.integers(1, 8))):
        more, entry = draw(conversations(number, faults))
        rows += more
        entries[more[0].conversation_id] = entry | ({"title": entry["title"] or "Title"} if titled else {})
    if not titled and draw(st.booleans()):
        entries.popitem()
    return Corpus(
        draw(st.permutations(rows)),
        entries,
        reply_key=draw(st.sampled_from(["reply-to", "reply_to"])),
        speaker_key=draw(st.sampled_from(["speaker", "user"])),
        conversation_key=draw(st.sampled_from(["conversation_id", "root"])),
        nested_meta=draw(st.booleans()),
    )
