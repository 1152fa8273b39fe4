"""Hypothesis strategies for hostile corpora: a small valid corpus of some format, with bytes or values changed.

The layouts are in `fuzz.records`, what they are written in and packed by in `fuzz.containers`. The settings are drawn
too: they decide how the bytes become rows, ranks and walks.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from adc_pipeline.corpus.settings import UtteranceSettings
from adc_pipeline.preferences.settings import PreferenceSettings
from adc_pipeline.ranking.settings import RankingSettings
from adc_pipeline.walks.kinds import KINDS
from adc_pipeline.walks.rendering import Speakers
from adc_pipeline.walks.settings import WalkSettings
from adc_pipeline_tests.fuzz.containers import ARCHIVES, CONTAINERS, PACKINGS, arrow, json_lines, parquet
from adc_pipeline_tests.fuzz.records import LAYOUTS, RENAMED, Record, reddit
from adc_pipeline_tests.trees import NASTY_TEXTS

# Values in place of another, of each type that JSON has and of the kinds that have broken readers.
VALUES: list[Any] = [
    None, True, 0, -1, 1e300, 2**63, -(2**63) - 1, 2**200, float("nan"), float("inf"), "", "0", "nan", "t1_", "t3_x",
    [], [[]], {}, {"a": 1}, "\0", "\ud800", "2018-02-30", "1e99", "x" * 70_000, "c0", "c0r1", *NASTY_TEXTS,
    # Spellings of nothing, ids, scores and times.
    "(null)", "[NULL]", "None", "\\N", "NaT", "undefined", "[]", "00000000-0000-0000-0000-000000000000", " c0",
    "c0r1\t", '="001"', "7.0", 7.0, "1.2k", "7 points", "1,234", "\u22125", 1e18, "/Date(1600000000000)/",
    "20200913T183332", "Sun, 13 Sep 2020 12:26:40 GMT", "1,23457E+12", "t3_c0", "\xe9t\xe9 \u20ac", "\u3000",
]  # fmt: skip
# Bytes to insert.
PIECES = [
    b"\0", b"\n", b"\r\n", b"\r", b'"', b"'", b",", b";", b"\t", b"{", b"}", b"[", b"]", b"\\", b"\\u0000", b"\\ud800",
    b"\xff", b"\xc3", b"\xef\xbb\xbf", b"\xff\xfe", b"\x1b]0;x\x07", b"<rejected>", b"<accepted>", b"-1", b"1e999",
    b"[" * 20_000, b'{"a":' * 5_000, b"9" * 5_000, b"null", b"NaN", b"&#0;", b"<!DOCTYPE x [<!ENTITY a 'b'>]>", b"&a;",
]  # fmt: skip
CONVERSATIONS, REPLIES = 4, 3


@dataclass(frozen=True)
class StageSettings:
    """Settings of the stages after the corpus."""

    utterances: UtteranceSettings = field(default_factory=lambda: UtteranceSettings(max_set_aside=1.0))
    ranking: RankingSettings = field(default_factory=RankingSettings)
    walks: WalkSettings = field(default_factory=WalkSettings)
    kinds: tuple[str, ...] = tuple(KINDS)
    preferences: PreferenceSettings = field(default_factory=PreferenceSettings)


@dataclass(frozen=True)
class Input:
    """The files of a corpus, by path below its folder; `named` is what the setting `corpus` names there, by commas."""

    kind: str
    files: dict[str, bytes]
    named: str
    format: str = "auto"
    columns: dict[str, str] = field(default_factory=dict)
    stages: StageSettings = field(default_factory=StageSettings)

    def write(self, folder: Path) -> str:
        """Write the files into a folder; return the setting `corpus`."""
        for name, content in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return ",".join(str(folder / name) for name in self.named.split(","))


def chain(length: int) -> list[Record]:
    """Return plain records of one conversation in which every reply but the first has one reply."""
    rows = [{"id": f"d{n}", "conversation_id": "d0", "reply_to": f"d{n - 1}" if n else None} for n in range(length)]
    rows += [{"id": f"e{n}", "conversation_id": "d0", "reply_to": f"d{n}"} for n in range(0, length, 50)]
    return [
        {**row, "text": f"Step {n}.", "speaker": f"s{n % 3}", "score": n % 5, "timestamp": 1_600_000_000 + n}
        for n, row in enumerate(rows)
    ]


def utterances() -> list[Record]:
    """Return plain records: each conversation has replies to its root, and one reply to the first of them."""
    rows: list[Record] = []
    for c in range(CONVERSATIONS):
        rows.append({"id": f"c{c}", "conversation_id": f"c{c}", "reply_to": None, "text": f"Which kettle, {c}?"})
        for r in range(REPLIES):
            rows.append({"id": f"c{c}r{r}", "conversation_id": f"c{c}", "reply_to": f"c{c}", "text": f"Shelf {r}."})
        rows.append({"id": f"c{c}d", "conversation_id": f"c{c}", "reply_to": f"c{c}r0", "text": "Thank you."})
    return [
        {**row, "speaker": f"s{n % 3}", "score": n % 5, "timestamp": 1_600_000_000 + n} for n, row in enumerate(rows)
    ]


def convokit(rows: list[Record]) -> dict[str, bytes]:
    lines = [
        {"meta": {"score": row.pop("score", None)}, "reply-to": row.pop("reply_to", None), **row}
        for row in map(dict, rows)
    ]
    entries = {f"c{c}": {"meta": {"title": f"Kettle {c}"}} for c in range(CONVERSATIONS)}
    return {
        "utterances.jsonl": json_lines(lines),
        "conversations.json": json.dumps(entries).encode(),
        "speakers.json": b"{}",
        "corpus.json": b"{}",
        "index.json": b"{}",
    }


def comments(rows: list[Record]) -> bytes:
    return json_lines([record for record in reddit(rows) if "body" in record])


def submissions(rows: list[Record]) -> bytes:
    return json_lines([record for record in reddit(rows) if "body" not in record])


def nested(rows: list[Record]) -> bytes:
    """Return OpenAssistant's trees."""

    def message(row: Record, place: int) -> Record:
        below = [
            message(each, number)
            for number, each in enumerate(rows)
            if number > place and each.get("reply_to") == row.get("id")
        ]
        return {
            "message_id": row.get("id"), "parent_id": row.get("reply_to"), "text": row.get("text"), "role": "prompter",
            "rank": row.get("score"), "replies": below, "created_date": "2023-01-01T00:00:00+00:00",
        }  # fmt: skip

    trees = [(number, row) for number, row in enumerate(rows) if row.get("reply_to") is None]
    return json_lines([{"message_tree_id": row.get("id"), "prompt": message(row, n)} for n, row in trees])


