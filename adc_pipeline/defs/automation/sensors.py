"""The sensors: rebuild when the corpus has changed, and materialize stale assets again. Off by default."""

from dataclasses import replace

import dagster as dg

from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.corpus.watch import Watch, check_for_change
from adc_pipeline.defs.automation.jobs import PARTITIONED, adc, datasets
from adc_pipeline.defs.automation.messages import messages
from adc_pipeline.defs.automation.schedules import MADE
from adc_pipeline.defs.automation.settings import Automation

SECONDS_BETWEEN_CHECKS = 60


def described() -> str:
    automation = Automation.load()
    job = automation.settings.rebuild
    return (
        f"Starts the job {job} when the corpus has changed since the last tick: a file, a new dump in a folder, a new"
        f" ConvoKit version. {automation.describe(MADE[job])}"
    )


@dg.sensor(
    jobs=[adc, datasets],
    minimum_interval_seconds=SECONDS_BETWEEN_CHECKS,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description=described(),
)
def changed_corpus(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    watch = Watch.from_cursor(context.cursor)
    automation = Automation.load()
    if hindrance := automation.hindrance(context.instance):
        return dg.SensorResult(skip_reason=hindrance, cursor=watch.cursor())
    corpus = automation.corpus
    found = check_for_change(watch, corpus, Store.from_environment())
    if found.skip:
        return dg.SensorResult(skip_reason=found.skip, cursor=found.watch.cursor())
    job = automation.settings.rebuild
    if refusal := automation.refusal(MADE[job], context.instance):
        # The next tick finds the same change.
        waiting = replace(found.watch, handled=watch.handled, key=watch.key)
        return dg.SensorResult(skip_reason=refusal, cursor=waiting.cursor())
    context.log.info(
        f"Starts the job {job}, since the corpus {corpus.corpus} has changed. {automation.describe(MADE[job])}"
    )
    request = dg.RunRequest(
        run_key=found.watch.key,
        job_name=job,
        run_config=automation.run_config,
        tags={"adc/cause": "changed corpus"},
    )
    return dg.SensorResult(run_requests=[request], cursor=found.watch.cursor())


# An asset is stale if the data version of an upstream asset or its own code version has changed. It is materialized
# after its upstream assets have passed their blocking checks. A rebuild with the same content keeps its data version,
# so it makes nothing downstream stale.
CHANGED: dg.AutomationCondition = (
    dg.AutomationCondition.any_deps_match(
        dg.AutomationCondition.data_version_changed() | dg.AutomationCondition.will_be_requested()
    )
    | dg.AutomationCondition.code_version_changed()
    | dg.AutomationCondition.newly_missing()
)
STALE = (
    CHANGED.since_last_handled()
    & ~dg.AutomationCondition.any_deps_missing()
    & ~dg.AutomationCondition.any_deps_in_progress()
    & ~dg.AutomationCondition.in_progress()
    & dg.AutomationCondition.all_deps_blocking_checks_passed()
).with_label("stale")

stale_assets = dg.AutomationConditionSensorDefinition(
    "stale_assets",
    target=dg.AssetSelection.all() - PARTITIONED,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Materializes stale assets: those whose upstream assets or code have changed, each with the settings of"
    " its current version. The corpus stays as it is.",
)

sensors: list[dg.SensorDefinition] = [changed_corpus, stale_assets, *messages(Automation.load())]
