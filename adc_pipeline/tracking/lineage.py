"""Trace lineage in MLflow: upstream from a model version to the raw corpus, or downstream from an artefact.

Only MLflow clients are used. Each run records its inputs and its output by asset and digest. An input is attributed to
the newest finished run that made its digest before the reading run started. Deleted runs are still read; a purged run
(`mlflow gc`) leaves a node with a note. Several tracking servers are searched in turn; the registry is that of the
first. The cost is one search per artefact: 0.1 s of one core for the tree of a model in SQLite, after importing MLflow.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.records import object_in, read_record
from adc_pipeline.core.store.manifests import Key
from adc_pipeline.tracking.address import shown
from adc_pipeline.tracking.node import Node
from adc_pipeline.tracking.tags import ASSET, DIGEST

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Dataset, Run
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.store.entities import PagedList

T = TypeVar("T")

# Tag of a registered version: the artefact that it was made from, ASSET/DIGEST. Versions from before 0.2 have the tags
# ASSET and DIGEST instead.
ORIGIN = "adc.artefact"
# The name of an asset or of a partition; these characters need no quoting in a filter.
NAME = re.compile(r"[\w./-]+")
# The artifact of an evaluation's run with all its figures; the run's metrics are the headline ones.
METRICS = "metrics.json"
HEX = re.compile(r"[0-9a-f]{6,64}")
# MLflow's errors for what does not exist, and for what cannot be a name.
NOT_THERE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


def model_lineage(client: "MlflowClient", model: str, version: str | int) -> Node:
    """Return the upstream tree of a version of a registered model; MLflow's own API gives versions as int or str."""
    records = Records([client])
    return records.above_version(records.version(model, str(version)))


