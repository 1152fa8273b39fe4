"""The workspace: what every asset needs around its own work.

`materializing` is the frame of each asset: it checks that ADC_HOME and MLflow are there, opens a folder
aside and an MLflow run, and, if the block ends well, hashes the folder, logs it as the run's output, puts
it in place and tells Dagster. If any of this raises, nothing is in place and the MLflow run is FAILED.

An asset names its inputs and then asks `unchanged`: where what is in place was made of the same inputs by the
same settings and code, it is taken over, without an MLflow run of its own, and Dagster is told the data version
it knows. And it makes only what it has claimed: two runs on one ADC_HOME do not make the same asset at once.
"""

import base64
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import dagster as dg
from pydantic import Field, PrivateAttr

from adc_pipeline.core.artefacts import AGAIN, MAKING, Artefact, Store, differences, folder_digest, read_making
from adc_pipeline.core.claims import Claims
from adc_pipeline.core.engine import MEMORY_LIMIT, Engine
from adc_pipeline.core.errors import PipelineError, UnreachableError, is_disk_full
from adc_pipeline.core.processes import this_process
from adc_pipeline.defs.run_config import SettingsConfig
from adc_pipeline.tracking.runs import Run, Tracking

if TYPE_CHECKING:
    from matplotlib.figure import Figure

S = TypeVar("S")

# A tag that each run sets itself: which process it is, for whoever wants to know whether it still runs.
PROCESS = "adc/process"
# Pixels that a dialog of Dagster's pages has room for; it cuts off what is wider.
WIDEST = 1000
# Seconds after which what the network refused is asked for again. Not a retry policy of the assets, which would try
# every error again, Ctrl+C too, and end in "Exceeded max_retries" where the sentence belongs.
ATTEMPTS_AFTER = (5, 10, 20)


