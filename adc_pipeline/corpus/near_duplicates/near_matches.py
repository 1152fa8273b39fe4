"""Find the texts of a held-out split that are equal, or nearly alike, to a text of the other side.

Nearly alike is what it is in `minhash`: the Jaccard similarity of the runs of three words. Each text has a
sketch of 16 bins (`sketches`), of which texts with a similarity of 0.8 have at least half in common in 99.9 % of cases,
so that a join of the sketches finds the candidates, and only these are compared run by run. Texts with the same runs
need no comparison. Of the sketches of the other side only those bins are kept that are also in one of the held-out
side, which is a tenth of it or less.

Cost: 0.9 CPU s for the roots and the replies of 31,550 conversations of `reddit-college`, and the texts in memory,
which DuckDB spills.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from adc_pipeline.corpus.near_duplicates.minhash import SIMILARITY, runs, similarity
from adc_pipeline.corpus.near_duplicates.sketches import EMPTY, sketch

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

# Texts that differ only in case, Unicode composition, punctuation or white space have one folded form.
FOLDED = r"""
CREATE OR REPLACE TEMP MACRO folded(content) AS
    trim(regexp_replace(lower(nfc_normalize(content)), '[\pP\pZ\pC]+', ' ', 'g'))
"""

# A run of boilerplate can be in the sketches of many texts: a held-out text is compared with so many of them.
MOST_TEXTS = 1_000
# Texts read at once.
BATCH = 8_192

LOWERED = """
SELECT number, lower(text) || ' ' AS text FROM compared
WHERE held_out = $held_out AND rowid >= $first AND rowid < $first + $batch
"""
# A row for each bin that is compared; `bins` counts the filled bins of its text.
TABLE = "CREATE OR REPLACE TEMP TABLE sketches (number BIGINT, held_out BOOLEAN, bins UTINYINT, hash UBIGINT)"
CANDIDATES = """
WITH trained AS (
    FROM sketches WHERE NOT held_out QUALIFY row_number() OVER (PARTITION BY hash ORDER BY number) <= $most
), pairs AS (
    SELECT h.number, t.number AS other FROM (FROM sketches WHERE held_out) AS h JOIN trained AS t USING (hash)
    GROUP BY ALL HAVING count(*) * 2 >= least(any_value(h.bins), any_value(t.bins))
)
SELECT number, h.text, t.text FROM pairs JOIN compared AS h USING (number) JOIN compared AS t ON t.number = other
"""


def near_matches(connection: "DuckDBPyConnection", query: str, parameters: object = None) -> set[int]:
    """Return the numbers of held-out texts that are equal or nearly alike to one that is not held out.

    The query gives `number`, `held_out` and `text`.
    """
    import numpy as np

    connection.execute(f"CREATE OR REPLACE TEMP TABLE compared AS {query}", parameters)
    connection.execute(TABLE)
    batches = [*sketched(connection, held_out=True)]
    if not batches:
        return set()
    numbers, bins, whole = (np.concatenate(each) for each in zip(*batches, strict=True))
    asked, equal = np.unique(bins[bins != EMPTY]), np.zeros(len(whole), dtype=bool)
    for others, other_bins, other_whole in sketched(connection, held_out=False):
        equal |= np.isin(whole, other_whole)
        # Of the texts with the same runs one is enough, or one of each batch.
        _, one = np.unique(other_whole, return_index=True)
        append(connection, False, others[one], other_bins[one], np.isin(other_bins[one], asked))
    append(connection, True, numbers[~equal], bins[~equal], bins[~equal] != EMPTY)
    # Texts without words have one hash too, and are like no other.
    found = set(numbers[equal & (whole != 0)].tolist())
    candidates = connection.execute(CANDIDATES, {"most": MOST_TEXTS})
    while rows := candidates.fetchmany(100):
        for number, text, other in rows:
            if number not in found and similarity(runs(text), runs(other)) >= SIMILARITY:
                found.add(number)
    return found


def sketched(
    connection: "DuckDBPyConnection", held_out: bool
) -> Iterator[tuple["np.ndarray", "np.ndarray", "np.ndarray"]]:
    """Yield numbers, bins and the hash of all runs of the texts of one side, some thousand texts at a time.

    As many batches are hashed at a time as DuckDB has threads.
    """
    count, threads = connection.execute("SELECT count(*), current_setting('threads') FROM compared").fetchall()[0]
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[tuple[np.ndarray, np.ndarray, np.ndarray]]] = deque()
        for first in range(0, count, BATCH):
            values = {"held_out": held_out, "first": first, "batch": BATCH}
            batch = connection.sql(LOWERED, params=values).to_arrow_table()
            if len(batch):
                waiting.append(pool.submit(sketch_batch, batch))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def sketch_batch(batch: "pa.Table") -> tuple["np.ndarray", "np.ndarray", "np.ndarray"]:
    """Return numbers, bins and the hash of all runs of some texts."""
    import numpy as np
    import pyarrow as pa

    _, offsets, data = batch["text"].combine_chunks().cast(pa.large_string()).buffers()
    begins = np.frombuffer(offsets, dtype=np.int64)[: len(batch) + 1]
    return batch["number"].to_numpy(), *sketch(np.frombuffer(data, dtype=np.uint8), begins)


def append(
    connection: "DuckDBPyConnection", held_out: bool, numbers: "np.ndarray", bins: "np.ndarray", kept: "np.ndarray"
) -> None:
    """Add the bins of texts, of those `kept`, to the table `sketches`."""
    import numpy as np
    import pyarrow as pa

    text, place = np.nonzero(kept)
    filled = (bins != EMPTY).sum(axis=1).astype(np.uint8)
    made = {"number": numbers[text], "held_out": np.full(len(text), held_out), "bins": filled[text]}
    connection.register("made", pa.table({**made, "hash": bins[text, place]}))
    connection.execute("INSERT INTO sketches FROM made")
    connection.unregister("made")
