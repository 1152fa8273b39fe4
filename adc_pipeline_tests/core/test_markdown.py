"""Values in Markdown stay text, as a real parser reads it: no markup, no HTML, no link, no extra row or column."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from adc_pipeline.core.markdown import Markdown, code, escape, one_line, table

# Raw HTML passes through, as on Dagster's pages; the tables and the strikethrough are GitHub's.
PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])

HOSTILE = [
    "a | b", "a \\| b", "\\", "line\nbreak", "line\r\nbreak", "\u2028", "<script>alert(1)</script>",
    "<img src=x onerror=y>", "</td></table>", "<!--", "&lt;b&gt;", "&amp;", "&#60;", "[text](javascript:alert(1))", "![x](http://a/b.png)",
    "[a][b]", "[a]: http://b", "<http://a.b>", "**bold**", "__init__", "_x_", "a_b_c", "~~struck~~", "`code`", "``",
    "$x$", "\x1b[31mred", "\x00", "\x9b", "\u202eabc", "\ud800", "| --- |", "---", "# heading", "- item", "1. item", "",
]  # fmt: skip
VALUES = st.lists(
    st.sampled_from(HOSTILE) | st.text("\\`*_{}[]()<>#|~$!&:;\"'-+.\n\tab1é🙂", max_size=8) | st.text(max_size=4),
    max_size=6,
).map("".join)


def cells(markdown: str) -> list[list[Token]]:
    """The rows of a text that is one table, each cell as its inline token."""
    tokens = PARSER.parse(markdown)
    assert [token.type for token in tokens if token.level == 0] == ["table_open", "table_close"]
    rows: list[list[Token]] = []
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            rows[-1].append(token)
    return rows


def shown(cell: Token, kind: str = "text") -> str:
    """The text of a cell whose content is of this kind alone."""
    assert {child.type for child in cell.children or ()} <= {kind}
    return "".join(child.content for child in cell.children or ())


@pytest.mark.slow
@hypothesis_settings(deadline=None)
@given(st.lists(st.tuples(VALUES, VALUES), max_size=3), VALUES)
@example([(value, value) for value in HOSTILE], "|")
def test_a_cell_shows_its_value_and_is_nothing_but_text(rows: list[tuple[str, str]], name: str) -> None:
    expected = [[name, "n"], *(list(row) for row in rows)]
    found = cells(table([name, "n"], rows))
    # A parser takes the no-break space at the end of a cell for white space, too.
    assert [[shown(cell) for cell in row] for row in found] == [[one_line(v).strip() for v in row] for row in expected]


@pytest.mark.slow
@hypothesis_settings(deadline=None)
@given(VALUES)
@example("a`b")
@example("a|b")
def test_a_code_span_shows_its_value(value: str) -> None:
    ((_, cell),) = cells(table(["x", "y"], []) + f"| - | {code(value)} |\n")[1:]
    kind = "code_inline" if code(value).startswith("`") else "text"
    assert shown(cell, kind).strip() == one_line(value).strip()


@pytest.mark.slow
@hypothesis_settings(deadline=None)
@given(VALUES)
def test_no_control_character_and_no_line_break_is_left(value: str) -> None:
    for text in (one_line(value), escape(value), code(value), table(["x"], [[value]]).replace("\n", " ")):
        assert not {unicodedata.category(character) for character in text} & {"Cc", "Cs", "Zl", "Zp"}
        assert not set(text) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def test_names_and_intervals_stay_readable_in_the_source() -> None:
    for text in ("preference_accuracy.within_hour", "0.6124 [0.5800,\N{NO-BREAK SPACE}0.6444]", "top-2 − base", "−0.5"):
        assert escape(text) == text


def test_markdown_is_not_escaped_again() -> None:
    assert escape(Markdown("**b**")) == "**b**"
    assert escape(escape("a|b")) == escape("a|b")


@pytest.mark.parametrize("right", [(), (1,)])
def test_the_layout_of_a_table(right: tuple[int, ...]) -> None:
    rule = "| --- | ---: |" if right else "| --- | --- |"
    assert table(["split", "walks"], [["train", 7]], right) == f"| split | walks |\n{rule}\n| train | 7 |\n"
