"""Plans: what is read and refused, the looks, and the result of cells whose truth is known. No model is trained."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.run_configuration import merged
from adc_pipeline.core.store.manifests import Artefact
from adc_pipeline.evaluation.case_table import case_schema
from adc_pipeline.study import run
from adc_pipeline.study.configuration import checked, settings_of_cells
from adc_pipeline.study.exported import check_same_data, export_cell, read_exported
from adc_pipeline.study.grid import VARIANTS, cell_label, cell_name
from adc_pipeline.study.launcher import Launcher
from adc_pipeline.study.looks import crossing, nominal_levels, rejected
from adc_pipeline.study.plan import Plan
from adc_pipeline.study.plan_file import read_plan
from adc_pipeline.study.plan_page import markdown
from adc_pipeline.study.plan_result import read_result
from adc_pipeline.study.settings import CellSettings

COMMON = CellSettings(max_steps=3)


def test_the_levels_are_those_of_the_published_tables() -> None:
    """Jennison and Turnbull 2000, table 2.3: the last boundary is 1.977 at 2 looks and 2.040 at 5."""
    from scipy.special import ndtri

    for looks, boundary in ((2, 1.977), (5, 2.040)):
        levels = nominal_levels(range(1, looks + 1), 0.05)
        assert -ndtri(levels[looks] / 2) == pytest.approx(boundary, abs=1e-3)
        assert -ndtri(levels[1] / 2) == pytest.approx(boundary * looks**0.5, abs=2e-3)
    assert nominal_levels([3], 0.05) == {3: pytest.approx(0.05, abs=1e-6)}


def test_a_walk_crosses_as_often_as_one_that_is_drawn() -> None:
    steps = np.random.default_rng(0).normal(size=(200_000, 2)) * np.sqrt([0.6, 0.4])
    drawn = (np.abs(steps.cumsum(axis=1)) > 1.8).any(axis=1).mean()
    assert crossing(1.8, [0.6, 1.0]) == pytest.approx(drawn, abs=0.003)


def test_holm_passes_the_level_of_what_is_rejected_on() -> None:
    looks = [3, 5]
    half, full = nominal_levels(looks, 0.025), nominal_levels(looks, 0.05)
    between = (half[5] + full[5]) / 2
    assert rejected({"a": {3: 0.5, 5: between}, "b": {3: half[3] / 2}}, looks, 0.05) == {"a": 5, "b": 3}
    assert rejected({"a": {3: 0.5, 5: between}, "b": {3: 0.5, 5: 0.5}}, looks, 0.05) == {}
    assert rejected({"a": {3: 0.5, 5: between}}, looks, 0.05) == {"a": 5}


def test_numbers_of_a_plan_are_read_as_those_of_a_run_configuration(tmp_path: Path) -> None:
    """YAML 1.1 takes `5e-2` for a text."""
    (tmp_path / "plan.yaml").write_text(
        "{arms: {A: {dataset: ascending, settings: {beta: 5e-1}}}, seeds: ['0', 1.0], tuning: {A: {beta: [1e-1, 1_0]}},"
        " looks: {futility: ~, efficacy: [2.0]}, alpha: 5e-2, primaries: {x: {measure: rejection_contrast, first: A,"
        " second: ~, negligible: 2e-3}}, secondaries: ~}"
    )
    plan = read_plan(str(tmp_path / "plan.yaml"))
    assert (plan.alpha, plan.seeds, plan.futility, plan.efficacy) == (0.05, (0, 1), (), (2,))
    assert [each.negligible for each in plan.primaries] == [0.002]
    assert (plan.tuned["ascending.mle"], plan.tuning["A"]) == ({"beta": 0.5}, {"beta": [0.1, 10.0]})


def test_the_preset_has_the_arms_and_looks_of_the_preregistration() -> None:
    plan = read_plan("rejections")
    assert {name: variant.name for name, variant in plan.arms.items()} == {
        "A": "ascending.mle",
        "B": "ascending.mle.neutral",
        "C": "ascending.mle.shuffled",
        "D": "ascending.filtering",
        "A'": "top-2.mle",
        "A''": "random-walk.mle",
        "DPO": "ascending.dpo",
        "CoH": "ascending.hindsight",
    }
    assert (plan.futility, plan.efficacy, plan.alpha, len(plan.seeds)) == ((2,), (3, 5), 0.05, 5)
    assert [each.measure for each in plan.primaries] == ["rejection_contrast", "policy_improvement.minus_yoked"]
    first = [(arm, str(seed)) for seed in range(5) for arm in ("ascending.mle", "ascending.mle.neutral")]
    assert plan.cells[:10] == first
    others = ("C", "D", "A'", "A''", "DPO", "CoH")
    assert plan.cells[10:] == [(plan.arms[arm].name, str(seed)) for arm in others for seed in range(5)]


PLAN: dict[str, Any] = {
    "question": "Is it so?",
    "arms": {"A": {"dataset": "top-2"}, "B": {"dataset": "top-2", "markers": "neutral"}},
    "seeds": [0, 1, 2, 3, 4],
    "looks": {"futility": [2], "efficacy": [3, 5]},
    "alpha": 0.05,
    "primaries": {
        "reading": {"measure": "rejection_contrast", "first": "A", "second": "B", "negligible": 0.02},
        "improving": {"measure": "policy_improvement.minus_yoked", "first": "A"},
    },
    "secondaries": {"length": {"measure": "preference_accuracy", "first": "A", "against": "length"}},
}


def write_plan(folder: Path, **changes: Any) -> Plan:
    path = folder / "my-plan.yaml"
    path.write_text(yaml.safe_dump(PLAN | changes, sort_keys=False))
    return read_plan(str(path))


def across(measure: str, **second: str) -> dict[str, Any]:
    """Return the changes to a plan that compare an arm of top-2 with another one."""
    return {
        "arms": {**PLAN["arms"], "C": second},
        "secondaries": {"x": {"measure": measure, "first": "A", "second": "C"}},
    }


@pytest.mark.parametrize(
    ("measure", "second"),
    [
        ("rejection_contrast", {"dataset": "ascending"}),
        ("bits_per_byte.best_sibling", {"dataset": "ascending", "objective": "filtering"}),
        ("policy_improvement.k1", {"dataset": "random-walk"}),
        ("bits_per_byte", {"dataset": "top-2", "markers": "stripped"}),
        ("in_context_improvement", {"dataset": "top-2", "objective": "conditional"}),
    ],
)
def test_arms_are_compared_where_they_answer_the_same_cases(
    measure: str, second: dict[str, str], tmp_path: Path
) -> None:
    assert write_plan(tmp_path, **across(measure, **second)).secondaries[0].second == "C"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"arm": {}}, r"`arm` \(did you mean arms\?\) is no part of a plan"),
        ({"arms": {}}, "`arms` names none"),
        (
            {"arms": {"A": {"dataset": "top-3"}}},
            r"the arm A is top-3.mle, which is no variant \(did you mean top-2.mle\?\); use top-2.mle",
        ),
        ({"arms": {"A": {"data": "top-2"}}}, "use dataset, objective, markers, verdicts, second_round and settings"),
        ({"arms": {"A": {"dataset": "top-2"}, "B": {"dataset": "top-2"}}}, "the arm B is top-2.mle, as another arm is"),
        ({"arms": {"A": {"dataset": "top-2", "settings": {"epochs": 1}}}}, "`settings` of the arm A has epochs, which"),
        ({"arms": {"A": {"dataset": "top-2", "settings": {"bets": 1}}}}, r"has bets \(did you mean beta\?\)"),
        ({"arms": {"A": {"dataset": "top-2", "settings": {"beta": "cold"}}}}, "`settings` of the arm A"),
        ({"arms": {"A": {"dataset": "top-2", "settings": "none"}}}, "`settings` of the arm A is 'none'; use a mapping"),
        ({"seeds": [0, 77]}, r"`seeds` is \[0, 77\]; use each of 0 to 9 once"),
        ({"seeds": [0, 0]}, r"`seeds` is \[0, 0\]"),
        ({"seeds": "five"}, "`seeds` is 'five'; use a list of whole numbers"),
        ({"looks": {"efficacy": [3]}}, "end with the number of seeds, 5"),
        ({"tuning": {"C": {"beta": [1.0]}}}, "`tuning` has C; use A, B"),
        ({"tuning": {"A": {"beta": 1.0}}}, "`tuning` of A is {'beta': 1.0}; give a list"),
        ({"tuning": {"A": {"epochs": [1.0]}}}, "`settings` of the arm A has epochs"),
        ({"looks": 3}, "`looks` is 3; use a mapping"),
        ({"looks": {"efficacy": [-1, 5]}}, "`looks` has -1; use numbers of seeds, 1 to 5"),
        ({"looks": {"efficacy": [5], "futility": [9]}}, "`looks` has 9"),
        ({"alpha": 5}, "`alpha` is 5"),
        ({"primaries": {"x": {"measure": "steering", "first": "A", "negligible": True}}}, "x of `primaries` is"),
        (
            {"primaries": {"x": {"measure": "steering", "first": "A", "negligible": float("nan")}}},
            "has `negligible` nan",
        ),
        ({"primaries": {"x": {"first": "A"}}}, "x of `primaries` is"),
        ({"primaries": {"x": {"measure": "steering", "first": "Z"}}}, "compares the arm Z"),
        ({"primaries": {"x": {"measure": "steering", "first": "A", "against": "luck"}}}, "`against` luck; use half"),
        ({"primaries": {"x": {"measure": "steering", "first": ["A"]}}}, "x of `primaries` is"),
        (
            {"primaries": {"x": {"measure": "rejection_contrst", "first": "A"}}},
            r"x of `primaries` has the measure rejection_contrst \(did you mean rejection_contrast\?\), which no",
        ),
        ({"secondaries": {"x": {"measure": "Steering", "first": "A"}}}, r"Steering \(did you mean steering\?\)"),
        ({"primaries": {"x": {"measure": "perplexity", "first": "A"}}}, "use bits_per_byte"),
        (
            {"primaries": {"x": {"measure": "policy_improvement.k2", "first": "A", "against": "base"}}},
            "`against` base, of which policy_improvement.k2 has no value",
        ),
        ({"primaries": {"x": {"measure": "bits_per_byte", "first": "A", "against": "length"}}}, "`against` length"),
        ({"arms": {"A": {"dataset": ["top-2"]}}}, "the arm A is"),
        ({"arms": {"A": {"dataset": "top-2", "settings": None}}}, "`settings` of the arm A is None; use a mapping"),
        *(
            ({"arms": {name: {"dataset": "top-2"}}}, "`arms` has the name")
            for name in (1, None, "", " a", "a\nb", "../a")
        ),
        ({"primaries": {7: {"measure": "steering", "first": "A"}}}, "`primaries` has the name 7; use a text"),
        ({"primaries": {"x": {"measure": "steering", "first": "A", "second": "A"}}}, "compares A with itself"),
        (
            {"secondaries": {"reading": {"measure": "steering", "first": "A"}}},
            "reading is the name of a primary and of",
        ),
        (
            {"looks": {"efficacy": [5], "fultility": [2]}},
            r"`fultility` \(did you mean futility\?\) is no part of `looks`",
        ),
        ({"question": ["Is it so?"]}, r"`question` is \['Is it so\?'\]; use a text"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused_with_its_file(
    changes: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(PipelineError, match=f"my-plan.yaml: .*{sentence}"):
        write_plan(tmp_path, **changes)


def test_a_plan_that_does_not_exist_is_refused_with_the_presets() -> None:
    with pytest.raises(PipelineError, match=r"nothing does not exist: .* a preset \(rejections\)"):
        read_plan("nothing")


def test_the_commands_configuration_has_precedence_setting_by_setting(tmp_path: Path) -> None:
    ours = {"ops": {"study_cell": {"config": {"max_steps": 5, "samples": 2}}, "top_2": {"config": {"seed": 1}}}}
    theirs = {"ops": {"study_cell": {"config": {"max_steps": 7}}, "raw_corpus": {"config": {"corpus": "sample"}}}}
    config = merged(write_plan(tmp_path, config=ours).config, theirs)
    assert config == {
        "ops": {
            "study_cell": {"config": {"max_steps": 7, "samples": 2}},
            "top_2": {"config": {"seed": 1}},
            "raw_corpus": {"config": {"corpus": "sample"}},
        }
    }
    settings = settings_of_cells(config)
    assert (settings.max_steps, settings.evaluation.samples, settings.training.max_steps) == (7, 2, 7)


@pytest.mark.parametrize(
    ("ops", "sentence"),
    [
        ([1], r"`ops` is \[1\]; use a mapping"),
        ({"top2": {}}, r"top2 is no asset \(did you mean top_2\?\)"),
        ({None: {}}, "None is no asset"),
        ({"top_2": True}, "top_2: put its settings below `config:`"),
        ({"top_2": {"config": [1]}}, r"top_2: its configuration is \[1\]; give one"),
        ({"top_2": {"seed": 1}}, "below `config:`"),
    ],
)
def test_settings_that_no_cell_would_read_are_refused(ops: Any, sentence: str) -> None:
    with pytest.raises(PipelineError, match=sentence):
        checked({"ops": ops}, "my-plan.yaml")


def test_a_section_that_no_run_has_is_refused() -> None:
    with pytest.raises(PipelineError, match=r"my-plan.yaml: `op` \(did you mean ops\?\) is no part of a run conf"):
        checked({"op": {}}, "my-plan.yaml")


def test_an_arm_has_its_own_settings_where_it_was_tuned(tmp_path: Path) -> None:
    arms = {**PLAN["arms"], "C": {"dataset": "top-2", "objective": "dpo", "settings": {"preference_beta": "1e-2"}}}
    plan = write_plan(tmp_path, arms=arms)
    assert plan.settings("top-2.dpo", 3, COMMON) == replace(COMMON, objective="dpo", seed=3, preference_beta=0.01)
    assert plan.settings("top-2.mle", 3, COMMON) == replace(COMMON, seed=3)
    launcher = Launcher({"ops": {"study_cell": {"config": {"max_steps": 3}}, "top_2": {}}}, tmp_path, plan.tuned)
    own = {"ops": {"study_cell": {"config": {"max_steps": 3, "preference_beta": 0.01}}, "top_2": {}}}
    assert (launcher.of("top-2.dpo").config, launcher.of("top-2.mle").config) == (own, launcher.config)


def test_preference_optimization_shares_the_steps_with_the_model_that_it_starts_from() -> None:
    common = CellSettings(max_steps=7, objective="dpo", supervised_share=0.3, preference_learning_rate=1e-5)
    first, second = common.stages
    assert (first.objective, first.markers, first.max_steps, first.learning_rate) == ("filtering", "neutral", 2, 4e-3)
    assert (second.objective, second.markers, second.max_steps, second.learning_rate) == ("dpo", "kept", 5, 1e-5)
    by_epochs = replace(common, max_steps=None, epochs=2.0).stages
    assert [each.epochs for each in by_epochs] == pytest.approx([0.6, 1.4])
    assert replace(common, objective="mle").stages == (replace(common, objective="mle").training,)


ACCURACY = {"value": 0.7, "low": 0.6, "high": 0.8, "cases": 90, "conversations": 30, "refused": None}


COUNTS = {"conversations.test": 40, "conversations.evaluated": 30, "conversations.root_in_training": 0}
COUNTS |= {"conversations.left_out": 0, "rejection_contrast.left_out": 0}
COUNTS |= {"queries": 200, "queries.cut": 0, "queries.left_out": 0}


def made_cell(
    folder: Path, variant: str, seed: int, effect: float, length: float | None = 0.5, **settings: Any
) -> Artefact:
    """An artefact as `study_cell` leaves it, whose rejection contrast is `effect` on average."""
    rng = np.random.default_rng([seed, int(abs(effect) * 1000)])
    rows = [
        {
            "measure": measure,
            "conversation_id": f"c{conversation}",
            "case": f"{conversation}/{case}",
            "weight": 1.0,
            "model": effect + 0.02 * rng.normal(),
            "base": 0.0,
            "length": length if measure == "preference_accuracy" else None,
        }
        for measure in ("rejection_contrast", "preference_accuracy", "steering")
        for conversation in range(3 if measure == "steering" else 30)
        for case in range(2)
    ]
    evaluation = folder / f"{variant}-{seed}" / "evaluation"
    evaluation.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=case_schema()), evaluation / "cases.parquet")
    train = {"walks": 4, "tokens": 900, "turns": 30, "turns_rejected": 11}
    facts = {"versions": {}, "steps": 3, "tokens": 800, "train": train}
    (evaluation / "training.json").write_text(json.dumps(facts))
    (evaluation / "evaluation.json").write_text(
        json.dumps(
            {"left_out": {}, "counts": {**COUNTS, "bytes.accepted": 9.5}, "shortcomings": ["Little <to> learn."]}
        )
    )
    own = VARIANTS[variant].settings(replace(COMMON, **settings), seed)
    return Artefact("study_cell", evaluation.parent, "d", asdict(own), {"top_2": "digest"})


def export(plan: Plan, folder: Path, seeds: int, effects: tuple[float, ...], **settings: Any) -> Path:
    out = folder / "cells"
    for effect, variant in zip(effects, plan.arms.values(), strict=True):
        for seed in range(seeds):
            cell = made_cell(folder / str(effect), variant.name, seed, effect, **settings)
            export_cell(cell, variant.name, str(seed), plan.measures, out)
    return out


def test_an_exported_cell_has_the_cases_of_the_plans_measures_and_no_text(tmp_path: Path) -> None:
    plan = write_plan(tmp_path)
    out = export(plan, tmp_path, 1, (0.1, 0.0))
    table = pq.read_table(out / "top-2.mle.seed-0.parquet")
    assert set(table["measure"].to_pylist()) == {"rejection_contrast", "preference_accuracy"}
    assert table.schema.names == case_schema().names
    cells, excluded = read_exported(plan, COMMON, out)
    assert (set(cells), excluded) == ({("top-2.mle", 0), ("top-2.mle.neutral", 0)}, {})


def test_a_cell_of_other_settings_or_inputs_is_excluded_with_the_reason(tmp_path: Path) -> None:
    plan = write_plan(tmp_path)
    out = export(plan, tmp_path, 2, (0.1, 0.0), checkpoint_every=7)
    facts = out / f"{cell_label('top-2.mle', 1)}.json"
    facts.write_text(json.dumps(json.loads(facts.read_text()) | {"inputs": {"top_2": "another"}}))
    cells, excluded = read_exported(plan, COMMON, out)
    assert len(cells) == 3
    assert excluded == {"top-2.mle.seed-1": "it was made from other datasets than most cells"}
    # A cell that was made before a setting came is read as one with its default, and one from other files of the
    # utterances as one from the same datasets.
    facts = out / f"{cell_label('top-2.mle', 0)}.json"
    read = json.loads(facts.read_text())
    read["inputs"]["utterances"] = "another"
    del read["settings"]["levels"]
    facts.write_text(json.dumps(read))
    assert read_exported(plan, COMMON, out)[0].keys() == cells.keys()
    _, excluded = read_exported(plan, replace(COMMON, epochs=7.0), out)
    assert set(excluded.values()) == {"it was made with other settings than the plan's (epochs)"}


@pytest.mark.parametrize(
    ("file", "damage", "sentence"),
    [
        ("json", lambda path: path.write_text("{"), "is damaged, or another program wrote it"),
        ("json", lambda path: path.write_text("[" * 100_000), "nested too deeply"),
        ("json", lambda path: os.mkfifo(path), "is a FIFO and no regular file"),
        ("json", lambda path: change(path, steps="<b>"), "`steps` is '<b>'"),
        ("json", lambda path: change(path, train={}), "has no `turns_rejected`"),
        ("json", lambda path: change(path, judge={"x": {"value": "<b>"}}), "`value` is '<b>'"),
        ("json", lambda path: change(path, judge={"x": ACCURACY | {"y": 1}}), "unexpected keyword argument"),
        ("parquet", lambda path: path.write_bytes(b"PAR1"), "was altered after the cell was exported"),
        ("parquet", lambda path: os.mkfifo(path), "is a FIFO and no regular file"),
        ("parquet", lambda path: unrecorded(path).write_bytes(b"PAR1"), "holds no cases of a cell"),
        ("parquet", lambda path: rewrite(path, "model", [None, "é"]), "holds no cases of a cell"),
        ("parquet", lambda path: rewrite(path, "weight", [0.0, float("nan")]), "values are not finite"),
    ],
)
def test_a_damaged_exported_cell_is_refused_with_its_file(
    tmp_path: Path, file: str, damage: Callable[[Path], object], sentence: str
) -> None:
    plan = write_plan(tmp_path)
    path = export(plan, tmp_path, 1, (0.1, 0.0)) / f"{cell_label('top-2.mle', 0)}.{file}"
    if "FIFO" in sentence:
        path.unlink()
    damage(path)
    with pytest.raises(PipelineError, match=f"seed-0.{file}.*{sentence}"):
        read_exported(plan, COMMON, path.parent)


def change(facts: Path, **changes: Any) -> None:
    facts.write_text(json.dumps(json.loads(facts.read_text()) | changes))


def unrecorded(cases: Path) -> Path:
    """Remove the digest of the cases from the cell's facts, which earlier versions did not write."""
    change(cases.with_suffix(".json"), cases_sha256=None)
    return cases


