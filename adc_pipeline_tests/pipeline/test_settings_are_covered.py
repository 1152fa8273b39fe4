"""Every setting of every asset decides whether the asset, and what reads the setting, is up to date.

`test_every_setting.py` builds the datasets with each setting. Models and evaluations would take hours, so this asks for
each setting of each asset the function of the frame that decides, without making anything: the store holds empty
artefacts with the manifests that the default settings give.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from adc_pipeline.core.settings import Declared, declared
from adc_pipeline.core.spellings import read_settings
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.manifests import Artefact, as_json, differing, write_making, write_manifest
from adc_pipeline.definitions import defs
from adc_pipeline.defs.assets.study import CELLS
from adc_pipeline.defs.frame import reasons_to_make, requested
from adc_pipeline.defs.making import Context, Request
from adc_pipeline.defs.run_config import RESOURCES
from adc_pipeline.defs.stage import STAGES, Stage
from adc_pipeline.defs.workspace import Workspace
from adc_pipeline.study.grid import VARIED
from adc_pipeline.walks.kinds import KINDS, TOP_2

JOB = defs.resolve_job_def("adc")
# In an order in which an asset comes after what it is made from.
NAMES = [name for name in STAGES if name in {node.name for node in JOB.nodes}]
# The other kinds of walk have the same stages, and the comparison reads their evaluations.
OTHER_KINDS = {
    name for kind in KINDS.values() if kind is not TOP_2
    for name in (kind.dataset, kind.model, kind.evaluation, kind.champion)
}  # fmt: skip
# Settings that an asset downstream does not depend on although it follows others of the same asset, each with the
# reason. A new setting of the datasets belongs here or into the stage's `follows`.
NOT_FOLLOWED = {
    ("base_model", "seed"): "coins; the tokenizer is trained on utterances",
    ("base_model", "walks_per_conversation"): "as above",
    ("base_model", "exclude_repeats"): "as above",
    ("base_model", "leakage"): "counted in the card",
    ("judge", "seed"): "the judge reads siblings, not walks",
    ("judge", "walks_per_conversation"): "as above",
    ("judge", "exclude_repeats"): "as above",
    ("judge", "leakage"): "counted in the card",
    ("judge", "speakers"): "the judge reads texts without their speakers",
}
# Settings of the resources, which no asset depends on: none changes a byte of an artefact, but for a model's name in
# MLflow, which the asset restores by itself when it is another one.
WITHOUT_EFFECT = {
    "workspace": {"threads", "memory_limit", "wait_seconds", "volume_change"},
    "mlflow": {"experiment", "model_prefix"},
    "shards": {"executor"},
    "training": {"executor", "cpus", "gpus"},
}
OTHER_VALUES: Mapping[str, Any] = {
    "corpus": "/other.csv",
    "columns": {"text": "body"},
    "speakers": ["someone"],
    "rank_by": "replies",
    "shares": [50, 25, 25],
    "name": "org/model",
    "width": 64,
    "heads": 2,
}


def other_value(setting: Declared) -> Any:
    """Return an accepted value of a setting that is not its default."""
    if setting.choices:
        return next(choice for choice in reversed(setting.choices) if choice and choice != setting.default)
    if setting.name in OTHER_VALUES and isinstance(OTHER_VALUES[setting.name], (setting.kind, list)):
        return OTHER_VALUES[setting.name]
    if setting.kind is bool:
        return not setting.default
    if setting.kind in (int, float):
        numbers = map(setting.kind, [(setting.default or 0) + 1, (setting.default or 0) / 2, 1, 2, 0.5])
        return next(each for each in numbers if not setting.problem(each) and each != setting.default)
    return f"{setting.default}other" if setting.kind is str else ["other"]


def context(config: Mapping[str, Any]) -> Context:
    """Return as much of a step's context as the frame reads before it makes an asset."""
    run = SimpleNamespace(tags={}, run_config={"ops": {name: {"config": values} for name, values in config.items()}})
    log = SimpleNamespace(info=lambda _: None)
    return cast("Context", SimpleNamespace(run=run, job_def=JOB, job_name=JOB.name, has_partition_key=False, log=log))


