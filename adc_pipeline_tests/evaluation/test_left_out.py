"""What an evaluation without a figure says: what was left out decides."""

import pytest

from adc_pipeline.evaluation.left_out import nothing_evaluated


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        ({}, "could be evaluated: increase its share in the setting `shares`."),
        (
            {"conversations.test": 21, "conversations.left_out": 21},
            "all 21 are excluded, because their roots also occur",
        ),
        ({"conversations.test": 21, "conversations.left_out": 7}, "`shares`. 7 are excluded because their root also"),
        ({"queries": 9, "queries.left_out": 9, "context_tokens": 1024}, "fits into the context of 1,024 tokens: set"),
        ({"queries": 9, "queries.left_out": 8, "context_tokens": 1024}, "increase its share"),
    ],
)
def test_an_evaluation_without_a_figure_says_why(counts: dict[str, float | None], sentence: str) -> None:
    assert sentence in nothing_evaluated(counts)
