"""What cannot take part is set aside with a reason, is counted, can be read, and never vanishes.

First each reason by hand, then the lines that the world sends, each alone and all together, then the same
in one shard and in three. 25 s of CPU.
"""

import hashlib
import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.corpus.settings import UtteranceSettings
from adc_pipeline.corpus.utterances import correction, refuse_too_many_set_aside, write_utterances
from adc_pipeline_tests import trees
from adc_pipeline_tests.stages import read as tables
from adc_pipeline_tests.stages import read_utterances, utterance_records
from adc_pipeline_tests.trees import Corpus, Row

Line = dict[str, Any] | str | bytes
SetAside = dict[int, tuple[str, str | None]]


def row(id: str, reply_to: str | None, conversation_id: str = "r", score: Any = 1, timestamp: int = 0) -> Row:
    return Row(id, conversation_id, reply_to, "ann", f"text of {id}", timestamp, {"score": score})


SOUND = [row("r", None), row("a", "r"), row("b", "a")]


def spelt(line: Line) -> bytes:
    """A line as it stands in the file, without its end."""
    return line if isinstance(line, bytes) else (line if isinstance(line, str) else json.dumps(line)).encode()


def read(
    folder: Path, rows: list[Row], settings: UtteranceSettings | None = None, lines: list[Line] | None = None
) -> tuple[dict[str, int], list[str], SetAside]:
    """Counts, ids that take part, and (position -> reason, because_of) of the rest.

    `lines` are appended to the file as they are.
    """
    directory = Corpus(rows, {"r": {"title": "Title"}}).write(folder / "corpus")
    appended = [spelt(line) for line in lines or []]
    with (directory / "utterances.jsonl").open("ab") as file:
        file.writelines(line + b"\n" for line in appended)
    out = folder / "out"
    counts = write_utterances(directory, out, settings or UtteranceSettings(max_set_aside=1.0))
    ids = read_utterances(out, "id")
    found = tables(out, "set_aside.parquet", "position, reason, because_of")
    placed = tables(out, "tree.parquet", "position")
    if settings is None or settings.shards == 1:
        assert placed == sorted(placed)

    filled = len(rows) + sum(bool(line.strip()) for line in appended)
    assert counts["read"] == filled == counts["taking_part"] + counts["set_aside"]
    assert counts["taking_part"] == len(ids)
    reasons = [reason for _, reason, _ in found]
    assert {key: n for key, n in counts.items() if key.startswith("set_aside.")} == {
        f"set_aside.{reason}": reasons.count(reason) for reason in set(reasons)
    }
    return counts, [id for (id,) in ids], {position: (reason, by) for position, reason, by in found}


@pytest.mark.parametrize("shards", [1, 3])
def test_a_table_without_rows_ends_the_run_with_a_sentence(tmp_path: Path, shards: int) -> None:
    (tmp_path / "some.csv").write_text("id,conversation_id,reply_to,text,score\n")
    with pytest.raises(PipelineError, match="The corpus holds no utterances"):
        write_utterances(tmp_path / "some.csv", tmp_path / "out", UtteranceSettings(shards=shards))


@pytest.mark.fast_first
@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([row("x", "gone"), row("y", "x")], {3: ("missing_parent", None), 4: ("missing_parent", "x")}),
        (
            [row("x", "b", "other"), row("other", None, "other"), row("y", "x", "other")],
            {3: ("other_conversation", None), 5: ("other_conversation", "x")},
        ),
        ([row("x", "y"), row("y", "x"), row("z", "x")], dict.fromkeys((3, 4, 5), ("loop", None))),
        ([row("x", "x"), row("y", "x")], {3: ("second_root", None), 4: ("second_root", "x")}),
        ([row("x", "a", score=None), row("y", "x")], {3: ("no_score", None), 4: ("no_score", "x")}),
        ([row("x", None), row("y", "x")], {3: ("second_root", None), 4: ("second_root", "x")}),
    ],
    ids=["missing_parent", "other_conversation", "loop", "own parent", "no_score", "second_root"],
)
def test_each_reason(rows: list[Row], expected: SetAside, tmp_path: Path) -> None:
    counts, ids, aside = read(tmp_path, SOUND + rows)
    assert aside == expected
    assert counts["set_aside"] == len(expected)
    assert {"r", "a", "b"} <= set(ids)


