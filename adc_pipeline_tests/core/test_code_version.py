"""The code version changes with the code that makes an asset, and with nothing else."""

import shutil
from pathlib import Path

import pytest

from adc_pipeline.core import code_version as versions

ROOT = "tiny.defs.walks"
# A stage with a template, a circular import and an import inside a function, its declaration and what frames it.
FILES = {
    "__init__.py": "",
    "defs/__init__.py": "",
    "defs/frame.py": "import dagster as dg\n\nFRAME = dg.asset\n",
    "defs/walks.py": '''"""Declare the walks."""

from tiny.defs.frame import FRAME
from tiny.walks.rows import rows

walks = FRAME(rows)
''',
    "walks/__init__.py": "",
    "walks/rows.py": '''"""The rows of a walk."""

import json
from dataclasses import dataclass

from tiny.walks import card as card
from tiny.walks.draw import draw as pick

SQL = """
SELECT id FROM walks
"""


@dataclass
class Row:
    """A row."""

    text: str


def rows(count: int = 3) -> list:
    """Return `count` rows."""
    from tiny.walks.late import finish

    return [finish(json.loads(f"{pick(SQL):>{count}}")), card.page("no file's name.html")]
''',
    "walks/draw.py": "def draw(sql):\n    return sql + 'x'  # An x.\n",
    "walks/draw_first.py": "def draw(sql):\n    return sql\n",
    "walks/late.py": "from tiny.walks import rows\n\n\ndef finish(row):\n    return rows.Row(row) if row else 1.5\n",
    "walks/card.py": '"""Write page.html, not other.html."""\n\n\ndef page(name):\n    return name, "page.html"\n',
    "walks/page.html": "<p>A page</p>\n",
    "walks/other.html": "<p>Another page</p>\n",
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / "tiny" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tiny" / name).write_text(text)
    return tmp_path / "tiny"


def version(package: Path, *roots: str) -> str:
    """Return the version by the files as they are now."""
    return versions.Sources(package).version(*(roots or (ROOT,)))


def edit(package: Path, file: str, old: str, new: str) -> None:
    text = (package / file).read_text()
    assert text.count(old) == 1
    (package / file).write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        pytest.param("walks/draw.py", "# An x.", "# A letter.", id="comment"),
        pytest.param("walks/draw.py", "  # An x.", "", id="no comment"),
        pytest.param("walks/rows.py", '"""The rows of a walk."""', '"""Rows."""', id="docstring of a module"),
        pytest.param("walks/rows.py", '    """A row."""\n', "", id="docstring of a class"),
        pytest.param("walks/rows.py", "Return `count` rows.", "Return rows.", id="docstring of a function"),
        pytest.param("walks/rows.py", "text: str\n", 'text: str\n    """Words."""\n', id="docstring of a field"),
        pytest.param("walks/__init__.py", "", '"""The walks."""\n', id="docstring of an empty file"),
        pytest.param("walks/draw.py", "sql + 'x'", '(\n        sql\n        + "x"\n    )', id="formatting"),
        pytest.param("walks/rows.py", "SQL = ", "\n\n\nSQL = ", id="line numbers"),
        pytest.param("walks/late.py", "from tiny.walks import rows", "from . import rows", id="relative import"),
        pytest.param("defs/frame.py", "dg.asset", "dg.op", id="sibling of a declaration"),
        pytest.param("walks/draw_first.py", "return sql", "return 1", id="file that is not imported"),
        pytest.param("walks/other.html", "Another", "One", id="template that only a docstring names"),
    ],
)
def test_what_is_no_code_does_not_count(package: Path, file: str, old: str, new: str) -> None:
    before = version(package)
    edit(package, file, old, new)
    assert version(package) == before


def test_a_moved_import_does_not_count(package: Path) -> None:
    before = version(package)
    edit(package, "walks/rows.py", "import json\n", "")
    edit(package, "walks/rows.py", "\nSQL", "import json\n\nSQL")
    assert version(package) == before


def test_a_renamed_module_does_not_count(package: Path) -> None:
    before = version(package)
    (package / "a").mkdir()
    (package / "walks/draw.py").rename(package / "a/pick.py")
    # Also where the import moves up in the sorted block.
    edit(package, "walks/rows.py", "from tiny.walks.draw import draw as pick\n", "")
    edit(package, "walks/rows.py", "\nfrom tiny", "\nfrom tiny.a.pick import draw as pick\nfrom tiny")
    assert version(package) == before


def test_a_renamed_module_in_a_circle_of_imports_does_not_count(package: Path) -> None:
    before = version(package)
    (package / "walks/rows.py").rename(package / "walks/a.py")
    edit(package, "defs/walks.py", "walks.rows import", "walks.a import")
    edit(package, "walks/late.py", "import rows", "import a as rows")
    assert version(package) == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        pytest.param("walks/draw.py", "'x'", "'y'", id="constant"),
        pytest.param("walks/late.py", "1.5", "1.25", id="constant behind an import in a function"),
        pytest.param("walks/rows.py", "SELECT id", "SELECT text", id="SQL string"),
        pytest.param("walks/rows.py", ":>{", ":<{", id="format in an f-string"),
        pytest.param("walks/rows.py", "count: int = 3", "count: int = 4", id="default argument"),
        pytest.param("walks/rows.py", "text: str", "text: bytes", id="annotation"),
        pytest.param("walks/rows.py", "@dataclass", "@dataclass(frozen=True)", id="decorator"),
        pytest.param("walks/page.html", "A page", "The page", id="template"),
        pytest.param("walks/rows.py", "walks.draw import", "walks.draw_first import", id="same name of another module"),
        pytest.param("walks/rows.py", "import json", "import orjson as json", id="same name of another library"),
        pytest.param("defs/walks.py", "FRAME(rows)", "FRAME(rows())", id="declaration"),
    ],
)
def test_a_change_of_the_code_counts(package: Path, file: str, old: str, new: str) -> None:
    before = version(package)
    edit(package, file, old, new)
    assert version(package) != before


