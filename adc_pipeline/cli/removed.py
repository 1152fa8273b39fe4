"""`adc removed`: list what still holds rows of the removal list, and remove it.

What Dagster's history shows of removed artefacts (previews of texts) is removed with the runs that it belongs to.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from adc_pipeline.cli.home import dagster_instance
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.manifests import Key
from adc_pipeline.corpus.privacy.removals import FILE, read_removals
from adc_pipeline.lifecycle.removal import Remains, find_remains, remove
from adc_pipeline.tracking.database import connect
from adc_pipeline.tracking.failures import explained
from adc_pipeline.tracking.lineage import Records
from adc_pipeline.tracking.runs import Tracking

if TYPE_CHECKING:
    from dagster import AssetKey, DagsterInstance

Report = Callable[[str], None]
PAGE = 1000


def removed(store: Store, delete: bool, with_current: bool, report: Report) -> int:
    """Print what holds rows of the list; remove it if asked to; return the exit status: 1 if something is left."""
    removals = read_removals(store.home)
    if not removals:
        raise PipelineError(
            f"There is no removal list {store.home / FILE}, or it is empty: write a line `speaker NAME` or `utterance"
            " ID` for each."
        )
    if busy := store.being_written():
        raise PipelineError(f"{', '.join(busy)} is being written: wait until the run has ended.")
    tracking = Tracking.from_environment(store.home)
    tracking.check()
    with explained(tracking.uri, tracking.variable), dagster_instance(store) as instance:
        records = Records([tracking.client()])
        found = find_remains(store, records, removals)
        history = sorted(runs_of(instance, found.digests))
        unknown = [folder for folder in store.unreadable() if folder.parent != store.versions_of("raw_corpus")]
        show(found, history, unknown, store, report)
        if not (found or history or unknown):
            return 0
        if not delete:
            report("Nothing is removed: `adc removed --delete` does.")
            return 1
        left = remove(store, records, found, with_current)
        kept = {made.key for made in find_remains(store, records, removals).current}
        still = runs_of(instance, kept)
        forget(instance, [run for run in history if run not in still], store.home)
        left += [f"the run {run} in Dagster's history shows a current version" for run in sorted(still)]
        left += [f"{folder}, whose manifest cannot be read: give this user access, or remove it" for folder in unknown]
    for each in left:
        report(f"Not removed: {each}.")
    if left:
        report("Run the job that makes them (`adc run`), then this command again, or add --current.")
    else:
        report("Everything listed is removed.")
    return 1 if left else 0


def show(found: Remains, history: list[str], unknown: list[Path], store: Store, report: Report) -> None:
    """Print what was found, one line each."""
    for made in found.versions:
        report(f"store: {made.name} {made.digest}{', current' if store.is_current(made) else ''}")
    for name, number in found.models:
        report(f"MLflow: registered model {name}/{number}")
    for _, run in found.runs:
        report(f"MLflow: run {run.info.run_id} ({run.data.tags.get('adc.asset', '')})")
    for run_id in history:
        report(f"Dagster: run {run_id}")
    for name in found.work:
        report(f"work: unfinished parts of {name}")
    for made in found.sources:
        source = made.settings.get("corpus", "")
        report(f"source (never changed by this command): {made.path}, read from {source}")
    for folder in unknown:
        report(f"store: {folder}, whose manifest cannot be read, so that what it was made of is unknown")
    if not (found or history or unknown):
        report("Nothing holds a row of the removal list.")


def runs_of(instance: "DagsterInstance", digests: set[Key]) -> set[str]:
    """Return the runs in Dagster's history that show one of these artefacts."""
    import dagster as dg

    found = set()
    for asset in {name.partition("/")[0] for name, _ in digests}:
        wanted = {digest for name, digest in digests if name.partition("/")[0] == asset}
        for run, digest in materializations(instance, dg.AssetKey(asset)):
            if digest in wanted:
                found.add(run)
    return {run for run in found if instance.has_run(run)}


def materializations(instance: "DagsterInstance", asset: "AssetKey") -> Iterator[tuple[str, str]]:
    """Yield run and data version of every materialization of an asset."""
    cursor = None
    while True:
        page = instance.fetch_materializations(asset, limit=PAGE, cursor=cursor)
        for record in page.records:
            if shown := record.asset_materialization:
                yield record.run_id, (shown.tags or {}).get("dagster/data_version", "")
        if not page.has_more:
            return
        cursor = page.cursor


def forget(instance: "DagsterInstance", runs: list[str], home: Path) -> None:
    """Remove runs from Dagster's history, also from the free pages of its SQLite files."""
    from adc_pipeline.defs.old_runs import remove_run

    for run in runs:
        remove_run(instance, run)
    if runs:
        for file in (home / "dagster").rglob("*.db"):
            with closing(connect(file)) as connection:
                connection.execute("VACUUM")
