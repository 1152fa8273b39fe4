"""`adc.duckdb`: every table of the data stages answers, and whoever has it open is left alone. 4 s of CPU."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

import adc_pipeline.definitions  # noqa: F401, declares the stages
from adc_pipeline.core.shards import Counts
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.content import folder_digest
from adc_pipeline.core.store.manifests import Artefact
from adc_pipeline.corpus.sample.threads import write_sample
from adc_pipeline.corpus.settings import UtteranceSettings
from adc_pipeline.corpus.utterances import write_utterances
from adc_pipeline.defs.database import DATABASE, renew_database, write_database
from adc_pipeline.ranking.ranked_replies import write_ranked_replies
from adc_pipeline.walks.datasets import write_walks
from adc_pipeline.walks.kinds import KINDS

VIEWS = {
    "read_rows", "tree", "conversations", "utterances", "set_aside", "ranked_replies", "dropped", "top_2",
    "random_walk", "ascending",
}  # fmt: skip

# A reader in a process of its own: counts, waits for a line, counts again.
READER = """
import sys, duckdb
with duckdb.connect(sys.argv[1], read_only=True) as connection:
    for _ in range(2):
        print(*connection.execute("SELECT count(*) FROM utterances").fetchone(), flush=True)
        sys.stdin.readline()
