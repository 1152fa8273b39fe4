"""A page is one file that fetches nothing, and no text of a corpus becomes markup in it."""

from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from adc_pipeline.evaluation.presentation.page import Section, Table, page
from adc_pipeline.evaluation.presentation.report import samples_by_prompt
from adc_pipeline.evaluation.samples import Sample

# Texts with hostile parts.
TEXTS = st.lists(
    st.sampled_from(["<script>alert(1)</script>", "</p>", "<img src=x onerror=y>", "&lt;b&gt;", "{{ 7 * 7 }}", "{% if",
                     "\"", "'", "<!--", "]]>", "&", "<", "word", " ", "<rejected>", "é", "🙂"])
    | st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), max_size=6),
    max_size=8,
).map("".join)  # fmt: skip


class Reader(HTMLParser):
    """Read a page as a browser does: its tags with their attributes, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        self.text += data


def sample(verdict: str, prompt: str, continuation: str, writer: str = "model") -> Sample:
    return Sample("c", prompt, verdict, writer, continuation, "length", True, 1, 1.0, None, None)  # type: ignore[arg-type]


def read(prompt: str, continuation: str, cell: str) -> Reader:
    both = samples_by_prompt([sample("rejected", prompt, continuation), sample("accepted", prompt, continuation)])
    sections = [Section(cell, (cell,), {}, (Table([cell, "n"], [[cell, "1"]]),), both)]
    reader = Reader()
    reader.feed(page(cell, cell, sections))
    reader.close()
    return reader


@pytest.mark.slow
@hypothesis_settings(deadline=None)
@given(TEXTS, TEXTS, TEXTS)
def test_no_text_becomes_markup_and_all_of_it_is_shown(prompt: str, continuation: str, cell: str) -> None:
    found, plain = read(prompt, continuation, cell), read("p", "c", "d")
    assert found.tags == plain.tags
    for text in (prompt, continuation, cell):
        assert text in found.text


def test_a_page_fetches_nothing_and_runs_nothing(tmp_path: Path) -> None:
    picture = tmp_path / "headline.png"
    picture.write_bytes(b"\x89PNG")
    reader = Reader()
    html = page("title", "lead", [Section("section", pictures={picture: "<caption>"})])
    reader.feed(html)
    addresses = [value or "" for _, attrs in reader.tags for name, value in attrs if name in ("src", "href")]
    assert addresses == ["data:image/png;base64,iVBORw=="]
    assert not {tag for tag, _ in reader.tags} & {"script", "link", "iframe", "object"}
    assert "url(" not in html
    assert "@import" not in html


def test_samples_of_one_prompt_stand_samples_by_prompt() -> None:
    samples = [sample("rejected", "a", "1"), sample("accepted", "a", "2"), sample("accepted", "b", "3")]
    samples += [sample("rejected", "a", "4", "base model")]
    found = [{heading: each.continuation for heading, each in group.items()} for group in samples_by_prompt(samples)]
    assert found == [
        {"after rejected": "1", "after accepted": "2", "base model, after rejected": "4"},
        {"after accepted": "3"},
    ]
