"""A run after a change of any one setting gives what a build from nothing gives with that setting.

Each test changes one setting of each stage, a run each, from upstream to downstream, and compares the last state with
one build from nothing. A stage that ignored its change would still have the old setting then, because a later run
changes only what is downstream of it.

Of the datasets of walks, which one function declares and which share their settings, one is made.
"""

import shutil
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import fields
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path
from typing import Any, get_args, get_type_hints

import dagster as dg
import pytest

from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.manifests import MAKING, MANIFEST
from adc_pipeline.definitions import defs
from adc_pipeline.defs.asset import ASSETS
from adc_pipeline.defs.making import Making
from adc_pipeline.defs.stage import STAGES
from adc_pipeline.defs.workspace import Workspace
from adc_pipeline.tracking.relocation import relocate
from adc_pipeline.walks.kinds import KINDS, TOP_2

SELECTED = defs.resolve_job_def("datasets").asset_layer.selected_asset_keys
OTHERS = {kind.dataset for kind in KINDS.values() if kind is not TOP_2}
# In an order that is the same in every process. Nothing is downstream of `preferences`, and its oracle is compared for
# any settings (`preferences/test_preferences_equal_oracle.py`).
NAMES = sorted({key.to_user_string() for key in SELECTED} - OTHERS - {"preferences"})
HEAD = "id,conversation_id,reply_to,speaker,text,score,downvotes,timestamp"


def write_corpus(path: Path) -> Path:
    """Write a table in which every column has something to change: ties, deleted texts, entities, a lost parent."""
    rows = [HEAD]
    for c in range(12):
        rows.append(f"c{c},c{c},,asker{c},Which pump &amp; hose number {c}?,{c},{90 - c},{1000 + c}")
        for r in range(4):
            text = ["[deleted]", "", f"Oil it {c} times.", "Wait &lt;a day&gt;."][(c + r) % 4]
            rows.append(f"c{c}r{r},c{c},c{c},reader{r},{text},{(7 * r + c) % 5},{100 - r},{2000 + 10 * r}")
        rows.append(f"c{c}rr,c{c},c{c}r2,AutoModerator,I agree {c}.,2,1,3000")
    rows.append("lost,c1,nowhere,reader9,Where am I?,3,3,4000")
    path.write_text("\n".join(rows) + "\n")
    return path


def settings_of(asset: str) -> dict[str, Any]:
    """Return the settings of an asset's stage, with their types and defaults."""
    declared = STAGES[asset].settings
    hints, defaults = get_type_hints(declared), declared()
    return {field.name: (hints[field.name], getattr(defaults, field.name)) for field in fields(declared)}


def other_value(asset: str, name: str, corpus: Path) -> Any:
    """Return a value of a setting that differs from its default and that the corpus can be read with."""
    special = {
        ("raw_corpus", "corpus"): str(corpus.with_name("copy.csv")),
        ("raw_corpus", "format"): "table",
        ("raw_corpus", "columns"): {"score": "downvotes"},
        ("ranked_replies", "speakers"): ["reader1"],
        ("ranked_replies", "min_age_hours"): 1.0,
        ("ranked_replies", "rank_by"): "replies",
        (asset, "shares"): [50, 25, 25],
    }
    if (asset, name) in special:
        return special[asset, name]
    hint, default = settings_of(asset)[name]
    choices = [value for each in (hint, *get_args(hint)) for value in get_args(each) if isinstance(value, str)]
    if choices:
        return next(value for value in choices if value != default)
    if isinstance(default, bool):
        return not default
    if isinstance(default, int) or (default is None and int in get_args(hint)):
        return (default or 0) + 1
    if isinstance(default, float):
        return default / 2 if default else 0.5
    raise NotImplementedError(f"Give the setting {name} of {asset} another value in `special`.")


def without_extra() -> set[str]:
    """Return the settings that need an extra which is not installed."""
    needed = {"replace_personal_data": "presidio_analyzer"}
    return {setting for setting, package in needed.items() if find_spec(package) is None}


def chains() -> Iterator[list[tuple[str, str]]]:
    """Yield lists of settings, one of each stage from upstream to downstream; together they have every setting."""
    seen, stages = set(), []
    # The datasets of walks share their settings.
    for asset in [name for name in STAGES if name in NAMES]:
        if STAGES[asset].settings not in seen:
            seen.add(STAGES[asset].settings)
            stages.append([(asset, name) for name in settings_of(asset) if name not in without_extra()])
    for chain in zip_longest(*stages):
        yield [each for each in chain if each is not None]


