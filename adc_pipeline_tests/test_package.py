"""The distribution: declared dependencies, the constraints file, and what a wheel contains."""

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from adc_pipeline_tests.constraints import constraints, differences, requirements

ROOT = Path(__file__).parents[1]
OURS = {"adc_pipeline", "adc_pipeline_tests", "deploy"}


def imported(folder: str) -> dict[str, set[str]]:
    """Return the top-level modules that a folder's files import from outside the project, and in which files."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            for name in {name.split(".")[0] for name in names} - sys.stdlib_module_names - OURS:
                found.setdefault(name, set()).add(path.relative_to(ROOT).as_posix())
    return found


def undeclared(folder: str, declared: set[str]) -> dict[str, set[str]]:
    """Return the modules of `imported` that no declared distribution provides."""
    providers = packages_distributions()
    return {
        module: files
        for module, files in imported(folder).items()
        if not {canonicalize_name(name) for name in providers.get(module, [module])} & declared
    }


@pytest.mark.slow
def test_every_package_that_the_pipeline_imports_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    # What settings that are off by default need, each an extra that its error message names.
    optional = [line for extra in ("privacy", "ray") for line in project["optional-dependencies"][extra]]
    lines = [*project["dependencies"], *optional]
    assert not undeclared("adc_pipeline", {canonicalize_name(Requirement(line).name) for line in lines})


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["adc_pipeline_tests", "deploy"])
def test_every_package_that_the_tests_import_is_declared_in_an_extra(folder: str) -> None:
    assert not undeclared(folder, {canonicalize_name(each.name) for each in requirements()})


def test_the_constraints_admit_what_the_project_asks_for() -> None:
    pins = constraints()
    asked = list(requirements())
    assert {canonicalize_name(each.name) for each in asked} <= pins.keys()
    for requirement in asked:
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


def test_a_difference_between_constraints_and_environment_is_reported() -> None:
    assert list(differences({"duckdb": "2.0.0", "numpy": "2.4.6"}, {"duckdb": "2.0.1", "rich": "15.0.0"})) == [
        "duckdb 2.0.1 is installed and constraints.txt has 2.0.0",
        "rich 15.0.0 is installed and not in constraints.txt",
    ]


@pytest.mark.slow
def test_a_wheel_holds_the_package_alone_and_all_of_it(tmp_path: Path) -> None:
    """Built from a copy of what git tracks, as `build` and `egg-info` folders of the work tree would be taken along."""
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    copy = tmp_path / "copy"
    for name in tracked:
        if name.endswith((".py", ".toml", ".md", ".yaml", ".html", ".typed", "LICENSE")) and (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([*command, str(tmp_path), str(copy)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(name for name in names if name.endswith("/METADATA"))).decode()
    assert {name for name in names if ".dist-info/" not in name} == {
        name for name in tracked if name.startswith("adc_pipeline/") and (ROOT / name).is_file()
    }
    assert re.search(r"^Classifier: Typing :: Typed$", metadata, re.MULTILINE)


def test_a_file_of_the_working_directory_is_no_module_of_the_processes_that_a_run_starts(tmp_path: Path) -> None:
    (tmp_path / "random.py").write_text("raise SystemExit(9)")
    child = "import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', 'import random']).returncode)"
    command = [sys.executable, "-P", "-c", f"import adc_pipeline.definitions; {child}"]
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    assert subprocess.run([sys.executable, "-P", "-c", child], env=variables, cwd=tmp_path).returncode == 9
    assert subprocess.run(command, env=variables, cwd=tmp_path).returncode == 0
