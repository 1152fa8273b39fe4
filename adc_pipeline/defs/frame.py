"""The frame around every asset's own work.

`materialize` locks the asset, finds its inputs and asks whether the current version is up to date: same settings,
inputs, code and outside sources, and intact files. If so, the version is reused without an MLflow run, and Dagster is
given the data version it knows and what `shown` keeps of it (`page.py`); what its run left in MLflow is brought back if
it is missing. Otherwise the stage writes into a temporary folder within an MLflow run; the folder is
hashed, logged as the run's output and put in place. If anything raises, the old version stays and the MLflow run is
FAILED.
"""

import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError

from adc_pipeline.core.code_version import code_version
from adc_pipeline.core.errors import DamagedError, PipelineError, UnreachableError
from adc_pipeline.core.run_configuration import configured
from adc_pipeline.core.secrets import masked
from adc_pipeline.core.spellings import read_settings
from adc_pipeline.core.store.artefacts import AGAIN, Store
from adc_pipeline.core.store.content import content_digest, damage, mark_damaged, refuse_added, refuse_damaged, scan
from adc_pipeline.core.store.home import check_home
from adc_pipeline.core.store.links import locked
from adc_pipeline.core.store.manifests import LAYOUT, Artefact, as_json, differences, read_making, write_making
from adc_pipeline.defs.code_references import origin_tags
from adc_pipeline.defs.interrupts import interrupted_by_signals, remembered
from adc_pipeline.defs.look_ahead import look_ahead
from adc_pipeline.defs.making import Context, Making, Request
from adc_pipeline.defs.page import check_names, columns_of, page_of, table_metadata
from adc_pipeline.defs.run_config import given_config
from adc_pipeline.defs.sentence_failure import Cancelled, SentenceFailure, sentence_of
from adc_pipeline.defs.shown import shown_digests, write_shown
from adc_pipeline.defs.stage import STAGES, Stage
from adc_pipeline.defs.started_by import current_settings, keeps_settings, started_by
from adc_pipeline.defs.volume import last_version, volume_result
from adc_pipeline.defs.workspace import Workspace
from adc_pipeline.tracking.intact import is_intact
from adc_pipeline.tracking.restoration import restored_run
from adc_pipeline.tracking.tags import STUDY

# Seconds before another attempt at what the network refused. Dagster's own retry policy would retry every error, Ctrl+C
# included, and end in "Exceeded max_retries" instead of the error's sentence.
SECONDS_BEFORE_RETRY = (5, 10, 20)

OTHER_VERSION = "what is there was made by another version of this package, or is incomplete"


@dataclass(frozen=True)
class Materialized:
    """What Dagster records of a materialization."""

    digest: str
    metadata: Mapping[str, Any]
    checks: Sequence[dg.AssetCheckResult]


def materialize(stage: Stage[Any], context: Context, workspace: Workspace) -> Materialized:
    """Make an asset's artefact, or reuse the current one if it is up to date."""
    refuse_ended_run(context)
    with errors_as_sentences(stage, context, workspace), remembered():
        look_ahead(context, workspace)
        begin_ahead(stage, context, workspace)
        request = requested(stage, context, workspace)
        # Counts as made until it is known otherwise, also if it fails.
        workspace.made[request.name] = ""
        outside = dict(stage.outside(request)) if stage.outside else {}
        restored: Mapping[str, Any] = {}
        last: Mapping[str, Any] = {}
        if reasons := reasons_to_make(request, outside):
            request.report(f"{request.name} is made: {', '.join(reasons)}.")
            last = last_version(request.store, request.name)
            # The asset's page has all of them.
            more = f" and {len(reasons) - 1} more" if len(reasons) > 1 else ""
            workspace.made[request.name] = f"{reasons[0]}{more}"
            made = make(stage, request, outside)
        else:
            made = request.store.current(request.name)
            request.store.link_place(made)
            request.report(f"{request.name} is up to date: inputs, settings and code are those of {made.digest}.")
            restored = restore_effects(stage, request, made)
            workspace.made[request.name] = None
        checks = [volume_result(stage, made, last, workspace.settings.volume_change)] if stage.volume else []
        for check in checks:
            if check.description:
                context.log.warning(check.description)
        return Materialized(made.digest, page_of(stage, request, made, reasons, restored), checks)


