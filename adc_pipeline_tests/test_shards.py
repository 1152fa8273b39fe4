"""Shards: where a conversation lies, and that a finished shard is built once and never seen half-built.

7 s of CPU.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adc_pipeline.core.engine import Engine, connected
from adc_pipeline.core.shards import (
    Counts,
    build_once,
    map_shards,
    parts,
    shard_names,
    shard_sql,
    shards_of,
    work_folder,
)
from adc_pipeline.corpus import duplicates, utterances
from adc_pipeline.corpus.parts import plain_bytes
from adc_pipeline.corpus.readers import json_lines
from adc_pipeline.corpus.readings import line_ends
from adc_pipeline.corpus.sample.threads import write_sample
from adc_pipeline.corpus.settings import UtteranceSettings
from adc_pipeline.corpus.tables import create_read_rows
from adc_pipeline.corpus.titles import TITLES, create_titles
from adc_pipeline.corpus.utterances import automatic_shards, write_utterances
from adc_pipeline_tests.stages import read, utterance_records

ids = st.lists(st.text(st.characters(codec="utf-8"), max_size=8), min_size=1, max_size=50)
THREE = UtteranceSettings(max_set_aside=1.0, shards=3)


class Killed(BaseException):
    """What no part of the pipeline catches, as when the process is killed."""


def shard_of(conversation_id: str, shards: int) -> int:
    """As the module says: MD5 read as a fraction of all there are, times the number of shards."""
    return int(hashlib.md5(conversation_id.encode()).hexdigest()[:8], 16) * shards >> 32


def in_duckdb(conversation_ids: list[str], shards: int) -> list[int]:
    with duckdb.connect() as connection:
        rows = connection.execute(
            f"SELECT {shard_sql('id', shards)} FROM (SELECT unnest($ids) AS id)",  # noqa: S608
            {"ids": conversation_ids},
        ).fetchall()
    return [shard for (shard,) in rows]


# --- Which shard --------------------------------------------------------------------------------------


def test_the_shard_of_a_conversation_is_known_by_heart() -> None:
    """Written down, so that no change of the hash goes unnoticed."""
    assert in_duckdb(["a", "b", "c", "", "é"], 10) == [0, 5, 2, 8, 4]


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(ids, st.sampled_from([1, 2, 3, 7, 1000, 99_999]))
def test_the_shard_of_a_conversation_is_the_documented_hash(ids: list[str], shards: int) -> None:
    found = in_duckdb(ids, shards)
    assert found == [shard_of(id, shards) for id in ids]
    assert all(0 <= shard < shards for shard in found)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(ids, st.integers(1, 300), st.integers(1, 300))
def test_conversations_of_one_shard_stay_together_where_it_is_cut_finer(ids: list[str], few: int, times: int) -> None:
    fine = in_duckdb(ids, few * times)
    assert [shard // times for shard in fine] == in_duckdb(ids, few)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(ids, st.integers(1, 300))
def test_shards_follow_one_another_in_the_order_of_the_hash(ids: list[str], shards: int) -> None:
    ordered = sorted(ids, key=lambda id: hashlib.md5(id.encode()).hexdigest())
    found = in_duckdb(ordered, shards)
    assert found == sorted(found)


def test_the_number_of_shards_is_chosen_by_the_unpacked_size(tmp_path: Path) -> None:
    """A power of two, one up to 2 GB, 16 up to 160 GB; holes in files take no room."""
    sizes = ((0, b"", 1), (2, b"", 1), (5, b"", 4), (41, b"", 16), (160, b"", 16), (161, b"", 32), (1, b"\x1f\x8b", 4))
    for size, packed, shards in sizes:
        (path := tmp_path / f"{size}.jsonl").write_bytes(packed)
        with path.open("r+b") as file:
            file.truncate(size * 2**30)
        assert automatic_shards(plain_bytes(path)) == shards
        path.unlink()


def test_on_a_cluster_there_are_shards_for_all_tasks_and_a_number_that_serves_stays() -> None:
    gib = 2**30
    assert automatic_shards(5 * gib, tasks=3) == 16
    assert automatic_shards(1000 * gib, tasks=3) == 128
    # No shard of a few megabytes, however many tasks.
    assert automatic_shards(gib, tasks=1000) == 4
    assert automatic_shards(5 * gib, tasks=3, before=32) == 32
    assert automatic_shards(5 * gib, tasks=3, before=8) == 16
    assert automatic_shards(gib, before=64) == 1


# --- Built once, never half-built ---------------------------------------------------------------------


def test_a_finished_shard_is_not_made_again_after_the_next_one_failed(tmp_path: Path) -> None:
    made: list[str] = []
    said: list[str] = []
    names, out, work = shard_names(3), tmp_path / "out", tmp_path / "work"
    out.mkdir()

    def make(name: str, folder: Path, engine: Engine) -> Counts:
        made.append(name)
        (folder / "data").write_text("half")
        if made == names[:2]:
            raise Killed
        (folder / "data").write_text(name)
        return {"rows": 10 ** names.index(name), f"rows.{name}": 1}

    with pytest.raises(Killed):
        map_shards(names, make, out, work, Engine(report=said.append))
    assert made == names[:2]
    assert shards_of(out) == []
    assert shards_of(work) == [work / names[0]]

    counts = map_shards(names, make, out, work, Engine(report=said.append))
    assert made == [names[0], names[1], names[1], names[2]]
    assert counts == {"rows": 111} | {f"rows.{name}": 1 for name in names}
    assert [(path.name, (path / "data").read_text()) for path in shards_of(out)] == [(name, name) for name in names]
    # They stay, in case the stage fails behind them.
    assert [path.name for path in shards_of(work)] == names
    assert [line for line in said if "before" in line] == ["shard 1 of 3 was finished before"]


def test_what_is_half_made_is_swept_before_it_is_made_again(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "left").write_text("half")
        raise Killed

    with pytest.raises(Killed):
        build_once(tmp_path / "made", fail)
    assert not (tmp_path / "made").exists()

    seen: list[list[Path]] = []

    def make(folder: Path) -> None:
        seen.append(list(folder.iterdir()))
        assert not (tmp_path / "made").exists()

    assert build_once(tmp_path / "made", make) == build_once(tmp_path / "made", make) == tmp_path / "made"
    assert seen == [[]]


def alter(path: Path) -> None:
    path.write_text("altered")
    # Of the same size, and later by less than a file system with coarse times would show.
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: alter(folder / "inner" / "data"),
        lambda folder: (folder / "inner" / "data").unlink(),
        lambda folder: (folder / "inner" / "data").write_text(""),
        lambda folder: (folder / "other").write_text("of somebody"),
        lambda folder: (folder / "other").symlink_to("nowhere"),
        lambda folder: folder.rename(folder.with_name("elsewhere")),
        lambda folder: folder.rename(folder.with_name("elsewhere")).with_name("made").write_text(""),
        lambda folder: folder.rename(folder.with_name("elsewhere")).with_name("made").symlink_to("nowhere"),
        lambda folder: folder.with_name(".made.files").unlink(),
        lambda folder: folder.with_name(".made.files").write_text("{"),
    ],
)
def test_a_finished_part_that_was_altered_is_made_again(tmp_path: Path, damage: Callable[[Path], Any]) -> None:
    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "inner").mkdir()
        (folder / "inner" / "data").write_text("as made")

    made: list[Path] = []
    folder = build_once(tmp_path / "made", make)
    build_once(folder, make)
    assert len(made) == 1
    damage(folder)
    build_once(folder, make)
    assert len(made) == 2
    assert [path.name for path in folder.iterdir()] == ["inner"]
    assert (folder / "inner" / "data").read_text() == "as made"


def test_shards_of_an_older_output_are_replaced(tmp_path: Path) -> None:
    (old := tmp_path / "out" / shard_names(1)[0]).mkdir(parents=True)
    (old / "old").write_text("")
    map_shards(shard_names(1), lambda name, folder, engine: {}, tmp_path / "out", tmp_path / "work", Engine())
    assert [path.name for path in old.iterdir()] == ["counts.json"]


def test_a_work_folder_of_ones_own_is_kept_and_another_is_gone(tmp_path: Path) -> None:
    for work in (tmp_path / "mine", None):
        with pytest.raises(Killed), work_folder(work, tmp_path / "out") as folder:  # noqa: PT012
            (folder / "file").write_text("")
            raise Killed
    assert (tmp_path / "mine" / "file").exists()
    assert list((tmp_path / "out").iterdir()) == []


def test_parts_are_those_of_a_shard_or_of_all_shards_in_their_order(tmp_path: Path) -> None:
    for name in reversed(shard_names(2)):
        for number in (1, 0):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / f"a-{number}").write_text("")
    paths = [tmp_path / name / f"a-{number}" for name in shard_names(2) for number in (0, 1)]
    assert parts(tmp_path, "a-*") == [str(path) for path in paths]
    assert parts(tmp_path / shard_names(2)[1], "a-*") == [str(path) for path in paths[2:]]


# --- With a corpus ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    corpus: Path = tmp_path_factory.mktemp("sample")
    write_sample(corpus, conversations=60)
    return corpus


@pytest.fixture(scope="module")
def undisturbed(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Counts, Path]:
    out = tmp_path_factory.mktemp("undisturbed")
    return write_utterances(sample, out, THREE), out


def test_every_row_lies_in_the_shard_of_its_conversation(undisturbed: tuple[Counts, Path]) -> None:
    out = undisturbed[1]
    assert [shard.name for shard in shards_of(out)] == shard_names(3)
    for number, shard in enumerate(shards_of(out)):
        found = {id for (id,) in read(shard, "utterances-*.parquet", "conversation_id")}
        assert found
        assert {shard_of(id, 3) for id in found} == {number}


def test_counts_of_the_shards_add_up(undisturbed: tuple[Counts, Path]) -> None:
    counts, out = undisturbed
    shards = [json.loads((shard / "counts.json").read_text()) for shard in shards_of(out)]
    for name in ("read", "taking_part", "roots", "set_aside"):
        assert counts[name] == sum(shard[name] for shard in shards)
    assert counts["read"] == len(utterance_records(out)) + counts["set_aside"]


def test_a_file_that_is_cut_gives_the_rows_of_the_whole_file(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As do ids that are compared in several ranges; some rows occur twice, and a last line has no end."""
    corpus = tmp_path / "corpus"
    shutil.copytree(sample, corpus)
    content = (sample / "utterances.jsonl").read_bytes()
    (corpus / "utterances.jsonl").write_bytes(content + b"".join(content.splitlines(keepends=True)[:50]).rstrip())
    whole = write_utterances(corpus, tmp_path / "whole", UtteranceSettings(max_set_aside=1.0))
    monkeypatch.setattr(json_lines, "CHUNK", len(content) // 5)
    monkeypatch.setattr(duplicates, "IDS_AT_A_TIME", 500)
    counts = write_utterances(corpus, tmp_path / "cut", THREE)
    assert len({path.name for path in (tmp_path / "cut").glob("*/utterances-*")}) == 6
    assert counts == whole
    assert counts["set_aside.identical_row"] == 50
    assert utterance_records(tmp_path / "cut") == utterance_records(tmp_path / "whole")
    aside = [read(tmp_path / name, "set_aside.parquet", "*") for name in ("cut", "whole")]
    assert aside[0] == aside[1]


@given(st.lists(st.binary(max_size=12), max_size=12), st.integers(1, 30))
def test_a_plain_file_is_cut_behind_ends_of_lines(
    tmp_path_factory: pytest.TempPathFactory, found: list[bytes], size: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "lines"
    content = b"\n".join(found)
    path.write_bytes(content)
    places = list(line_ends(path, size))
    pieces = [content[begin:end] for begin, end in pairwise(places)]
    assert b"".join(pieces) == content
    assert all(piece.endswith(b"\n") for piece in pieces[:-1])
    assert all(b"\n" not in piece[size:-1] for piece in pieces)


@pytest.mark.slow
def test_a_killed_run_goes_on_without_reading_the_source_again(
    sample: Path, undisturbed: tuple[Counts, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, work = tmp_path / "corpus", tmp_path / "work"
    shutil.copytree(sample, corpus)
    write_tree, trees = utterances.write_tree, list[str]()

    def recorded(rows: Path, *others: Any) -> Counts:
        trees.append(rows.name)
        if trees == shard_names(3)[:2]:
            raise Killed
        return write_tree(rows, *others)

    monkeypatch.setattr(utterances, "write_tree", recorded)
    with pytest.raises(Killed):
        write_utterances(corpus, tmp_path / "killed", THREE, work=work)
    assert list((tmp_path / "killed").iterdir()) == []

    shutil.rmtree(corpus)
    counts = write_utterances(corpus, tmp_path / "out", THREE, work=work)
    first, second, third = shard_names(3)
    assert trees == [first, second, second, third]
    assert counts == undisturbed[0]
    assert utterance_records(tmp_path / "out") == utterance_records(undisturbed[1])


@pytest.mark.slow
def test_a_run_killed_while_it_reads_begins_anew(
    sample: Path, undisturbed: tuple[Counts, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard_rows, made = utterances.shard_rows, list[Path]()

    def half(*arguments: object) -> None:
        made.append(sample)
        shard_rows(*arguments)  # type: ignore[arg-type]
        if len(made) == 1:
            raise Killed

    monkeypatch.setattr(utterances, "shard_rows", half)
    with pytest.raises(Killed):
        write_utterances(sample, tmp_path / "killed", THREE, work=tmp_path / "work")
    counts = write_utterances(sample, tmp_path / "out", THREE, work=tmp_path / "work")
    assert len(made) == 2
    assert counts == undisturbed[0]


@pytest.mark.fast_first
@pytest.mark.parametrize("shards", [1, 3])
def test_positions_run_on_from_one_part_of_the_source_to_the_next(shards: int, tmp_path: Path) -> None:
    ids = [f"{part}-{number}" for part in range(3) for number in range(4)]
    for part in range(3):
        (corpus := tmp_path / "corpus" / f"{part:02}").mkdir(parents=True)
        lines = [{"id": id, "conversation_id": id, "reply_to": None} for id in ids if id[0] == str(part)]
        (corpus / "utterances.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    counts = write_utterances(tmp_path / "corpus", tmp_path / "out", UtteranceSettings(shards=shards))
    assert counts["read"] == counts["roots"] == 12
    found = [(one["position"], one["id"]) for one in utterance_records(tmp_path / "out")]
    assert found == list(enumerate(ids))


@pytest.mark.fast_first
@pytest.mark.parametrize("shards", [1, 3])
def test_the_first_rows_of_the_source_are_read_by_themselves(shards: int, sample: Path, tmp_path: Path) -> None:
    write_utterances(sample, tmp_path, UtteranceSettings(max_set_aside=1.0, shards=shards))
    with connected() as connection:
        create_read_rows(connection, tmp_path, before=100)
        create_read_rows(connection, tmp_path, "all_rows")
        assert connection.execute("SELECT list(position ORDER BY position) FROM read_rows").fetchall() == [
            (list(range(100)),)
        ]
        assert connection.execute("FROM read_rows EXCEPT FROM all_rows").fetchall() == []


def test_each_shard_reads_the_titles_of_its_conversations(sample: Path, tmp_path: Path) -> None:
    write_utterances(sample, tmp_path, THREE)
    with connected() as connection:
        for name in shard_names(3):
            create_titles(connection, tmp_path / TITLES, name, name)
            titles = connection.table(f'"{name}"')
            assert titles.limit(1).fetchall()
            assert titles.filter(f"{shard_sql('conversation_id', 3)} != {int(name[:5])}").fetchall() == []
