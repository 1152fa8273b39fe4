"""Every setting of every asset, job and resource judges absurd values by itself, before anything is read."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.settings import Declared, Settings, declared
from adc_pipeline.core.spellings import read_settings
from adc_pipeline.defs.automation.jobs import jobs
from adc_pipeline.defs.automation.settings import AutomationSettings
from adc_pipeline.defs.run_config import RESOURCES
from adc_pipeline.defs.stage import SETTINGS, STAGES
from adc_pipeline.defs.workspace_settings import WorkspaceSettings
from adc_pipeline.generation.settings import Sampling

assert jobs  # declares all assets
EVERY: dict[str, type[Settings]] = {
    **SETTINGS, **RESOURCES, "automation.yaml": AutomationSettings, "generate": Sampling,
}  # fmt: skip
# Of any sign: a seed is only hashed, and a score may be negative.
SIGNED = {(name, int) for name in ("sample_seed", "seed", "min_score", "min_root_score")}
LONG = "x" * 3_900
TEXTS = ["", "  ", "a\0b", "a\nb", "\x1b[2J", "x" * 5_000, LONG]
OTHERS = [b"x", object(), [[]], {"a": [1]}, ["a", {}], {"a": "b", 1: None}]


def absurd(setting: Declared) -> Iterator[Any]:
    """Yield values that no setting of this kind can have."""
    yield from OTHERS
    if setting.kind in (int, float):
        yield from (math.nan, math.inf, -math.inf, "nan", "inf", 1e300, 10**30, -(10**30), "", "much", "1,5", [1], True)
        if (setting.name, setting.kind) not in SIGNED or setting.range.minimum is not None:
            yield from (-1, "-1", -1e300)
            if setting.range.minimum in (None, 1):
                yield 0
        if setting.kind is int:
            yield from (1.5, "1.5")
    if setting.kind is bool:
        yield from (0, 1, 2, "", "maybe", "0", [True])
    if setting.kind is str:
        # A blank is no name; an empty text is one only as the default.
        right = {setting.default, *([LONG] if is_free(setting) else []), *(["a\nb"] if setting.lines else [])}
        yield from (text for text in TEXTS if text not in right)
        yield from (-1.5, False, [], {})
    if setting.kind is tuple:
        yield from ("", "x", 1, {}, [None], [1.5])
    if setting.kind is dict:
        yield from ("", "x", 1, [], [1])


def is_free(setting: Declared) -> bool:
    """Return whether a long word may be a right value: the name of a file, a model or a variable."""
    return not setting.choices and setting.name not in ("memory_limit", "time_zone", "experiment", "model_prefix")


@pytest.mark.parametrize("owner", EVERY)
def test_an_absurd_value_ends_in_one_sentence_with_the_setting(owner: str) -> None:
    kind = EVERY[owner]
    for setting in declared(kind).values():
        for value in absurd(setting):
            with pytest.raises(PipelineError) as raised:
                pytest.fail(f"{setting.name}: {value!r} became {read_settings(kind, {setting.name: value}, owner)}")
            sentence = str(raised.value)
            assert sentence.startswith(f"{owner}: `{setting.name}` is ") or setting.name in ("webhook", "mail_server")
            assert f"`{setting.name}`" in sentence
            assert sentence.isprintable()
            assert len(sentence) < 400


FILES = ("accelerate_config", "name", "corpus", "reward_model")


@pytest.mark.parametrize(
    "owner", [name for name, stage in STAGES.items() if stage.check and set(FILES) & set(declared(SETTINGS[name]))]
)
def test_a_setting_that_names_a_file_is_judged_with_the_others(owner: str, tmp_path: Path) -> None:
    check = STAGES[owner].check
    assert check
    named = [name for name in FILES if name in declared(SETTINGS[owner])]
    for path in (tmp_path / "missing", tmp_path, Path("/dev/zero")):
        for name in named:
            with pytest.raises(PipelineError, match=name):
                check(read_settings(SETTINGS[owner], {name: str(path)}, owner))


@pytest.mark.parametrize(
    "limit",
    ["0", "0GB", "-1GB", "-1", "none", "1KB", "99MB", "3000000000", "GB", "3XB", "1,5GB", "inf", "nan", "0%", "101%",
     "9999999TB", "4GB 4GB", "٤GB"],
)  # fmt: skip
def test_a_memory_limit_that_duckdb_fails_with_is_refused(limit: str) -> None:
    with pytest.raises(PipelineError, match=r"`memory_limit` is '.*'; use a size of at least 100MB"):
        WorkspaceSettings(memory_limit=limit)


@pytest.mark.parametrize("limit", ["100MB", "3 gb", "3G", "500MiB", " 1.5GB ", "2tib", "50%", "80 %"])
def test_duckdb_takes_each_memory_limit_that_is_accepted(limit: str) -> None:
    import duckdb

    accepted = read_settings(WorkspaceSettings, {"memory_limit": limit}, "workspace").memory_limit
    duckdb.connect().execute("SET memory_limit = $1", [accepted])