def test_an_utterance_at_fault_below_another_answers_for_itself(tmp_path: Path) -> None:
    rows = [row("x", "gone"), row("y", "x"), row("z", "y", score=None), row("w", "z")]
    _, _, aside = read(tmp_path, SOUND + rows)
    assert aside == {
        3: ("missing_parent", None),
        4: ("missing_parent", "x"),
        5: ("no_score", None),
        6: ("no_score", "z"),
    }


@pytest.mark.slow
def test_of_several_rows_with_one_id_one_takes_part_whatever_their_order(tmp_path: Path) -> None:
    early, late, same = row("x", "a", timestamp=1), row("x", "b", timestamp=2), row("b", "a")
    replies = [row("y", "x")]
    kept = []
    for number, rows in enumerate([[early, late, same], [late, early, same], [same, late, early]]):
        counts, ids, _ = read(tmp_path / str(number), SOUND + rows + replies)
        assert (counts["set_aside.duplicate_id"], counts["set_aside.identical_row"]) == (1, 1)
        assert sorted(ids) == ["a", "b", "r", "x", "y"]
        kept.append(read_utterances(tmp_path / str(number) / "out", "reply_to, timestamp", "id = 'x'"))
    assert kept == [[("a", 1)]] * 3


def test_a_second_row_of_the_root_does_not_make_a_second_root(tmp_path: Path) -> None:
    _, ids, aside = read(tmp_path, [*SOUND, row("r", None)])
    assert ids == ["r", "a", "b"]
    assert aside == {3: ("identical_row", None)}


@pytest.mark.slow
def test_of_two_recordings_the_later_stays_and_equal_rows_count_apart(tmp_path: Path) -> None:
    def recorded(score: int, at: int | None) -> Row:
        return Row("x", "r", "a", "ann", "text", 0, {"score": score, "retrieved_on": at})

    early, late, unknown = recorded(240, 7200), recorded(-7, 3_000_000), recorded(9, None)
    for number, rows in enumerate([[early, late, late, unknown], [late, unknown, early, late]]):
        counts, _, aside = read(tmp_path / str(number), SOUND + rows)
        assert read_utterances(tmp_path / str(number) / "out", "score", "id = 'x'") == [(-7,)]
        assert (counts["set_aside.duplicate_id"], counts["set_aside.identical_row"]) == (1, 1)
        assert aside[3 + rows.index(early)] == ("earlier_recording", None)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({}, "earlier_recording"),
        ({"text": "edited", "speaker": "gone"}, "earlier_recording"),
        ({"reply_to": "r"}, "duplicate_id"),
        ({"timestamp": 7}, "duplicate_id"),
    ],
)
def test_an_earlier_recording_has_the_place_and_the_time_of_the_later(
    tmp_path: Path, other: dict[str, Any], reason: str
) -> None:
    late = Row("x", "r", "a", "ann", "text", 0, {"score": 1, "retrieved_on": 9000})
    early = replace(late, meta={"score": 5, "retrieved_on": 7200}, **other)
    counts, _, aside = read(tmp_path, [*SOUND, early, late])
    assert aside == {3: (reason, None)}
    with nullcontext() if reason == "earlier_recording" else pytest.raises(PipelineError, match="1 duplicate_id"):
        refuse_too_many_set_aside(counts, 0)


def test_lines_that_hold_no_utterance_are_set_aside(tmp_path: Path) -> None:
    whole = {"conversation_id": "r", "reply-to": "r", "speaker": "ann", "text": "t", "meta": {"score": 1}}
    lines: list[Line] = ['{"id": "x", "text', "[1, 2]", whole, {**whole, "id": "y", "conversation_id": None}]
    _, ids, aside = read(tmp_path, SOUND, lines=lines)
    assert ids == ["r", "a", "b"]
    assert aside == {
        3: ("malformed", None),
        4: ("malformed", None),
        5: ("no_id", None),
        6: ("no_conversation", None),
    }


