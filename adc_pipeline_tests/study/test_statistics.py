"""The study on hand-made cases: means over seeds, paired tests, one correction, and the conclusions drawn."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adc_pipeline.evaluation.intervals.significance import holm
from adc_pipeline.study import statistics
from adc_pipeline.study.conclusions import conclusions
from adc_pipeline.study.grid import BASE, CHANCE, VARIANTS
from adc_pipeline.study.page import write_results
from adc_pipeline.study.statistics import MEASURES, read_study
from adc_pipeline.study.tables import differences_table, figures_table

CONVERSATIONS = 40


def write_cell(folder: Path, share: float, seed: int, measures: tuple[str, ...] = ("preference_accuracy",)) -> Path:
    """Write three cases for each conversation, won with the probability `share`; the base model ties in all of them."""
    random = np.random.default_rng([seed, int(share * 100)])
    rows: list[dict[str, Any]] = []
    for measure in measures:
        for conversation in range(CONVERSATIONS):
            for case in range(3):
                won = float(random.random() < share)
                rows.append(
                    {
                        "measure": measure,
                        "conversation_id": f"c{conversation}",
                        "case": f"{case}",
                        "weight": 1.0,
                        "model": won,
                        "base": 0.5,
                        "length": None,
                    }
                )
    folder.mkdir(parents=True)
    schema = pa.schema(
        {name: pa.string() for name in ("measure", "conversation_id", "case")}
        | {name: pa.float64() for name in ("weight", "model", "base", "length")}
    )
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / "cases.parquet")
    return folder


def cells(folder: Path, shares: dict[str, float], seeds: int = 2) -> dict[tuple[str, int], Path]:
    return {
        (name, seed): write_cell(folder / name / str(seed), share, seed)
        for name, share in shares.items()
        for seed in range(seeds)
    }


def answers(folder: Path) -> np.ndarray:
    table = pq.read_table(folder / "cases.parquet").to_pylist()
    return np.array([row["model"] for row in sorted(table, key=lambda row: (row["conversation_id"], row["case"]))])


def test_seeds_are_averaged_case_by_case_and_differences_are_paired(tmp_path: Path) -> None:
    made = cells(tmp_path, {"top-2.mle": 0.8, "top-2.awr": 0.6, "random-walk.mle": 0.5})
    study = read_study(made)
    mean = {name: (answers(made[name, 0]) + answers(made[name, 1])) / 2 for name in study.estimates}
    for name, values in mean.items():
        assert study.estimates[name]["preference_accuracy"].value == pytest.approx(values.mean())
        assert study.base[name]["preference_accuracy"].value == 0.5
        seeds = [answers(made[name, seed]).mean() for seed in (0, 1)]
        assert study.by_seed[name]["preference_accuracy"] == pytest.approx(seeds)
    compared = {
        ("top-2.mle", CHANCE),
        ("random-walk.mle", CHANCE),
        ("top-2.mle", BASE),
        ("top-2.awr", BASE),
        ("random-walk.mle", BASE),
        ("top-2.awr", "top-2.mle"),
        ("top-2.mle", "random-walk.mle"),
    }
    assert {(test.first, test.second) for test in study.tests} == compared
    for test, found in study.tests.items():
        other = np.full(3 * CONVERSATIONS, 0.5) if test.second in (BASE, CHANCE) else mean[test.second]
        assert found.value == pytest.approx((mean[test.first] - other).mean())
        assert (found.cases, found.conversations) == (len(other), CONVERSATIONS)
    assert study.corrected == holm({test: found.p for test, found in study.tests.items() if found.p is not None})


def test_only_seeds_that_both_variants_have_are_compared(tmp_path: Path) -> None:
    made = cells(tmp_path, {"top-2.mle": 0.8, "top-2.awr": 0.6})
    del made["top-2.awr", 1]
    study = read_study(made)
    apart = answers(made["top-2.awr", 0]) - answers(made["top-2.mle", 0])
    assert study.tests[statistics.Test("top-2.awr", "top-2.mle", "preference_accuracy")].value == pytest.approx(
        apart.mean()
    )
    made["top-2.awr", 1] = made.pop(("top-2.awr", 0))
    del made["top-2.mle", 1]
    assert statistics.Test("top-2.awr", "top-2.mle", "preference_accuracy") not in read_study(made).tests


def test_conclusions_state_what_was_shown_and_what_was_not(tmp_path: Path) -> None:
    strong = {"top-2.mle": 0.9, "top-2.mle.shuffled": 0.5, "top-2.filtering": 0.9}
    made = cells(tmp_path, strong, seeds=3)
    made |= {("top-2.filtering", seed): made["top-2.mle", seed] for seed in range(3)}
    study = read_study(made)
    sentences = conclusions(study)
    (against_chance,) = [
        each for each in sentences if each.startswith("top-2.mle: preference accuracy is above chance, 0.9")
    ]
    p = study.corrected[statistics.Test("top-2.mle", CHANCE, "preference_accuracy")]
    assert against_chance.endswith(f" on 40 conversations (p {p:.3f}, corrected for all tests).")
    assert any(
        each.startswith("top-2.mle.shuffled differs from top-2.mle: preference_accuracy −0.") for each in sentences
    )
    assert "Not shown to differ from what they are compared with, in any measure: top-2.filtering." in sentences


def test_an_interval_that_excludes_chance_shows_nothing_by_itself(tmp_path: Path) -> None:
    """One in twenty does where nothing was learned: what is said, the p-value corrected for all tests decides."""
    names = ["top-2.mle", "top-2.awr", "top-2.rwr", "top-2.unlikelihood", "top-2.accepted-only"]
    study = read_study(cells(tmp_path, dict.fromkeys(names, 0.5) | {"top-2.mle": 0.57}, seeds=5))
    estimate = study.estimates["top-2.mle"]["preference_accuracy"]
    test = statistics.Test("top-2.mle", CHANCE, "preference_accuracy")
    alone, corrected = study.tests[test].p, study.corrected[test]
    assert estimate.low is not None
    assert estimate.low > 0.5
    assert alone is not None
    assert alone < 0.05 < corrected
    (sentence,) = [each for each in conclusions(study) if each.startswith("top-2.mle: preference accuracy")]
    assert "was not shown to differ from chance" in sentence
    assert f"(p {corrected:.3f}, corrected for all tests)" in sentence


@pytest.mark.parametrize(("share", "helps"), [(-0.9, True), (0.9, False)])
def test_in_context_improvement_is_tested_against_none(share: float, helps: bool, tmp_path: Path) -> None:
    made = {}
    for seed in range(3):
        folder = write_cell(tmp_path / str(seed), abs(share), seed, ("in_context_improvement",))
        table = pq.read_table(folder / "cases.parquet").to_pylist()
        won = pa.array([row["model"] * np.sign(share) for row in table])
        columns = pq.read_table(folder / "cases.parquet")
        pq.write_table(columns.set_column(columns.column_names.index("model"), "model", won), folder / "cases.parquet")
        made["top-2.mle", seed] = folder
    study = read_study(made)
    test = study.tests[statistics.Test("top-2.mle", CHANCE, "in_context_improvement")]
    assert test.value == pytest.approx(study.estimates["top-2.mle"]["in_context_improvement"].value)
    (sentence,) = [each for each in conclusions(study) if each.startswith("top-2.mle: ")]
    assert ("help to predict" in sentence) == helps
    assert ("make the accepted one harder to predict" in sentence) != helps


@pytest.mark.parametrize("share", [0.5])
def test_a_null_result_is_reported_as_one(share: float, tmp_path: Path) -> None:
    study = read_study(cells(tmp_path, {"top-2.mle": share, "random-walk.mle": share}))
    sentences = conclusions(study)
    assert sum("was not shown to differ from chance" in each for each in sentences) == 2
    assert not any(" differs from " in each for each in sentences)


def test_the_effect_of_rejected_replies_stands_beside_their_effect_without_markers(tmp_path: Path) -> None:
    made = {
        (name, seed): write_cell(tmp_path / name / str(seed), share, seed, ("in_context_improvement",))
        for name, share in {"top-2.mle": 0.1, "top-2.mle.stripped": 0.12}.items()
        for seed in range(2)
    }
    study = read_study(made)
    (sentence,) = [each for each in conclusions(study) if each.startswith("top-2.mle: ")]
    p = [study.corrected[statistics.Test("top-2.mle", second, "in_context_improvement")] for second in (CHANCE, BASE)]
    p.append(study.corrected[statistics.Test("top-2.mle.stripped", "top-2.mle", "in_context_improvement")])
    shown = ["< 0.001" if one < 0.001 else f"{one:.3f}" for one in p]
    assert (
        f"p {shown[0]} against no difference, p {shown[1]} against the base model, p {shown[2]} against"
        " top-2.mle.stripped."
    ) in sentence


def test_models_that_read_verdicts_first_are_not_compared_by_bits(tmp_path: Path) -> None:
    measures = ("in_context_improvement", "bits_per_byte.accepted")
    names = ("top-2.mle", "top-2.conditional", "top-2.mle.stripped")
    tests = read_study({(name, 0): write_cell(tmp_path / name, 0.5, 0, measures) for name in names}).tests
    # Neither of these reads a turn's verdict before the turn.
    assert statistics.Test("top-2.mle.stripped", "top-2.mle", "bits_per_byte.accepted") in tests
    assert statistics.Test("top-2.conditional", "top-2.mle", "in_context_improvement") in tests
    assert statistics.Test("top-2.conditional", "top-2.mle", "bits_per_byte.accepted") not in tests
    assert statistics.Test("top-2.conditional", BASE, "bits_per_byte.accepted") in tests


def test_the_table_states_which_of_its_figures_do_not_compare(tmp_path: Path) -> None:
    def caption(*names: str) -> str:
        made = {(name, 0): tmp_path / name for name in names}
        for folder in made.values():
            if not folder.exists():
                write_cell(folder, 0.5, 0, ("bits_per_byte.accepted",))
        return figures_table(read_study(made)).caption

    assert "not compare" not in caption("top-2.mle", "top-2.awr")
    assert "(top-2 for top-2; random-walk for random-walk and both) and do not compare across datasets." in caption(
        "top-2.mle", "random-walk.mle", "both.mle"
    )
    assert "Bits per byte of both.conditional are of turns whose verdict stands before them" in caption(
        "both.mle", "both.conditional"
    )


def test_one_seed_has_neither_interval_nor_test_and_the_text_says_so(tmp_path: Path) -> None:
    study = read_study(cells(tmp_path, {"top-2.mle": 0.9, "top-2.awr": 0.5}, seeds=1))
    estimate = study.estimates["top-2.mle"]["preference_accuracy"]
    assert (estimate.low, estimate.high, estimate.refused) == (None, None, "one seed")
    assert study.corrected == {}
    assert all(test.p is None for test in study.tests.values())
    *_, limits = conclusions(study)
    assert "no interval and no test of top-2.mle, top-2.awr: make more seeds." in limits
    assert f"{estimate.value:.4f} (one seed)" in figures_table(study).rows[0]
    assert "interval" not in figures_table(study).caption
    assert differences_table(study).caption == "Paired by case; none of them can be tested."


def test_few_conversations_have_no_interval_and_the_text_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.CONVERSATIONS", 3)
    study = read_study(cells(tmp_path, {"top-2.mle": 0.6}))
    *_, limits = conclusions(study)
    assert limits.endswith("3 conversations give no interval of preference_accuracy.")
    assert (
        "No cell has a case of steering, in_context_improvement, rejection_contrast, bits_per_byte.accepted:" in limits
    )


def test_the_result_is_a_page_a_text_a_picture_and_flat_figures(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    text = write_results(cells(tmp_path, {"top-2.mle": 0.8, "both.mle": 0.5}, seeds=4), out)
    assert (out / "study.md").read_text() == text
    assert f"8 cells: 2 of the grid's {len(VARIANTS)} variants." in text
    figures = json.loads((out / "study.json").read_text())
    assert figures["top-2.mle.preference_accuracy"] > 0.6
    assert figures["top-2.mle_minus_both.mle.preference_accuracy.p_holm"] < 0.05
    page = (out / "report.html").read_text()
    assert "data:image/png;base64," in page
    assert "top-2.mle − both.mle" in page
    assert (out / "study.png").stat().st_size > 5000
    assert set(MEASURES) > {"preference_accuracy"}


def test_excluded_cells_are_counted_and_named(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    excluded = {"a": "its code has changed", "b": "input top_2 has changed", "c": "its code has changed"}
    text = write_results(cells(tmp_path, {"top-2.mle": 0.8}), out, excluded)
    for shown in (text, (out / "report.html").read_text()):
        assert "have the settings of the newest one." in shown
        assert "Excluded, because its code has changed: 2 cells, a, c." in shown
        assert "Excluded, because input top_2 has changed: 1 cell, b." in shown
    assert "Excluded" not in write_results({}, tmp_path)


def test_no_cell_at_all_is_no_error(tmp_path: Path) -> None:
    assert "0 cells" in write_results({}, tmp_path)