def refuse_ended_run(context: Context) -> None:
    """Raise Cancelled if Dagster has the run as ended, as after *Force termination*, which reaches no process.

    The run would go on to the end, beside the next one of the queue, and then count as a success.
    """
    run = context.instance.get_run_by_id(context.run.run_id)
    if run is not None and run.is_finished:
        raise Cancelled("The run has been marked as ended meanwhile, and makes nothing more.")


def begin_ahead(stage: Stage[Any], context: Context, workspace: Workspace) -> None:
    """Start the work of later steps of the run that may run beside this one, such as trainings of small models.

    A stage's own step states what is wrong with it, so that errors do not matter here.
    """
    steps = context.run.step_keys_to_execute or [node.name for node in context.job_def.nodes]
    later = [STAGES[name] for name in steps if name in STAGES and name not in workspace.made]
    for other in later:
        # Why an input was made: empty while it is not, and if that failed.
        inputs = [workspace.made.get(name, "") for name in other.inputs if name in steps]
        if other.begin is None or other is stage or other.name in workspace.begun or "" in inputs:
            continue
        workspace.begun[other.name] = None
        with suppress(PipelineError, OSError):
            request = requested(other, context, workspace, wait=False)
            if reasons_to_make(request, {}):
                workspace.begun[other.name] = other.begin(request)


def requested(stage: Stage[Any], context: Context, workspace: Workspace, wait: bool = True) -> Request[Any]:
    """Read the settings, check ADC_HOME, lock the asset until the run ends, and find its inputs.

    Without `wait`, raise PipelineError at once if another run has locked the asset.
    """
    store = workspace.store
    settings = settings_in_run(stage, context, store)
    check_home(store.home)
    name = stage.artefact_name(context)
    workspace.claim(name, context.log.info, wait)
    inputs = stage.read(store)
    for artefact in inputs.values():
        refuse_damaged(artefact)
    upstream_settings = store.settings_read(stage.reads, inputs)
    upstream_settings |= {asset: followed(asset, names, context, store) for asset, names in stage.follows.items()}
    return Request(
        name=name,
        place=stage.place + name.removeprefix(stage.name),
        settings=settings,
        inputs={
            name: artefact if name in upstream_settings else replace(artefact, settings={})
            for name, artefact in inputs.items()
        },
        upstream_settings=upstream_settings,
        code_version=code_version(*stage.code),
        store=store,
        tracking=workspace.tracking,
        engine=replace(workspace.engine, report=context.log.info),
        context=context,
        begun=workspace.begun.get(stage.name),
        placement=workspace.placement,
    )


def settings_in_run(stage: Stage[Any], context: Context, store: Store) -> Any:
    """Return the settings that an asset of the run has."""
    given = configured(given_config(context), "ops", stage.name)
    if given is None and keeps_settings(context.run.tags):
        given = current_settings(stage, store)
    settings = read_settings(stage.settings, given, stage.name)
    if stage.complete:
        settings = stage.complete(settings, context.partition_key if context.has_partition_key else None)
    return settings


def followed(asset: str, names: Sequence[str], context: Context, store: Store) -> dict[str, Any]:
    """Return settings of an asset in the run, or else of its current version, or else its defaults."""
    stage = STAGES[asset]
    if asset in {node.name for node in context.job_def.nodes}:
        settings = as_json(asdict(settings_in_run(stage, context, store)))
    else:
        settings = as_json(asdict(stage.settings())) | (current_settings(stage, store) or {})
    return {name: settings[name] for name in names}