def test_a_whole_number_is_a_score_however_it_is_spelt(tmp_path: Path) -> None:
    spellings: list[float | str] = [7, "7", 7.0, -(2**31) - 1]
    _, ids, _ = read(tmp_path, [*SOUND, *(row(f"x{n}", "a", score=score) for n, score in enumerate(spellings))])
    assert ids[3:] == ["x0", "x1", "x2", "x3"]
    scores = [score for (score,) in read_utterances(tmp_path / "out", "score", "id LIKE 'x%'")]
    assert dict(zip(map(repr, spellings), scores, strict=True)) == {repr(score): int(score) for score in spellings}


def test_anything_else_is_no_score(tmp_path: Path) -> None:
    wrong: list[Any] = ["many", "", 1.5, [1], {"up": 1}, True]
    _, _, aside = read(tmp_path, [*SOUND, *(row(f"x{n}", "a", score=score) for n, score in enumerate(wrong))])
    found = {repr(score): aside.get(n) for n, score in enumerate(wrong, 3)}
    assert found == {repr(score): ("no_score", None) for score in wrong}


@pytest.mark.slow
def test_an_excerpt_has_a_root_unless_the_setting_says_otherwise(tmp_path: Path) -> None:
    excerpt = [row("x", "gone", score=None), row("y", "x")]
    counts, ids, aside = read(tmp_path / "adopted", excerpt)
    assert (ids, aside, counts["adopted_roots"]) == (["x", "y"], {}, 1)
    strict = UtteranceSettings(adopt_roots=False, max_set_aside=1.0)
    counts, ids, aside = read(tmp_path / "strict", [row("x", "gone"), row("y", "x")], strict)
    assert (ids, counts["adopted_roots"]) == ([], 0)
    assert aside == {0: ("root_outside", None), 1: ("root_outside", "x")}


@pytest.mark.slow
def test_more_than_the_largest_share_set_aside_ends_the_run(tmp_path: Path) -> None:
    rows = [*SOUND, row("x", "gone")]
    read(tmp_path / "enough", rows, UtteranceSettings(max_set_aside=0.25))
    with pytest.raises(PipelineError, match=r"1 of 4 .*1 missing_parent.*max_set_aside"):
        read(tmp_path / "too much", rows, UtteranceSettings(max_set_aside=0.24))
    # What it would be can be looked at.
    assert tables(tmp_path / "too much" / "out", "set_aside.parquet", "id, reason") == [("x", "missing_parent")]


@pytest.mark.slow
def test_copies_and_the_edge_of_an_excerpt_do_not_end_the_run(tmp_path: Path) -> None:
    """Comments on two posts of the month before, and the overlap of two downloads."""
    edge = [row("e", "post", "post"), row("f", "post", "post"), row("g", "e", "post"), row("h", "gone", "r")]
    rows = [*SOUND, *(row(f"s{number}", "a") for number in range(20)), *edge, *SOUND]
    counts, ids, aside = read(tmp_path, rows, UtteranceSettings(max_set_aside=0.04))
    assert len(ids) == 23
    assert {at: fate for at, fate in aside.items() if at >= 23} == {
        23: ("root_outside", None), 24: ("root_outside", None), 25: ("root_outside", "e"),
        26: ("missing_parent", None), 27: ("identical_row", None), 28: ("identical_row", None),
        29: ("identical_row", None),
    }  # fmt: skip
    assert counts["set_aside"] == 7
    with pytest.raises(PipelineError, match=r"1 of 30 utterances would be set aside \(1 missing_parent\)"):
        read(tmp_path / "strict", rows, UtteranceSettings(max_set_aside=0.03))


@pytest.mark.parametrize(
    ("reason", "advice"),
    [("second_root", "name a conversation for each root"), ("duplicate_id", "give each utterance an id"),
     ("no_id", "give each utterance an id"),
     ("no_conversation", "name the conversation of each reply"), ("loop", "correct the corpus")],
)  # fmt: skip
def test_the_commonest_reason_decides_what_to_do(reason: str, advice: str) -> None:
    counts = {"set_aside": 3, f"set_aside.{reason}": 2, "set_aside.malformed": 1}
    assert correction(counts, {}).startswith(advice)


