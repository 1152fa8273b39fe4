"""The judge of replies, made once for the evaluations of all models."""

from collections.abc import Mapping
from typing import Any

from adc_pipeline.corpus.source import is_sample
from adc_pipeline.defs.asset import declare
from adc_pipeline.defs.making import Making, Request
from adc_pipeline.defs.stage import Stage
from adc_pipeline.evaluation.judging.named_models import NamedModel
from adc_pipeline.evaluation.settings import JudgeSettings
from adc_pipeline.training.architectures.origin import named_source
from adc_pipeline.walks.kinds import TOP_2


def make_judge_of(making: Making[JudgeSettings]) -> None:
    from adc_pipeline.evaluation.judging.judge import MODEL, make_judge

    reward, (reward_model, instruct_model) = None, named_models(making.settings)
    if reward_model.name:
        from adc_pipeline.evaluation.judging.reward import prepare_reward_model

        facts = prepare_reward_model(reward_model, making.settings.reward_template, making.folder / MODEL)
        reward = (making.folder, facts)
    if instruct_model.name:
        from adc_pipeline.evaluation.replies.instruct import INSTRUCT, prepare_instruct_model

        prepare_instruct_model(instruct_model, making.folder / INSTRUCT)
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


def named_models(settings: JudgeSettings) -> tuple[NamedModel, NamedModel]:
    """Return the reward model and the instruct model that the settings name."""
    return (
        NamedModel("reward_model", settings.reward_model, settings.reward_revision),
        NamedModel("instruct_model", settings.instruct_model, settings.instruct_revision),
    )


def model_sources(request: Request[JudgeSettings]) -> Mapping[str, Any]:
    """Return what tells the named models from others of the same name."""
    reward_model, instruct_model = named_models(request.settings)
    found = named_source(reward_model.name, reward_model.revision) if reward_model.name else {}
    if instruct_model.name:
        own = named_source(instruct_model.name, instruct_model.revision)
        found = {**found, **{f"instruct {name}": value for name, value in own.items()}}
    return found


def check_judge(settings: JudgeSettings) -> None:
    for named in named_models(settings):
        if named.name:
            named.check()


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
        outside=model_sources,
        check=check_judge,
    )
)
