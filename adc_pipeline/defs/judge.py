"""The judge of replies, made once for the evaluations of all models."""

from collections.abc import Mapping
from typing import Any

from adc_pipeline.corpus.source import is_sample
from adc_pipeline.defs.asset import declare
from adc_pipeline.defs.making import Making, Request
from adc_pipeline.defs.stage import Stage
from adc_pipeline.evaluation.settings import JudgeSettings
from adc_pipeline.training.origin import named_source
from adc_pipeline.walks.kinds import TOP_2


def make_judge_of(making: Making[JudgeSettings]) -> None:
    from adc_pipeline.evaluation.judge import MODEL, make_judge

    reward = None
    if making.settings.reward_model:
        from adc_pipeline.evaluation.reward import prepare_reward_model

        reward = (making.folder, prepare_reward_model(making.settings, making.folder / MODEL))
    making.report("Comparing the siblings of the training split")
    walks = making.request.upstream_settings[TOP_2.dataset]
    train, validation, test = walks["shares"]
    judge = make_judge(
        sample=is_sample(making.request.upstream("raw_corpus").settings["corpus"]),
        utterances=making.inputs["utterances"].path,
        ranked=making.inputs["ranked_replies"].path,
        shares=(train, validation, test),
        format=walks["format"],
        mentions=walks["mentions"],
        settings=making.settings,
        spill=making.folder / "spill",
        engine=making.engine,
        reward=reward,
    )
    judge.write(making.folder)
    figures = {
        "preference_accuracy": judge.accuracy.value,
        "preference_accuracy.low": judge.accuracy.low,
        "preference_accuracy.high": judge.accuracy.high,
        "validation_accuracy": judge.validation_accuracy,
        "test_pairs": judge.accuracy.cases,
        "training_pairs": judge.facts.get("pairs"),
    }
    if judge.baseline is not None:
        figures["words.preference_accuracy"] = judge.baseline.accuracy.value
        figures["words.validation_accuracy"] = judge.baseline.validation_accuracy
    making.count({name: value for name, value in figures.items() if value is not None})
    making.metadata["judge"] = judge.name
    if objection := judge.objection():
        making.metadata["objection"] = objection
        making.warn(f"Policy improvement is {objection}.")


def reward_model_source(request: Request[JudgeSettings]) -> Mapping[str, Any]:
    settings = request.settings
    return named_source(settings.reward_model, settings.reward_revision) if settings.reward_model else {}


def check_judge(settings: JudgeSettings) -> None:
    if settings.reward_model:
        from adc_pipeline.evaluation.reward import check_reward_model

        check_reward_model(settings)


judge = declare(
    Stage(
        name="judge",
        place="evaluations/judge",
        group="evaluation",
        description="The judge of the replies that the models write: on the sample corpus the quality of its templates,"
        " elsewhere a bag-of-words model of the training split's sibling pairs, or a reward model. Splits and markers"
        f" are those of the settings `shares`, `format` and `mentions` of {TOP_2.dataset}.",
        settings=JudgeSettings,
        make=make_judge_of,
        code=(__name__,),
        inputs=("ranked_replies", "utterances"),
        reads=("raw_corpus",),
        follows={TOP_2.dataset: ("format", "mentions", "shares")},
        kinds=("scikitlearn",),
        outside=reward_model_source,
        check=check_judge,
    )
)