def test_a_corpus_of_which_most_roots_are_missing_is_refused(tmp_path: Path) -> None:
    edge = [row(f"e{number}", "post", "post") for number in range(31)]
    with pytest.raises(PipelineError, match=r"31 of 34 .*31 root_outside.* name the file with the roots"):
        read(tmp_path, [*SOUND, *edge], UtteranceSettings())
    # The edge of an excerpt may be larger than what takes part.
    (tmp_path / "edge").mkdir()
    counts, _, _ = read(tmp_path / "edge", [*SOUND, *edge[:20]], UtteranceSettings())
    assert counts["set_aside.root_outside"] == 20


def test_a_file_that_is_cut_off_ends_the_run(tmp_path: Path) -> None:
    directory = Corpus(SOUND).write(tmp_path / "corpus")
    lines = directory / "utterances.jsonl"
    lines.write_bytes(lines.read_bytes()[:-20])
    with pytest.raises(PipelineError, match=r"utterances\.jsonl.* incomplete"):
        write_utterances(directory, tmp_path)


# --- As the world sends them --------------------------------------------------------------------------


def reply(id: str, **changes: Any) -> dict[str, Any]:
    """A sound reply to the root as a line of ConvoKit, with some keys changed."""
    return {"id": id, "conversation_id": "r", "reply-to": "r", "speaker": "ann", "text": "TEXT", "timestamp": 1,
            "meta": {"score": 1}} | changes  # fmt: skip


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in reply(f"no {key}").items() if name != key}


def text_as(id: str, literal: bytes) -> bytes:
    """A reply whose text is spelt so in the file."""
    return spelt(reply(id)).replace(b'"TEXT"', literal)


# Where a line goes: to the rows set aside, for a reason, or into a conversation, with text, timestamp and score.
Fate = str | tuple[str, int | None, int]
SOUND_FATE: Fate = ("TEXT", 1, 1)
MB = 10**6

# A text that is a number, an object or a list is kept, spelt as JSON; null is no text.
WORLD: dict[str, tuple[Line, Fate]] = {
    "malformed JSON": ('{"id": "malformed JSON", "text', "malformed"),
    "invalid UTF-8": (text_as("invalid UTF-8", b'"caf\xe9"'), "malformed"),
    "half of a surrogate pair": (text_as("half of a surrogate pair", rb'"a\ud800b"'), ("a\ufffdb", 1, 1)),
    "a NUL byte": (text_as("a NUL byte", b'"a\0b"'), "malformed"),
    "an escaped NUL": (reply("an escaped NUL", text="a\0b"), ("a\0b", 1, 1)),
    "a block of NUL bytes": (bytes(4096), "malformed"),
    "a long block of NUL bytes": (bytes(5 * MB), "malformed"),
    "NUL bytes before an object": (bytes(512) + spelt(reply("NUL bytes before an object")), "malformed"),
    "a carriage return": (spelt(reply("a carriage return")) + b"\r", SOUND_FATE),
    "a text of 10 MB": (reply("a text of 10 MB", text="x" * 10 * MB), ("x" * 10 * MB, 1, 1)),
    "a text of a number": (text_as("a text of a number", b"7"), ("7", 1, 1)),
    "a text of an object": (text_as("a text of an object", b'{"a": [1, null]}'), ('{"a":[1,null]}', 1, 1)),
    "a text of null": (text_as("a text of null", b"null"), ("", 1, 1)),
    "no text": (without("text"), ("", 1, 1)),
    "no meta": (without("meta"), "no_score"),
    "a meta of a string": (reply("a meta of a string", meta="score"), "no_score"),
    "a meta of null": (reply("a meta of null", meta=None), "no_score"),
    "a time spelt as a string": (reply("a time spelt as a string", timestamp="1600000000"), ("TEXT", 1600000000, 1)),
    "a time with a fraction": (reply("a time with a fraction", timestamp=1600000000.9), ("TEXT", 1600000000, 1)),
    "no timestamp": (without("timestamp"), ("TEXT", None, 1)),
    "a time of words": (reply("a time of words", timestamp="yesterday"), ("TEXT", None, 1)),
    "a score beyond 32 bits": (reply("a score beyond 32 bits", meta={"score": -(2**40)}), ("TEXT", 1, -(2**40))),
    "the largest score": (reply("the largest score", meta={"score": 2**63 - 1}), ("TEXT", 1, 2**63 - 1)),
    "a score beyond 64 bits": (reply("a score beyond 64 bits", meta={"score": 2**63}), "no_score"),
    "a score of 7.0": (reply("a score of 7.0", meta={"score": 7.0}), ("TEXT", 1, 7)),
    'a score of "7"': (reply('a score of "7"', meta={"score": "7"}), ("TEXT", 1, 7)),
    "a score of 1.5": (reply("a score of 1.5", meta={"score": 1.5}), "no_score"),
    "a score of NaN": (reply("a score of NaN", meta={"score": float("nan")}), "no_score"),
    "a score of null": (reply("a score of null", meta={"score": None}), "no_score"),
    "an id of 100,000 characters": (reply("ü" * 100_000), SOUND_FATE),
}
ALIVE = {name: (line, fate) for name, (line, fate) in WORLD.items() if not isinstance(fate, str)}
IDS = {name: "ü" * 100_000 if name.startswith("an id") else name for name in WORLD}