def rewrite(cases: Path, column: str, values: list[Any]) -> None:
    table = pq.read_table(unrecorded(cases)).slice(0, len(values))
    pq.write_table(table.set_column(table.column_names.index(column), column, pa.array(values)), cases)


@pytest.mark.parametrize(
    ("seeds", "effects", "look", "verdict"),
    [
        (1, (0.1, 0.0), 0, "no look yet"),
        (2, (0.1, 0.0), 2, "look for futility only: an effect that matters is still possible"),
        (4, (0.1, 0.0), 3, "shown to be above 0, with this sign in 3 of 3 seeds"),
        (5, (0.1, 0.0), 5, "shown at 3 seeds to be above 0, with this sign in 5 of 5 seeds"),
        (5, (0.003, 0.001), 5, "no effect that matters: all of the interval is below 0.02"),
    ],
)
def test_the_verdict_is_that_of_the_latest_look(
    tmp_path: Path, seeds: int, effects: tuple[float, float], look: int, verdict: str
) -> None:
    plan = write_plan(tmp_path)
    cells, _ = read_exported(plan, COMMON, export(plan, tmp_path, seeds, effects))
    result = read_result(plan, cells)
    reading, improving = plan.primaries
    assert (result.look, result.verdict(reading)) == (look, verdict)
    if look:
        # No cell has the measure of the second primary, so that the first is tested at all of alpha.
        reason = "`contexts` of study_cell is 0, so that no cell was asked for it"
        assert result.verdict(improving) == f"not testable: {reason}"
        assert result.levels == {"reading": nominal_levels([3, 5], 0.05)[max(3, look)]}
        found = result.found["reading"]
        assert found.estimate.value == pytest.approx(effects[0] - effects[1], abs=0.01)
        assert found.smallest is not None
        assert result.found["length"].estimate.value == pytest.approx(effects[0] - 0.5, abs=0.01)
    text = markdown(result)
    assert f"{2 * seeds} of 10 cells are made" in text
    assert "| A | top-2.mle |" in text
    assert "| 11 |" in text
    assert ("models that learned nothing show it too" in text) == verdict.startswith("no effect that matters")


