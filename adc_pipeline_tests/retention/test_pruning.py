"""Old versions are removed; current, young and newest ones and everything upstream of kept ones stay unchanged.

The job removes what `prune.yaml` permits, and nothing else, whatever its run configuration says.
"""

import json
import os
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.content import folder_digest
from adc_pipeline.core.store.manifests import Artefact
from adc_pipeline.defs.old_runs import old_runs, remove_run, runs_with_excess_logs
from adc_pipeline.defs.pruning import prune as prune_job
from adc_pipeline.defs.workspace import Workspace
from adc_pipeline.lifecycle.pruning import DAY, Plan, by_registered_version, plan, prune
from adc_pipeline.lifecycle.retention import SAMPLE, retention
from adc_pipeline.lifecycle.settings import RetentionSettings
from adc_pipeline.tracking.lineage import Records
from adc_pipeline_tests.tracking.history import Chain, History, chain, evaluated, history, new_history

__all__ = ["history"]

NOTHING_YOUNG = RetentionSettings(keep_versions=1, keep_days=0, delete=True)


def pruned(history: History, settings: RetentionSettings = NOTHING_YOUNG) -> set[tuple[str, str]]:
    return set(prune(history.store, planned(history, settings)))


def planned(history: History, settings: RetentionSettings = NOTHING_YOUNG) -> Plan:
    return plan(history.store, Records([history.client]), settings)


def keys(made: Chain) -> set[tuple[str, str]]:
    return {(each.name, each.digest) for each in made.all}


def left(history: History) -> set[tuple[str, str]]:
    return {(made.name, made.digest) for made in history.store.versions()}


@pytest.mark.slow
def test_everything_upstream_of_a_registered_model_is_kept(history: History) -> None:
    weeks = [chain(history, what) for what in "abcd"]
    history.register(weeks[0].model)
    evaluation = evaluated(history, weeks[0])
    history.make("top_2_evaluation", "in place")
    before = {path: path.read_bytes() for made in weeks[0].all for path in made.path.rglob("*") if path.is_file()}
    assert pruned(history) == keys(weeks[1]) | keys(weeks[2])
    assert keys(weeks[0]) | keys(weeks[3]) | {(evaluation.name, evaluation.digest)} <= left(history)
    assert before == {path: path.read_bytes() for path in before}
    # Once the version is deleted, its artefacts may be removed.
    history.client.delete_model_version("adc-top-2", "1")
    assert pruned(history) == keys(weeks[0]) | {(evaluation.name, evaluation.digest)}
    assert keys(weeks[3]) <= left(history)


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["model", "dataset"])
def test_manifests_on_disk_replace_a_lineage_that_mlflow_lost(history: History, lost: str) -> None:
    weeks = [chain(history, what) for what in "abc"]
    version = history.register(weeks[0].model)
    facts = {"registered_model": "adc-top-2", "registered_version": int(version), "logged_model_id": "none"}
    (weeks[0].model.path / "registered.json").write_text(json.dumps(facts))
    history.purge(getattr(weeks[0], lost))
    assert pruned(history) == keys(weeks[1])


@pytest.mark.slow
def test_a_damaged_record_of_a_registration_keeps_its_model_and_stops_nothing(history: History) -> None:
    weeks = [chain(history, what) for what in "abc"]
    (weeks[0].model.path / "registered.json").write_text("{")
    assert pruned(history) == keys(weeks[1])
    assert keys(weeks[0]) <= left(history)


def test_records_of_registrations_are_read_or_known_as_damaged(tmp_path: Path) -> None:
    facts = json.dumps({"registered_model": "adc-top-2", "registered_version": 3, "logged_model_id": "none"})
    made = {
        what: Artefact("top_2_model", tmp_path / str(place), what)
        for place, what in enumerate(["", "{", facts, "none", "folder", "link"])
    }
    for each in made.values():
        each.path.mkdir(parents=True)
    for content in ("", "{", facts):
        (made[content].path / "registered.json").write_text(content)
    (made["folder"].path / "registered.json").mkdir()
    (made["link"].path / "registered.json").symlink_to("nowhere")
    found, damaged = by_registered_version(made.values())
    assert found == {"adc-top-2/3": ("top_2_model", facts)}
    assert damaged == [("top_2_model", what) for what in ("", "{", "folder", "link")]


@pytest.mark.slow
def test_nothing_is_removed_if_the_lineage_of_a_version_is_unknown(history: History) -> None:
    weeks = [chain(history, what) for what in "abc"]
    history.register(weeks[0].model)
    history.purge(weeks[0].model)
    with pytest.raises(PipelineError, match=r"the lineage of adc-top-2/1 is unknown: .* delete that version"):
        planned(history)
    history.client.delete_model_version("adc-top-2", "1")
    assert pruned(history) == keys(weeks[0]) | keys(weeks[1])


