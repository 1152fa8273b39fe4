"""Every code sample of the documentation works: Python runs, run configurations fit their jobs, commands exist."""

import ast
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, fields
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from adc_pipeline.core.spellings import read_settings
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.content import content_digest, folder_digest, scan
from adc_pipeline.core.store.manifests import Artefact, write_manifest
from adc_pipeline.corpus.sample.threads import write_sample
from adc_pipeline.corpus.utterances import write_utterances
from adc_pipeline.definitions import defs
from adc_pipeline.defs.automation.settings import AutomationSettings
from adc_pipeline.defs.database import write_database
from adc_pipeline.defs.look_ahead import check_values
from adc_pipeline.defs.stage import STAGES
from adc_pipeline.lifecycle.settings import RetentionSettings
from adc_pipeline.preferences.card import write_card
from adc_pipeline.preferences.datasets import write_preferences
from adc_pipeline.preferences.settings import PreferenceSettings
from adc_pipeline.ranking.ranked_replies import write_ranked_replies
from adc_pipeline.ranking.settings import RankingSettings
from adc_pipeline.study.plan_file import read_plan
from adc_pipeline.tracking.lineage import Records
from adc_pipeline.tracking.runs import Tracking
from adc_pipeline.walks.datasets import write_walks
from adc_pipeline.walks.kinds import KINDS
from adc_pipeline_tests.docs.pages import PAGES, ROOT, Block, blocks, words

PYTHON = blocks("python")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    """A working directory in whose `.adc` the datasets of a small sample are."""
    work = tmp_path_factory.mktemp("work")
    store = Store(work / ".adc")
    store.home.mkdir()
    (store.home / "mlflow.db").write_bytes(empty_database.read_bytes())

    def place(name: str) -> Path:
        folder, current = store.home / STAGES[name].place, store.place(name)
        current.parent.mkdir(parents=True)
        current.symlink_to(folder)
        return folder

    corpus, utterances, ranked = work / "sample", place("utterances"), place("ranked_replies")
    corpus.mkdir()
    write_sample(corpus, conversations=120)
    read_counts = write_utterances(corpus, utterances)
    ranked_counts = write_ranked_replies(utterances, ranked)
    for kind in KINDS.values():
        folder = place(kind.dataset)
        write_walks(kind.name, utterances, ranked, folder)
        write_manifest(Artefact(kind.dataset, folder, content_digest(scan(folder))))
    preferences = place("preferences")
    counts = write_preferences(utterances, ranked, preferences)
    made = [
        Artefact("raw_corpus", corpus, "0" * 32, {"corpus": "sample"}),
        Artefact("utterances", utterances, "1" * 32, counts={**read_counts}),
        Artefact("ranked_replies", ranked, "2" * 32, asdict(RankingSettings()), counts={**ranked_counts}),
    ]
    write_card(preferences, PreferenceSettings(), counts, made[0], made[1], made[2])
    write_database(store)
    return work


@pytest.mark.slow
@pytest.mark.parametrize("block", [block for block in PYTHON if not block.needs], ids=str)
def test_python_runs(block: Block, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(home / "cache"))
    monkeypatch.delenv("ADC_HOME", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    names: dict[str, Any] = {"__name__": "sample"}
    exec(compile(block.code, str(block), "exec"), names)
    if "long_walks" in names:
        in_lineage(names["long_walks"], Store(home / ".adc"))


def in_lineage(asset: dg.AssetsDefinition, store: Store) -> None:
    """The asset of another project is made, and lineage leads from it to the version in the store that it has read."""
    assert dg.materialize([asset]).success
    records = Records([Tracking.from_environment(store.home).client()])
    made = records.above(folder_digest(Path("long-walks")))
    assert made.settings == {"turns": "3"}
    assert made.counts["walks"] > 0
    assert [(each.asset, each.digest) for each in made.inputs] == [("top_2", store.current("top_2").digest)]


@pytest.mark.slow
@pytest.mark.parametrize("block", [block for block in PYTHON if block.needs], ids=str)
def test_python_that_needs_more_imports_what_exists(block: Block) -> None:
    for node in ast.walk(ast.parse(block.code)):
        if isinstance(node, ast.ImportFrom) and node.module:
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names)


@cache
def job(name: str) -> dg.JobDefinition:
    return defs.resolve_job_def(name)


