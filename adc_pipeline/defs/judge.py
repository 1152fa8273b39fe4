"""The judge of replies, made once for the evaluations of all models."""

from adc_pipeline.corpus.source import is_sample
from adc_pipeline.defs.asset import declare
from adc_pipeline.defs.making import Making
from adc_pipeline.defs.stage import Stage
from adc_pipeline.evaluation.settings import JudgeSettings
from adc_pipeline.walks.kinds import TOP_2


def make_judge_of(making: Making[JudgeSettings]) -> None:
    from adc_pipeline.evaluation.judge import make_judge

    making.report("Comparing the siblings of the training split")
    walks = making.request.upstream_settings[TOP_2.dataset]
    train, validation, test = walks["shares"]
    judge = make_judge(
        sample=is_sample(making.request.upstream("raw_corpus").settings["corpus"]),
        utterances=making.inputs["utterances"].path,
        ranked=making.inputs["ranked_replies"].path,
        shares=(train, validation, test),
        format=walks["format"],
        settings=making.settings,
        spill=making.folder / "spill",
        engine=making.engine,
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
    making.count({name: value for name, value in figures.items() if value is not None})
    making.metadata["judge"] = judge.name
    if objection := judge.objection():
        making.metadata["objection"] = objection
        making.warn(f"Policy improvement is {objection}.")


judge = declare(
    Stage(
        name="judge",
        place="evaluations/judge",
        group="evaluation",
        description="The judge of the replies that the models write: on the sample corpus the quality of its templates,"
        " elsewhere a bag-of-words model of the training split's sibling pairs. Splits and markers are those of the"
        f" settings `shares` and `format` of {TOP_2.dataset}.",
        settings=JudgeSettings,
        make=make_judge_of,
        code=(__name__,),
        inputs=("ranked_replies", "utterances"),
        reads=("raw_corpus",),
        follows={TOP_2.dataset: ("format", "shares")},
        kinds=("scikitlearn",),
    )
)