class Records:
    """The runs on one or several tracking servers, and the registry of the first.

    Each artefact is looked up once and cached; create new `Records` to see runs logged later.
    """

    def __init__(self, clients: Sequence["MlflowClient"]) -> None:
        self.clients = clients
        self.registry = clients[0]
        self._experiments: dict[int, list[str]] = {}
        self._nodes: dict[str, Node] = {}

    @property
    def addresses(self) -> str:
        return " and ".join(shown(client.tracking_uri) for client in self.clients)

    # The registry

    def version(self, model: str, which: str) -> "ModelVersion":
        """Return the version of a registered model with this number or alias; `latest` is the newest.

        Raises PipelineError, with the existing names, if there is no such model or version.
        """
        from mlflow.exceptions import MlflowException

        try:
            self.registry.get_registered_model(model)
        except MlflowException as error:
            if error.error_code not in NOT_THERE:
                raise
            raise PipelineError(self._unknown_model(model)) from error
        try:
            if which.isdecimal():
                return self.registry.get_model_version(model, which)
            return self.registry.get_model_version_by_alias(model, which)
        except MlflowException as error:
            numbers = sorted(int(each.version) for each in self.versions(model))
            known = ", ".join(map(str, numbers)) or "none"
            aliases = ", ".join(sorted(self.registry.get_registered_model(model).aliases)) or "none"
            what = f"version {which}" if which.isdecimal() else f"alias {which!r}"
            raise PipelineError(
                f"The registered model {model} has no {what}: its versions are {known} (a deleted one is gone for good)"
                f" and its aliases {aliases}; name one of these, or `latest`."
            ) from error

    def versions(self, model: str = "") -> "list[ModelVersion]":
        """Return all versions of a registered model, or of all models if `model` is empty, in no particular order."""
        of = f"name = '{model}'" if model else None
        return list(every(partial(self.registry.search_model_versions, of)))

    def _unknown_model(self, model: str) -> str:
        # A version keeps the name under which its weights were logged.
        renamed, names = set(), set()
        for version in self.versions():
            names.add(version.name)
            if version.name not in renamed and self.logged_as(version) == model:
                renamed.add(version.name)
        where = shown(self.registry.tracking_uri)
        if renamed:
            return (
                f"There is no registered model {model} at {where}, but {', '.join(sorted(renamed))} holds what was"
                f" registered as {model} (it was renamed, or copied): ask for that name."
            )
        return (
            f"There is no registered model {model} at {where}; registered are {', '.join(sorted(names)) or 'none'}:"
            " check the name, MLFLOW_TRACKING_URI and ADC_HOME."
        )

    def logged_as(self, version: "ModelVersion") -> str:
        """Return the name under which a version's model was logged, before any renaming; "" if it is unknown."""
        from mlflow.exceptions import MlflowException

        scheme, _, logged = (version.source or "").partition("models:/")
        if scheme or not logged.startswith("m-"):
            return ""
        try:
            return str(self.registry.get_logged_model(logged).name)
        except MlflowException:
            return ""

    # Upstream

    def above_version(self, version: "ModelVersion") -> Node:
        """Return the upstream tree of a model version; raise PipelineError if the version's origin is unknown."""
        name = f"Version {version.version} of {version.name}"
        run = self._run(version.run_id) if version.run_id else None
        if run is not None:
            node = self._node(*run)
        elif ORIGIN in version.tags:
            # The promotion decision writes this tag, so the run can be found without its id.
            asset, _, digest = version.tags[ORIGIN].rpartition("/")
            node = self.maker(asset, digest)
        elif {ASSET, DIGEST} <= version.tags.keys():
            node = self.maker(version.tags[ASSET], version.tags[DIGEST])
        elif not version.run_id:
            raise PipelineError(f"{name} names no MLflow run, so its origin is unknown: was it registered by hand?")
        else:
            link = f" (it was logged at {shown(version.run_link)})" if version.run_link else ""
            raise PipelineError(
                f"{name} was made by the MLflow run {version.run_id}, which is not at {self.addresses}: it was purged,"
                f" or is on another tracking server{link}; give that to `adc lineage` as well, by `--tracking-uri`."
            )
        return replace(node, models=(f"{version.name}/{version.version}",))

    def above(self, digest: str) -> Node:
        """Return the upstream tree of an artefact, given its digest, ASSET/DIGEST, or a prefix of the digest.

        Raises PipelineError unless exactly one artefact matches.
        """
        asset, _, digits = digest.rpartition("/")
        if not HEX.fullmatch(digits):
            raise PipelineError(f"{digest!r} is no digest: give 6 or more of its hexadecimal digits.")
        found = self._search(f"tags.`{DIGEST}` LIKE '{digits}%'")
        known = sorted({(run.data.tags[ASSET], run.data.tags[DIGEST]) for _, run in found if ASSET in run.data.tags})
        known = [each for each in known if asset in ("", each[0])]
        if len(known) != 1:
            matches = "; these begin so: " + ", ".join(f"{asset} {whole}" for asset, whole in known) if known else ""
            raise PipelineError(
                f"{len(known)} artefacts at {self.addresses} have the digest {digest}{matches}: give ASSET/DIGEST of"
                " one that was made here."
            )
        return self.maker(*known[0])

    def maker(self, asset: str, digest: str, before: int | None = None) -> Node:
        """Return the node of an artefact, preferring a run that made it by `before`, when the reading run started."""
        found = self._search(f"tags.`{ASSET}` = '{asset}' AND tags.`{DIGEST}` = '{digest}'")
        if not found:
            note = f"no MLflow run at {self.addresses} made it: it was purged, or is on another tracking server"
            return Node(asset, digest, None, note=note)

        def rank(client_and_run: "tuple[MlflowClient, Run]") -> tuple[bool, bool, bool, int]:
            info = client_and_run[1].info
            in_time = before is None or info.start_time <= before
            return info.status == "FINISHED", in_time, info.lifecycle_stage == "active", info.start_time

        return self._node(*max(found, key=rank))

    def evaluations(self, asset: str, model: Node) -> list[Node]:
        """Return the finished runs of the evaluation `asset` that read the model, newest first."""
        runs = [
            (client, run)
            for client, run in self._readers(model.asset, model.digest)
            if run.data.tags.get(ASSET) == asset and DIGEST in run.data.tags and run.info.status == "FINISHED"
        ]
        runs.sort(key=lambda found: found[1].info.start_time, reverse=True)
        return [self._node(*found) for found in runs]

    def figures(self, node: Node) -> dict[str, float]:
        """Return all figures of an evaluation: those of its run's `metrics.json`, or the run's metrics without one."""
        from mlflow.exceptions import MlflowException

        run = node.run or ""
        for client in self.clients if run else []:
            try:
                with TemporaryDirectory(prefix="adc-metrics-") as folder:
                    path = client.download_artifacts(run, METRICS, folder)
                    found = read_record(Path(path))
            except (MlflowException, OSError, PipelineError):
                continue
            return node.metrics | {name: value for name, value in found.items() if isinstance(value, int | float)}
        return node.metrics

    # Downstream

    def below(self, start: str) -> list[Node]:
        """Return the downstream trees of an artefact (a digest, as in `above`) or of an asset (its name).

        An asset gives one tree for each of its artefacts, newest first. Raises PipelineError if there is no such
        artefact.
        """
        if HEX.fullmatch(start.rpartition("/")[2]):
            tops = [self.above(start)]
        elif NAME.fullmatch(start):
            runs = self._search(f"tags.`{ASSET}` = '{start}'")
            digests = dict.fromkeys(run.data.tags[DIGEST] for _, run in runs if DIGEST in run.data.tags)
            tops = [self.maker(start, digest) for digest in digests]
            tops.sort(key=lambda node: -(node.started or 0))
        else:
            tops = []
        if not tops:
            raise PipelineError(
                f"No artefact {start!r} was made at {self.addresses}: give a digest, or an asset such as raw_corpus."
            )
        registered: dict[str, list[str]] = {}
        for version in self.versions():
            registered.setdefault(version.run_id or "", []).append(f"{version.name}/{version.version}")
        made: dict[Key, Node] = {}
        return [self._below(top, made, registered) for top in tops]

    def _below(self, node: Node, made: dict[Key, Node], registered: dict[str, list[str]]) -> Node:
        if node.key not in made:
            outputs: dict[Key, Node] = {}
            models: list[str] = []
            for _, run in self._search(f"tags.`{ASSET}` = '{node.asset}' AND tags.`{DIGEST}` = '{node.digest}'"):
                models += registered.get(run.info.run_id, [])
            for _, run in self._readers(*node.key):
                asset, digest = run.data.tags.get(ASSET), run.data.tags.get(DIGEST)
                if asset and digest:
                    outputs[asset, digest] = self.maker(asset, digest)
            below = [self._below(outputs[each], made, registered) for each in sorted(outputs)]
            made[node.key] = replace(node, inputs=[], outputs=below, models=tuple(sorted(models)))
        return made[node.key]

    # The servers

    def runs(self) -> "list[tuple[MlflowClient, Run]]":
        """Return all runs of this pipeline that made or read an artefact, including deleted ones."""
        return self._search(f"tags.`{ASSET}` != ''")

    def _readers(self, asset: str, digest: str) -> "list[tuple[MlflowClient, Run]]":
        """Return the runs that read an artefact."""
        found = self._search(f"dataset.name = '{asset}' AND dataset.digest = '{digest}'")
        # The filter also matches the run that made the artefact.
        return [
            (client, run) for client, run in found if any((e.name, e.digest) == (asset, digest) for e in inputs(run))
        ]

    def _run(self, run: str) -> "tuple[MlflowClient, Run] | None":
        from mlflow.exceptions import MlflowException

        for client in self.clients:
            try:
                return client, client.get_run(run)
            except MlflowException as error:
                if error.error_code not in NOT_THERE:
                    raise
        return None

    def _search(self, filter: str) -> "list[tuple[MlflowClient, Run]]":
        """Return the runs that match a filter, of all servers and experiments, including deleted ones."""
        from mlflow.entities import ViewType

        found: list[tuple[MlflowClient, Run]] = []
        for number, client in enumerate(self.clients):
            if number not in self._experiments:
                known = every(partial(client.search_experiments, ViewType.ALL))
                self._experiments[number] = [each.experiment_id for each in known]
            runs = every(partial(client.search_runs, self._experiments[number], filter, ViewType.ALL))
            found += [(client, run) for run in runs]
        return found

    def _node(self, client: "MlflowClient", run: "Run") -> Node:
        info, tags = run.info, run.data.tags
        if info.run_id in self._nodes:
            return self._nodes[info.run_id]
        if ASSET not in tags:
            raise PipelineError(
                f"The MLflow run {info.run_id} was not made by this pipeline (it has no tag {ASSET}), so what it read"
                " is unknown: name a run or a model of this pipeline, or set the tag to the run's asset again."
            )
        output = next(iter(datasets(run, "output")), None)
        note = ""
        if info.lifecycle_stage == "deleted":
            note = f"its MLflow run is deleted; until it is purged, `mlflow runs restore --run-id {info.run_id}` helps"
        elif info.status != "FINISHED":
            note = f"its MLflow run is {info.status}: it was cut short after the artefact was made"
        if DIGEST not in tags:
            note = f"its MLflow run is {info.status} and names no digest: it ended before the artefact was in place"
        node = Node(
            asset=tags[ASSET],
            digest=tags.get(DIGEST, ""),
            run=info.run_id,
            tags={key: value for key, value in tags.items() if not key.startswith("mlflow.")},
            inputs=[self.maker(each.name, each.digest, info.start_time) for each in inputs(run)],
            settings=dict(run.data.params),
            counts=object_in(output.profile) if output else {},
            metrics=dict(run.data.metrics),
            started=info.start_time,
            server=shown(client.tracking_uri),
            path=str(object_in(output.source).get("uri", "")) if output else "",
            note=note,
        )
        self._nodes[info.run_id] = node
        return node


def every(search: "Callable[..., PagedList[T]]") -> Iterator[T]:
    """Yield what one of MLflow's searches finds, from all of its pages."""
    token = None
    while token != "":
        page = search(page_token=token)
        yield from page
        token = page.token or ""


def datasets(run: "Run", context: str) -> "list[Dataset]":
    """Return the datasets that a run logged with `context` `input` or `output`."""
    logged = run.inputs.dataset_inputs if run.inputs else []
    return [
        entry.dataset
        for entry in logged
        if any(tag.key == "mlflow.data.context" and tag.value == context for tag in entry.tags)
    ]


def inputs(run: "Run") -> "list[Dataset]":
    return datasets(run, "input")
