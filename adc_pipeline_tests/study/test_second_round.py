"""The walks of a second round: records of draws, and places of people's walks. No model is trained."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adc_pipeline.study.second_round import Place, place_of, places, records, row
from adc_pipeline.training.texts.layout import segments, sibling_groups
from adc_pipeline.walks.markers import FORMATS, Verdict
from adc_pipeline_tests.training.walks import random_walk, walk, write_dataset

MARKERS = FORMATS["default"]


@given(scores=st.lists(st.sampled_from([float("-inf"), 0.0, 1.0, 2.0, 3.0]), min_size=1, max_size=8))
def test_records_are_the_draws_that_beat_all_before_them(scores: list[float]) -> None:
    found = records([(f"reply {number}", score) for number, score in enumerate(scores)])
    if max(scores) == float("-inf"):
        assert list(found) == []
        return
    beat = [n for n, score in enumerate(scores) if n == 0 or score > max(scores[:n])]
    assert [turn for turn, _ in found] == [f"reply {number}" for number in beat]
    assert [verdict for _, verdict in found] == ["rejected"] * (len(beat) - 1) + ["accepted"]


RECORD = walk(
    "bo\ntitle\ntext",
    [("a", "no", "rejected"), ("b", "yes", "accepted"), ("c", "so", "rejected"), ("d", "right", "accepted")],
    "c0",
)


@pytest.mark.parametrize("number", range(4))
def test_a_place_is_a_group_of_siblings_behind_accepted_turns(number: int) -> None:
    place = place_of(RECORD, number, MARKERS)
    first = [("a\nno", "rejected"), ("b\nyes", "accepted")]
    second = [("c\nso", "rejected"), ("d\nright", "accepted")]
    assert (list(place.path), list(place.turns)) == (([], first) if number % 2 == 0 else ([first[1]], second))
    assert place.background == "bo\ntitle\ntext"


def test_a_row_is_read_as_what_it_was_written_from() -> None:
    place = Place("c0", "bo\ntitle\ntext", [("b\nyes", "accepted")], [])
    drawn: list[tuple[str, Verdict]] = [("one", "rejected"), ("x<rejected>y", "rejected"), ("two\nlines", "accepted")]
    written = row(place, drawn, MARKERS)
    assert segments(written, MARKERS) == ["bo\ntitle\ntext", "b\nyes", "one", "x‹rejected›y", "two\nlines"]
    assert [turn["verdict"] for turn in written["turns"]] == ["accepted", "rejected", "rejected", "accepted"]
    assert sibling_groups(written["turns"]) == [0, 1, 1, 1]
    assert [(turn["rank"], turn["siblings"]) for turn in written["turns"]] == [(1, 1), (3, 3), (2, 3), (1, 3)]
    assert [turn["score"] for turn in written["turns"][1:]] == [0, 1, 2]
    # People's walk about one place is the walk itself where that is all of it.
    whole = place_of(walk("b", [("s", "t", "rejected"), ("s", "u", "accepted")]), 0, MARKERS)
    assert row(whole, whole.turns, MARKERS)["text"] == "b<background>s\nt<rejected>s\nu<accepted>"


def test_places_are_one_of_each_conversation_and_do_not_depend_on_the_order(tmp_path: Path) -> None:
    rows = [random_walk(number) for number in range(30)]
    one = places(write_dataset(tmp_path / "one", train=rows), 3, 20, MARKERS)
    other = places(write_dataset(tmp_path / "other", train=rows[::-1]), 3, 20, MARKERS)
    assert one == other
    assert len({place.conversation_id for place in one}) == len(one) == 20
    assert one != places(tmp_path / "one", 4, 20, MARKERS)
