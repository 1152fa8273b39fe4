"""No page repeats itself, as one does after a merge that keeps both sides."""

from collections import Counter
from pathlib import Path

import pytest

from adc_pipeline_tests.docs.pages import PAGES, ROOT


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_paragraph_stands_twice(page: Path) -> None:
    paragraphs = Counter(paragraph.strip() for paragraph in page.read_text(encoding="utf-8").split("\n\n"))
    assert [text for text, times in paragraphs.items() if times > 1 and len(text) > 60] == []
