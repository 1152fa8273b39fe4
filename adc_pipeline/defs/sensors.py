"""The sensors: rebuild when the corpus has changed, and materialize stale assets again. Off by default."""

import os
from dataclasses import replace

import dagster as dg

from adc_pipeline.core.artefacts import Store
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.spellings import read_settings
from adc_pipeline.corpus.settings import CorpusSettings
from adc_pipeline.corpus.source import SAMPLE
from adc_pipeline.corpus.watch import Watch, check_for_change
from adc_pipeline.defs.automation import AutomationSettings, read_automation, read_run_config
from adc_pipeline.defs.jobs import STUDY, adc, datasets
from adc_pipeline.defs.run_config import configured

SECONDS_BETWEEN_CHECKS = 60


@dg.sensor(
    jobs=[adc, datasets],
    minimum_interval_seconds=SECONDS_BETWEEN_CHECKS,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Starts a rebuild when the corpus has changed: a file, a new dump in a folder, a new ConvoKit version.",
)
def changed_corpus(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    store = Store.from_environment()
    watch = Watch.from_cursor(context.cursor)
    try:
        settings = read_automation(store.home)
        config = read_run_config(store.home, settings)
        corpus = read_settings(CorpusSettings, configured(config, "ops", "raw_corpus"), "raw_corpus")
    except PipelineError as error:
        return dg.SensorResult(skip_reason=str(error), cursor=watch.cursor())
    corpus = replace(corpus, corpus=corpus.corpus or os.environ.get("ADC_CORPUS") or SAMPLE)
    found = check_for_change(watch, corpus, store)
    if found.skip:
        return dg.SensorResult(skip_reason=found.skip, cursor=found.watch.cursor())
    request = dg.RunRequest(
        run_key=found.watch.key, job_name=settings.rebuild, run_config=config, tags={"adc/cause": "changed corpus"}
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
    target=dg.AssetSelection.all() - STUDY,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Materializes stale assets: those whose upstream assets or code have changed.",
)


def sensors_for(settings: AutomationSettings) -> list[dg.SensorDefinition]:
    """Return the sensors of an ADC_HOME; `stale_assets` only if no run configuration is set.

    Dagster starts the runs of `stale_assets` without run configuration. With one set for schedules, the schedules and
    this sensor would rebuild everything in turn, with different settings.
    """
    return [changed_corpus] if settings.run_config else [changed_corpus, stale_assets]


sensors = sensors_for(read_automation(Store.from_environment().home))