def jobs_of(ops: set[str]) -> list[str]:
    """The job that makes all of these, or else the jobs of the study, among which its configuration is shared out."""
    for name in ("adc", "prune", "publish"):
        if ops <= {node.name for node in job(name).nodes}:
            return [name]
    return ["study_inputs", "study", "study_result"]


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_yaml_is_accepted(block: Block, tmp_path: Path) -> None:
    values: dict[str, Any] = yaml.safe_load(block.code)
    if "arms" in values:
        (tmp_path / "plan.yaml").write_text(block.code)
        assert read_plan(str(tmp_path / "plan.yaml")).arms
        return
    for kind in (AutomationSettings, RetentionSettings):
        if set(values) <= {field.name for field in fields(kind)}:
            read_settings(kind, values, "sample")
            return
    ops = values.pop("ops", {})
    known = set()
    for name in jobs_of(set(ops)):
        nodes = {node.name for node in job(name).nodes}
        known |= nodes
        check_values({**values, "ops": ops}, nodes)
    assert set(ops) <= known


def test_files_exist() -> None:
    ours = ("adc_pipeline/", "adc_pipeline_tests/", "deploy/", "docs/")
    named = {word for _, word in words() if word.startswith(ours) and "_build" not in word}
    assert len(named) > 20
    assert sorted(word for word in named if not (ROOT / word).exists()) == []


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parent, _, last = name.rpartition(".")
    module = importlib.import_module(parent)
    return hasattr(module, last) or (hasattr(module, "__path__") and find_spec(name) is not None)


def test_modules_exist() -> None:
    ours = ("adc_pipeline.", "adc_pipeline_tests.", "deploy.proof")
    named = {word for _, word in words() if word.startswith(ours) and not {"/", ":", "="} & set(word)}
    assert len(named) > 10
    assert sorted(name for name in named if not exists(name)) == []


def test_modules_that_the_code_names_in_backticks_exist() -> None:
    package = ROOT / "adc_pipeline"
    folders = "|".join(path.name for path in package.iterdir() if path.is_dir())
    dotted = re.compile(rf"`((?:{folders})(?:\.[A-Za-z_]+)+)`")
    sources = [*package.rglob("*.py"), ROOT / "docs" / "architecture.md"]
    named = {(path.relative_to(ROOT), name) for path in sources for name in dotted.findall(path.read_text())}
    named = {(path, name) for path, name in named if not name.endswith((".html", ".json", ".md", ".png", ".yaml"))}

    def is_there(name: str) -> bool:
        place = package.joinpath(*name.split("."))
        owner = place.parent.with_suffix(".py")
        defined = owner.exists() and re.search(rf"\b{place.name}\b", owner.read_text())
        return place.is_dir() or place.with_suffix(".py").exists() or bool(defined)

    assert len(named) > 30
    assert sorted((str(path), name) for path, name in named if not is_there(name)) == []


@cache
def help_of(command: tuple[str, ...]) -> str:
    """What a command of the package says of itself."""
    environment = os.environ | {"COLUMNS": "200", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", *command, "--help"], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def commands() -> Iterator[tuple[str, tuple[str, ...], list[str]]]:
    """Where each command of the package stands, its module and subcommand, and the options that it is given."""
    for block in blocks(""):
        for line in block.code.replace("\\\n", " ").splitlines():
            words = line.split("#")[0].split()
            for place, word in enumerate(words[:-1]):
                name = words[place + 1]
                options = [each for each in words[place + 2 :] if each.startswith("-")]
                if word == "-m" and name.startswith("adc_pipeline.") and name != "adc_pipeline.definitions":
                    yield f"{block}: {line}", (name,), options
                elif Path(word).name == "adc" and line.strip().startswith((word, "ADC_")):
                    yield f"{block}: {line}", ("adc_pipeline", name), options


@pytest.mark.slow
def test_commands_have_the_options_that_they_are_given() -> None:
    found = list(commands())
    assert len(found) > 10
    for where, command, options in found:
        # Until the command `adc` is there.
        if command[0] == "adc_pipeline" and not find_spec("adc_pipeline.__main__"):
            continue
        assert all(option in help_of(command) for option in options), where


def test_jobs_exist() -> None:
    commands = "\n".join(block.code for block in blocks(""))
    named = set(re.findall(r"(?:\badc run|\bdagster job execute .*-j) (\w+)", commands))
    assert {"adc", "datasets", "prune"} <= named
    assert named <= {job.name for job in defs.jobs or ()}


def test_links_of_the_readme() -> None:
    """Sphinx checks the links of the site, of which the README is no part."""
    readme = PAGES[0]
    links = re.findall(r"\]\(([^)#:]+)\)", readme.read_text())
    assert len(links) > 10
    assert [link for link in links if not (ROOT / link).exists()] == []