@pytest.mark.slow
@pytest.mark.parametrize("name", WORLD)
def test_a_line_of_the_world_takes_part_or_is_set_aside_and_stops_nothing(name: str, tmp_path: Path) -> None:
    line, fate = WORLD[name]
    _, ids, aside = read(tmp_path, SOUND, lines=[line, reply("after")])
    assert ids[-1] == "after"
    if isinstance(fate, str):
        assert aside == {3: (fate, None)}
    else:
        assert aside == {}
        where = "id NOT IN ('r', 'a', 'b', 'after')"
        assert read_utterances(tmp_path / "out", "id, text, timestamp, score", where) == [(IDS[name], *fate)]


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 3])
def test_all_of_them_together_have_the_same_fates(shards: int, tmp_path: Path) -> None:
    settings = UtteranceSettings(max_set_aside=1.0, shards=shards)
    _, ids, aside = read(tmp_path, SOUND, settings, [line for line, _ in WORLD.values()])
    fates = dict(enumerate((fate for _, fate in WORLD.values()), 3))
    assert aside == {position: (fate, None) for position, fate in fates.items() if isinstance(fate, str)}
    assert ids[3:] == [IDS[name] for name in ALIVE]
    found = read_utterances(tmp_path / "out", "text, timestamp, score", "position > 2")
    assert found == [fate for _, fate in ALIVE.values()]


def test_blank_lines_are_no_rows_and_take_no_position(tmp_path: Path) -> None:
    counts, ids, _ = read(tmp_path, SOUND, lines=[b"", b"   ", b"\t\r", reply("x"), b"", b""])
    assert counts["read"] == 4
    assert read_utterances(tmp_path / "out", "position", "id = 'x'") == [(3,)]
    assert ids == ["r", "a", "b", "x"]


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 3])
def test_a_line_longer_than_duckdb_reads_is_set_aside_and_those_around_it_are_whole(
    shards: int, tmp_path: Path
) -> None:
    """Up to 16 MiB all is read, up to 32 it depends on the place in the file, beyond that nothing is."""
    long = reply("long", text="x" * 10 * MB)
    lines: list[Line] = [long, reply("too long", text="x" * 40 * MB), reply("below", **{"reply-to": "too long"}),
                         reply("after")]  # fmt: skip
    settings = UtteranceSettings(max_set_aside=1.0, shards=shards)
    _, ids, aside = read(tmp_path, SOUND, settings, lines)
    assert ids == ["r", "a", "b", "long", "after"]
    assert aside == {4: ("malformed", None), 5: ("missing_parent", None)}
    assert read_utterances(tmp_path / "out", "length(text)", "id = 'long'") == [(10 * MB,)]


@pytest.mark.slow
def test_a_line_beyond_what_duckdb_reads_costs_a_table_itself_only(tmp_path: Path) -> None:
    """The reader of any fields, which reads plain lines in place, as that of dumps does."""
    rows = [
        {"id": name, "conversation_id": "r", "reply_to": parent, "speaker": "s", "text": text, "score": 1}
        for name, parent, text in [("r", None, "?"), ("a", "r", "x"), ("long", "r", "x" * 40 * MB), ("b", "r", "x")]
    ]
    corpus = tmp_path / "table.jsonl"
    corpus.write_text("".join(f"{json.dumps(each)}\n" for each in rows))
    write_utterances(corpus, tmp_path / "out", UtteranceSettings(max_set_aside=1.0))
    assert read_utterances(tmp_path / "out", "id") == [("r",), ("a",), ("b",)]