def test_a_primary_of_too_few_conversations_leaves_its_share_of_alpha_to_the_others(tmp_path: Path) -> None:
    few = {"few": {"measure": "steering", "first": "A", "second": "B"}}
    plan = write_plan(tmp_path, primaries=PLAN["primaries"] | few)
    result = read_result(plan, read_exported(plan, COMMON, export(plan, tmp_path, 3, (0.1, 0.0)))[0])
    assert result.found["few"].estimate.value is not None
    assert result.verdict(plan.primaries[2]) == "not testable: no interval can be given from 3 conversations"
    assert result.levels == {"reading": nominal_levels([3, 5], 0.05)[3]}


EVIDENCE = Path(__file__).parents[2] / "evidence" / "rejections"


def test_the_committed_cells_give_the_committed_result() -> None:
    """They were made by an earlier version of the package, whose case tables have fewer columns."""
    plan = read_plan("rejections")
    cells, excluded = read_exported(plan, settings_of_cells(dict(plan.config)), EVIDENCE)
    assert markdown(read_result(plan, cells, excluded)) == (EVIDENCE / "result.md").read_text()


def test_a_plan_without_primaries_waits_for_all_of_its_arms(tmp_path: Path) -> None:
    plan = write_plan(tmp_path, primaries={})
    out = export(plan, tmp_path, 2, (0.1, 0.0))
    (out / f"{cell_label('top-2.mle.neutral', 1)}.json").unlink()
    result = read_result(plan, read_exported(plan, COMMON, out)[0])
    assert (plan.needed, result.complete, result.look) == (["A", "B"], 1, 0)