def xml(rows: list[Record]) -> bytes:
    from xml.sax.saxutils import quoteattr

    lines = []
    for n, row in enumerate(rows):
        root = row.get("reply_to") is None
        parent = "" if root else f' ParentId="{n // 5 * 5}"'
        text = quoteattr(str(row.get("text")).encode(errors="replace").decode())
        lines.append(
            f'  <row Id="{n}" PostTypeId="{1 if root else 2}"{parent} Body={text} Score="{row.get("score")}"'
            f' CreationDate="2020-01-01T00:00:00.000" OwnerUserId="{n % 3}" Title="Kettle" />'
        )
    return ('<?xml version="1.0"?>\n<posts>\n' + "\n".join(lines) + "\n</posts>\n").encode(errors="replace")


def comments_xml(rows: list[Record]) -> bytes:
    """Return the comments of a Stack Exchange site, one on every other post."""
    lines = [
        f'  <row Id="{n}" PostId="{n // 2}" Score="{n % 4}" Text="No, {n}." CreationDate="2020-01-01T00:00:00.000" />'
        for n in range(0, 2 * len(rows), 2)
    ]
    return ('<?xml version="1.0"?>\n<comments>\n' + "\n".join(lines) + "\n</comments>\n").encode()


def saved_dataset(rows: list[Record]) -> dict[str, bytes]:
    """Return the files of a dataset that `datasets` saved to disk."""
    return {
        "data-00000-of-00001.arrow": arrow(rows, file_format=False),
        "state.json": json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}).encode(),
        "dataset_info.json": b"{}",
        "cache-1.arrow": b"",
    }