@pytest.mark.slow
def test_nothing_is_removed_if_an_upstream_artefact_is_unknown(history: History) -> None:
    weeks = [chain(history, what) for what in "ab"]
    history.register(weeks[0].model)
    history.purge(weeks[0].utterances)
    utterances = weeks[0].utterances
    history.store.remove(utterances.name, utterances.digest, history.store.made_at(utterances))
    with pytest.raises(PipelineError, match=rf"of utterances {utterances.digest}, no MLflow run"):
        planned(history)


@pytest.mark.slow
def test_models_of_other_projects_are_ignored(history: History) -> None:
    weeks = [chain(history, what) for what in "ab"]
    client = history.client
    client.create_registered_model("theirs")
    client.create_model_version("theirs", "s3://somewhere")
    client.create_model_version("theirs", "s3://somewhere", client.create_run("0").info.run_id)
    assert pruned(history) == keys(weeks[0])


@pytest.mark.slow
def test_nothing_is_removed_while_an_artefact_is_made(history: History) -> None:
    chain(history)
    with (
        history.store.aside("study_cell/one"),
        pytest.raises(PipelineError, match=r"study_cell/one in ADC_HOME = .* is being made"),
    ):
        planned(history)
    planned(history)


def test_versions_made_again_or_made_current_since_the_plan_are_kept(history: History) -> None:
    corpora = [history.make("raw_corpus", what) for what in "abcd"]
    decided = planned(history)
    assert set(decided.to_remove) == {(made.name, made.digest) for made in corpora[:3]}
    history.make("raw_corpus", "a")
    os.utime(corpora[0].path / "artefact.json", ns=(0, 0))  # and if the clock was set back meanwhile
    history.make("raw_corpus", "b")
    assert prune(history.store, decided) == [("raw_corpus", corpora[2].digest)]
    assert not list((history.store.home / "store").rglob(".making-*"))


Made = tuple[str, int, list[int], float]
stores: st.SearchStrategy[list[Made]] = st.lists(
    st.tuples(
        st.sampled_from(["raw_corpus", "utterances", "top_2", "study_cell/one"]),
        st.integers(0, 3),
        st.lists(st.integers(0, 20), max_size=2),
        st.floats(0, 10),
    ),
    max_size=14,
)


@pytest.mark.slow
@hypothesis_settings(deadline=None, max_examples=30)
@given(stores, st.integers(1, 3), st.floats(0, 8))
def test_the_plan_equals_an_obvious_implementation(
    tmp_path_factory: pytest.TempPathFactory, empty_database: Path, made: list[Made], versions: int, days: float
) -> None:
    home: Path = tmp_path_factory.mktemp("home")
    history = new_history(home, empty_database)
    store, now = history.store, 1e9
    artefacts: dict[tuple[str, str], Artefact] = {}
    in_place: dict[str, tuple[str, str]] = {}
    ages: dict[tuple[str, str], float] = {}
    for name, content, above, age in made:
        known = list(artefacts.values())
        inputs = {known[i % len(known)].name: known[i % len(known)].digest for i in above if known}
        artefact = put(store, name, str(content), inputs, now - age * DAY)
        key = (name, artefact.digest)
        artefacts[key], in_place[name] = artefact, key
        # In seconds, as the file system keeps it, which rounds: an age may be drawn that is `days` exactly.
        ages[key] = now - store.made_at(artefact)
    decided = plan(store, Records([history.client]), RetentionSettings(versions, days), now)
    keep = set(in_place.values())
    for name in in_place:
        own = sorted((key for key in artefacts if key[0] == name), key=lambda key: (ages[key], key))
        keep |= set(own[:versions]) | {key for key in own if ages[key] < days * DAY}
    while True:
        above_them = {pair for key in keep if key in artefacts for pair in artefacts[key].inputs.items()}
        if above_them <= keep:
            break
        keep |= above_them
    assert set(decided.kept) == keep & artefacts.keys()
    assert set(decided.to_remove) == artefacts.keys() - keep
    assert set(prune(store, decided)) == set(decided.to_remove)
    assert {(each.name, each.digest) for each in store.versions()} == set(decided.kept)


def put(store: Store, name: str, content: str, inputs: dict[str, str], at: float) -> Artefact:
    with store.aside(name) as folder:
        (folder / "content").write_text(name + content)
        artefact = Artefact(name, folder, folder_digest(folder), inputs=inputs)
        made = store.put(folder, artefact)
    os.utime(made.path / "artefact.json", (at, at))
    return made


@pytest.mark.parametrize("wrong", [{"keep_versions": 0}, {"keep_days": -1.0}, {"keep_days": float("nan")}])
def test_invalid_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(PipelineError, match=f"`{next(iter(wrong))}` is"):
        RetentionSettings(**wrong)


def run_prune(instance: dg.DagsterInstance | None = None, **config: Any) -> dg.ExecuteInProcessResult:
    return prune_job.execute_in_process(
        run_config={"ops": {"prune_store": {"config": config}}}, resources={"workspace": Workspace()}, instance=instance
    )


