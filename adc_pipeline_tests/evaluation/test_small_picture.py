"""The small picture of an asset's page: short enough for Dagster to show it in place, and what it draws."""

import re
from urllib.parse import unquote
from xml.etree import ElementTree

from adc_pipeline.core.markdown import LONG
from adc_pipeline.evaluation.intervals.estimate import Estimate
from adc_pipeline.evaluation.presentation.figures import HEADLINE
from adc_pipeline.evaluation.presentation.small_picture import WIDTH, small_headline

WORST = Estimate(0.123456789, -0.987654321, 0.987654321, 1_000_000, 100_000)


def svg(markdown: str) -> ElementTree.Element:
    found = re.fullmatch(r"!\[headline\]\(<data:image/svg\+xml,([^<>\n]*)>\)", markdown)
    assert found
    return ElementTree.fromstring(unquote(found[1]))


def test_three_series_of_all_measures_fit_and_have_one_line_each() -> None:
    names = ("base model", "random-walk", "length alone")
    markdown = small_headline({name: dict.fromkeys(HEADLINE, WORST) for name in names})
    assert 0 < len(markdown) < LONG
    drawn = svg(markdown)
    assert int(drawn.attrib["width"]) == WIDTH <= 193
    paths = [each.attrib["d"] for each in drawn.iterfind("{*}path")]
    assert len(paths) == 1 + len(names)
    numbers = [int(x) for path in paths for x in re.findall(r"[MH](\d+)", path)]
    assert 0 <= min(numbers) <= max(numbers) <= WIDTH


def test_what_is_unknown_is_left_out() -> None:
    unknown, alone = Estimate(None, None, None, 0, 0), Estimate(0.5, None, None, 1, 1)
    assert small_headline({"model": dict.fromkeys(HEADLINE, unknown)}) == ""
    drawn = svg(small_headline({"model": {"steering": alone, "preference_accuracy": unknown}}))
    text = "".join(drawn.itertext())
    assert "Steering 0.5..0.5" in text
    assert "Preference" not in text
    # More than fits is not shown at all.
    assert small_headline({f"model {n}": dict.fromkeys(HEADLINE, WORST) for n in range(20)}) == ""
