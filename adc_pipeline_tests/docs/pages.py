"""The pages of the documentation, and the code blocks in them."""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)]

FENCE = re.compile(
    r"^(?:<!-- needs: (?P<needs>[^>]+) -->\n)?"
    r"(?P<indent> *)```(?P<language>[\w-]*)\n(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced code block; `needs` is what it cannot run without, from a comment on the line before it."""

    page: Path
    line: int
    language: str
    code: str
    needs: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(language: str) -> list[Block]:
    """The blocks of all pages in one language; those without a language are commands and their output."""
    return [block for page in PAGES for block in blocks_of(page) if block.language == language]


def blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for found in FENCE.finditer(text):
        line = text.count("\n", 0, found.start("language")) + 1
        yield Block(page, line, found["language"], textwrap.dedent(found["code"]), found["needs"] or "")


def words() -> Iterator[tuple[Path, str]]:
    """Every word of every page, commands and inline code included, without the punctuation around it."""
    for page in PAGES:
        for word in re.findall(r"[\w./@:=-]+", page.read_text()):
            yield page, word.strip(".:=")
