"""The workspace: what every asset needs around its own work.

`materializing` is the frame of each asset: it checks that ADC_HOME and MLflow are there, opens a folder
aside and an MLflow run, and, if the block ends well, hashes the folder, logs it as the run's output, puts
it in place and tells Dagster. If any of this raises, nothing is in place and the MLflow run is FAILED.
"""

import base64
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import dagster as dg
from pydantic import Field

from adc_pipeline.artefacts import Artefact, Store, folder_digest
from adc_pipeline.engine import MEMORY_LIMIT, Engine
from adc_pipeline.errors import PipelineError, is_disk_full
from adc_pipeline.run_config import SettingsConfig
from adc_pipeline.tracking.runs import Run, Tracking

if TYPE_CHECKING:
    from matplotlib.figure import Figure

S = TypeVar("S")


@dataclass
class Materialization(Generic[S]):
    """A materialization in progress; `folder` is where its files go."""

    name: str
    settings: S
    folder: Path
    store: Store
    run: Run
    code_version: str
    engine: Engine
    inputs: dict[str, str] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    data_version: str = ""

    def input(self, name: str, digest: str | None = None) -> Artefact:
        """An artefact upstream, recorded as read: the current version, or the one with this digest."""
        artefact = self.store.version(name, digest) if digest else self.store.current(name)
        self.inputs[name] = artefact.digest
        self.run.artefact(artefact, "input")
        return artefact

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
        placed = self.store.put(self.folder, made)
        self.data_version = placed.digest
        self.metadata |= {
            "digest": placed.digest,
            "path": dg.MetadataValue.path(str(self.store.place(self.name))),
            "mlflow_run": dg.MetadataValue.url(self.run.address),
            "mlflow_run_id": self.run.id,
        }
        return placed

    def result(self) -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata=self.metadata, data_version=dg.DataVersion(self.data_version))


class Workspace(dg.ConfigurableResource):
    """Where the pipeline writes and tracks (from the environment), and how DuckDB runs."""

    threads: int = Field(default=0, description="Threads of DuckDB; 0 takes every core.")
    memory_limit: str = Field(default=MEMORY_LIMIT, description="Memory DuckDB may take before it spills to disk.")

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
        try:
            settings = config.settings()
            self.store.check_writable()
            self.tracking.check()
            with (
                self.store.aside(name) as folder,
                self.tracking.run(name, asdict(settings), tags) as run,  # type: ignore[call-overload]
            ):
                engine = replace(self.engine, report=context.log.info)
                making = Materialization(name, settings, folder, self.store, run, code_version, engine)
                yield making
                if not making.data_version:
                    making.finish()
        except PipelineError as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        except Exception as error:
            if not is_disk_full(error):
                raise
            raise dg.Failure(
                f"The disk of ADC_HOME = {self.store.home} is full: make room, or point ADC_HOME to another disk.",
                allow_retries=False,
            ) from error


def picture(png: bytes, name: str) -> dg.MarkdownMetadataValue:
    """A picture that Dagster's pages show in place."""
    return dg.MetadataValue.md(f"![{name}](data:image/png;base64,{base64.b64encode(png).decode()})")