def test_what_cannot_be_tested_is_said_with_its_reason(tmp_path: Path) -> None:
    arms = {**PLAN["arms"], "C": {"dataset": "ascending"}}
    secondaries = {
        "missing": {"measure": "steering", "first": "A", "second": "C"},
        "told": {"measure": "preference_accuracy.within_hour", "first": "B"},
        "without": {"measure": "in_context_improvement", "first": "A", "second": "B"},
        "length": {"measure": "preference_accuracy", "first": "A", "against": "length"},
    }
    plan = write_plan(tmp_path, arms=arms, secondaries=secondaries)
    out = tmp_path / "cells"
    for variant in ("top-2.mle", "top-2.mle.neutral"):
        for seed in range(3):
            cell = made_cell(tmp_path, variant, seed, len(variant) / 100, length=None)
            export_cell(cell, variant, str(seed), plan.measures, out)
            reasons = {"preference_accuracy": "of one marker"} if "neutral" in variant else {}
            judged = {"policy_improvement": "not testable: the judge is <poor>"}
            judge = {"judge": {"preference_accuracy": ACCURACY}, "judge_name": "a <judge>"}
            change(out / f"{cell_label(variant, seed)}.json", excluded=reasons | judged, **judge)
    result = read_result(plan, read_exported(plan, COMMON, out)[0])
    assert result.untested() == [
        "improving: the judge is <poor> (A).",
        "missing: no cell of C is made.",
        "told: of one marker (B).",
        "without: no cell of A and B has a case of this measure.",
        "length: length, which it is compared with, decides no case.",
    ]
    assert result.verdict(plan.primaries[1]) == "not testable: the judge is <poor> (A)"
    text = markdown(result)
    assert "## Not testable\n\n- improving: the judge is &lt;poor&gt; (A)." in text
    assert "The judge is a &lt;judge&gt;. Its accuracy on people's replies of the test split is 0.7000 [0.6000," in text