def run(
    home: Path, config: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, names: Sequence[str] = NAMES
) -> None:
    monkeypatch.setenv("ADC_HOME", str(home))
    ops = {asset: {"config": values} for asset, values in config.items()}
    with dg.DagsterInstance.ephemeral() as instance:
        assets = [ASSETS[name] for name in names]
        assert dg.materialize(
            assets, run_config={"ops": ops}, resources={"workspace": Workspace(threads=1)}, instance=instance
        )


def content(home: Path, names: Sequence[str] = NAMES) -> dict[str, Any]:
    """Return what every asset is: digest, what it was made of, counts, and the bytes of the files that count."""
    store, found = Store(home), {}
    for asset in names:
        made = store.current(asset)
        files = {
            str(path.relative_to(made.path)): path.read_bytes()
            for path in made.path.rglob("*")
            if path.is_file()
            and path.name not in (MANIFEST, MAKING)
            and not {*made.unhashed}.intersection(path.relative_to(made.path).parts)
        }
        found[asset] = (made.digest, made.settings, made.inputs, made.upstream_settings, made.counts, files)
    return found


BASE: dict[str, dict[str, Any]] = {"utterances": {"max_set_aside": 0.5}}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_corpus(tmp_path_factory.mktemp("corpus") / "forum.csv")
    shutil.copy(path, path.with_name("copy.csv"))
    return path


@pytest.fixture(scope="module")
def first(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return an ADC_HOME in which the datasets have been made once."""
    home = tmp_path_factory.mktemp("first") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        without_pictures(patch)
        run(home, {**BASE, "raw_corpus": {"corpus": str(corpus)}}, patch)
        yield home


def without_pictures(patch: pytest.MonkeyPatch) -> None:
    """Draw no pictures, which take most of the time of a run and are no part of an artefact."""
    patch.setattr(Making, "show", lambda *_: None)
    for module in ("corpus", "ranking", "walks"):
        patch.setattr(f"adc_pipeline.defs.assets.{module}.distributions", lambda *_, **__: None)


def copied(first: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy an ADC_HOME; return the copy."""
    shutil.copytree(first, home, symlinks=True)
    relocate(home)
    # MLflow remembers in a process where the files of a run are, whatever the database.
    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._artifact_repos_cache", OrderedDict())
    return home


@pytest.mark.slow
@pytest.mark.parametrize(
    "chain", list(chains()), ids=lambda chain: ",".join(f"{asset}.{name}" for asset, name in chain)
)
def test_a_changed_setting_gives_what_a_build_from_nothing_gives(
    chain: list[tuple[str, str]], corpus: Path, first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    without_pictures(monkeypatch)
    home = copied(first, tmp_path / "home", monkeypatch)
    store = Store(home)
    config = {**BASE, "raw_corpus": {"corpus": str(corpus)}}
    for asset, name in chain:
        value = other_value(asset, name, corpus)
        for each in NAMES:
            if STAGES[each].settings is STAGES[asset].settings:
                config[each] = config.get(each, {}) | {name: value}
        # One setting differs from the run before.
        run(home, config, monkeypatch)
        assert store.current(asset).settings[name] == value, f"{asset} ignores a change of {name}"
        for each in NAMES:
            read = {above: store.current(above).digest for above in store.current(each).inputs}
            assert store.current(each).inputs == read, f"{each} was not made anew after a change of {name} of {asset}"
    run(tmp_path / "new", config, monkeypatch)
    after, expected = content(home), content(tmp_path / "new")
    for each in NAMES:
        assert after[each] == expected[each], each


@pytest.mark.slow
def test_a_judge_after_each_of_its_settings_changed_is_one_that_was_made_with_them(
    corpus: Path, first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    without_pictures(monkeypatch)
    home = copied(first, tmp_path / "home", monkeypatch)
    # Few pairs, so that one more is another choice.
    config: dict[str, dict[str, Any]] = {"judge": {"max_pairs": 2, "max_held_out_pairs": 2}}
    run(home, config, monkeypatch, ["judge"])
    made = Store(home).current("judge")
    numbers = {name: default for name, (_, default) in settings_of("judge").items() if isinstance(default, int)}
    for name, default in numbers.items():
        config["judge"][name] = config["judge"].get(name, default) + 1
        run(home, config, monkeypatch, ["judge"])
        before, made = made, Store(home).current("judge")
        assert made.settings == before.settings | {name: config["judge"][name]}, f"judge ignores a change of {name}"
    new = copied(first, tmp_path / "new", monkeypatch)
    run(new, config, monkeypatch, ["judge"])
    assert content(home, ["judge"]) == content(new, ["judge"])
