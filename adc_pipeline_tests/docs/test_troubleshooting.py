"""The page of errors is made from the code, and neither can change without the other."""

import re
import sys
from importlib import import_module
from pathlib import Path

import pytest
from sphinx.errors import ExtensionError

from adc_pipeline_tests.docs.pages import DOCS

# An extension of Sphinx, which is in no package.
sys.path.insert(0, str(DOCS / "_extensions"))
adc_errors = import_module("adc_errors")

PAGE = DOCS / "how-to" / "troubleshooting.md"


def code(folder: Path, *lines: str) -> Path:
    package = folder / "package"
    package.mkdir()
    (package / "module.py").write_text("\n".join(lines))
    return package


def test_every_error_has_a_remedy_and_is_on_the_page() -> None:
    found = adc_errors.listed()
    assert len(found) > 100
    places = " ".join(re.findall(r"\{adc-errors\} (.+)", PAGE.read_text())).split()
    assert not [each for each in found if not adc_errors.within(each, places)]


@pytest.mark.parametrize("docstring", ["Read it. Raise", "Read it; raise", "Read it.\n\n    Raises"])
def test_a_sentence_is_read_with_gaps_and_divided(docstring: str, tmp_path: Path) -> None:
    package = code(
        tmp_path,
        "def read(path: str, size: int) -> None:",
        f'    """{docstring} PipelineError if it is\n    too large."""',
        '    raise PipelineError(f"{path} has {size / 1e6:,.0f} MB{path}{size}: make room, or give another.")',
    )
    (error,) = adc_errors.errors(package)
    assert error == adc_errors.Error("module", "read", "if it is too large", "… has … MB…: make room, or give another.")
    assert adc_errors.divided(error.sentence) == ("… has … MB…", "make room, or give another")


def test_sentences_that_a_function_returns_are_errors(tmp_path: Path) -> None:
    package = code(
        tmp_path,
        "def problems_of_names(names: list[str]) -> list[str]:",
        '    """Return a sentence for each wrong name."""',
        '    return [f"{name} is no asset{nearest(name)}." for name in names if f"{name}" not in KNOWN]',
    )
    (error,) = adc_errors.errors(package)
    assert error == adc_errors.Error("module", "problems_of_names", "", "… is no asset….")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('raise PipelineError("It is wrong.")', "says no remedy"),
        ("raise PipelineError(str(error))", "raises a sentence that is not in the code"),
        ('raise PipelineError("It is wrong: give another.")', "which no error says"),
    ],
)
def test_an_error_without_a_remedy_and_a_remedy_without_its_error_are_refused(
    tmp_path: Path, line: str, problem: str
) -> None:
    with pytest.raises(ExtensionError, match=problem):
        adc_errors.listed(code(tmp_path, line))