def test_what_the_test_split_and_the_datasets_lack_is_said(tmp_path: Path) -> None:
    secondaries = {"contrast": {"measure": "rejection_contrast.own", "first": "A"}}
    plan = write_plan(tmp_path, secondaries=secondaries)
    out = export(plan, tmp_path, 3, (0.1, 0.0))
    text = markdown(read_result(plan, read_exported(plan, COMMON, out)[0]))
    assert "30 of 40 conversations of the test split are evaluated. No root of the test split occurs in the" in text
    assert text.count("Little &lt;to&gt; learn.") == 1
    counts = COUNTS | {"rejection_contrast.left_out": 7, "queries.left_out": 150}
    for facts in out.glob("top-2.mle.seed*.json"):
        change(facts, counts=counts)
    result = read_result(plan, read_exported(plan, COMMON, out)[0])
    text = markdown(result)
    assert "A: 30 of 40 conversations of the test split are evaluated. No root" in text
    assert "150 had a reply too long for it and are excluded.\n\nB: 30 of 40 conversations" in text
    assert result.untested() == [
        "improving: `contexts` of study_cell is 0, so that no cell was asked for it.",
        "contrast: no cell of A has a case of this measure; 7 did not fit into the context.",
    ]
    for facts in out.glob("*.json"):
        change(facts, counts=counts | {"conversations.evaluated": 0, "conversations.left_out": 40})
    (_, sentence) = read_result(plan, read_exported(plan, COMMON, out)[0]).untested()
    assert sentence == "contrast: no conversation of the test split is evaluated (A)."


