"""How the errors of other libraries are shortened for a sentence."""

import pytest

from adc_pipeline.core.errors import first_line


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("It failed.\nSee the log.", "It failed"),
        ("  \n", "ValueError"),
        # A line that announces the next one says nothing by itself.
        (
            "Validation error for field 'eos_token_id':\n\n    expected int, got str.\nAnd more",
            "{} expected int, got str",
        ),
        ("One of: \n(1) a file,\n(2) a name", "One of: (1) a file"),
        ("It ends here:", "It ends here:"),
        # As DuckDB passes on the error of a thread of its own.
        (
            'It: {"exception_type":"IO","exception_message":"Could not write \\"a/b\\": No space","errno":"28"}',
            'Could not write "a/b": No space',
        ),
    ],
)
def test_of_a_message_the_line_that_says_something_is_kept(message: str, expected: str) -> None:
    assert first_line(ValueError(message)) == expected.replace("{}", "Validation error for field 'eos_token_id':")