@dataclass
class Materialization(Generic[S]):
    """A materialization in progress; `folder` is where its files go."""

    name: str
    settings: S
    folder: Path
    store: Store
    tracking: Tracking
    open_run: Callable[[], Run]
    shown_of: Callable[[Artefact], Mapping[str, Any]]
    code_version: str
    engine: Engine
    again: bool = False
    inputs: dict[str, str] = field(default_factory=dict)
    outside: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    data_version: str = ""
    read: list[Artefact] = field(default_factory=list)
    opened: Run | None = None

    @property
    def run(self) -> Run:
        """The MLflow run, which begins when it is first needed: what turns out to be unchanged has none."""
        if self.opened is None:
            self.opened = self.open_run()
            for artefact in self.read:
                self.opened.artefact(artefact, "input")
        return self.opened

    def input(self, name: str, digest: str | None = None) -> Artefact:
        """An artefact upstream, recorded as read: the current version, or the one with this digest."""
        artefact = self.store.version(name, digest) if digest else self.store.current(name)
        self.inputs[name] = artefact.digest
        self.read.append(artefact)
        if self.opened is not None:
            self.opened.artefact(artefact, "input")
        return artefact

    def unchanged(self, outside: Mapping[str, Any] | None = None) -> bool:
        """Whether what is in place was made of the inputs named so far, by these settings and this code.

        It is taken over then, and there is nothing left to do but to return the result. `outside` stands for
        what is read from outside ADC_HOME (JSON; None for what cannot be known now). Says which it is, and if
        not, why. MLflow has to know the run that made the artefact
        still, and importing it is most of the cost.
        """
        self.outside = dict(outside or {})
        reasons = self._changes()
        if reasons:
            self.engine.report(f"{self.name} is made anew: {', '.join(reasons)}.")
            # From here on the work has a run, which fails if it does.
            self.run  # noqa: B018
            return False
        made = self.store.current(self.name)
        self.engine.report(f"{self.name} is unchanged: inputs, settings and code are those of {made.digest}.")
        self.inputs, self.counts, self.data_version = made.inputs, made.counts, made.digest
        making = read_making(made)
        self.metadata |= {**self.shown_of(made), **made.counts}
        self.metadata |= self._whereabouts(made, making["run"], making["address"]) | {"unchanged": True}
        return True

    def _changes(self) -> list[str]:
        """What keeps the artefact in place from being the one that is asked for."""
        if self.again:
            return [f"the tag {AGAIN} asks for it"]
        try:
            made = self.store.current(self.name)
        except PipelineError:
            return ["there is none yet"]
        reasons = differences(made, asdict(self.settings), self.inputs, self.code_version)  # type: ignore[call-overload]
        making = read_making(made)
        # What cannot be known now counts as what it was.
        unknown = {name: making["outside"].get(name) for name, value in self.outside.items() if value is None}
        if self.outside | unknown != making["outside"]:
            reasons.append("what it is read from has changed")
        if not reasons and not self.tracking.has_run(making["run"]):
            reasons.append(f"MLflow at {self.tracking.shown} has no run that made it")
        return reasons

    def _whereabouts(self, made: Artefact, run: str, address: str) -> dict[str, Any]:
        return {
            "digest": made.digest,
            "path": dg.MetadataValue.path(str(self.store.place(self.name))),
            "mlflow_run": dg.MetadataValue.url(address),
            "mlflow_run_id": run,
        }

    @contextmanager
    def unfinished(self) -> Iterator[Path]:
        """A folder for parts of the work that the next run need not do again, if it is the same work."""
        work = {"inputs": self.inputs, "settings": asdict(self.settings), "code": self.code_version}  # type: ignore[call-overload]
        key = hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()[:16]
        with self.store.kept(self.name, key) as folder:
            yield folder

    def count(self, counts: Mapping[str, float]) -> None:
        """Counts for the manifest, MLflow and Dagster alike."""
        self.counts |= counts
        self.metadata |= counts
        self.run.metrics(counts)

    def show(self, name: str, figure: "Figure") -> None:
        """A picture for MLflow and Dagster."""
        self.run.figure(figure, name)
        png = io.BytesIO()
        figure.savefig(png, format="png")
        self.metadata[name] = picture(png.getvalue(), name)

    def finish(self, digest: str | None = None) -> Artefact:
        """Put the folder in place and log it; `digest` where the content lies outside the folder."""
        made = Artefact(
            name=self.name,
            path=self.folder,
            digest=digest or folder_digest(self.folder),
            settings=asdict(self.settings),  # type: ignore[call-overload]
            inputs=self.inputs,
            counts=self.counts,
            code_version=self.code_version,
        )
        self.run.artefact(replace(made, path=self.store.version_path(made.name, made.digest)), "output")
        noted = {"run": self.run.id, "address": self.run.address, "outside": self.outside}
        (self.folder / MAKING).write_text(json.dumps(noted, indent=2) + "\n")
        placed = self.store.put(self.folder, made)
        self.data_version = placed.digest
        self.metadata |= self._whereabouts(placed, self.run.id, self.run.address) | {"unchanged": False}
        return placed

    def result(self) -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata=self.metadata, data_version=dg.DataVersion(self.data_version))


