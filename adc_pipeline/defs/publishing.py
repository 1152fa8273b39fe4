"""The job `publish`: chosen datasets and models, to the Hugging Face Hub. No other job runs it.

dagster job execute -m adc_pipeline.definitions -j publish -c FILE
"""

import dagster as dg

from adc_pipeline.core.markdown import code, table
from adc_pipeline.core.run_configuration import configured
from adc_pipeline.core.spellings import read_settings
from adc_pipeline.defs.look_ahead import look_ahead
from adc_pipeline.defs.run_config import given_config, job_config, schema
from adc_pipeline.defs.sentence_failure import ends_as_sentence
from adc_pipeline.defs.stage import SETTINGS
from adc_pipeline.defs.workspace import Workspace
from adc_pipeline.lifecycle import publishing
from adc_pipeline.lifecycle.settings import PublishSettings


@dg.op(config_schema=schema(PublishSettings))
def publish_artefacts(context: dg.OpExecutionContext, workspace: Workspace) -> None:
    """Publish chosen datasets and models to the Hugging Face Hub; by default only list what would be published."""
    with ends_as_sentence(workspace):
        list_and_send(context, workspace)


def list_and_send(context: dg.OpExecutionContext, workspace: Workspace) -> None:
    store, rows, new = workspace.store, [], 0
    look_ahead(context, workspace)
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
    hub = None if settings.dry_run else publishing.api()
    for each in found:
        status = "would be published"
        if hub:
            done = publishing.push(hub, each, settings.private, context.log.info)
            new += done.is_new
            status = f"{'published' if done.is_new else 'unchanged, nothing was sent'}: {done.url}"
            context.log.info(f"{each.repo_id} {status}, tag {each.tag}.")
        rows.append((each.made.name, code(each.made.digest), each.repo_id, each.tag, each.license,
                     f"{each.bytes:,}", status))  # fmt: skip
    if settings.dry_run:
        context.log.warning("Nothing is published, since `dry_run` is true: set it to false to publish what is listed.")
    header = ["artefact", "digest", "repository", "tag", "licence", "bytes", "status"]
    context.add_output_metadata({"published": new, "publications": dg.MetadataValue.md(table(header, rows, right=[5]))})


PUBLISH = publish_artefacts.name
SETTINGS[PUBLISH] = PublishSettings


@dg.job(
    config=job_config({PUBLISH: PublishSettings}),
    description="Publishes chosen datasets and models to the Hugging Face Hub; by default only lists what would go.",
)
def publish() -> None:
    publish_artefacts()
