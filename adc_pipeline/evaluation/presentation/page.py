"""Write a report as one HTML page without external parts.

Pictures are embedded as data and nothing is fetched or run, so a page opens from disk without a network, in MLflow's
artifact viewer, which runs no script, and on paper. `page.html` beside this module is the template. It escapes every
text, since texts of a corpus may hold anything. Cost: 40 ms, and 0.2 s to import Jinja.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from adc_pipeline.core import markdown

if TYPE_CHECKING:
    from adc_pipeline.evaluation.samples import Sample

# A report's file, in the folder of an evaluation, of the comparison or of a study's result.
REPORT = "report.html"


@dataclass(frozen=True)
class Table:
    """Cells of text; the first column names the row."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""

    def markdown(self) -> str:
        """Return the table as Markdown, without the caption."""
        return markdown.table(self.header, self.rows)


@dataclass(frozen=True)
class Section:
    """A part of a page: paragraphs, then pictures with their captions, then tables, then samples by prompt."""

    title: str
    text: Sequence[str] = ()
    pictures: Mapping[Path, str] = field(default_factory=dict)
    tables: Sequence[Table] = ()
    samples: "Sequence[Mapping[str, Sample]]" = ()


def provenance_section(provenance: Mapping[str, str]) -> list[Section]:
    """Return the section on where models and data come from, by names and values; none where nothing is known."""
    table = Table(["what", "value"], list(provenance.items()))
    return [Section("Provenance", tables=[table])] if provenance else []


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """Return the page as HTML; `lead` is the paragraph below the title."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def inline(picture: Path) -> str:
        return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"

    template = environment.get_template("page.html")
    return template.render(title=title, lead=lead, sections=sections, inline=inline) + "\n"