def test_a_measure_that_came_into_the_plan_later_is_said_to_be_missing(tmp_path: Path) -> None:
    out = export(write_plan(tmp_path), tmp_path, 3, (0.1, 0.0))
    plan = write_plan(tmp_path, secondaries={"later": {"measure": "steering", "first": "A", "second": "B"}})
    (_, sentence) = read_result(plan, read_exported(plan, COMMON, out)[0]).untested()
    assert sentence.startswith("later: the cells of A and B were exported before the plan had this measure; remove")


def test_a_made_cell_is_exported_again_for_a_new_measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = write_plan(tmp_path)
    out = export(plan, tmp_path, 1, (0.1, 0.0))
    cells = {cell_name(name, "0"): made_cell(tmp_path / "store", name, 0, 0.1) for name, _ in plan.cells[:2]}
    store = SimpleNamespace(current=cells.__getitem__, home=tmp_path)
    monkeypatch.setattr(run, "inputs_of", lambda _: {"top_2": SimpleNamespace(digest="digest")})
    monkeypatch.setattr(run, "is_made", lambda *_: True)

    def again(plan: Plan) -> set[str]:
        own: Any = store
        variants, seeds = zip(*plan.cells[:2], strict=True)
        assert run.Run(Launcher({}, tmp_path), own, COMMON, variants, seeds).plan(plan, out) == []
        return set(pq.read_table(out / "top-2.mle.seed-0.parquet")["measure"].to_pylist())

    before = (out / "top-2.mle.seed-0.json").stat().st_mtime_ns
    assert again(plan) == {"rejection_contrast", "preference_accuracy"}
    assert (out / "top-2.mle.seed-0.json").stat().st_mtime_ns == before
    later = write_plan(tmp_path, secondaries={"later": {"measure": "steering", "first": "A", "second": "B"}})
    assert again(later) == {"rejection_contrast", "steering"}


