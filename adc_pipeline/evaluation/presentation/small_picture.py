"""Draw the headline figures as a small SVG in Markdown, which Dagster shows in an asset's page without a click.

Dagster shows short Markdown in place (`core.markdown.LONG`), which no bitmap of a plot fits into: a row of text and an
interval for each measure do. The picture is embedded, so that no other server has to run, and is as wide as the page's
narrow column of values.
"""

from collections.abc import Mapping
from urllib.parse import quote

from adc_pipeline.core.markdown import LONG
from adc_pipeline.core.pictures import COLOURS
from adc_pipeline.evaluation.baselines import informative
from adc_pipeline.evaluation.evaluation import Evaluation
from adc_pipeline.evaluation.intervals.estimate import Estimate
from adc_pipeline.evaluation.presentation.figures import HEADLINE, Series

# Pixels: the picture, which leaves room for the longest names of rows in a window of 1,280, and the row of a measure.
WIDTH, ROW = 192, 46
# Chance, or no improvement, is drawn like a series.
CHANCE = -1
# What Markdown or an address would take for its own.
SAFE = " /:=;,.'"


def small_headline(series: Series) -> str:
    """Return Markdown with the headline measures of the series, by label, as a picture; empty if it is too long."""
    found = {
        measure: {n: each[measure] for n, each in enumerate(series.values()) if is_known(each.get(measure))}
        for measure in HEADLINE
    }
    found = {measure: estimates for measure, estimates in found.items() if estimates}
    rows = [row(20 + ROW * place, measure, estimates) for place, (measure, estimates) in enumerate(found.items())]
    texts = "".join(text for text, _ in rows)
    names = [*enumerate(series), (CHANCE, "chance")]
    labels = "".join(f"<tspan fill='{colour(n)}'>{name} </tspan>" for n, name in names)
    # One path a series, over all rows, takes least room.
    lines = "".join(
        f"<path stroke='{colour(n)}' d='{''.join(drawn.get(n, '') for _, drawn in rows)}'/>"
        for n in (CHANCE, *range(len(series)))
    )
    svg = f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{20 + ROW * len(rows)}'"
    svg += f" font-family='sans-serif' font-size='10'><text y='12'>{labels}</text>{texts}{lines}</svg>"
    markdown = f"![headline](<data:image/svg+xml,{quote(svg, safe=SAFE)}>)"
    return markdown if rows and len(markdown) < LONG else ""


def headline_series(evaluation: Evaluation) -> Series:
    """Return what the small picture of one model's evaluation shows, by label."""
    return {"base model": informative(evaluation.base), "model": evaluation.model, "length": evaluation.length}


def is_known(estimate: Estimate | None) -> bool:
    return estimate is not None and estimate.value is not None


def colour(number: int) -> str:
    return "gray" if number == CHANCE else COLOURS[number % len(COLOURS)]


def row(top: int, measure: str, estimates: Mapping[int, Estimate]) -> tuple[str, dict[int, str]]:
    """Return a measure's title with the ends of its scale, and by series what is drawn: the interval, and a tick."""
    title, chance, _ = HEADLINE[measure]
    values = [chance, *(v for each in estimates.values() for v in (each.low, each.value, each.high) if v is not None)]
    low, high = min(values), max(values)

    def x(value: float) -> int:
        return round(4 + (WIDTH - 8) * (value - low) / ((high - low) or 1.0))

    drawn = {CHANCE: f"M{x(chance)} {top + 18}v24"}
    for place, (number, each) in enumerate(estimates.items()):
        y = top + 23 + place * min(7, 20 // len(estimates))
        if each.low is not None and each.high is not None:
            drawn[number] = f"M{x(each.low)} {y}H{x(each.high)}"
        drawn[number] = f"{drawn.get(number, '')}M{x(each.value or 0.0)} {y - 3}v6"
    return f"<text y='{top + 14}'>{title} {low:.2g}..{high:.2g}</text>", drawn