ENTITIES = "&lt;b&gt; &amp;amp; &quot;&#39; &amp;lt; &nbsp; &lt"
DECODED = "<b> &amp; \"' &lt; &nbsp; &lt"


@pytest.mark.fast_first
@pytest.mark.parametrize(
    ("decode", "expected", "shards"), [(True, DECODED, 1), (True, DECODED, 3), (False, ENTITIES, 1)]
)
def test_entities_are_decoded_once_in_texts_and_titles_or_not_at_all(
    decode: bool, expected: str, shards: int, tmp_path: Path
) -> None:
    root, child = row("r", None), row("a", "r")
    root.text = child.text = ENTITIES
    directory = Corpus([root, child], {"r": {"title": ENTITIES}}).write(tmp_path / "corpus")
    write_utterances(directory, tmp_path / "out", UtteranceSettings(decode_entities=decode, shards=shards))
    assert read_utterances(tmp_path / "out", "text, title") == [(expected, expected), (expected, None)]


def test_a_root_without_a_title_takes_part(tmp_path: Path) -> None:
    _, ids, aside = read(tmp_path, [*SOUND, row("s", None, "s"), row("t", "s", "s")])
    assert (ids, aside) == (["r", "a", "b", "s", "t"], {})
    assert read_utterances(tmp_path / "out", "id, title", "is_root") == [("r", "Title"), ("s", None)]


# --- In several shards --------------------------------------------------------------------------------


def shard_of(conversation_id: str, shards: int = 3) -> int:
    return int(hashlib.md5(conversation_id.encode()).hexdigest()[:8], 16) * shards >> 32


# One conversation for each of three shards; a root's id is its conversation's.
HERE, THERE, ELSEWHERE = ({shard_of(name): name for name in "mnopqrstu"}[shard] for shard in range(3))
ROOTS = [row(name, None, name) for name in (HERE, THERE, ELSEWHERE)]


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("same", [True, False], ids=["the same", "another"])
@pytest.mark.parametrize("conversation", [HERE, THERE], ids=["same conversation", "other conversation"])
def test_of_two_rows_with_one_id_one_takes_part_wherever_they_lie(
    shards: int, same: bool, conversation: str, tmp_path: Path
) -> None:
    second = row("x", conversation, conversation, timestamp=0 if same else 1)
    settings = UtteranceSettings(max_set_aside=1.0, shards=shards)
    first = row("x", HERE, HERE)
    rows = [*ROOTS, second, first, row("below", "x", HERE)]
    _, ids, aside = read(tmp_path, rows, settings)
    assert sorted(ids) == sorted([HERE, THERE, ELSEWHERE, "x", "below"])
    assert list(aside.values()) == [("identical_row" if same and conversation == HERE else "duplicate_id", None)]
    # The same row twice: either may go. Another one: the later goes, although it was read first.
    if not same:
        assert list(aside) == [3]
    kept = read_utterances(tmp_path / "out", "conversation_id, timestamp", "id = 'x'")
    assert kept == [(HERE, 0)]


@pytest.mark.fast_first
@pytest.mark.parametrize("shards", [1, 3])
def test_a_parent_in_another_conversation_is_known_as_such_in_whichever_shard(shards: int, tmp_path: Path) -> None:
    rows = [*ROOTS, row("there", THERE, THERE), row("x", "there", HERE), row("y", "x", HERE), row("z", "y", HERE),
            row("gone", "nowhere", HERE), row("w", "gone", HERE)]  # fmt: skip
    _, ids, aside = read(tmp_path, rows, UtteranceSettings(max_set_aside=1.0, shards=shards))
    assert ids == [HERE, THERE, ELSEWHERE, "there"]
    assert aside == {
        4: ("other_conversation", None),
        5: ("other_conversation", "x"),
        6: ("other_conversation", "x"),
        7: ("missing_parent", None),
        8: ("missing_parent", "gone"),
    }