@pytest.mark.slow
def test_the_job_removes_what_the_file_permits_and_nothing_without_it(history: History) -> None:
    weeks = [chain(history, what) for what in "abc"]
    everything = left(history)
    # All that a request from a web page can bring along.
    assert run_prune(keep_versions=1, keep_days=0.0, delete=True).success
    assert left(history) == everything
    file = history.store.home / "prune.yaml"
    file.write_text("{delete: true, keep_versions: 2, keep_days: 0}")
    run_prune(delete=False)
    assert left(history) == everything
    run_prune(keep_versions=1)
    assert left(history) == keys(weeks[1]) | keys(weeks[2])
    file.write_text("{delete: true, keep_versions: 1, keep_days: 0}")
    run_prune()
    assert left(history) == keys(weeks[2])
    file.write_text("keep_version: 1")
    with pytest.raises(dg.Failure, match=r"prune.yaml has no setting keep_version .did you mean keep_versions"):
        run_prune()
    file.unlink()
    with history.store.aside("top_2"), pytest.raises(dg.Failure, match="is being made"):
        run_prune()


@pytest.mark.parametrize(
    ("file", "config", "expected", "reason"),
    [
        (None, {"delete": True, "keep_versions": 1}, (1, 30.0, None, False), "does not exist"),
        (SAMPLE, None, (3, 30.0, 90.0, True), ""),
        (SAMPLE, {"keep_versions": 1, "keep_days": 0, "history_days": 0, "delete": True}, (3, 30.0, 90.0, True), ""),
        (SAMPLE, {"keep_versions": 9, "keep_days": 99, "history_days": None}, (9, 99.0, None, True), ""),
        (SAMPLE, {"delete": False}, (3, 30.0, 90.0, False), "in the run configuration"),
        ("keep_versions: 5", {"delete": True}, (5, 30.0, None, False), "prune.yaml: set it to true"),
        ("", None, (3, 30.0, None, False), "prune.yaml: set it to true"),
    ],
)
def test_run_configuration_keeps_more_than_the_file_and_never_less(
    tmp_path: Path, file: str | None, config: Any, expected: tuple[Any, ...], reason: str
) -> None:
    if file is not None:
        (tmp_path / "prune.yaml").write_text(file)
    settings, why = retention(tmp_path, config, "prune_store")
    found = (settings.keep_versions, settings.keep_days, settings.history_days, settings.delete)
    assert found == expected
    assert reason in why
    assert bool(why) is not settings.delete
    assert SAMPLE in why if file is None else True


def test_run_configuration_keeps_more_logs_than_the_file_and_never_less(tmp_path: Path) -> None:
    (tmp_path / "prune.yaml").write_text(SAMPLE)
    for wanted, expected in ((1, 1000.0), (5000, 5000.0), (None, None)):
        assert retention(tmp_path, {"logs_mb": wanted}, "prune_store")[0].logs_mb == expected


@dg.asset(partitions_def=dg.StaticPartitionsDefinition(["a", "b"]))
def parted() -> None:
    """An asset whose partitions are made in different runs."""


@dg.asset
def checked() -> None:
    """An asset with a check."""


@dg.asset_check(asset=checked)
def sound() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@pytest.mark.slow
def test_dagsters_old_runs_are_removed_except_those_that_an_asset_shows(tmp_path: Path) -> None:
    made = dg.Definitions(
        assets=[parted, checked],
        asset_checks=[sound],
        jobs=[
            dg.define_asset_job("a_part", ["parted"]),
            dg.define_asset_job("check", dg.AssetSelection.checks(sound)),
            dg.define_asset_job("alone", dg.AssetSelection.assets("checked").without_checks()),
        ],
    )
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:

        def run(job: str, **options: Any) -> str:
            return made.resolve_job_def(job).execute_in_process(instance=instance, **options).run_id

        first = run("a_part", partition_key="a")
        kept = {run("a_part", partition_key="a"), run("a_part", partition_key="b")}
        alone = run("alone")
        again = run("alone")
        checks = [run("check"), run("check")]
        keys = list(sound.check_keys)
        assert old_runs(instance, None, keys) == []
        assert old_runs(instance, 1, keys) == []
        old = old_runs(instance, 0, keys)
        assert sorted(old) == sorted([first, alone, checks[0]])
        for each in old:
            remove_run(instance, each)
        assert set(instance.get_run_ids()) == {*kept, again, checks[1]}
        assert not [path for path in tmp_path.rglob("*") for each in old if each in path.name]
        assert old_runs(instance, 0, keys) == []
        assert instance.get_latest_materialization_event(dg.AssetKey("checked"))

        newest, older, *_ = instance.get_run_ids()
        for each in (newest, older):
            manager: Any = instance.compute_log_manager
            (Path(manager.get_captured_local_path([each, "any"], "out")).with_name("large.out")).write_bytes(
                bytes(600_000)
            )
        assert runs_with_excess_logs(instance, None) == {}
        assert runs_with_excess_logs(instance, 99) == {}
        excess = runs_with_excess_logs(instance, 1)
        assert older in excess
        assert newest not in excess
        assert excess[older] >= 600_000