def test_cells_of_other_data_than_the_run_s_end_it(tmp_path: Path) -> None:
    plan = write_plan(tmp_path)
    cells, _ = read_exported(plan, COMMON, export(plan, tmp_path, 1, (0.1, 0.0)))
    check_same_data({}, {"top_2": "other"}, tmp_path, datasets_only=False)
    check_same_data(cells, {"top_2": "digest", "utterances": "other"}, tmp_path, datasets_only=False)
    with pytest.raises(PipelineError, match=r"other data \(top_2\) than those of this run: name another folder"):
        check_same_data(cells, {"top_2": "other"}, tmp_path, datasets_only=True)
    for key, cell in cells.items():
        cells[key] = replace(cell, facts={**cell.facts, "inputs": {"top_2": "digest", "judge": "one"}})
    check_same_data(cells, {"top_2": "digest", "judge": "other"}, tmp_path, datasets_only=True)
    with pytest.raises(PipelineError, match=r"other data \(judge\)"):
        check_same_data(cells, {"top_2": "digest", "judge": "other"}, tmp_path, datasets_only=False)


@pytest.mark.parametrize(("effect", "side"), [(0.1, "above"), (-0.1, "below")])
def test_a_primary_is_shown_with_its_side_and_the_look_that_showed_it(tmp_path: Path, effect: float, side: str) -> None:
    primaries = {"reading": {"measure": "rejection_contrast", "first": "A"}}
    plan = write_plan(tmp_path, arms={"A": {"dataset": "top-2"}}, primaries=primaries, secondaries={})
    cells, _ = read_exported(plan, COMMON, export(plan, tmp_path, 3, (effect,)))
    assert (
        read_result(plan, cells).verdict(plan.primaries[0]) == f"shown to be {side} 0, with this sign in 3 of 3 seeds"
    )


