"""An asset's page answers what made it, why, and what it says: rows, their names, and their length."""

import dataclasses
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from adc_pipeline.core.markdown import LONG
from adc_pipeline.core.run_configuration import merged
from adc_pipeline.core.store.manifests import Artefact, as_json
from adc_pipeline.corpus.settings import CorpusSettings
from adc_pipeline.definitions import defs
from adc_pipeline.defs.assets.corpus import detected
from adc_pipeline.defs.making import Making
from adc_pipeline.defs.page import (
    BREAK,
    ROWS,
    block,
    check_names,
    four_digits,
    line_width,
    link,
    narrow,
    row_names,
    run_config_of,
    settings_rows,
    visible,
)
from adc_pipeline.defs.presets import preset_config
from adc_pipeline.defs.preview import preview
from adc_pipeline.defs.stage import STAGES
from adc_pipeline.defs.workspace import rebuilt_or_reused
from adc_pipeline.evaluation.headlines import HEADLINES
from adc_pipeline.evaluation.presentation.figures import PLOTS
from adc_pipeline.walks.settings import WalkSettings


def made(name: str, settings: Any, **upstream: Any) -> Artefact:
    plain = as_json(dataclasses.asdict(settings))
    return Artefact(name, Path("somewhere"), "0" * 32, plain, upstream_settings=upstream)


def test_settings_show_what_differs_from_the_defaults() -> None:
    settings = CorpusSettings(corpus="a|b.csv", columns={"text": "body"})
    found = {"format read": "table", "columns read": "text from body; score from points"}
    shown, defaults = settings_rows(STAGES["raw_corpus"], made("raw_corpus", settings), found, 20)
    assert shown.split("  \n") == [
        r"**corpus: a\|b.csv**",
        "(default sample)",
        "**columns: {text:**",
        "**body}**",
        "(default {})",
        "format read: table",
        "columns read: text",
        "from body; score",
        "from points",
    ]
    assert defaults.split("  \n")[0] == "format: auto"
    assert not {"corpus:", "columns:"} & set(defaults.split())