@st.composite
def corpora_with_copies(draw: st.DrawFn) -> Corpus:
    """A corpus with faults, in which some rows come twice, the same or in another conversation."""
    corpus = draw(trees.corpora())
    for original in draw(st.lists(st.sampled_from(corpus.rows), max_size=3)):
        conversation_id = draw(st.sampled_from([original.conversation_id, corpus.rows[0].conversation_id]))
        copy = Row(**{**vars(original), "conversation_id": conversation_id, "timestamp": draw(st.integers(0, 2**33))})
        corpus.rows.insert(draw(st.integers(0, len(corpus.rows))), copy)
    return corpus


@pytest.mark.slow
@given(corpora_with_copies())
@hypothesis_settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
def test_nothing_depends_on_the_number_of_shards(corpus: Corpus) -> None:
    with TemporaryDirectory() as folder:
        directory = corpus.write(Path(folder) / "corpus")
        found = []
        for shards in (1, 3):
            out = Path(folder) / str(shards)
            counts = write_utterances(directory, out, UtteranceSettings(max_set_aside=1.0, shards=shards))
            assert counts["read"] == len(corpus.rows) == counts["taking_part"] + counts["set_aside"]
            columns = "id, conversation_id, reply_to, position, reason, because_of"
            found.append((counts, tables(out, "set_aside.parquet", columns), utterance_records(out)))
        assert len(found[0][1]) == found[0][0]["set_aside"]
        assert found[0] == found[1]


def test_a_row_is_set_aside_once_even_with_two_faults(tmp_path: Path) -> None:
    broken = {"id": "x", "reply-to": "r", "speaker": "ann", "text": "t", "meta": {"score": 1}}
    _, ids, aside = read(tmp_path, SOUND, lines=[broken, broken])
    assert ids == ["r", "a", "b"]
    assert {reason for reason, _ in aside.values()} == {"identical_row", "no_conversation"}


def test_of_two_rows_with_one_id_the_one_that_has_a_conversation_stays(tmp_path: Path) -> None:
    lost = {"id": "x", "reply-to": "a", "speaker": "ann", "text": "t", "meta": {"score": 1}, "timestamp": -5}
    _, ids, aside = read(tmp_path, [*SOUND, row("x", "a", timestamp=9)], lines=[lost])
    assert ids == ["r", "a", "b", "x"]
    assert aside == {4: ("duplicate_id", None)}


def test_a_run_that_was_refused_can_be_run_again_and_is_refused_again(tmp_path: Path) -> None:
    directory = Corpus([*SOUND, row("x", "gone")], {}).write(tmp_path / "corpus")
    strict = UtteranceSettings(max_set_aside=0)
    for attempt in ("first", "second"):
        with pytest.raises(PipelineError, match="1 missing_parent"):
            write_utterances(directory, tmp_path / attempt, strict, work=tmp_path / "work")


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    directory = Corpus(SOUND, {}).write(tmp_path / "corpus")
    lines = directory / "utterances.jsonl"
    lines.write_bytes(b"\xef\xbb\xbf" + lines.read_bytes())
    assert write_utterances(directory, tmp_path / "out")["taking_part"] == 3


def test_a_title_is_that_of_its_conversation_however_the_number_is_spelt(tmp_path: Path) -> None:
    directory = Corpus([row("7.0", None, "7.0")], {"7.0": {"title": "Title"}}).write(tmp_path / "corpus")
    write_utterances(directory, tmp_path / "out", UtteranceSettings())
    assert read_utterances(tmp_path / "out", "id, title") == [("7", "Title")]


@pytest.mark.parametrize(
    ("times", "unit"), [((44_087, 44_090), "days"), ((18_518, 18_519), "days"), ((2_459_106, 2_459_107), "Julian days"),
                        ((2019, 2020), "years")]
)  # fmt: skip
def test_times_in_another_unit_are_refused(tmp_path: Path, times: tuple[int, int], unit: str) -> None:
    with pytest.raises(PipelineError, match=f"numbers from {times[0]} to {times[1]}, which .* are probably {unit}:"):
        read(tmp_path, [row("r", None, timestamp=times[0]), row("a", "r", timestamp=times[1]), row("b", "r")])
    # A time of seconds among them, and they are seconds from another day than 1970's first.
    read(tmp_path / "seconds", [row("r", None, timestamp=times[0]), row("a", "r", timestamp=90_000_000)])
