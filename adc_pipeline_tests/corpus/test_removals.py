"""The removal list: what `utterances` leaves out, compared with the same corpus from which it was taken by hand."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.shards import Counts
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.manifests import Artefact, write_making
from adc_pipeline.corpus.privacy.removals import FILE, Removals, read_removals
from adc_pipeline.corpus.settings import CorpusSettings, UtteranceSettings
from adc_pipeline.corpus.utterances import write_utterances
from adc_pipeline.defs.assets.corpus import REMOVALS, removal_list
from adc_pipeline_tests.stages import read, utterance_records

# id, parent, speaker, text. Conversation a: two replies of Zed's, one with replies below. b: Zed's own. c: untouched.
ROWS = [
    ("a", None, "ann", "root"),
    ("a1", "a", "Zed", "zed's reply"),
    ("a2", "a1", "bob", "below it"),
    ("a3", "a2", "zed", "below that"),
    ("a4", "a", "cy", "as u/ZED and @zed said, not u/zedd"),
    ("a5", "a4", "ann", "thanks"),
    ("b", None, "zed", "zed's root"),
    ("b1", "b", "ann", "to zed"),
    ("b2", "gone", "bob", "to nobody in b"),
    ("c", None, "bob", "another root"),
    ("c1", "c", "ann", "a reply"),
    ("c2", "c1", "cy", "another"),
]


def write_table(path: Path, rows: list[tuple[Any, ...]]) -> Path:
    def top(id: str) -> str:
        return id[0]

    records = [
        {"id": id, "conversation_id": top(id), "reply_to": parent, "speaker": speaker, "text": text, "score": 1,
         "timestamp": number, "title": None if parent else f"title of {speaker}"}
        for number, (id, parent, speaker, text) in enumerate(rows)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def build(source: Path, out: Path, removals: Removals | None, shards: int = 1) -> tuple[Counts, list[dict[str, Any]]]:
    settings = UtteranceSettings(shards=shards, max_set_aside=1)
    counts = write_utterances(source, out, settings, removals=removals)
    return counts, [{**each, "position": 0, "parent_position": 0} for each in utterance_records(out)]


@pytest.mark.parametrize("shards", [1, 3])
def test_a_removed_speaker_is_left_out_with_the_replies_below(tmp_path: Path, shards: int) -> None:
    everything = write_table(tmp_path / "all.jsonl", ROWS)
    by_hand = [(*row[:3], row[3].replace("u/ZED and @zed", "u/[removed] and @[removed]")) for row in ROWS]
    left = write_table(
        tmp_path / "left.jsonl", [row for row in by_hand if row[0] in {"a", "a4", "a5", "c", "c1", "c2"}]
    )
    counts, found = build(everything, tmp_path / "one", Removals(speakers=frozenset({"zed"})), shards)
    _, expected = build(left, tmp_path / "two", None, shards)
    times = {each["id"]: each["timestamp"] for each in found}
    assert found == [{**each, "timestamp": times[each["id"]], "source": found[0]["source"]} for each in expected]
    assert (counts["removed"], counts["removed.listed"], counts["removed.below"]) == (6, 3, 3)
    assert counts["records"] == counts["read"] + counts["removed"]
    stored = "".join(str(read(path.parent, path.name)) for path in (tmp_path / "one").rglob("*.parquet"))
    assert "zed'" not in stored
    assert "'b'" not in stored


def test_a_removed_utterance_goes_by_its_id_with_or_without_reddits_prefix(tmp_path: Path) -> None:
    source = write_table(tmp_path / "all.jsonl", ROWS)
    (tmp_path / FILE).write_text("# asked on Monday\n\nutterance t1_a2\nutterance c\n")
    counts, found = build(source, tmp_path / "one", read_removals(tmp_path))
    assert [each["id"] for each in found] == ["a", "a1", "a4", "a5", "b", "b1"]
    assert counts["removed"] == 5


def test_an_empty_list_changes_nothing(tmp_path: Path) -> None:
    source = write_table(tmp_path / "all.jsonl", ROWS)
    (tmp_path / FILE).write_text("# nobody\n")
    assert not read_removals(tmp_path)
    plain, listed = (build(source, tmp_path / name, removals) for name, removals in
                     (("one", None), ("two", read_removals(tmp_path))))  # fmt: skip
    assert plain == listed
    for path in (tmp_path / "one").rglob("*.parquet"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_a_list_of_what_the_corpus_has_not_counts_nothing(tmp_path: Path) -> None:
    source = write_table(tmp_path / "all.jsonl", ROWS)
    plain, _ = build(source, tmp_path / "one", None)
    counts, _ = build(source, tmp_path / "two", Removals(frozenset({"nobody"}), frozenset({"z9"})))
    assert counts == plain | {"removed": 0, "removed.listed": 0, "removed.below": 0}


# Names of speakers that are more than letters, how others mention them, and what becomes of that.
NAMES = [
    ("O'Neil; DROP TABLE x --", "thanks @O'Neil; DROP TABLE x --!", "thanks @[removed]!"),
    ("a.*|b", "see u/a.*|b, not u/aab", "see u/[removed], not u/aab"),
    ("John Smith", "@john smith is right, @John is not, and @John Smithson?",
     "@[removed] is right, @John is not, and @John Smithson?"),
    ("ΟΔΟΣ", "/u/οδος or @ΟΔΟΣ", "/u/[removed] or @[removed]"),
    ("İpek", "@İpek and @ipekx", "@[removed] and @ipekx"),
    ("Zoe\u0308", "@Zo\u00eb and @zoe\u0308", "@[removed] and @[removed]"),
    ("$1\\2%_", "@$1\\2%_", "@[removed]"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "expected"), NAMES)
def test_a_name_may_be_any_text(tmp_path: Path, name: str, text: str, expected: str) -> None:
    rows = [("a", None, "ann", f"root {text}"), ("a1", "a", name, "own words"), ("a2", "a", "bob", text)]
    (tmp_path / FILE).write_text(f"\ufeffspeaker {name}\r\n")
    counts, found = build(write_table(tmp_path / "all.jsonl", rows), tmp_path / "one", read_removals(tmp_path))
    assert [(each["id"], each["text"]) for each in found] == [("a", f"root {expected}"), ("a2", expected)]
    assert counts["removed.listed"] == 1


def test_an_id_of_reddit_removes_what_it_names(tmp_path: Path) -> None:
    """A post and a comment of Reddit may have one id."""
    folder = tmp_path / "dump"
    folder.mkdir()
    common = {"created_utc": 1, "score": 1, "subreddit": "fixit"}
    posts = [{"id": id, "author": "Zed", "title": "T", "selftext": "post", **common} for id in ("x", "y")]
    comments = [{"id": id, "author": "ann", "body": f"comment {id}", "link_id": f"t3_{post}", "parent_id": f"t3_{post}",
                 **common} for id, post in (("x", "y"), ("y", "y"), ("z", "x"))]  # fmt: skip
    for name, rows in (("RS_2018-09", posts), ("RC_2018-09", comments)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def left(*entries: str) -> set[str]:
        out = tmp_path / "-".join(entries).replace(" ", "-")
        removals = Removals(utterances=frozenset(entries))
        return {each["text"] for each in build(folder, out, removals)[1]}

    assert left("t1_x") == {"post", "comment y", "comment z"}
    assert left("t3_x") == {"post", "comment x", "comment y"}
    assert left("x") == {"post", "comment y"}


def test_what_others_carry_of_a_removed_speaker_goes_too(tmp_path: Path) -> None:
    rows = [
        {"id": id, "conversation_id": "a", "reply_to": to, "speaker": speaker, "text": "x", "score": 1, "timestamp": 1,
         "source": "u_ZED", "best": best, "flair": flair}
        for id, to, speaker, best, flair in (("a", None, "ann", "b", "fan of @zed"), ("b", "a", "Zed", None, "b"),
                                             ("c", "a", "bob", "c", "b"), ("d", "a", "bob", None, "ZED"))
    ]  # fmt: skip
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = CorpusSettings(columns={"accepted_reply": "best", "flair": "flair"})
    removals = Removals(frozenset({"zed"}), frozenset({"b"}))
    write_utterances(tmp_path / "all.jsonl", tmp_path / "out", source=source, removals=removals)
    columns = "id, source, accepted_reply, flair"
    assert read(tmp_path / "out", "utterances-*.parquet", columns) == [
        ("a", "u_[removed]", None, "fan of @[removed]"), ("c", "u_[removed]", "c", "b"),
        ("d", "u_[removed]", None, None),
    ]  # fmt: skip


@pytest.mark.parametrize("line", ["zed", "speaker", "author zed", "speaker\tzed"])
def test_a_line_that_is_no_entry_is_refused_with_its_number(tmp_path: Path, line: str) -> None:
    (tmp_path / FILE).write_text(f"speaker ann\n{line}\n")
    with pytest.raises(PipelineError, match="Line 2 of the removal list"):
        read_removals(tmp_path)


def test_the_digest_is_that_of_the_entries(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("speaker Ann\nutterance x\n")
    first = read_removals(tmp_path)
    (tmp_path / FILE).write_text("# again\nutterance x\nspeaker ann\nspeaker ANN\n")
    assert read_removals(tmp_path).digest == first.digest
    assert Removals(speakers=frozenset({"x"})).digest != Removals(utterances=frozenset({"x"})).digest


@pytest.mark.parametrize("what", ["folder", "fifo", "dangling", "loop", "device"])
def test_a_list_that_is_no_file_is_refused_and_not_taken_for_an_empty_one(what: str, tmp_path: Path) -> None:
    path = tmp_path / FILE
    if what == "folder":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to({"dangling": "not-mounted/removed.txt", "loop": FILE, "device": "/dev/null"}[what])
    with pytest.raises(PipelineError, match=r"^The removal list .*removed\.txt is .*: "):
        read_removals(tmp_path)


def test_a_list_that_is_gone_is_missed_by_what_was_made_by_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert not removal_list(store, "utterances")
    (tmp_path / FILE).write_text("speaker ann\n")
    for outside in ({}, {REMOVALS: removal_list(store, "utterances").digest}):
        with store.aside("utterances") as folder:
            made = Artefact("utterances", folder, "0" * 32)
            write_making(made, {"run": "", "address": "", "outside": outside})
            store.put(folder, made)
        assert removal_list(store, "utterances").speakers == {"ann"}
        (tmp_path / FILE).unlink()
        if outside:
            with pytest.raises(PipelineError, match=r"is gone, and utterances was made by one: restore it, or write"):
                removal_list(store, "utterances")
        else:
            assert not removal_list(store, "utterances")
        (tmp_path / FILE).write_text("")
        assert not removal_list(store, "utterances")
        (tmp_path / FILE).write_text("speaker ann\n")
