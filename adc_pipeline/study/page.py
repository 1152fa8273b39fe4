"""Write the result of the study: a Markdown text, an HTML report, a picture and flat figures."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from adc_pipeline.evaluation.presentation.page import REPORT, Section, Table, page, provenance_section
from adc_pipeline.evaluation.presentation.report import MEANINGS
from adc_pipeline.study.conclusions import conclusions
from adc_pipeline.study.figures import draw_study
from adc_pipeline.study.grid import VARIANTS
from adc_pipeline.study.statistics import Cell, read_study
from adc_pipeline.study.tables import differences_table, figures_table, seeds_table

INTERVALS = (
    "Brackets hold the 95 % confidence interval. It takes both the seeds and the conversations as samples: Student's t"
    " with the variance between seeds and that between conversations. A p-value is that of the same method, two-sided;"
    " two variants are compared case by case on the seeds that both have. One seed gives neither interval nor p-value."
    " Parentheses hold the number of conversations that the cases come from. Holm's correction covers all tests."
)
CAPTION = "Means over the seeds with their intervals; ticks are the seeds, grey bars the base model"


def write_results(
    folders: Mapping[Cell, Path],
    out: Path,
    excluded: Mapping[str, str] | None = None,
    provenance: Mapping[str, str] | None = None,
) -> str:
    """Write `study.md`, `study.json`, `study.png` and `report.html` into the folder `out`; return the Markdown.

    `folders` are those that `evaluate` wrote, by variant and seed; missing cells are counted, not shown. `excluded` are
    other cells by name, each with the reason why it is not compared. `provenance` names where all cells come from.
    """
    study = read_study(folders)
    counted = f"{len(folders)} cells: {len(study.seeds)} of the grid's {len(VARIANTS)} variants."
    notes = excluded_cells(excluded or {})
    sentences = conclusions(study)
    tables = {"Figures": figures_table(study), "Seeds": seeds_table(study), "Differences": differences_table(study)}

    text = markdown_text([counted, *notes], sentences, tables)
    (out / "study.md").write_text(text, encoding="utf-8")
    (out / "study.json").write_text(json.dumps(study.metrics(), indent=1, allow_nan=False) + "\n")
    picture = draw_study(study, out / "study.png")
    sections = [
        Section("What may be concluded, and what may not", (*notes, *sentences), {picture: CAPTION}),
        *(Section(title, (table.caption,), tables=[table]) for title, table in tables.items()),
        Section("How to read this", (INTERVALS, *MEANINGS)),
        *provenance_section(provenance or {}),
    ]
    (out / REPORT).write_text(page("Study", counted, sections), encoding="utf-8")
    return text


def markdown_text(notes: Sequence[str], sentences: Sequence[str], tables: Mapping[str, Table]) -> str:
    """Return the study as Markdown: notes, then the conclusions as a list, then the tables."""
    return "\n".join(
        [
            *(f"{note}\n" for note in notes),
            *(f"- {sentence}" for sentence in sentences),
            "",
            *(f"**{title}**\n\n{table.caption}\n\n{table.markdown()}" for title, table in tables.items()),
        ]
    )


def excluded_cells(excluded: Mapping[str, str]) -> list[str]:
    """Return the rule of exclusion and a sentence for each reason; nothing where no cell is excluded."""
    names: dict[str, list[str]] = {}
    for name, reason in excluded.items():
        names.setdefault(reason, []).append(name)
    if not names:
        return []
    return [
        "The study compares the cells that are up to date in code and inputs and have the settings of the newest one.",
        *(
            f"Excluded, because {reason}: {len(cells)} cell{'s' * (len(cells) > 1)}, {', '.join(cells)}."
            for reason, cells in names.items()
        ),
    ]