class Workspace(dg.ConfigurableResource):
    """Where the pipeline writes and tracks (from the environment), and how DuckDB runs."""

    threads: int = Field(default=0, description="Threads of DuckDB; 0 takes every core.")
    memory_limit: str = Field(default=MEMORY_LIMIT, description="Memory DuckDB may take before it spills to disk.")
    wait_seconds: float = Field(
        default=60.0,
        description="How long to wait for another run that makes the same asset in the same ADC_HOME, before this one"
        " is refused.",
    )
    _held: ExitStack = PrivateAttr(default_factory=ExitStack)
    _claims: Claims | None = PrivateAttr(default=None)
    _made: dict[str, bool] = PrivateAttr(default_factory=dict)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Say which process the run is, and be ready to claim what it makes until it ends."""
        run, instance = context.run, context.instance
        if run is None or instance is None:
            return
        if instance.get_run_by_id(run.run_id):
            instance.add_run_tags(run.run_id, {PROCESS: this_process()})
        holder = f"{run.job_name}, run {run.run_id}, process {os.getpid()}"
        self._claims = self._held.enter_context(Claims(self.store.home / "claims", holder))

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        self._held.close()
        if self._made and all(self._made.values()) and context.log:
            context.log.info(f"Nothing new: all {len(self._made)} assets of this run are unchanged.")

    @property
    def engine(self) -> Engine:
        return Engine(self.threads, self.memory_limit)

    @property
    def store(self) -> Store:
        return Store.from_environment()

    @property
    def tracking(self) -> Tracking:
        return Tracking.from_environment(self.store.home)

    @contextmanager
    def materializing(
        self, context: dg.AssetExecutionContext, config: SettingsConfig[S], name: str = ""
    ) -> Iterator[Materialization[S]]:
        """The frame of an asset; see the module. A partition gives its artefact a `name` of its own."""
        name = name or context.asset_key.to_user_string()
        code_version = context.assets_def.code_versions_by_key[context.asset_key] or ""
        tags = {
            "dagster.run_id": context.run.run_id,
            "dagster.job": context.run.job_name,
            "dagster.asset_key": context.asset_key.to_user_string(),
            "adc.code_version": code_version,
        }
        again = context.run.tags.get(AGAIN, "").lower() in ("1", "true", "yes")
        try:
            settings = config.settings()
            self.store.check_writable()
            if self._claims is not None:
                self._claims.take(name, self.wait_seconds, context.log.info)
            with ExitStack() as opened, self.store.aside(name) as folder:

                def open_run() -> Run:
                    self.tracking.check()
                    return opened.enter_context(self.tracking.run(name, asdict(settings), tags))  # type: ignore[call-overload]

                making = Materialization(
                    name=name,
                    settings=settings,
                    folder=folder,
                    store=self.store,
                    tracking=self.tracking,
                    open_run=open_run,
                    shown_of=lambda made: shown_of(context, made),
                    code_version=code_version,
                    engine=replace(self.engine, report=context.log.info),
                    again=again,
                )
                # Until it is known to be otherwise, and also where it fails.
                self._made[name] = False
                yield making
                if not making.data_version:
                    making.finish()
            self._made[name] = making.opened is None
        except PipelineError as error:
            tried = context.retry_number
            if isinstance(error, UnreachableError) and tried < len(ATTEMPTS_AFTER):
                context.log.warning(f"{error} Tried again in {ATTEMPTS_AFTER[tried]} s.")
                raise dg.RetryRequested(len(ATTEMPTS_AFTER), ATTEMPTS_AFTER[tried]) from error
            raise dg.Failure(str(error), allow_retries=False) from error
        except Exception as error:
            if not is_disk_full(error):
                raise
            raise dg.Failure(
                f"The disk of ADC_HOME = {self.store.home} is full: make room, or point ADC_HOME to another disk.",
                allow_retries=False,
            ) from error


def shown_of(context: dg.AssetExecutionContext, made: Artefact) -> Mapping[str, Any]:
    """What Dagster shows of an artefact, pictures included: the metadata of its last materialization, if it knows one.

    Without it the page of an asset that was taken over would lose all that people look at.
    """
    partitions = [context.partition_key] if context.has_partition_key else None
    wanted = dg.AssetRecordsFilter(context.asset_key, asset_partitions=partitions)
    for record in context.instance.fetch_materializations(wanted, limit=1).records:
        last = record.asset_materialization
        if last is not None and "digest" in last.metadata and last.metadata["digest"].value == made.digest:
            return last.metadata
    return {}


def picture(png: bytes, name: str) -> dg.MarkdownMetadataValue:
    """A picture that Dagster's pages show in place, no wider than they do."""
    from PIL import Image

    small = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        image.thumbnail((WIDEST, image.height))
        image.save(small, "png", optimize=True)
    return dg.MetadataValue.md(f"![{name}](data:image/png;base64,{base64.b64encode(small.getvalue()).decode()})")
