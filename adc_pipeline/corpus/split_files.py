"""Write rows to one Parquet file a shard, in their order and with their positions.

DuckDB can write a file for each value of a column, too, and loses the order of the rows.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adc_pipeline.corpus.tables import FROM, READ

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

# Columns with few values, which take a dictionary.
FEW_VALUES = ["kind", "parent_kind", "source", "namespace", "distinguished", "missing_text", "title"]
ROW_GROUP = 122_880
# Rows that wait for a file at most; they take about 300 MB.
MOST_WAITING = 8 * ROW_GROUP


class SplitFiles:
    """One file a shard in a folder, for rows in their order, each with its position among all of them.

    Cost: as much as DuckDB takes for one file (reading 1 million utterances: 2.0 to 2.3 CPU s either way).
    """

    def __init__(self, folder: Path, names: Sequence[str], schema: "pa.Schema") -> None:
        import pyarrow as pa

        self.folder, self.names = folder, names
        self.schema = schema.remove(schema.get_field_index("shard")).insert(0, pa.field("position", pa.int64()))
        self.writers: dict[int, pq.ParquetWriter] = {}
        self.waiting: dict[int, list[pa.RecordBatch]] = {}
        self.rows = 0

    def write(self, batch: "pa.RecordBatch") -> None:
        """Take the next rows. The bytes of the files do not depend on how rows are batched."""
        while batch.num_rows:
            room = MOST_WAITING - self.rows % MOST_WAITING
            self._sort(batch.slice(0, room))
            if self.rows % MOST_WAITING == 0:
                self.flush()
            batch = batch.slice(room)

    def _sort(self, batch: "pa.RecordBatch") -> None:
        import numpy as np
        import pyarrow as pa

        # NumPy sorts numbers of 16 bits in linear time.
        shards = batch.column("shard").to_numpy().astype(np.uint16 if len(self.names) <= 1 << 16 else np.uint32)
        order = np.argsort(shards, kind="stable")
        ends = np.searchsorted(shards[order], np.arange(len(self.names) + 1))
        positions = pa.array(np.arange(self.rows, self.rows + batch.num_rows))
        columns = [positions, *batch.drop_columns(["shard"]).columns]
        grouped = pa.RecordBatch.from_arrays(columns, schema=self.schema).take(pa.array(order))
        for shard in np.unique(shards).tolist():
            begin, end = ends[shard], ends[shard + 1]
            self.waiting.setdefault(shard, []).append(grouped.slice(begin, end - begin))
        self.rows += batch.num_rows

    def flush(self) -> None:
        """Write the rows that wait."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        for shard, batches in self.waiting.items():
            if shard not in self.writers:
                path = self.folder / f"{self.names[shard]}.parquet"
                options = {"compression": "none", "use_dictionary": FEW_VALUES}
                self.writers[shard] = pq.ParquetWriter(path, self.schema, **options)
            # Pages end where chunks do.
            self.writers[shard].write_table(pa.Table.from_batches(batches).combine_chunks(), ROW_GROUP)
        self.waiting = {}

    def close(self) -> None:
        self.flush()
        for writer in self.writers.values():
            writer.close()


def fill_empty_shards(out: Path, names: Sequence[str]) -> None:
    """Write a file without rows for each shard that has none."""
    import pyarrow.parquet as pq

    schema = pq.read_schema(next(out.glob(f"*/{READ}")))
    for name in names:
        if not any((out / name).iterdir()):
            pq.write_table(schema.empty_table(), out / name / f"utterances-00000{FROM}{0:012}.parquet")