def test_the_same_name_of_another_module_counts_where_both_modules_count(package: Path) -> None:
    roots = (ROOT, "tiny.walks.draw", "tiny.walks.draw_first")
    before = version(package, *roots)
    edit(package, "walks/rows.py", "walks.draw import", "walks.draw_first import")
    assert version(package, *roots) != before


def test_a_declaration_counts_where_it_is_a_root(package: Path) -> None:
    before = version(package, ROOT, "tiny.defs.frame")
    assert before != version(package)
    edit(package, "defs/frame.py", "dg.asset", "dg.op")
    assert version(package, ROOT, "tiny.defs.frame") != before


def test_a_root_outside_the_declarations_brings_its_siblings(package: Path) -> None:
    before = version(package, "tiny.walks.rows")
    edit(package, "walks/draw.py", "'x'", "'y'")
    assert version(package, "tiny.walks.rows") != before


def test_a_root_that_does_not_exist_is_an_error(package: Path) -> None:
    with pytest.raises(ValueError, match=r"no module tiny\.walk "):
        version(package, "tiny.walk")


def kept_version(package: Path, folder: Path) -> tuple[str, int]:
    """Return the version that is kept in `folder` or computed, and how many modules were parsed for it."""
    sources = versions.Sources(package)
    return versions.KeptVersions(sources, folder).version(ROOT), len(sources.modules)


def test_a_kept_version_is_used_until_a_file_of_the_package_changes(package: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    before, parsed = kept_version(package, cache)
    assert before == version(package)
    assert parsed
    assert kept_version(package, cache) == (before, 0)
    edit(package, "walks/page.html", "A page", "The page")
    after, parsed = kept_version(package, cache)
    assert after == version(package) != before
    assert parsed
    edit(package, "walks/page.html", "The page", "A page")
    assert kept_version(package, cache)[0] == before
    shutil.copytree(package, tmp_path / "other" / "tiny")
    edit(tmp_path / "other" / "tiny", "walks/page.html", "A page", "The page")
    assert kept_version(tmp_path / "other" / "tiny", cache)[0] == after
    assert kept_version(package, cache) == (before, 0)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"content": "", "versions": []}', '{"versions": {}}'])
def test_a_damaged_cache_costs_only_time(package: Path, tmp_path: Path, content: str) -> None:
    before, _ = kept_version(package, tmp_path)
    (kept,) = tmp_path.glob("code-versions-*.json")
    kept.write_text(content)
    assert kept_version(package, tmp_path)[0] == before
    assert kept_version(package, tmp_path) == (before, 0)


def test_a_cache_that_cannot_be_written_costs_only_time(package: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert kept_version(package, tmp_path / "file" / "cache")[0] == version(package)


@pytest.mark.slow
def test_the_version_of_a_stage_is_that_of_the_code_that_it_uses(tmp_path: Path) -> None:
    original = versions.SOURCES.files["adc_pipeline"].parent
    package = shutil.copytree(original, tmp_path / original.name, ignore=shutil.ignore_patterns("__pycache__"))
    roots = {
        stage: [f"adc_pipeline.defs.assets.{stage}"]
        for stage in ("corpus", "ranking", "walks", "training", "evaluation")
    }
    roots["training"].append("adc_pipeline.training.__main__")

    def now() -> dict[str, str]:
        sources = versions.Sources(package)
        return {stage: sources.version(*modules) for stage, modules in roots.items()}

    before = now()

    def changed_by(file: str, added: str = "\nCHANGED = 1\n") -> set[str]:
        path = package / file
        text = path.read_text()
        path.write_text(text + added)
        after = now()
        path.write_text(text)
        return {stage for stage, version in after.items() if version != before[stage]}

    assert before == {stage: versions.code_version(*modules) for stage, modules in roots.items()}
    assert len(set(before.values())) == len(roots)
    assert changed_by("core/errors.py") == set(roots)
    assert changed_by("core/errors.py", "# A comment.\n") == set()
    assert changed_by("defs/assets/walks.py") == {"walks"}
    assert changed_by("defs/run_config.py") == set()
    assert changed_by("ranking/ranked_replies.py") == {"ranking", "walks", "evaluation"}
    # Training is started by name, and a registered model is served by code that training imports inside a function.
    assert changed_by("training/loop/train.py") == {"training"}
    assert changed_by("generation/serving.py") == {"training", "evaluation"}
    assert changed_by("evaluation/presentation/page.html", "<p>changed</p>\n") == {"evaluation"}