def test_a_judge_without_a_pair_to_be_tested_on_is_said_to_have_none(tmp_path: Path) -> None:
    plan = write_plan(tmp_path)
    out = export(plan, tmp_path, 1, (0.1, 0.0))
    untested = {"preference_accuracy": dict.fromkeys(("value", "low", "high")) | {"cases": 0, "conversations": 0}}
    for facts in out.glob("*.json"):
        change(facts, judge=untested, judge_name="one")
    text = markdown(read_result(plan, read_exported(plan, COMMON, out)[0]))
    assert "The judge is one. The test split has no two replies with different scores to test it on." in text


def test_cells_of_different_code_are_counted_by_version(tmp_path: Path) -> None:
    plan = write_plan(tmp_path)
    out = export(plan, tmp_path, 2, (0.1, 0.0))
    assert "versions of the code" not in markdown(read_result(plan, read_exported(plan, COMMON, out)[0]))
    change(out / f"{cell_label('top-2.mle', 1)}.json", code_version="<new>")
    text = markdown(read_result(plan, read_exported(plan, COMMON, out)[0]))
    assert "The cells were made by 2 versions of the code: 3 by " in text
    assert ", 1 by &lt;new&gt;." in text


def test_a_loss_is_not_called_an_effect_that_does_not_matter(tmp_path: Path) -> None:
    primaries = {"reading": {"measure": "rejection_contrast", "first": "A", "negligible": 0.02}}
    plan = write_plan(tmp_path, arms={"A": {"dataset": "top-2"}}, primaries=primaries, secondaries={})
    cells, _ = read_exported(plan, COMMON, export(plan, tmp_path, 2, (-0.3,)))
    (reading,) = plan.primaries
    sentence = "no gain that matters: all of the interval is below 0.02; a loss is not excluded"
    assert read_result(plan, cells).verdict(reading) == sentence