FORMATS = (
    "convokit", "dump", "parquet", "nested", "xml", "zip", "tar", "layout", "archive", "folder", "dataset", "site",
    "corpora", "tree", "parts",
)  # fmt: skip
# Names of folders that mean something to DuckDB, a shell, a URL or a terminal.
FOLDERS = ("score=3", "text=a b", "a%20b", "q'\"[0]*?", "{a,b}", "..b", "é\u202e", "a#b;c", "x://y", "~", "-rf")


@st.composite
def stage_settings(draw: st.DrawFn) -> StageSettings:
    """Draw settings of the stages, half of the time the defaults, and the kind of walk."""
    kinds = (draw(st.sampled_from(sorted(KINDS))),)
    if draw(st.booleans()):
        return StageSettings(kinds=kinds)
    flags = st.booleans()
    shares = draw(st.sampled_from([(80, 10, 10), (0, 0, 100), (34, 33, 33), (100, 0, 0)]))
    return StageSettings(
        UtteranceSettings(draw(flags), 1.0, draw(flags), draw(st.sampled_from([1, 1, 2, 5]))),
        RankingSettings(
            deleted=draw(flags),
            empty=draw(flags),
            speakers=draw(st.sampled_from([(), ("s1",), ("nobody",), ("s0", "s1", "s2")])),
            stickied=draw(flags),
            distinguished=draw(flags),
            min_age_hours=draw(st.sampled_from([None, None, 0, 1e6])),
            min_score=draw(st.sampled_from([None, None, 0, -(2**40)])),
            min_score_gap=draw(st.sampled_from([None, None, 0, 1])),
            order=draw(st.sampled_from(["score", "released"])),
            score_order=draw(st.sampled_from(["higher", "lower"])),
        ),
        WalkSettings(
            seed=draw(st.integers(0, 3)),
            walks_per_conversation=draw(st.sampled_from([1, 1, 3])),
            exclude_repeats=draw(flags),
            speakers=draw(st.sampled_from(["names", "pseudonyms", "none"])),
            shares=shares,
        ),
        kinds,
        draw(preference_settings()),
    )


@st.composite
def preference_settings(draw: st.DrawFn) -> PreferenceSettings:
    flags = st.booleans()
    speakers: st.SearchStrategy[Speakers] = st.sampled_from(["names", "pseudonyms", "none"])
    return PreferenceSettings(
        form=draw(st.sampled_from(["conversational", "text"])),
        speakers=draw(speakers),
        mentions=draw(speakers),
        source=draw(st.sampled_from(["none", "in_prompt"])),
        max_turns=draw(st.sampled_from([2, 16])),
        max_characters=draw(st.sampled_from([2, 40, 3000])),
        pairs=draw(st.sampled_from(["all", "best-rest", "adjacent", "consecutive"])),
        pairs_per_group=draw(st.sampled_from([1, 5])),
        replies_per_group=draw(st.sampled_from([2, 50])),
        min_score_ratio=draw(st.sampled_from([None, 1, 2.5])),
        within_seconds=draw(st.sampled_from([None, 0, 10**9])),
        later_only=draw(flags),
        min_root_score=draw(st.sampled_from([None, -(2**40), 3])),
        self_posts_only=draw(flags),
        top_level_only=draw(flags),
        exclude_root_speaker=draw(flags),
        max_words=draw(st.sampled_from([None, 3])),
        exclude_quotations=draw(flags),
        margin=draw(st.sampled_from(["none", "log"])),
        privileged=draw(st.sampled_from(["rejected", "replies"])),
    )


