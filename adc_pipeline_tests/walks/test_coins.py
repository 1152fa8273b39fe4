"""Coins: the same in Python, in SQL and in the oracle, fair, and independent of one another.

The figures are counts over 10^6 coins that DuckDB draws. Coins are deterministic, so each test always
sees the same count; the bound of five standard errors says how far a fair coin may be from its share, and
one that misses it is not fair. 4 s of CPU.
"""

import math
from collections.abc import Iterator
from itertools import combinations, product

import duckdb
import pytest

from adc_pipeline.walks.coins import coin, coin_sql, digest
from adc_pipeline.walks.kinds import KINDS
from adc_pipeline_tests import oracle, trees

N = 1_000_000
SHARES: dict[str, float] = {"random-walk": 1 / 2, "top-2": 2 / 3}
DRAWN: list[tuple[str, int]] = list(product(SHARES, (0, 1)))
IDS = [*trees.SPEAKERS, *trees.NASTY_TEXTS, "abc", "t1_kx3v9q", "0:top-2:0:abc"]


def drawn(seed: int, kind: str, walk: int, ids: list[str]) -> list[bool]:
    with duckdb.connect() as connection:
        connection.execute("SET VARIABLE seed = $1", [seed])
        coins = f"SELECT {coin_sql(KINDS[kind], 'walk', 'id')} FROM (SELECT unnest($1) AS id, $2 AS walk)"  # noqa: S608
        return [row[0] for row in connection.execute(coins, [ids, walk]).fetchall()]


@pytest.mark.parametrize("kind", SHARES)
@pytest.mark.parametrize(("seed", "walk"), [(0, 0), (1, 0), (0, 1), (-7, 12), (2**63 - 1, 2**31)])
def test_a_coin_is_the_same_in_python_in_sql_and_in_the_oracle(kind: str, seed: int, walk: int) -> None:
    coins = [coin(seed, kind, walk, id) for id in IDS]
    assert coins == drawn(seed, kind, walk, IDS)
    assert coins == [oracle.coin(seed, kind, walk, id) for id in IDS]
    assert len(set(coins)) == 2


DIGESTS: dict[tuple[str, str], str] = {
    ("top-2", "abc"): "ffa9c6c041b4690ea7daab46c4b1ca55",
    ("top-2", "a"): "703490089a519413b73bf8ab1def6deb",
    ("top-2", "b"): "9dfd6a89d58baf7a6ded8ccda043db9e",
    ("top-2", "c"): "4ce089cefb73ba9e3098919e1a01e804",
    ("random-walk", "abc"): "0778277ddd577004db3a47a0e60c5832",
    ("random-walk", "a"): "26720dd38266beb59b483fed7bcb0dc5",
    ("random-walk", "b"): "e37a63039079bd0e3109ec769ddb864d",
    ("random-walk", "c"): "0bc892d18a3fee1ce816493a50384294",
    ("ascending", "abc"): "cfbba34333e62b6943fc87073339f681",
    ("ascending", "a"): "b6e37eb083ce8fd46016289362b7028f",
    ("ascending", "b"): "921f5315e8905684d68e50f5a0da4974",
    ("ascending", "c"): "0cb15c22720ea39b2d9ebae557828dcf",
}


def test_digests_equal_md5sum() -> None:
    """Expected digests are those of `printf '0:top-2:0:abc' | md5sum`."""
    for (kind, id), expected in DIGESTS.items():
        assert digest(0, kind, 0, id) == expected
        if kind in SHARES:
            threshold = "8" if kind == "random-walk" else "aaaaaaaa"
            assert coin(0, kind, 0, id) is (expected < threshold)


@pytest.fixture(scope="module")
def coins() -> "Iterator[duckdb.DuckDBPyConnection]":
    """Return 10^6 coins of consecutive Reddit ids as a table, one column per kind and walk."""
    columns = [f'{coin_sql(KINDS[kind], str(walk), "id")} AS "{kind} {walk}"' for kind, walk in DRAWN]
    ids = f"SELECT 't1_' || to_base(2000000000 + range, 36) AS id FROM range({N})"  # noqa: S608
    with duckdb.connect() as connection:
        connection.execute("SET VARIABLE seed = 0")
        connection.execute(f"CREATE TABLE coins AS SELECT id, {', '.join(columns)} FROM ({ids})")  # noqa: S608
        yield connection


def assert_share(count: int, n: int, share: float) -> None:
    assert abs(count - n * share) < 5 * math.sqrt(n * share * (1 - share))


def count(connection: "duckdb.DuckDBPyConnection", condition: str) -> int:
    row = connection.execute(f"SELECT count(*) FILTER ({condition}) FROM coins").fetchone()  # noqa: S608
    assert row is not None
    return row[0]


@pytest.mark.parametrize(("kind", "walk"), DRAWN)
def test_coins_have_their_probabilities(coins: "duckdb.DuckDBPyConnection", kind: str, walk: int) -> None:
    assert_share(count(coins, f'"{kind} {walk}"'), N, SHARES[kind])


@pytest.mark.parametrize(("one", "other"), list(combinations(DRAWN, 2)))
def test_kinds_and_walk_numbers_are_independent(
    coins: "duckdb.DuckDBPyConnection", one: tuple[str, int], other: tuple[str, int]
) -> None:
    both = count(coins, f'"{one[0]} {one[1]}" AND "{other[0]} {other[1]}"')
    assert_share(both, N, SHARES[one[0]] * SHARES[other[0]])


@pytest.mark.parametrize("kind", SHARES)
def test_coins_of_neighbouring_ids_are_independent(coins: "duckdb.DuckDBPyConnection", kind: str) -> None:
    pairs = f'SELECT "{kind} 0" AS coin, lead("{kind} 0") OVER (ORDER BY rowid) AS next FROM coins'  # noqa: S608
    row = coins.execute(f"SELECT count(*) FILTER (coin AND next) FROM ({pairs})").fetchone()  # noqa: S608
    assert row is not None
    assert_share(row[0], N - 1, SHARES[kind] ** 2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SHARES)
def test_coins_of_two_seeds_are_independent(kind: str) -> None:
    ids = [f"t3_{n:x}" for n in range(100_000)]
    both = sum(a and b for a, b in zip(drawn(0, kind, 0, ids), drawn(1, kind, 0, ids), strict=True))
    assert_share(both, len(ids), SHARES[kind] ** 2)