def reasons_to_make(request: Request[Any], outside: Mapping[str, Any]) -> list[str]:
    """Return why the current version cannot be reused; empty if it is up to date."""
    if request.context.run.tags.get(AGAIN, "").lower() in ("1", "true", "yes"):
        return [f"the tag {AGAIN} asks for it"]
    if not request.store.place(request.name).exists():
        return [OTHER_VERSION if request.store.has_versions(request.name) else "there was none"]
    try:
        made = request.store.current(request.name)
    except PipelineError:
        return [OTHER_VERSION]
    if made.layout != LAYOUT:
        return [OTHER_VERSION]
    reasons = differences(
        made, request.plain_settings, request.digests, request.upstream_settings, request.code_version
    )
    making = read_making(made)
    # What cannot be known now counts as unchanged.
    unknown = {name: making["outside"].get(name) for name, value in outside.items() if value is None}
    if {**outside, **unknown} != making["outside"]:
        reasons.append("its source has changed")
    if damaged := damage(made):
        reasons.append(f"{', '.join(damaged[:3])} is missing or altered")
    refuse_added(made)
    return reasons


def run_tags(stage: Stage[Any], request: Request[Any]) -> dict[str, str]:
    """Return the tags of an asset's MLflow run: MLflow's own for user, source and commit, Dagster's names, and ours."""
    context = request.context
    return origin_tags(stage.make) | {
        "dagster.run_id": context.run.run_id,
        "dagster.job": context.run.job_name,
        "dagster.asset_key": request.name.partition("/")[0],
        "adc.code_version": request.code_version,
        "adc.stage": stage.group,
    }


def parent_run(stage: Stage[Any], request: Request[Any]) -> str:
    """Return the id of the MLflow run that is the parent of this one: that of the Dagster run, or of the study."""
    run = request.context.run
    tags = origin_tags(stage.make)
    if stage.group == STUDY:
        # Every cell is a Dagster run. Cells with one base model belong together; the table reads cells.
        above = next((each.inputs["base_model"] for each in request.inputs.values() if "base_model" in each.inputs), "")
        base = request.digests.get("base_model", above)
        # Not ADC_HOME itself, which is locked while MLflow's database is opened.
        with locked(request.store.home / "claims", wait=True):
            return request.tracking.parent(f"{STUDY} {base[:8]}", f"{STUDY} {base}", tags)
    name = "materialize" if run.job_name.startswith("__") else run.job_name
    dagster = {"dagster.run_id": run.run_id, "dagster.job": run.job_name}
    return request.tracking.parent(f"{name} {run.run_id[:8]}", run.run_id, tags | dagster)


def restore_effects(stage: Stage[Any], request: Request[Any], made: Artefact) -> Mapping[str, Any]:
    """Bring back what an up-to-date artefact has lost outside its folder: MLflow's run, its files, a model's version.

    Return what Dagster shows of them beside what it shows of the artefact itself.
    """
    if stage.restore is None and is_intact(request.tracking, made, read_making(made)):
        return {}
    run = restored_run(
        request.tracking,
        replace(made, settings=request.plain_settings),
        request.inputs,
        run_tags(stage, request),
        request.report,
        columns_of,
        lambda: parent_run(stage, request),
    )
    return stage.restore(request, made, run) if stage.restore else {}