@st.composite
def rows(draw: st.DrawFn) -> list[Record]:
    """Draw records in which up to four values, keys or rows are changed."""
    found = utterances()
    if draw(st.integers(0, 9)) == 0:
        found += chain(draw(st.sampled_from([2, 60, 400])))
    for _ in range(draw(st.integers(0, 4))):
        row = found[draw(st.integers(0, len(found) - 1))]
        name = draw(st.sampled_from(sorted(row) or ["id"]))
        change = draw(st.sampled_from(["value", "value", "value", "all", "delete", "repeat"]))
        if change == "value":
            row[name] = draw(st.sampled_from(VALUES))
        elif change == "all":
            value = draw(st.sampled_from(VALUES))
            for each in found:
                each[name] = value
        elif change == "delete":
            row.pop(name, None)
        else:
            found.insert(draw(st.integers(0, len(found))), dict(row))
    return found


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Draw a file with up to two changes of its bytes, mostly none."""
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(content)))
        change = draw(st.sampled_from(["flip", "cut", "insert", "delete", "repeat"]))
        if change == "flip" and at < len(content):
            content = content[:at] + bytes([content[at] ^ 1 << draw(st.integers(0, 7))]) + content[at + 1 :]
        elif change == "cut":
            content = content[:at]
        elif change == "insert":
            content = content[:at] + draw(st.sampled_from(PIECES) | st.binary(max_size=4)) + content[at:]
        else:
            size = draw(st.integers(1, 400))
            rest = content[at + size :] if change == "delete" else content[at:]
            content = content[: at if change == "delete" else at + size] + rest
    return content


@st.composite
def packed(
    draw: st.DrawFn, content: bytes, packings: dict[str, Callable[[bytes], bytes]] = PACKINGS
) -> tuple[str, bytes]:
    """Draw a packing; return its extension and the file, damaged before and after it is packed."""
    extension = draw(st.sampled_from(sorted(packings)))
    return extension, draw(damaged(packings[extension](draw(damaged(content)))))


@st.composite
def data_files(draw: st.DrawFn, found: list[Record], stem: str) -> tuple[dict[str, bytes], dict[str, str]]:
    """Draw one file of any layout in any container and packing; return it by name, and the setting `columns`."""
    layout = draw(st.sampled_from(sorted(LAYOUTS)))
    container = draw(st.sampled_from(sorted(CONTAINERS)))
    name, write = CONTAINERS[container]
    extension, content = draw(packed(write(LAYOUTS[layout](found))))
    columns = RENAMED if layout == "renamed" else {}
    if draw(st.integers(0, 9)) == 0:
        columns = {**columns, draw(st.sampled_from(["text", "score", "speaker", "title"])): draw(
            st.sampled_from(["body", "score", "nothing", "", 'a"b', "text"])
        )}  # fmt: skip
    return {f"{stem}{name}{extension}": content}, columns


@st.composite
def site(draw: st.DrawFn, made: list[Record]) -> dict[str, bytes]:
    """Draw posts and comments of a layout in files of their own, each in a container and packing of its own."""
    found = LAYOUTS[draw(st.sampled_from(sorted(LAYOUTS)))](made)
    halves = {"posts": found[: len(found) // 2], "comments": found[len(found) // 2 :]}
    files = {}
    for name, half in halves.items():
        suffix, write = CONTAINERS[draw(st.sampled_from(sorted(CONTAINERS)))]
        extension, content = draw(packed(write(half)))
        files[f"site/{name}{suffix}{extension}"] = content
    return files


@st.composite
def parts(draw: st.DrawFn, made: list[Record]) -> tuple[dict[str, bytes], dict[str, str]]:
    """Draw a table of any layout in several files, as one writes that splits it; return them, and `columns`."""
    layout = draw(st.sampled_from(sorted(LAYOUTS)))
    found = LAYOUTS[layout](made)
    suffix, write = CONTAINERS[draw(st.sampled_from(sorted(CONTAINERS)))]
    name = draw(st.sampled_from(["train-{:05}-of-00003", "part-{:05}", "corpus.{}", "day={}/part", "_{}"]))
    size = draw(st.sampled_from([3, 7, 100]))
    pieces = [write(found[start : start + size]) for start in range(0, len(found), size)]
    if draw(st.booleans()):
        # Cut without a look at the rows.
        whole = write(found)
        size = max(1, len(whole) // 3)
        pieces = [whole[start : start + size] for start in range(0, len(whole), size)]
    files = {f"parts/{name.format(place)}{suffix}": piece for place, piece in enumerate(pieces)}
    which = draw(st.sampled_from(sorted(files)))
    files[which] = draw(damaged(files[which]))
    if draw(st.integers(0, 4)) == 0:
        files.pop(which)
    return files or {f"parts/none{suffix}": b""}, RENAMED if layout == "renamed" else {}


@st.composite
def inputs(draw: st.DrawFn) -> Input:
    """Draw a corpus of any format, and settings."""
    made, kind = draw(rows()), draw(st.sampled_from(FORMATS + ("layout",) * 5))
    wanted = draw(st.sampled_from(["auto"] * 8 + ["convokit", "dump", "table"]))
    files, named, columns = draw(drawn_files(kind, made))
    return Input(kind, files, named, wanted, columns, draw(stage_settings()))


@st.composite
def drawn_files(draw: st.DrawFn, kind: str, made: list[Record]) -> tuple[dict[str, bytes], str, dict[str, str]]:
    """Draw the files of a kind of corpus; return them, what the setting `corpus` names, and the setting `columns`."""
    columns: dict[str, str] = {}
    if kind in ("convokit", "zip", "tar"):
        files = convokit(made)
        which = draw(st.sampled_from(sorted(files)))
        files[which] = draw(damaged(files[which]))
        if kind == "convokit":
            return {f"corpus/{name}": content for name, content in files.items()}, "corpus", columns
        extension, pack = ARCHIVES[kind]
        return {f"corpus{extension}": draw(damaged(pack(files)))}, f"corpus{extension}", columns
    if kind == "dump":
        posts, replies = draw(packed(submissions(made))), draw(packed(comments(made)))
        files = {f"dumps/RS_2020-01{posts[0]}": posts[1], f"dumps/RC_2020-01{replies[0]}": replies[1]}
        return files, draw(st.sampled_from(["dumps", ",".join(sorted(files))])), columns
    if kind == "parquet":
        return {"corpus.parquet": draw(damaged(parquet(made)))}, "corpus.parquet", columns
    if kind == "xml":
        files = {"site/Posts.xml": draw(damaged(xml(made)))}
        if draw(st.booleans()):
            files["site/Comments.xml"] = draw(damaged(comments_xml(made)))
        return files, "site", columns
    if kind == "nested":
        extension, content = draw(packed(nested(made)))
        return {f"corpus.jsonl{extension}": content}, f"corpus.jsonl{extension}", columns
    if kind == "dataset":
        files = saved_dataset(made)
        which = draw(st.sampled_from(sorted(files)))
        files[which] = draw(damaged(files[which]))
        return {f"saved/{name}": content for name, content in files.items()}, "saved", columns
    if kind == "parts":
        files, columns = draw(parts(made))
        return files, "parts", columns
    files, columns = draw(data_files(made, "corpus"))
    if kind == "site":
        return draw(site(made)), "site", columns
    if kind == "corpora":
        # Corpora of any two layouts, side by side.
        others, more = draw(data_files(draw(rows()), "other"))
        return files | others, ",".join((*files, *others)), {**columns, **more}
    if kind == "tree":
        folders = draw(st.lists(st.sampled_from(FOLDERS), min_size=1, max_size=3))
        below = {f"tree/{'/'.join(folders)}/{name}": content for name, content in files.items()}
        return below, draw(st.sampled_from(["tree", next(iter(below))])), columns
    if kind == "layout":
        return files, next(iter(files)), columns
    if kind == "archive":
        extension, pack = ARCHIVES[draw(st.sampled_from(sorted(ARCHIVES)))]
        return {f"corpus{extension}": draw(damaged(pack(files)))}, f"corpus{extension}", columns
    # A folder of several files.
    others, more = draw(data_files(draw(rows()), "other"))
    files |= others | draw(
        st.sampled_from([{}, {"README.md": b"# Kettles\n"}, {"a.csv": b""}, {"b.json": b"[" * 9999}])
    )
    return {f"folder/{name}": content for name, content in files.items()}, "folder", {**columns, **more}
