"""Figures as text."""

import pytest

from adc_pipeline.evaluation.formatting import figure, interval, number, p_value, sample_size
from adc_pipeline.evaluation.intervals.estimate import Estimate

NBSP = "\N{NO-BREAK SPACE}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.61236, "0.6124"), (-0.58, "−0.5800"), (0.0, "0.000"), (1, "1.000"), (12.3456, "12.35"), (99.996, "100.0"),
        (999.96, "1,000"), (1234.5, "1,234"), (1234567.0, "1,234,567"), (0.00012345, "0.0001234"),
        (1.5e-7, "1.500e−07"), (float("inf"), "inf"), (None, "–"),
    ],
)  # fmt: skip
def test_a_number_has_four_significant_digits(value: float | None, text: str) -> None:
    assert number(value) == text
    if value is not None and value >= 0:
        assert number(value, sign=True) == f"+{text}"


def test_an_estimate_has_its_interval_or_the_reason_why_it_has_none() -> None:
    assert figure(Estimate(0.6124, 0.58, 0.6444, 10, 5)) == f"0.6124 [0.5800,{NBSP}0.6444]"
    assert figure(Estimate(0.6124, -0.58, 0.6444, 10, 5), sign=True) == f"+0.6124 [−0.5800,{NBSP}+0.6444]"
    assert figure(Estimate(-0.5, None, None, 3, 1)) == "−0.5000 (one conversation)"
    assert figure(Estimate(None, None, None, 0, 0)) == "no cases"
    assert interval(0, 1234.5) == f"[0.000,{NBSP}1,234]"


def test_p_values_and_sample_sizes() -> None:
    assert (p_value(0.0001), p_value(0.0421), p_value(1.0)) == ("< 0.001", "0.042", "1.000")
    assert sample_size(Estimate(0.5, None, None, 1234, 56)) == "1,234 (56)"
    assert figure(None) == p_value(None) == sample_size(None) == "–"
