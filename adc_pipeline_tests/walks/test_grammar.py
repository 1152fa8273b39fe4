"""The check of the marker grammar equals a slow, obvious one on damaged walks, and is linear in the text."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adc_pipeline.core.engine import Engine
from adc_pipeline.walks.grammar import grammar_violations
from adc_pipeline.walks.markers import FORMATS, FormatName

Row = dict[str, Any]
TURNS = pa.list_(
    pa.struct([("speaker", pa.string()), ("verdict", pa.string()), ("start", pa.int64()), ("end", pa.int64())])
)
SCHEMA = pa.schema([("text", pa.string()), ("turns", TURNS)])
PIECES = ["", "a", "é👍🏽", "<", "<rejected", "ted>", "\n", "<rejec<rejected>ted>", *FORMATS["released"].strings()]


def walk(background: str, turns: Sequence[tuple[str | None, str, str]], format: FormatName) -> Row:
    """Return a correct walk of turns (speaker, text, verdict)."""
    markers = FORMATS[format]
    text, recorded = background + markers.background, []
    for speaker, content, verdict in turns:
        text += "" if speaker is None else f"{speaker}\n"
        recorded.append({"speaker": speaker, "verdict": verdict, "start": len(text), "end": len(text + content)})
        text += content + (markers.accepted if verdict == "accepted" else markers.rejected)
    return {"text": text, "turns": recorded}


def obeys(row: Row, format: FormatName) -> bool:
    """Return whether a walk obeys the grammar, by following it character by character."""
    markers, text, turns = FORMATS[format], row["text"], row["turns"]
    if not turns or turns[-1]["verdict"] != "accepted":
        return False
    at = turns[0]["start"] - (0 if turns[0]["speaker"] is None else len(turns[0]["speaker"]) + 1)
    if at < len(markers.background) or text[at - len(markers.background) : at] != markers.background:
        return False
    for turn in turns:
        begins = at + (0 if turn["speaker"] is None else len(turn["speaker"]) + 1)
        if turn["verdict"] not in ("accepted", "rejected") or turn["start"] != begins:
            return False
        marker = markers.accepted if turn["verdict"] == "accepted" else markers.rejected
        at = turn["end"] + len(marker)
        if turn["end"] < begins - len(turn["speaker"] or "") - 1 or text[turn["end"] : at] != marker:
            return False
    return at == len(text) and (
        format == "released" or sum(text.count(marker) for marker in markers.strings()) == len(turns) + 1
    )


@st.composite
def damaged(draw: st.DrawFn, format: FormatName) -> Row:
    """A walk in which up to two things are wrong."""
    contents = st.lists(st.sampled_from(PIECES), max_size=3).map("".join)
    if format == "default":
        contents = contents.map(lambda text: text.replace("<rejected>", "‹rejected›"))
    verdicts = [*draw(st.lists(st.sampled_from(["accepted", "rejected"]), max_size=3)), "accepted"]
    speakers = st.none() | st.sampled_from(["ann", "é", ""])
    row = walk(draw(contents), [(draw(speakers), draw(contents), verdict) for verdict in verdicts], format)
    for _ in range(draw(st.integers(0, 2))):
        text, turns = row["text"], row["turns"]
        turn = draw(st.sampled_from(turns)) if turns else {}
        damage = draw(st.sampled_from(["insert", "delete", "shift", "verdict", "drop", "speaker"]))
        place = draw(st.integers(0, len(text)))
        if damage == "insert":
            new = draw(st.sampled_from([*FORMATS[format].strings(), "x"]))
            row["text"] = text[:place] + new + text[place:]
        elif damage == "delete":
            row["text"] = text[:place] + text[place + draw(st.integers(1, 12)) :]
        elif damage == "drop" and turns:
            turns.remove(turn)
        elif turns:
            changes: dict[str, list[Row]] = {
                "shift": [{"start": turn["start"] + 1}, {"end": turn["end"] - 1}, {"end": len(text)}],
                "verdict": [{"verdict": name} for name in ("accepted", "rejected", "background", None)],
                "speaker": [{"speaker": "x"}, {"speaker": None}],
            }
            turn.update(draw(st.sampled_from(changes[damage])))
    return row


def violations(rows: list[Row], format: FormatName, engine: Engine | None = None) -> int:
    with TemporaryDirectory() as folder:
        (data := Path(folder) / "data").mkdir()
        half = len(rows) // 2
        pq.write_table(pa.Table.from_pylist(rows[:half], schema=SCHEMA), data / "train-00000-of-00001.parquet")
        pq.write_table(pa.Table.from_pylist(rows[half:], schema=SCHEMA), data / "test-00000-of-00001.parquet")
        return grammar_violations(Path(folder), format, engine or Engine(threads=1))


@pytest.mark.slow
@pytest.mark.parametrize("format", ["default", "released"])
def test_the_check_equals_the_obvious_one(format: FormatName) -> None:
    @settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(damaged(format), min_size=20, max_size=30))
    def check(rows: list[Row]) -> None:
        assert violations(rows, format) == sum(not obeys(row, format) for row in rows)

    check()


def test_a_walk_without_text_or_turns_is_a_violation() -> None:
    right = walk("title", [("ann", "yes", "accepted")], "default")
    wrong = [{**right, "text": None}, {**right, "turns": None}, {**right, "turns": []}]
    assert violations([right, *wrong], "default") == 3


@pytest.mark.slow
def test_a_chain_of_20_000_replies_needs_no_memory_of_turns_times_text() -> None:
    turns = [("ann", f"step {number} é " + "word after word " * 10, "accepted") for number in range(20_000)]
    right = walk("title", turns, "default")
    wrong = {**right, "turns": [*right["turns"][:-1], {**right["turns"][-1], "verdict": "rejected"}]}
    assert violations([right, wrong], "default", Engine(threads=1, memory_limit="150MB")) == 1
