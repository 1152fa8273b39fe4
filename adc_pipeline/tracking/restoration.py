"""Bring back in MLflow what a run has left there, from the artefact store.

People delete runs and tags, and address another server or an empty database. An artefact that is up to date is not made
again for that: a deleted run is restored, its parent too, an unfinished one is finished, since an artefact is put in
place as the last act of its run, tags that are gone are set again, and a run that is gone is replaced by one with the
same settings, inputs, output, metrics, description and files. What only the old run had is lost: the time, and metrics
of single steps.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from adc_pipeline.core.store.manifests import Artefact, read_making, write_making
from adc_pipeline.tracking.failures import explained
from adc_pipeline.tracking.run import Run
from adc_pipeline.tracking.runs import Tracking
from adc_pipeline.tracking.tags import ASSET, DIGEST, PARENT

# A tag of a run that replaces one that is gone.
RESTORED = "adc.restored"
Report = Callable[[str], None]


def restored_run(
    tracking: Tracking,
    made: Artefact,
    inputs: Mapping[str, Artefact],
    tags: Mapping[str, str],
    report: Report,
    columns: Callable[[Artefact], Mapping[str, str]] = lambda artefact: {},
    parent: Callable[[], str] = lambda: "",
) -> Run:
    """Return the finished MLflow run of an artefact, brought back if necessary; its `making.json` then names the run.

    `columns` returns the types of a table's columns by name, `parent` the id of the run below which a new one belongs.
    Raises PipelineError if MLflow does not answer.
    """
    tracking.check()
    record = read_making(made)
    with explained(tracking.uri, tracking.variable):
        client = tracking.client()
        found = tracking.find_run(record["run"])
        if found is None:
            report(f"MLflow at {tracking.shown} has no run that made {made.name}: it gets one again.")
            tags = {**tags, **record.get("tags", {}), RESTORED: "true"}
            with tracking.run(made.name, made.settings, tags, parent()) as run:
                for artefact in inputs.values():
                    run.artefact(artefact, "input", columns(artefact))
                run.artefact(made, "output", columns(made))
                run.describe(record.get("parameters", {}))
                run.metrics(record.get("metrics", made.counts))
        else:
            info = found.info
            run = Run(client, info.run_id, tracking.run_address(info.experiment_id, info.run_id), tracking.uri)
            if info.lifecycle_stage != "active":
                report(f"The MLflow run that made {made.name} was deleted: it is restored.")
                client.restore_run(info.run_id)
            experiment = client.get_experiment(info.experiment_id).name
            if experiment != tracking.names.experiment:
                report(f"The MLflow run that made {made.name} is in the experiment {experiment}, and stays there.")
            if info.status != "FINISHED":
                client.set_terminated(info.run_id, "FINISHED")
            # MLflow's own tags, such as a commit, depend on where a run was started.
            wanted = {name: value for name, value in tags.items() if not name.startswith("mlflow.")}
            wanted |= record.get("tags", {})
            restore_tags(run, found.data.tags, wanted, {ASSET: made.name, DIGEST: made.digest}, report)
            restore_parent(tracking, run, found.data.tags.get(PARENT, ""), parent)
        restore_files(run, made.path, record.get("artifacts", {}), report)
    if (run.id, run.address) != (record["run"], record["address"]):
        write_making(made, {**record, "run": run.id, "address": run.address})
    return run


def restore_tags(
    run: Run, found: Mapping[str, str], wanted: Mapping[str, str], key: Mapping[str, str], report: Report
) -> None:
    """Set the tags that a run lacks, and those of `key`, by which lineage finds it, also where they were edited."""
    lost = {name: value for name, value in {**wanted, **key}.items() if name not in found}
    lost |= {name: value for name, value in key.items() if found.get(name) != value}
    for name, value in lost.items():
        run.client.set_tag(run.id, name, value)
    if lost:
        report(f"Tags of the MLflow run {run.id} are set again: {', '.join(sorted(lost))}.")


def restore_parent(tracking: Tracking, run: Run, above: str, parent: Callable[[], str]) -> None:
    """Restore the parent of a run if it was deleted; if it is gone, put the run below another one."""
    found = tracking.find_run(above)
    if found is None:
        if above and (new := parent()):
            run.client.set_tag(run.id, PARENT, new)
    elif found.info.lifecycle_stage != "active":
        run.client.restore_run(above)


def restore_files(run: Run, folder: Path, names: Mapping[str, str], report: Report) -> None:
    """Log the files of an artefact again that its run should have; `names` are their paths in `folder`, by name."""
    there = {file.path for file in run.client.list_artifacts(run.id)}
    missing = {name: folder / path for name, path in names.items() if name not in there and (folder / path).exists()}
    for path in missing.values():
        run.file(path)
    if missing:
        report(f"Files of the MLflow run {run.id} are logged again: {', '.join(sorted(missing))}.")