def make(stage: Stage[Any], request: Request[Any], outside: dict[str, Any]) -> Artefact:
    """Run the stage's function and put the result in place."""
    tracking = request.tracking
    tracking.check()
    with (
        request.store.aside(request.name) as folder,
        tracking.run(request.name, request.plain_settings, run_tags(stage, request), parent_run(stage, request)) as run,
        # Within the MLflow run, which is then killed and not failed, and whose end a second signal does not disturb.
        interrupted_by_signals(),
    ):
        for artefact in request.inputs.values():
            run.artefact(artefact, "input", columns_of(artefact))
        making = Making(request, folder, run, outside)
        # One instance of DuckDB serves all of the stage.
        with request.engine.shared(folder / "spill") as engine:
            making.request = replace(request, engine=engine)
            stage.make(making)
        files = scan(folder)
        made = Artefact(
            name=request.name,
            path=folder,
            digest=making.digest or content_digest(files, stage.unhashed),
            settings=request.plain_settings,
            inputs=request.digests,
            upstream_settings=as_json(request.upstream_settings),
            counts=making.counts,
            code_version=request.code_version,
            place=request.place,
            unhashed=stage.unhashed,
            files=files,
        )
        columns = columns_of(made)
        run.artefact(replace(made, path=request.store.version_path(made.name, made.digest)), "output", columns)
        check_names(making)
        write_shown(folder, making.metadata | table_metadata(stage, made), making.pictures, request.store.home)
        record = {"run": run.id, "address": run.address, "outside": making.outside, "found": making.found}
        record |= {"by": started_by(request.context.run.tags), "shown": shown_digests(folder)}
        logged = {"metrics": run.logged, "parameters": run.described, "artifacts": making.artifacts, "tags": run.noted}
        write_making(made, record | logged)
        made = request.store.put(folder, made)
        if stage.placed:
            stage.placed(made, run)
        return made


@contextmanager
def errors_as_sentences(stage: Stage[Any], context: Context, workspace: Workspace) -> Iterator[None]:
    """End a step with the one sentence of a PipelineError; retry what the network refused."""
    try:
        name = stage.artefact_name(context)
    except PipelineError as error:
        raise SentenceFailure(str(error), {}) from None
    try:
        yield
    except (KeyboardInterrupt, DagsterExecutionInterruptedError):
        raise Cancelled from None
    except PipelineError as error:
        if isinstance(error, DamagedError) and (sentence := damaged_content(stage, name, workspace.store)):
            raise failure(sentence, name, context, workspace.store, error) from None
        tried = context.retry_number
        if isinstance(error, UnreachableError) and tried < len(SECONDS_BEFORE_RETRY):
            seconds = SECONDS_BEFORE_RETRY[tried]
            context.log.warning(f"{error} Next attempt in {seconds} s.")
            raise dg.RetryRequested(len(SECONDS_BEFORE_RETRY), seconds) from error
        raise failure(str(error), name, context, workspace.store, error) from None
    except Exception as error:
        sentence, shown = sentence_of(error, workspace)
        if sentence:
            raise failure(sentence, name, context, workspace.store, shown) from None
        if sentence := damaged_content(stage, name, workspace.store):
            raise failure(sentence, name, context, workspace.store, error) from None
        trace = "".join(traceback.format_exception(error))
        if masked(trace) != trace:
            # Dagster would store the error as it is.
            raise failure(masked(f"{type(error).__name__}: {error}"), name, context, workspace.store, error) from None
        raise


def damaged_content(stage: Stage[Any], name: str, store: Store) -> str:
    """Return which of the files that a failed step has read are not as they were written; empty if all are.

    Reads them all. A file that is altered while size and time stay is noticed only where its content makes no sense.
    """
    read: list[Artefact] = []
    with suppress(PipelineError):
        read += stage.read(store).values()
    with suppress(PipelineError):
        read.append(store.current(name))
    for made in read:
        mark_damaged(made)
        try:
            refuse_damaged(made)
        except PipelineError as error:
            return str(error)
    return ""


def failure(sentence: str, name: str, context: Context, store: Store, error: Exception | None = None) -> dg.Failure:
    """Return the failure of a step, with the version that stays in place and where the error was raised.

    Dagster shows an asset whose last attempt failed as failed.
    """
    metadata: dict[str, Any] = {}
    with suppress(PipelineError, OSError):
        made = store.current(name)
        when = datetime.fromtimestamp(store.made_at(made), UTC)
        kept = f"version {made.digest} of {when:%Y-%m-%d %H:%M} UTC"
        metadata["in place"] = kept
        context.log.info(f"{name} stays as before this run: {kept} is in place.")
    if error is not None:
        # Dagster's page shows it behind a click; the terminal does not print it.
        trace = masked("".join(traceback.format_exception(error)))
        metadata["raised at"] = dg.MetadataValue.md(f"```\n{trace:1000}\n```")
    return SentenceFailure(sentence, metadata)