@pytest.mark.parametrize("name", STAGES)
def test_of_every_asset_just_what_somebody_set_differs_from_the_defaults(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of an asset that completes its settings, from the environment, by its kind of walk or by its partition."""
    monkeypatch.delenv("ADC_CORPUS", raising=False)
    stage = STAGES[name]
    partition = stage.partitions.get_partition_keys()[-1] if stage.partitions else None
    settings = stage.complete(stage.settings(), partition) if stage.complete else stage.settings()
    usual = made(name, settings)
    shown, others = settings_rows(stage, usual, {}, 200, partition)
    assert shown == "All have their defaults."
    assert yaml.safe_load(run_config_of(stage, usual, partition)) == {"ops": {}}
    assert len(others.splitlines()) == len(usual.settings)
    changed = {setting: {"other": value} for setting, value in usual.settings.items()}
    other = dataclasses.replace(usual, settings=changed)
    shown, others = settings_rows(stage, other, {}, 2_000, partition)
    assert len(shown.splitlines()) == 2 * len(changed) or not changed
    assert not others
    config = {"ops": {name: {"config": changed}}} if changed else {"ops": {}}
    assert yaml.safe_load(run_config_of(stage, other, partition)) == config


def test_a_corpus_of_the_environment_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADC_CORPUS", "/data/dump")
    stage = STAGES["raw_corpus"]
    assert stage.complete
    found = made("raw_corpus", stage.complete(CorpusSettings(), None))
    assert settings_rows(stage, found, {}, 80)[0].split("  \n")[0] == "**corpus: /data/dump**"
    assert yaml.safe_load(run_config_of(stage, found)) == {"ops": {"raw_corpus": {"config": {"corpus": "/data/dump"}}}}


def test_text_has_lines_that_fit_the_page_and_stay_text() -> None:
    width = line_width(["preference_accuracy.later_doubled", "dagster/a_very_long_name_that_no_row_has"])
    assert width == 22
    assert narrow("Rebuilt: setting corpus has changed from a to b.", width) == (
        "Rebuilt: setting  \ncorpus has changed  \nfrom a to b."
    )
    assert narrow("from 5 to 25 - 3 # 12. end", 5) == r"from\n5 to\n25 -\n3 #\n12\.\nend".replace(r"\n", "  \n")
    assert narrow("- a 0.5", 3) == "\\- a  \n0\\.5"
    assert narrow("/a/folder/with/a/long/name", 10).split("  \n") == ["/a/folder/", "with/a/lon", "g/name"]
    assert block("ops: {}\n", 7) == "```yaml\nops: {}\n```"
    assert len(block("ops: {top_2: {}}\n", 7)) == 1000


def test_a_paragraph_of_a_stage_is_as_narrow_as_the_page() -> None:
    paragraph = dg.MetadataValue.md(
        r"No difference between top-2 and ascending is shown in steering (0.1) - and \*more\*."
    )
    # Dagster breaks a name that is longer than its column, and leaves no more than this to a value.
    width = line_width(["random-walk_minus_ascending.preference_accuracy.p_holm"])
    assert width == 22
    assert visible(paragraph, width).value.split("  \n") == [
        "No difference between", "top-2 and ascending is", r"shown in steering", r"(0.1) - and \*more\*."]  # fmt: skip
    assert visible(dg.MetadataValue.md("a - b"), 2).value == "a  \n\\-  \nb"
    assert len(visible(paragraph, 60).value.split("  \n")) == 2
    words = "one two three four five six seven eight nine ten"
    for other in ("| a |\n| - |", f"[report.html](http://127.0.0.1/a {words})", f"- one\n- {words}"):
        assert visible(dg.MetadataValue.md(other), 9).value == other
    assert visible(0.5, 3) == 0.5
    assert visible(words, 5) == words


def test_wide_tables_are_behind_a_click_and_links_are_short() -> None:
    """Otherwise they stretch the column of values beyond the edge of the page."""
    wide = "### What changed\n\n| artefact | before | now |\n| --- | --- | --- |\n"
    shown = visible(dg.MetadataValue.md(wide), 20).value
    assert shown.startswith(wide)
    assert len(shown) >= LONG
    assert (
        link("0123456789abcdef", "http://127.0.0.1:5000/#/runs/0").value == "[01234567](http://127.0.0.1:5000/#/runs/0)"
    )


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        ("31c5cacf078ea922ed149d1e475f9c73", ["31c5cacf078ea922ed149d", "1e475f9c73"]),
        (
            dg.MetadataValue.path("/home/a_b/*/reddit-comments/.adc/evaluations/comparison"),
            [r"/home/a_b/\*", "/reddit-comments/.adc", "/evaluations", "/comparison"],
        ),
        (dg.MetadataValue.text(f"- a <b> {'&' * 23}"), [rf"\- a &lt;b&gt; {'&amp;' * 22}", "&amp;"]),
    ],
)
def test_a_long_word_can_be_broken_and_stays_one(value: Any, lines: list[str]) -> None:
    """Otherwise it stretches the column of values beyond the edge of the page."""
    shown = visible(value, 22)
    assert isinstance(shown, dg.MarkdownMetadataValue)
    assert str(shown.value).split(BREAK) == lines
    assert visible(value, 60) == value


def test_names_that_would_be_drawn_over_the_next_column_can_be_broken() -> None:
    fitting = ["random-walk_minus_ascending.steering", "preference_accuracy.later_doubled", "figures"]
    assert row_names(fitting) == fitting
    long = "random-walk_minus_ascending.preference_accuracy"
    assert row_names(["headline.png", long]) == ["headline.png", "random-walk_minus_ascending. preference_accuracy"]
    assert row_names([]) == []


def test_a_preview_is_a_table_behind_a_click(tmp_path: Path) -> None:
    file = tmp_path / "0.parquet"
    pq.write_table(pa.table({"id": ["a", None], "text": ["one | two\n" * 20, ""]}), file)
    shown = str(visible(preview([str(file)], ["id", "text"]), 22).value)
    assert shown.splitlines()[0] == "| id | text |"
    assert r"| a | one \| two one \| two" in shown
    assert len(shown) >= LONG


def test_how_a_table_is_read_is_found_out(tmp_path: Path) -> None:
    table = tmp_path / "00-table.csv"
    table.write_text(
        "id,conversation_id,reply_to,speaker,body,timestamp,score\na,a,,ann,Hello,1,5\nb,a,a,bob,A reply,2,3\n"
    )
    found = detected(tmp_path, CorpusSettings(columns={"text": "body"}))
    assert found["format read"] == "table"
    assert "text from body" in found["columns read"]
    # What is wrong with it is reported where it is read.
    assert "columns read" not in detected(tmp_path, CorpusSettings())


def test_the_run_configuration_of_an_artefact_has_what_differs_upstream_too() -> None:
    corpus = as_json(dataclasses.asdict(CorpusSettings(corpus="sample", sample_seed=3)))
    text = run_config_of(STAGES["top_2"], made("top_2", WalkSettings(seed=1), raw_corpus=corpus))
    assert yaml.safe_load(text) == {
        "ops": {"raw_corpus": {"config": {"sample_seed": 3}}, "top_2": {"config": {"seed": 1}}}
    }
    assert yaml.safe_load(run_config_of(STAGES["top_2"], made("top_2", WalkSettings()))) == {"ops": {}}


@pytest.mark.parametrize(
    ("value", "shown"), [(0.123456, 0.1235), (12345.678, 12350.0), (1e-07, 1e-07), (3.0, 3), (7, 7), (True, True)]
)
def test_numbers_have_four_significant_digits(value: Any, shown: Any) -> None:
    assert four_digits(value) == shown
    assert isinstance(four_digits(value), type(shown))


def test_no_two_things_are_shown_under_one_name() -> None:
    names = [*ROWS, *HEADLINES, *PLOTS, "figures", "report", "report_file", "verdict"]
    assert len(set(names)) == len(names)

    class Request:
        name = "top_2_evaluation"

    request: Any = Request()
    making: Making[Any] = Making(request, Path(), Any, {}, metadata={"steering": 0.5}, pictures={"steering.png": ""})  # type: ignore[arg-type]
    check_names(making)
    for other in ({"steering": "steering.png"}, {"reason": "reason.png"}):
        with pytest.raises(ValueError, match="two things under one name"):
            check_names(dataclasses.replace(making, pictures=other))


def test_one_line_says_what_was_rebuilt_and_why() -> None:
    assert rebuilt_or_reused({"a": None, "b": None}) == "Nothing new: all 2 assets of this run are up to date."
    line = rebuilt_or_reused(
        {"a": None, "b": "setting seed has changed from 0 to 1", "c": "there was none", "d": "there was none"}
    )
    assert line == "3 rebuilt, 1 reused. Rebuilt: b (setting seed has changed from 0 to 1); c, d (there was none)."


def test_a_preset_is_a_job_and_a_run_may_change_it() -> None:
    job = defs.resolve_job_def("datasets_released")
    assert job.config_mapping is not None
    schema: Any = job.config_mapping.config_schema.config_type
    # What the launchpad begins with.
    assert schema.fields["ops"].default_value == preset_config("datasets_released")["ops"]
    both = merged(preset_config("datasets_released"), {"ops": {"top_2": {"config": {"seed": 4}}}})
    assert both["ops"]["top_2"]["config"] == {"format": "released", "seed": 4}
    assert both["ops"]["ranked_replies"]["config"]["order"] == "released"
    preset = preset_config("datasets_released")
    assert merged(preset, {"ops": None}) == merged(preset, {"ops": {"top_2": {"config": None}}}) == preset
    assert merged({"config": {"seed": 4}}, {"config": {"seed": None}}) == {"config": {"seed": None}}


def test_every_asset_has_an_owner_and_a_description() -> None:
    graph = defs.resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        assert graph.get(key).owners == ["team:data"]
        assert graph.get(key).description