"""


def put(store: Store, name: str, folder: Path, counts: Counts) -> Counts:
    store.put(folder, Artefact(name, folder, folder_digest(folder), counts=dict(counts)))
    return counts


def put_utterances(store: Store, conversations: int, shards: int = 1) -> Counts:
    """The sample, of which some utterances cannot take part."""
    with store.aside("utterances") as folder:
        corpus = store.home / f"sample-{conversations}-{shards}"
        corpus.mkdir()
        write_sample(corpus, conversations=conversations)
        counts = write_utterances(corpus, folder, UtteranceSettings(max_set_aside=1.0, shards=shards))
        return put(store, "utterances", folder, counts)


@pytest.fixture(scope="module", params=[1, 3])
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, dict[str, Counts]]:
    """Everything up to the datasets in place, in one shard and in three, and the database over it."""
    store = Store(tmp_path_factory.mktemp("home"))
    counts = {"utterances": put_utterances(store, 60, request.param)}
    utterances, ranked = store.place("utterances"), store.place("ranked_replies")
    with store.aside("ranked_replies") as folder:
        counts["ranked_replies"] = put(store, "ranked_replies", folder, write_ranked_replies(utterances, folder))
    for kind in KINDS.values():
        with store.aside(kind.dataset) as folder:
            walks = write_walks(kind.name, utterances, ranked, folder)
            counts[kind.dataset] = put(store, kind.dataset, folder, walks)
    write_database(store)
    return store, counts


@pytest.fixture
def connection(home: tuple[Store, dict[str, Counts]]) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(str(home[0].home / DATABASE), read_only=True) as connection:
        yield connection


@pytest.mark.slow
def test_old_readers_know_the_storage_format(home: tuple[Store, dict[str, Counts]]) -> None:
    """DuckDB 1.0 and later read version 64; the number stands behind the magic bytes."""
    header = (home[0].home / DATABASE).read_bytes()[8:20]
    assert header[:4] == b"DUCK"
    assert int.from_bytes(header[4:], "little") == 64


def count(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    return len(connection.table(table))


def views(path: Path) -> set[str]:
    with duckdb.connect(str(path), read_only=True) as connection:
        found = connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
    return {name for (name,) in found}


@pytest.mark.slow
def test_every_view_answers_with_as_many_rows_as_were_counted(
    home: tuple[Store, dict[str, Counts]], connection: duckdb.DuckDBPyConnection
) -> None:
    counts = home[1]
    assert views(home[0].home / DATABASE) == VIEWS
    read, ranked = counts["utterances"], counts["ranked_replies"]
    assert {view: count(connection, view) for view in VIEWS} == {
        "read_rows": read["read"],
        "tree": read["taking_part"],
        "utterances": read["taking_part"],
        "conversations": read["roots"],
        "set_aside": read["set_aside"],
        "ranked_replies": ranked["ranked"],
        "dropped": ranked["dropped"],
        **{kind.dataset: counts[kind.dataset]["walks"] for kind in KINDS.values()},
    }


@pytest.mark.fast_first
def test_what_was_read_either_takes_part_or_is_set_aside(
    home: tuple[Store, dict[str, Counts]], connection: duckdb.DuckDBPyConnection
) -> None:
    both = "SELECT position FROM utterances UNION ALL SELECT position FROM set_aside ORDER BY position"
    positions = [position for (position,) in connection.execute(both).fetchall()]
    assert positions == list(range(home[1]["utterances"]["read"]))
    reasons = connection.execute("SELECT reason, count(*) FROM set_aside GROUP BY reason").fetchall()
    assert reasons
    assert all(home[1]["utterances"][f"set_aside.{reason}"] == number for reason, number in reasons)


@pytest.mark.fast_first
@pytest.mark.parametrize("name", [kind.dataset for kind in KINDS.values()])
def test_walks_say_which_split_they_are_of(
    name: str, home: tuple[Store, dict[str, Counts]], connection: duckdb.DuckDBPyConnection
) -> None:
    found = connection.execute(f"SELECT split, count(*) FROM {name} GROUP BY split").fetchall()  # noqa: S608
    counts = home[1][name]
    expected = {split: counts[f"walks.{split}"] for split in ("train", "validation", "test")}
    assert dict(found) == {split: walks for split, walks in expected.items() if walks}
    assert connection.table(name).columns[:2] == ["split", "text"]


def test_where_nothing_is_in_place_the_database_is_empty(tmp_path: Path) -> None:
    write_database(Store(tmp_path))
    assert views(tmp_path / DATABASE) == set()
    assert [path.name for path in tmp_path.iterdir()] == [DATABASE]


def test_what_is_not_there_yet_has_no_view(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put_utterances(store, 20)
    write_database(store)
    assert views(tmp_path / DATABASE) == {"read_rows", "tree", "conversations", "utterances", "set_aside"}


@pytest.mark.parametrize("damage", ["gone", "cut off"])
def test_a_damaged_table_is_named_and_the_others_have_their_views(tmp_path: Path, damage: str) -> None:
    store = Store(tmp_path)
    put_utterances(store, 20)
    with store.aside("ranked_replies") as folder:
        put(store, "ranked_replies", folder, write_ranked_replies(store.place("utterances"), folder))
    for file in store.place("ranked_replies").rglob("*.parquet"):
        if damage == "gone":
            file.unlink()
        else:
            file.write_bytes(file.read_bytes()[:100])
    assert write_database(store) == ["ranked_replies"]
    assert views(tmp_path / DATABASE) == {"read_rows", "tree", "conversations", "utterances", "set_aside"}


@pytest.mark.slow
def test_a_reader_is_not_disturbed_and_does_not_disturb(tmp_path: Path) -> None:
    store, path = Store(tmp_path), tmp_path / DATABASE
    before = put_utterances(store, 20)["taking_part"]
    write_database(store)
    with subprocess.Popen(
        [sys.executable, "-c", READER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdin
        assert reader.stdout
        assert int(reader.stdout.readline()) == before
        after = put_utterances(store, 60)["taking_part"]
        write_database(store)
        with duckdb.connect(str(path), read_only=True) as connection:
            assert count(connection, "utterances") == after > before
        reader.stdin.write("\n\n")
        reader.stdin.flush()
        # It has no data, only where the data lies: the old one shows the new artefact, too.
        assert int(reader.stdout.readline()) == after
    assert reader.returncode == 0
    assert not list(tmp_path.glob(f".{DATABASE}*"))


def test_a_database_that_a_killed_run_was_writing_is_cleared_away(tmp_path: Path) -> None:
    for name in (f".{DATABASE}-new", f".{DATABASE}-new.wal"):
        (tmp_path / name).write_bytes(b"half")
    write_database(Store(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [DATABASE]
    with duckdb.connect(str(tmp_path / DATABASE), read_only=True) as connection:
        assert connection.sql("SHOW TABLES").fetchall() == []


@pytest.mark.parametrize("damaged", [False, True])
def test_the_views_of_a_copy_read_the_copy(
    home: tuple[Store, dict[str, Counts]], tmp_path: Path, damaged: bool
) -> None:
    """The original may be there still, and another one by then."""
    copied = Store(Path(shutil.copytree(home[0].home, tmp_path / "o'clock", symlinks=True)))
    shutil.rmtree(copied.home / "store" / "random_walk")
    if damaged:
        (copied.home / DATABASE).write_bytes(b"\0" * 20_000)
    assert renew_database(copied, []) == []
    assert views(copied.home / DATABASE) == VIEWS - {"random_walk"}
    with duckdb.connect(str(copied.home / DATABASE), read_only=True) as connection:
        (sql,) = connection.execute("SELECT sql FROM duckdb_views() WHERE view_name = 'top_2'").fetchone() or ("",)
    assert str(home[0].home) not in sql
    before = (copied.home / DATABASE).stat().st_ino
    assert renew_database(copied, []) == []
    assert (copied.home / DATABASE).stat().st_ino == before