def in_order(names: list[str]) -> Iterator[str]:
    """Yield names of stages, each after its inputs."""
    rest = list(names)
    while rest:
        name = next(each for each in rest if not set(STAGES[each].inputs) & set(rest))
        rest.remove(name)
        yield name


def request(stage: Stage[Any], config: Mapping[str, Any]) -> Request[Any]:
    return requested(stage, context(config), Workspace())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Return a store in which every asset of the job `adc` is up to date by default settings, and empty."""
    store = Store(tmp_path_factory.mktemp("home"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADC_HOME", str(store.home))
        patch.delenv("ADC_CORPUS", raising=False)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        for number, name in enumerate(in_order(NAMES)):
            wanted = request(STAGES[name], {})
            with store.aside(name) as folder:
                made = Artefact(
                    name=name,
                    path=folder,
                    digest=f"{number:032x}",
                    settings=wanted.plain_settings,
                    inputs=wanted.digests,
                    upstream_settings=as_json(wanted.upstream_settings),
                    code_version=wanted.code_version,
                )
                store.put(folder, made)
            write_making(store.current(name), {"run": "", "address": "", "outside": {}})
        yield store


def remake(name: str, config: Mapping[str, Any], store: Store) -> list[str]:
    """Have an asset made in a run of this configuration, with the same files as before; return why it is made."""
    wanted, made = request(STAGES[name], config), store.current(name)
    reasons = reasons_to_make(wanted, {})
    write_manifest(replace(made, settings=wanted.plain_settings, upstream_settings=as_json(wanted.upstream_settings)))
    return reasons


def test_with_the_settings_of_before_everything_is_up_to_date(store: Store) -> None:
    assert not [reason for name in NAMES for reason in remake(name, {}, store)]


@pytest.mark.parametrize("asset", [name for name in NAMES if name not in OTHER_KINDS])
def test_a_change_of_any_setting_is_a_reason_to_make_its_asset_and_what_reads_it(asset: str, store: Store) -> None:
    below = [name for name in in_order(NAMES) if name not in OTHER_KINDS and name != asset]
    for setting in declared(STAGES[asset].settings).values():
        config = {asset: {setting.name: other_value(setting)}}
        assert f"setting {setting.name} has changed" in " ".join(remake(asset, config, store)), setting.name
        for name in below:
            reads = asset in STAGES[name].reads
            follows = asset in STAGES[name].follows and (name, setting.name) not in NOT_FOLLOWED
            if reads or follows:
                reason = f"setting {setting.name} of {asset} has changed"
                assert reason in " ".join(remake(name, config, store)), f"{name} ignores {setting.name} of {asset}"
        for name in (asset, *below):
            if name == asset or asset in (*STAGES[name].reads, *STAGES[name].follows):
                remake(name, {}, store)


def test_no_setting_of_a_resource_is_new() -> None:
    assert {name: set(declared(kind)) for name, kind in RESOURCES.items()} == WITHOUT_EFFECT


def test_what_is_not_followed_is_there() -> None:
    for name, setting in NOT_FOLLOWED:
        (asset,) = STAGES[name].follows
        assert setting in set(declared(STAGES[asset].settings)) - set(STAGES[name].follows[asset])


def test_a_cell_of_the_study_has_every_setting_that_its_partition_does_not_decide() -> None:
    stage, partition = STAGES["study_cell"], CELLS.get_first_partition_key()
    assert stage.complete
    before = as_json(asdict(stage.complete(read_settings(stage.settings, {}, stage.name), partition)))
    for setting in declared(stage.settings).values():
        if setting.name not in VARIED:
            given = read_settings(stage.settings, {setting.name: other_value(setting)}, stage.name)
            now = as_json(asdict(stage.complete(given, partition)))
            assert differing(before, now) == [setting.name]
