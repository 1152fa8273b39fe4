"""The site builds without a warning, so that no link is broken, and the reference leaves nothing out."""

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from adc_pipeline.definitions import defs
from adc_pipeline.defs.stage import SETTINGS
from adc_pipeline.evaluation.cases.case_sets import Turns, table
from adc_pipeline.evaluation.cases.leakage import Leakage
from adc_pipeline.evaluation.measure_names import measure_names
from adc_pipeline.evaluation.measures import reliability
from adc_pipeline_tests.docs.pages import DOCS, ROOT

pytestmark = pytest.mark.slow

REFERENCE = DOCS / "reference"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", str(DOCS), str(folder)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


def text_of(page: Path) -> str:
    return re.sub(r"<[^>]+>", "", page.read_text())


def test_the_reference_is_generated(site: Path) -> None:
    assert "max_set_aside" in text_of(site / "reference/settings.html")
    assert "--tracking-uri" in text_of(site / "reference/commands.html")
    assert "marker_grammar" in text_of(site / "reference/assets.html")


def test_all_settings_are_in_the_reference() -> None:
    """Every class of settings that Dagster's run configuration has, or the class that it extends."""
    assert defs.assets
    text = "".join(page.read_text() for page in REFERENCE.glob("*.md"))
    shown = set(re.findall(r"\{adc-settings\} ([\w.]+)", text))
    for kind in SETTINGS.values():
        names = {f"{each.__module__}.{each.__qualname__}" for each in kind.__mro__}
        assert names & shown or not fields(kind), kind


def test_all_measures_are_in_the_reference() -> None:
    page = (REFERENCE / "metrics.md").read_text()
    bins = reliability(table(Turns, iter(())), np.zeros(0))
    names = [*measure_names(4), *(each.name for each in bins)]
    assert len(names) > 30
    for name in names:
        # A reading may be written as its last part after the measure's name, and bins and numbers shown as a range.
        name = re.sub(r"(policy_improvement)\.k\d", r"\1.k0", re.sub(r"(policy\w+\.\w+)\.k\d", r"\1.k1", name))
        parts = re.sub(r"k\w+\.shown\d", "k3.shown1", re.sub(r"bin\d", "bin0", name)).split(".")
        spelt = ".".join(parts), f".{'.'.join(parts[1:])}", f".{parts[-1]}"
        assert any(f"`{each}`" in page for each in spelt), name


def test_all_figures_of_leakage_are_in_the_reference() -> None:
    page = (REFERENCE / "metrics.md").read_text()
    assert [name for name in Leakage(0, 0, 0, None, None).counts() if f"`{name}`" not in page] == []


def test_all_environment_variables_are_in_the_reference() -> None:
    files = [*(ROOT / "adc_pipeline").rglob("*.py"), *ROOT.glob("docker-compose*.yml"), ROOT / ".env.example"]
    used = {name for file in files for name in re.findall(r"\bADC_[A-Z_]+\b", file.read_text())}
    page = (REFERENCE / "environment.md").read_text()
    assert {"ADC_HOME", "ADC_CORPUS", "ADC_BIND"} <= used
    assert sorted(name for name in used if f"`{name}`" not in page) == []
