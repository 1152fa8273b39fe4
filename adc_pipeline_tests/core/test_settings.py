"""Settings accept what they declare, in the spellings that people use, and refuse the rest with one sentence."""

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.settings import LARGEST, Settings, declared, setting, with_defaults
from adc_pipeline.core.spellings import read_settings


@dataclass(frozen=True)
class Oven(Settings):
    degrees: float = setting(180.0, "Temperature.", more_than=0, maximum=300)
    minutes: int = setting(30, "Time.", minimum=1)
    turns: int | None = setting(None, "Number of turns.", minimum=0)
    fan: bool = setting(False, "Whether the fan runs.")
    name: str = setting("bread", "What is baked.")
    level: Literal["low", "middle"] = setting("middle", "Where it stands.")
    weights: tuple[int, ...] = setting((500, 250), "Grams of each piece.", minimum=1)
    helpers: tuple[str, ...] = setting((), "Who helps.")
    labels: dict[str, str] = setting({}, "Names of the pieces.")
    recipe: str = setting("", "How it is used.", lines=True)


def read(**values: Any) -> Oven:
    return read_settings(Oven, values, "oven")


@pytest.mark.parametrize(
    ("spelling", "number"),
    [("1e2", 100.0), ("1.5E+2", 150.0), ("1_0", 10.0), (" 20 ", 20.0), (1, 1.0), ("2e-4", 0.0002), (None, 180.0)],
)
def test_a_number_may_be_spelled_as_people_do(spelling: Any, number: float) -> None:
    found = read(degrees=spelling).degrees
    assert found == number
    assert type(found) is float


@pytest.mark.parametrize(("spelling", "number"), [("1_000", 1000), ("1e3", 1000), (1e3, 1000), (None, 30), ("7", 7)])
def test_so_may_a_whole_number(spelling: Any, number: int) -> None:
    found = read(minutes=spelling).minutes
    assert found == number
    assert type(found) is int


def test_an_asset_may_have_other_defaults() -> None:
    hot = with_defaults(Oven, degrees=250.0, minutes=30)
    assert [*declared(hot)] == [*declared(Oven)]
    assert declared(hot)["degrees"].help == declared(Oven)["degrees"].help
    assert read_settings(hot, {"turns": 2}, "oven") == hot(degrees=250.0, turns=2)
    with pytest.raises(PipelineError, match="`degrees` is 400"):
        hot(degrees=400.0)
    assert with_defaults(Oven, minutes=30) is Oven


def test_the_other_types_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVEN_DEGREES", "1e2")
    assert read(fan="Yes").fan is True
    assert read(fan="off").fan is False
    assert read(turns=None).turns is None
    assert read(name=20240501).name == "20240501"
    # A joiner, and a byte of a file's name that is no UTF-8.
    assert read(name="a\u200db\udcff").name == "a\u200db\udcff"
    assert read(recipe="Heat.\n\tServe.").recipe == "Heat.\n\tServe."
    assert read(weights=["1e3", 2]).weights == (1000, 2)
    assert read(labels={"a": 1}).labels == {"a": "1"}
    assert read(degrees={"env": "OVEN_DEGREES"}).degrees == 100.0
    assert read_settings(Oven, None, "oven") == Oven()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"degrees": 0}, "oven: `degrees` is 0.0; use more than 0 and at most 300."),
        ({"degrees": "hot"}, "oven: `degrees` is 'hot'; use a number, more than 0 and at most 300."),
        ({"degrees": "nan"}, "oven: `degrees` is nan; use a finite number."),
        ({"degrees": True}, "oven: `degrees` is True; use a number, more than 0 and at most 300."),
        ({"degrees": [1]}, "oven: `degrees` is [1]; use a number, more than 0 and at most 300."),
        ({"minutes": 1.5}, "oven: `minutes` is 1.5; use a whole number, 1 or more."),
        ({"minutes": LARGEST + 1}, f"oven: `minutes` is {LARGEST + 1}; use a finite number of at most {LARGEST}."),
        ({"minutes": 10**400}, f"oven: `minutes` is 1{'0' * 99}…; use a finite number of at most {LARGEST}."),
        ({"degrees": 10**400}, f"oven: `degrees` is 1{'0' * 99}…; use a finite number."),
        ({"name": 1 << 20_000}, "oven: `name` is a number of too many digits; use a text."),
        ({"fan": 1}, "oven: `fan` is 1; use true or false."),
        ({"name": False}, "oven: `name` is False; use a text."),
        ({"name": " "}, "oven: `name` is ' '; use a text that is not empty."),
        ({"name": "a\x1b[2J"}, "oven: `name` is 'a\\x1b[2J'; use a text without control characters."),
        ({"name": "a\nb"}, "use a text without control characters."),
        ({"recipe": "a\rb"}, "use a text without control characters."),
        ({"name": "x" * 5_000}, "x…; use a text of at most 4,000 characters."),
        ({"level": "midle"}, "oven: `level` is 'midle'; use one of low, middle (did you mean middle?)."),
        ({"weights": 5}, "oven: `weights` is 5; use a list, such as [500, 250], 1 or more."),
        ({"helpers": "ann"}, "oven: `helpers` is 'ann'; use a list, such as ['a text']."),
        ({"weights": [5, 0]}, "oven: `weights` is [5, 0]; use 1 or more."),
        ({"labels": ["a"]}, "oven: `labels` is ['a']; use a mapping, such as {text: body}."),
        ({"degree": 5}, "oven has no setting degree (did you mean degrees?)."),
        ({"degrees": 0, "minutes": 0}, "oven: `degrees` is 0.0; use more than 0 and at most 300, and `minutes` is 0;"),
        ({"degrees": {"env": "NO_SUCH_VARIABLE"}}, "environment variable NO_SUCH_VARIABLE, which is not set."),
    ],
)
def test_what_cannot_work_is_refused_with_one_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PipelineError) as raised:
        read(**values)
    assert sentence in str(raised.value)


def test_values_that_are_no_mapping_are_refused() -> None:
    with pytest.raises(PipelineError, match="oven: its configuration is 'hot'"):
        read_settings(Oven, "hot", "oven")


def test_an_object_is_checked_however_it_is_made() -> None:
    with pytest.raises(PipelineError, match="`minutes` is '5'; use a whole number"):
        Oven(minutes="5")  # type: ignore[arg-type]


def test_the_description_says_what_is_accepted() -> None:
    assert declared(Oven)["degrees"].help == "Temperature. Use a number, more than 0 and at most 300."
    assert declared(Oven)["level"].help == "Where it stands. Use one of low, middle."
