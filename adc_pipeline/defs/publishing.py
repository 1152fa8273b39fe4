"""The job `publish`: chosen datasets and models, to the Hugging Face Hub. No other job runs it.

dagster job execute -m adc_pipeline.definitions -j publish -c FILE
"""

import dagster as dg

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.markdown import code, table
from adc_pipeline.core.spellings import read_settings
from adc_pipeline.defs.run_config import configured, given_config, job_config, schema
from adc_pipeline.defs.stage import SETTINGS
from adc_pipeline.defs.workspace import Workspace
from adc_pipeline.lifecycle import publishing
from adc_pipeline.lifecycle.settings import PublishSettings


@dg.op(config_schema=schema(PublishSettings))
def publish_artefacts(context: dg.OpExecutionContext, workspace: Workspace) -> None:
    """Publish chosen datasets and models to the Hugging Face Hub; by default only list what would be published."""
    store = workspace.store
    try:
        settings = read_settings(PublishSettings, configured(given_config(context), "ops", PUBLISH), PUBLISH)
        found = publishing.plan(store, settings)
        for each in found:
            context.log.info(
                f"{each.made.name} {each.made.digest} -> {each.repo_type} {each.repo_id}, tag {each.tag}, licence"
                f" {each.license}: {len(each.sizes)} files, {each.bytes:,} bytes"
            )
            for name, size in each.sizes.items():
                context.log.info(f"  {name} ({size:,} bytes)")
            for sentence in publishing.warnings(store, each):
                context.log.warning(sentence)
        status = "would be published"
        commits = []
        if not settings.dry_run:
            hub = publishing.api()
            for each in found:
                done = publishing.push(hub, each, settings.private, context.log.info)
                said = "Published" if done.is_new else "Unchanged, nothing was sent:"
                context.log.info(f"{said} {each.repo_id} at {done.url}, tag {each.tag}.")
                commits.append(done)
            status = "is published"
    except PipelineError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    if settings.dry_run:
        context.log.warning("Nothing is published, since `dry_run` is true: set it to false to publish what is listed.")
    rows = [
        (each.made.name, code(each.made.digest), each.repo_id, each.tag, each.license, f"{each.bytes:,}", status)
        for each in found
    ]
    header = ["artefact", "digest", "repository", "tag", "licence", "bytes", "status"]
    context.add_output_metadata(
        {"published": len(commits), "publications": dg.MetadataValue.md(table(header, rows, right=[5]))}
        | {f"commit of {each.repo_id}": done.url for each, done in zip(found, commits, strict=False)}
    )


PUBLISH = publish_artefacts.name
SETTINGS[PUBLISH] = PublishSettings


@dg.job(
    config=job_config({PUBLISH: PublishSettings}),
    description="Publishes chosen datasets and models to the Hugging Face Hub; by default only lists what would go.",
)
def publish() -> None:
    publish_artefacts()
