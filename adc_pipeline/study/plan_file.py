"""Read a plan from its file, and refuse with one sentence what cannot be carried out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adc_pipeline.core.errors import PipelineError, did_you_mean
from adc_pipeline.core.named_files import read_mapping
from adc_pipeline.core.settings import as_shown, is_finite
from adc_pipeline.core.spellings import read_scalar, read_settings
from adc_pipeline.study.grid import SEEDS, VARIANTS, Variant
from adc_pipeline.study.plan import AGAINST, Contrast, Plan
from adc_pipeline.study.settings import CellSettings

PRESETS = Path(__file__).parents[1] / "presets" / "study"

# What names an arm's variant.
ARM = {"dataset", "objective", "markers", "verdicts", "second_round"}
# The settings that an arm may have of its own; all others hold for every arm.
TUNED = (
    "learning_rate",
    "preference_learning_rate",
    "preference_beta",
    "alpha",
    "beta",
    "max_weight",
    "dropped_markers",
    "levels",
)
# Most rejected replies of policy improvement, which its readings are named by.
MOST_REJECTIONS = 100
LONGEST_NAME = 100


def read_plan(named: str) -> Plan:
    """Read a plan from a file or a preset; raise PipelineError for a plan that cannot be carried out."""
    path = PRESETS / f"{named}.yaml"
    if not path.exists():
        path = Path(named)
    if not path.exists():
        presets = ", ".join(sorted(each.stem for each in PRESETS.glob("*.yaml")))
        raise PipelineError(f"{path} does not exist: give a plan (a YAML file), or a preset ({presets}).")
    return Reader(path).plan()


class Reader:
    """Reads the sections of one plan; every error names the file."""

    def __init__(self, path: Path) -> None:
        self.path, self.content = path, read_mapping(path)

    def plan(self) -> Plan:
        known = ("question", "arms", "seeds", "looks", "alpha", "primaries", "secondaries", "tuning", "config")
        self.check_parts("a plan", self.content, known)
        question = self.content.get("question") or ""
        if not isinstance(question, str):
            raise PipelineError(f"{self.path}: `question` is {as_shown(question)}; use a text.")
        arms, tuned = self.arms()
        seeds = self.integers(self.content.get("seeds"), "seeds")
        if len(set(seeds)) < len(seeds) or not {str(seed) for seed in seeds} <= {*SEEDS}:
            raise PipelineError(
                f"{self.path}: `seeds` is {[*seeds]}; use each of {SEEDS[0]} to {SEEDS[-1]} once at most."
            )
        looks = self.mapping("looks")
        self.check_parts("`looks`", looks, ("futility", "efficacy"))
        efficacy = self.integers(looks.get("efficacy"), "looks.efficacy")
        futility = self.integers(looks.get("futility") or [], "looks.futility", empty=True)
        if list(efficacy) != sorted(set(efficacy)) or efficacy[-1] != len(seeds):
            raise PipelineError(
                f"{self.path}: `looks.efficacy` has to rise and to end with the number of seeds, {len(seeds)}."
            )
        if wrong_looks := [look for look in (*efficacy, *futility) if not 0 < look <= len(seeds)]:
            raise PipelineError(f"{self.path}: `looks` has {wrong_looks[0]}; use numbers of seeds, 1 to {len(seeds)}.")
        alpha = read_scalar(float, 0.05 if self.content.get("alpha") is None else self.content["alpha"])
        if not isinstance(alpha, float) or not 0 < alpha < 1:
            raise PipelineError(f"{self.path}: `alpha` is {as_shown(alpha)}; use a number between 0 and 1.")
        primaries, secondaries = (self.contrasts(section, arms) for section in ("primaries", "secondaries"))
        if twice := [each.name for each in secondaries if each.name in {other.name for other in primaries}]:
            raise PipelineError(
                f"{self.path}: {twice[0]} is the name of a primary and of a secondary; give each contrast its own."
            )
        return Plan(
            name=self.path.stem,
            question=question.strip(),
            arms=arms,
            tuned=tuned,
            tuning=self.tuning(arms),
            seeds=seeds,
            futility=futility,
            efficacy=efficacy,
            alpha=alpha,
            primaries=primaries,
            secondaries=secondaries,
            config=self.mapping("config"),
        )

    def mapping(self, name: str) -> Mapping[str, Any]:
        value = self.content.get(name) or {}
        if not isinstance(value, Mapping):
            raise PipelineError(f"{self.path}: `{name}` is {as_shown(value)}; use a mapping.")
        return value

    def check_parts(self, whole: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
        if wrong := [str(name) for name in given if name not in known]:
            raise PipelineError(
                f"{self.path}: `{wrong[0]}`{did_you_mean(wrong[0], known)} is no part of {whole}; use one of"
                f" {', '.join(known)}."
            )

    def named(self, section: str) -> Mapping[str, Any]:
        """Return a section whose keys people chose; raise PipelineError for a name that is no line of text.

        An arm's name is also part of a file's.
        """
        for name in (given := self.mapping(section)):
            text = isinstance(name, str) and name.isprintable() and 0 < len(name.strip()) == len(name) <= LONGEST_NAME
            if not text or "/" in name:
                raise PipelineError(
                    f"{self.path}: `{section}` has the name {as_shown(name)}; use a text of 1 to {LONGEST_NAME} signs"
                    " in one line without a slash, in quotes where YAML reads a number or another value."
                )
        return given

    def integers(self, value: object, name: str, empty: bool = False) -> tuple[int, ...]:
        numbers = [read_scalar(int, each) for each in value] if isinstance(value, list) else []
        if not all(type(each) is int for each in numbers) or not (numbers or (empty and value == [])):
            raise PipelineError(f"{self.path}: `{name}` is {as_shown(value)}; use a list of whole numbers.")
        return tuple(numbers)

    def arms(self) -> tuple[dict[str, Variant], dict[str, Mapping[str, Any]]]:
        arms: dict[str, Variant] = {}
        tuned: dict[str, Mapping[str, Any]] = {}
        for name, given in self.named("arms").items():
            own: object = {}
            if isinstance(given, Mapping) and "settings" in given:
                own = given["settings"]
                given = {key: value for key, value in given.items() if key != "settings"}
            texts = isinstance(given, Mapping) and all(isinstance(value, str) for value in given.values())
            if not texts or not {"dataset"} <= set(given) <= ARM:
                raise PipelineError(
                    f"{self.path}: the arm {name} is {as_shown(given)}; use dataset, objective, markers, verdicts,"
                    " second_round and settings."
                )
            learned = {key: value for key, value in given.items() if key != "dataset"}
            variant = Variant(given["dataset"], **learned)
            if VARIANTS.get(variant.name) != variant:
                raise PipelineError(
                    f"{self.path}: the arm {name} is {variant.name}, which is no variant"
                    f"{did_you_mean(variant.name, VARIANTS)}; use {', '.join(VARIANTS)}."
                )
            if variant in arms.values():
                raise PipelineError(f"{self.path}: the arm {name} is {variant.name}, as another arm is; name it once.")
            arms[name] = variant
            tuned[variant.name] = self.own_settings(name, own)
        if not arms:
            raise PipelineError(f"{self.path}: `arms` names none; name at least one.")
        return arms, tuned

    def tuning(self, arms: Mapping[str, Variant]) -> dict[str, Mapping[str, Sequence[Any]]]:
        found: dict[str, Mapping[str, Sequence[Any]]] = {}
        for arm, given in self.mapping("tuning").items():
            if arm not in arms:
                raise PipelineError(f"{self.path}: `tuning` has {arm}{did_you_mean(arm, arms)}; use {', '.join(arms)}.")
            lists = isinstance(given, Mapping) and all(isinstance(each, list) and each for each in given.values())
            if not given or not lists:
                raise PipelineError(
                    f"{self.path}: `tuning` of {arm} is {as_shown(given)}; give a list of values a setting."
                )
            read = {name: [self.own_settings(arm, {name: each})[name] for each in own] for name, own in given.items()}
            found[str(arm)] = read
        return found

    def own_settings(self, arm: str, given: object) -> Mapping[str, Any]:
        """Return an arm's own settings, checked; raise PipelineError for a setting that all arms share."""
        where = f"{self.path}: `settings` of the arm {arm}"
        if not isinstance(given, Mapping):
            raise PipelineError(f"{where} is {as_shown(given)}; use a mapping.")
        if wrong := [str(name) for name in given if name not in TUNED]:
            raise PipelineError(
                f"{where} has {wrong[0]}{did_you_mean(wrong[0], TUNED)}, which all arms share; use"
                f" one of {', '.join(TUNED)}."
            )
        read = read_settings(CellSettings, given, where)
        return {name: getattr(read, name) for name in given}

    def contrasts(self, section: str, arms: Mapping[str, Variant]) -> tuple[Contrast, ...]:
        return tuple(
            self.contrast(f"{name} of `{section}`", name, given, arms) for name, given in self.named(section).items()
        )

    def contrast(self, where: str, name: str, given: Any, arms: Mapping[str, Variant]) -> Contrast:
        types: dict[str, type] = dict.fromkeys(("measure", "first", "second", "against"), str)
        types["negligible"] = float
        if isinstance(given, Mapping):
            # `~` stands for what is not given, here as in a run configuration.
            read = {key: read_scalar(float, value) if key == "negligible" else value for key, value in given.items()}
            given = {key: value for key, value in read.items() if value is not None}
        fits = isinstance(given, Mapping) and {"measure", "first"} <= set(given) <= set(types)
        typed = fits and all(isinstance(value, types[key]) for key, value in given.items())
        if not typed:
            raise PipelineError(
                f"{self.path}: {where} is {as_shown(given)}; give measure and first, and if wanted second, against,"
                " negligible."
            )
        contrast = Contrast(name, **given)
        self.check_measure(where, contrast)
        if contrast.negligible is not None and not (is_finite(contrast.negligible) and contrast.negligible > 0):
            raise PipelineError(f"{self.path}: {where} has `negligible` {contrast.negligible}; use a number above 0.")
        for arm in (contrast.first, contrast.second):
            if arm is not None and arm not in arms:
                raise PipelineError(
                    f"{self.path}: {where} compares the arm {arm}{did_you_mean(arm, arms)}; use {', '.join(arms)}."
                )
        if contrast.second == contrast.first:
            raise PipelineError(f"{self.path}: {where} compares {contrast.first} with itself; use two arms.")
        self.check_pair(where, contrast, arms)
        if contrast.against != "zero" and (contrast.second or contrast.against not in AGAINST):
            raise PipelineError(
                f"{self.path}: {where} has `against` {contrast.against}; use {', '.join(AGAINST)}, and no second arm."
            )
        return contrast

    def check_pair(self, where: str, contrast: Contrast, arms: Mapping[str, Variant]) -> None:
        """Raise PipelineError for two arms that the measure does not put the same questions to."""
        from adc_pipeline.evaluation.applicability import comparable_bits
        from adc_pipeline.evaluation.comparison import OF_EVERY_DATASET, OF_ONE_JUDGE
        from adc_pipeline.evaluation.measures import family

        if contrast.second is None:
            return
        first, second = arms[contrast.first], arms[contrast.second]
        of_walks = family(contrast.measure) not in (*OF_EVERY_DATASET, *OF_ONE_JUDGE) and not contrast.of_contrasts
        if of_walks and first.evaluated_on != second.evaluated_on:
            raise PipelineError(
                f"{self.path}: {where} compares {contrast.measure} of {first.evaluated_on} and {second.evaluated_on},"
                " which rests on the walks of a dataset; use arms of one dataset, or another measure."
            )
        bits = family(contrast.measure) == "bits_per_byte"
        if bits and not comparable_bits(first.markers_stand, second.markers_stand):
            raise PipelineError(
                f"{self.path}: {where} compares {contrast.measure} of {first.name} and {second.name}, one of which"
                " reads a verdict before its turn and knows more of it; use other arms, or another measure."
            )

    def check_measure(self, where: str, contrast: Contrast) -> None:
        """Raise PipelineError for a measure that no cell has, or that has no values to be compared with."""
        from adc_pipeline.evaluation.measure_names import measure_names
        from adc_pipeline.evaluation.measures import family
        from adc_pipeline.evaluation.replies.policy import POLICY

        measure, names = contrast.measure, measure_names(MOST_REJECTIONS)
        if measure not in names:
            raise PipelineError(
                f"{self.path}: {where} has the measure {measure}{did_you_mean(measure, names)}, which no evaluation"
                " has; take a name from the page Metrics of the documentation."
            )
        if family(measure) == "perplexity":
            raise PipelineError(
                f"{self.path}: {where} has the measure {measure}, whose differences depend on the tokenizer; use"
                f" {measure.replace('perplexity', 'bits_per_byte')}."
            )
        by_length = family(measure) in ("preference_accuracy", "steering")
        if (contrast.against == "base" and family(measure) == POLICY) or (
            contrast.against == "length" and not by_length
        ):
            raise PipelineError(
                f"{self.path}: {where} has `against` {contrast.against}, of which {measure} has no value; use another,"
                " or a second arm."
            )
