"""A preview of walks contains no markup from the corpus."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from markdown_it import MarkdownIt

from adc_pipeline.walks.preview import WIDTH, walks_as_markdown


def preview(folder: Path, source: str, conversation: str, post: str, reply: str) -> str:
    head, turn = f"{post}<background>", f"bob\n{reply}"
    row = {
        "source": source,
        "conversation_id": conversation,
        "walk": 0,
        "text": f"{head}{turn}<accepted>",
        "turns": [
            {
                "speaker": "bob",
                "verdict": "accepted",
                "score": 3,
                "rank": 1,
                "siblings": 2,
                "start": len(head) + len("bob\n"),
                "end": len(head) + len(turn),
            }
        ],
    }
    pq.write_table(pa.Table.from_pylist([row]), folder / "walks.parquet")
    return walks_as_markdown(folder / "walks.parquet")


def test_hostile_texts_add_no_markup(tmp_path: Path) -> None:
    parser = MarkdownIt("commonmark", {"html": True})

    def tags(markdown: str) -> list[tuple[str, str]]:
        return [(each.type, each.tag) for token in parser.parse(markdown) for each in (token, *(token.children or ()))
                if each.type not in ("text", "code_inline")]  # fmt: skip

    plain = preview(tmp_path, "forum", "c", "a post", "a reply")
    hostile = "# <img src=x> [a](javascript:b) **b** `c` | \x1b[31m\n\n- d"
    found = preview(tmp_path, hostile, hostile, hostile, hostile)
    assert tags(found) == tags(plain)
    assert "\x1b" not in found


def test_long_texts_are_truncated(tmp_path: Path) -> None:
    assert f"2, score 3) {'a' * (WIDTH - 1)}…" in preview(tmp_path, "forum", "c", "post", "a" * 1000)


def test_a_split_without_walks_is_reported(tmp_path: Path) -> None:
    pq.write_table(pa.table({"source": pa.array([], pa.string())}), tmp_path / "walks.parquet")
    assert walks_as_markdown(tmp_path / "walks.parquet") == "No walks in this split."


def test_a_long_walk_is_cut(tmp_path: Path) -> None:
    text = preview(tmp_path, "s", "c", "post", "yes")
    file = tmp_path / "long.parquet"
    (row,) = pq.read_table(next(tmp_path.glob("*.parquet"))).to_pylist()
    pq.write_table(pa.Table.from_pylist([{**row, "turns": row["turns"] * 20_000}]), file)
    assert walks_as_markdown(file).count("accepted") == text.count("accepted") * 30
    assert walks_as_markdown(file).endswith("… and 19,970 more turns")
