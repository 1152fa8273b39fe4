"""Dagster's home under ADC_HOME: written from the package's own dagster.yaml, unless the user has another."""

import os
from pathlib import Path

import dagster as dg
import pytest
import yaml

from adc_pipeline.cli.home import HEADER, TEMPLATE, dagster_instance, use_dagster_home
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.defs.launcher import WatchfulRunLauncher

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def no_dagster_home(monkeypatch: pytest.MonkeyPatch) -> None:
    # Set first, so that what the code sets is undone afterwards.
    monkeypatch.setenv("DAGSTER_HOME", "")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["home", "a: b #1 'c'", "caf\N{LATIN SMALL LETTER E WITH ACUTE} =3", 'x"y'])
def test_history_limits_and_launcher_are_in_force_wherever_adc_home_is(name: str, tmp_path: Path) -> None:
    store = Store(tmp_path / name)
    with dagster_instance(store) as instance:
        limits = instance.get_concurrency_config()
        assert limits.run_queue_config is not None
        assert limits.pool_config.default_pool_limit == 1
        assert isinstance(instance.run_launcher, WatchfulRunLauncher)
        assert instance.run_monitoring_enabled
        instance.add_run(dg.DagsterRun("nothing"))
    assert os.environ["DAGSTER_HOME"] == str(store.home / "dagster")
    assert list(tmp_path.iterdir()) == [store.home]
    with dagster_instance(store) as instance:
        assert [run.job_name for run in instance.get_runs()] == ["nothing"]


@pytest.mark.parametrize(
    "name", ["\N{GRINNING FACE} \N{CJK UNIFIED IDEOGRAPH-65E5}", "a\u2028b\x85c", "x" * 200 + " y"]
)
def test_the_place_of_the_history_is_read_back_whatever_its_name(name: str, tmp_path: Path) -> None:
    use_dagster_home(Store(tmp_path / name))
    settings = yaml.safe_load((tmp_path / name / "dagster" / "dagster.yaml").read_text())
    assert settings["storage"]["custom"]["config"]["base_dir"] == str(tmp_path / name / "dagster")


def test_a_clone_has_the_same_history_by_either_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (ROOT / "dagster.yaml").read_text() == TEMPLATE.read_text()
    use_dagster_home(Store(tmp_path / ".adc"))
    monkeypatch.chdir(tmp_path)
    ours, clones = (yaml.safe_load(file.read_text()) for file in (tmp_path / ".adc/dagster/dagster.yaml", TEMPLATE))
    for settings in (ours["storage"]["custom"]["config"], ours["compute_logs"]["config"]):
        assert Path(settings["base_dir"]).is_absolute()
        settings["base_dir"] = os.path.relpath(settings["base_dir"])
    assert ours == clones


def test_an_edited_file_and_a_home_of_the_users_own_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, file = Store(tmp_path / "home"), tmp_path / "home" / "dagster" / "dagster.yaml"
    for before, after in (
        ("telemetry: {enabled: false}\n", None),
        (HEADER + "old: true\n", HEADER + TEMPLATE.read_text()),
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(before)
        monkeypatch.setenv("DAGSTER_HOME", "")
        use_dagster_home(store)
        assert file.read_text().splitlines()[:5] == (after or before).splitlines()[:5]
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "mine"))
    (tmp_path / "mine").mkdir()
    assert use_dagster_home(Store(tmp_path / "other")) == tmp_path / "mine"
    assert not (tmp_path / "other").exists()


def test_an_instance_that_cannot_be_opened_is_a_sentence(tmp_path: Path) -> None:
    store = Store(tmp_path)
    file = tmp_path / "dagster" / "dagster.yaml"
    file.parent.mkdir()
    file.write_text("storage: {sqllite: {}}\n")
    with (
        pytest.raises(PipelineError, match=r"Dagster cannot be started on DAGSTER_HOME = .*: correct its dagster.yaml"),
        dagster_instance(store),
    ):
        pass


@pytest.mark.parametrize("left", [b"", b"\0" * 900, b"\n"])
def test_what_a_power_failure_left_is_written_again(left: bytes, tmp_path: Path) -> None:
    file = tmp_path / "dagster" / "dagster.yaml"
    file.parent.mkdir()
    file.write_bytes(left)
    use_dagster_home(Store(tmp_path))
    assert file.read_text().startswith(HEADER)


@pytest.mark.parametrize("own", ["nowhere", "{folder}/nowhere", "{folder}/file", "~nobody/dagster"])
def test_a_dagster_home_that_is_no_folder_is_refused_by_its_name(
    own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DAGSTER_HOME", own := own.format(folder=tmp_path))
    with pytest.raises(PipelineError, match=r": create a folder and set its whole path, or unset") as refused:
        use_dagster_home(Store(tmp_path / "home"))
    assert str(refused.value).startswith(f"DAGSTER_HOME = {own} ")


def test_a_dagster_home_may_begin_with_the_users_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DAGSTER_HOME", "~/mine")
    (tmp_path / "mine").mkdir()
    assert use_dagster_home(Store(tmp_path / "home")) == tmp_path / "mine"
