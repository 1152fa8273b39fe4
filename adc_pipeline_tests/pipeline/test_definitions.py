"""What Dagster is shown: the graph, the jobs and the settings, so that a change of them is seen in review."""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args

import dagster as dg
import pytest
import yaml

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.definitions import defs
from adc_pipeline.defs.run_config import SettingsConfig
from adc_pipeline.defs.stage import STAGES
from adc_pipeline.ranking.settings import RankingSettings
from adc_pipeline.study.__main__ import OPS
from adc_pipeline.walks.settings import WalkSettings

PACKAGE = Path(__file__).parents[2] / "adc_pipeline"

UPSTREAM = {
    "raw_corpus": set(),
    "utterances": {"raw_corpus"},
    "ranked_replies": {"utterances"},
    "top_2": {"utterances", "ranked_replies"},
    "random_walk": {"utterances", "ranked_replies"},
    "base_model": {"utterances", "top_2"},
    "top_2_model": {"top_2", "base_model"},
    "random_walk_model": {"random_walk", "base_model"},
    "top_2_evaluation": {"top_2_model", "base_model", "top_2", "utterances", "ranked_replies"},
    "random_walk_evaluation": {"random_walk_model", "base_model", "random_walk", "utterances", "ranked_replies"},
    "comparison": {"top_2_evaluation", "random_walk_evaluation"},
    "top_2_champion": {"top_2_model", "top_2_evaluation"},
    "random_walk_champion": {"random_walk_model", "random_walk_evaluation"},
    "study_cell": {"top_2", "random_walk", "base_model", "utterances", "ranked_replies"},
    "study_table": {"study_cell"},
}
JOBS = {
    "datasets": {"raw_corpus", "utterances", "ranked_replies", "top_2", "random_walk"},
    "study_inputs": {"raw_corpus", "utterances", "ranked_replies", "top_2", "random_walk", "base_model"},
    "study": {"study_cell"},
    "study_result": {"study_table"},
    "adc": set(UPSTREAM) - {"study_cell", "study_table"},
}


def names(keys: Iterable[dg.AssetKey]) -> set[str]:
    return {key.to_user_string() for key in keys}


def test_the_asset_graph() -> None:
    graph = defs.resolve_asset_graph()
    assert {key.to_user_string(): names(graph.get(key).parent_keys) for key in graph.get_all_asset_keys()} == UPSTREAM
    assert set(STAGES) == set(UPSTREAM)


@pytest.mark.parametrize("job", JOBS)
def test_the_jobs(job: str) -> None:
    assert names(defs.resolve_job_def(job).asset_layer.selected_asset_keys) == JOBS[job]


def test_the_study_knows_what_its_jobs_make() -> None:
    ops = {
        job: {node.name for node in defs.resolve_job_def(job).nodes if node.name in made} for job, made in OPS.items()
    }
    assert {job: set(made) for job, made in OPS.items()} == ops


@pytest.mark.parametrize("preset", sorted((PACKAGE / "presets").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_preset_is_valid_run_configuration(preset: Path) -> None:
    assert dg.validate_run_config(defs.resolve_job_def("adc"), yaml.safe_load(preset.read_text()))


def test_settings_have_defaults_and_descriptions_in_the_launchpad() -> None:
    fields = SettingsConfig[RankingSettings].to_config_schema().as_field().config_type.fields  # type: ignore[attr-defined]
    assert all(field.description and not field.is_required for field in fields.values())
    assert SettingsConfig[RankingSettings]().settings() == RankingSettings()


def test_run_configuration_becomes_settings() -> None:
    config = SettingsConfig[WalkSettings].model_validate({"shares": [80, 10, 10], "format": "released"})
    assert config.settings() == WalkSettings(shares=(80, 10, 10), format="released")
    wrong = SettingsConfig[WalkSettings].model_validate({"shares": [80, 10, 5]})
    with pytest.raises(PipelineError, match="add up to 100"):
        wrong.settings()


Heavy = Literal["torch", "transformers", "datasets", "mlflow", "convokit", "matplotlib", "duckdb", "pandas"]


def test_loading_the_definitions_imports_nothing_heavy() -> None:
    code = "import sys, adc_pipeline.definitions; print(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not set(get_args(Heavy)) & set(loaded)
