"""Find what still holds rows of the removal list, and remove it.

A rebuild honours the list (`corpus.privacy.removals`); what was built before does not. The versions of `utterances` in
the store are read, and everything downstream of one that holds a listed row counts as holding it too, by the manifests
on disk and by the lineage in MLflow: a model or a figure shows no name, and was still made of the row. A version of
`utterances` that is damaged, or that MLflow knows and the store no longer has, cannot be read, so it counts as well.

Removing a version deletes its folder; its runs in MLflow lose their artifacts and logged models and are deleted, and
registered versions of a model are deleted. The source of the corpus is not changed: `raw_corpus` is listed.

Cost: ids and names of all versions of `utterances` are read, and every run in MLflow is listed.
"""

import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from adc_pipeline.core.engine import Engine, only_row
from adc_pipeline.core.shards import parts
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.content import damage
from adc_pipeline.core.store.links import locked
from adc_pipeline.core.store.manifests import Artefact, Key
from adc_pipeline.corpus.changes import BEFORE
from adc_pipeline.corpus.privacy.mentions import create_mention_macros
from adc_pipeline.corpus.privacy.removals import Removals
from adc_pipeline.corpus.tables import READ
from adc_pipeline.tracking.lineage import Records, inputs
from adc_pipeline.tracking.tags import ASSET, DIGEST

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

UTTERANCES = "utterances"
# Artefacts with rows as they were read.
HAVE_ROWS = (UTTERANCES, "corpus_month")
HOLDS = """
SELECT coalesce(bool_or(
    is_listed({kind}, id, speaker) OR without_removed(text) <> text OR without_removed(title) <> title
    OR without_owner(source, getvariable('removed_names'), NULL) <> source), false) AS holds
FROM read_parquet($files, hive_partitioning = false)
"""


@dataclass(frozen=True)
class Remains:
    """What holds rows of the removal list.

    `versions` are those in the store, `current` those of them that are current; `runs` those in MLflow with artifacts;
    `models` registered versions (NAME, VERSION); `digests` all artefacts, with those that are no longer in the store;
    `sources` the raw corpora, which are not changed.
    """

    versions: list[Artefact]
    current: list[Artefact]
    runs: "list[tuple[MlflowClient, Run]]"
    models: list[tuple[str, str]]
    digests: set[Key]
    work: list[str]
    sources: list[Artefact] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.versions or self.runs or self.models or self.work)


def find_remains(store: Store, records: Records, removals: Removals) -> Remains:
    """Find what holds rows of the removal list."""
    versions = list(store.versions())
    runs = records.runs()
    below: dict[Key, set[Key]] = {}
    for made in versions:
        for upstream in made.inputs.items():
            below.setdefault(upstream, set()).add(made.key)
    for _, run in runs:
        if DIGEST in run.data.tags:
            for upstream in read_by(run):
                below.setdefault(upstream, set()).add(made_by(run))
    read = [made for made in versions if made.name.partition("/")[0] in HAVE_ROWS]
    holding = {made.key for made in read if holds(made, removals)}
    known = {made_by(run) for _, run in runs} | below.keys()
    gone = {key for key in known if key[0] == UTTERANCES and key[1]} - {made.key for made in read}
    digests = downstream(holding | gone, below)
    found = [made for made in versions if made.key in digests]
    tainted = [(client, run) for client, run in runs if digests & {made_by(run), *read_by(run)}]
    active = [(client, run) for client, run in tainted if run.info.lifecycle_stage == "active"]
    ids = {run.info.run_id for _, run in tainted}
    models = [(each.name, str(each.version)) for each in records.versions() if each.run_id in ids]
    corpora = {digest for made in found for name, digest in made.inputs.items() if name == "raw_corpus"}
    return Remains(
        versions=found,
        current=[made for made in found if store.is_current(made)],
        runs=active,
        models=models,
        digests=digests,
        work=sorted(path.name for path in (store.home / "work").glob("*") if any(path.rglob("*.parquet"))),
        sources=[made for made in versions if made.name == "raw_corpus" and made.digest in corpora],
    )


def made_by(run: "Run") -> Key:
    """Return the artefact that a run made; its digest is empty if the run ended before."""
    return run.data.tags[ASSET], run.data.tags.get(DIGEST, "")


def read_by(run: "Run") -> set[Key]:
    """Return the artefacts that a run read."""
    return {(each.name, each.digest) for each in inputs(run)}


def holds(made: Artefact, removals: Removals) -> bool:
    """Return whether a version of `utterances` has a row that the list names, or a text that mentions its speaker.

    One that is damaged counts as such: what was made of it may have them.
    """
    import duckdb

    if damage(made):
        return True
    with suppress(duckdb.Error):
        return has_rows(made, removals)
    return True


def has_rows(made: Artefact, removals: Removals) -> bool:
    """Return whether the files of a version of `utterances` have such a row or text."""
    with Engine().connect() as connection:
        create_mention_macros(connection)
        removals.define(connection)
        # The rows of an update as they were before may have some that are no longer in the corpus (`corpus.changes`).
        files = [*parts(made.path, READ), *parts(made.path, f"{BEFORE}/{READ}")]
        if not files:
            return False
        # An earlier version of the package wrote no such column.
        kind = "kind" if "kind" in connection.read_parquet(files, hive_partitioning=False).columns else "NULL"
        return bool(only_row(connection, HOLDS.format(kind=kind), {"files": files})["holds"])


def downstream(start: Iterable[Key], below: dict[Key, set[Key]]) -> set[Key]:
    """Return some artefacts with everything that was made of them."""
    found, waiting = set(start), list(start)
    while waiting:
        new = below.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found


def remove(store: Store, records: Records, found: Remains, with_current: bool) -> list[str]:
    """Remove what was found; return what was not, with the reason. Current versions go only `with_current`."""
    left = []
    kept: set[Key] = set()
    for made in found.versions:
        if store.is_current(made):
            if not with_current:
                kept.add(made.key)
                left.append(f"{made.name} {made.digest} is the current version")
                continue
            store.withdraw(made)
        if not store.remove(made.name, made.digest, store.made_at(made)):
            left.append(f"{made.name} {made.digest} was made again meanwhile")
    for client, run in found.runs:
        if made_by(run) not in kept:
            remove_run(client, run)
    registered = {(each.name, str(each.version)): each for each in records.versions()}
    current = {run.info.run_id for _, run in found.runs if made_by(run) in kept}
    for name, number in found.models:
        if (version := registered.get((name, number))) and version.run_id not in current:
            records.registry.delete_model_version(name, number)
    for name in found.work:
        for folder in sorted((store.home / "work" / name).iterdir()):
            with locked(folder) as free:
                if free:
                    shutil.rmtree(folder, ignore_errors=True)
                else:
                    left.append(f"{folder} is being written")
    return left


def remove_run(client: "MlflowClient", run: "Run") -> None:
    """Delete a run of MLflow with its artifacts and logged models."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    outputs = run.outputs.model_outputs if run.outputs else []
    for output in outputs:
        logged = client.get_logged_model(output.model_id)
        get_artifact_repository(logged.artifact_location).delete_artifacts()
        client.delete_logged_model(output.model_id)
    get_artifact_repository(run.info.artifact_uri).delete_artifacts()
    client.delete_run(run.info.run_id)
