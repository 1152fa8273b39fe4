"""What a stage's function gets: the request (settings, inputs, engine) and the means to write, count and show."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import dagster as dg

from adc_pipeline.core.ahead import Begun
from adc_pipeline.core.engine import Engine
from adc_pipeline.core.pictures import png
from adc_pipeline.core.placement import Placement
from adc_pipeline.core.settings import Settings
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.content import SHOWN, refuse_damaged
from adc_pipeline.core.store.manifests import Artefact, as_json
from adc_pipeline.core.terminal import printable
from adc_pipeline.corpus.changes import Changes
from adc_pipeline.defs.interrupts import raise_again
from adc_pipeline.tracking.run import Run
from adc_pipeline.tracking.runs import Tracking
from adc_pipeline.walks.splits import SPLITS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

S = TypeVar("S", bound=Settings)
# Keeps the two ends of an interval on one line.
NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"
# Of an asset, or of the op of a job that makes one.
Context = dg.AssetExecutionContext | dg.OpExecutionContext


@dataclass(frozen=True)
class Request(Generic[S]):
    """An artefact to be made or reused: by which settings, from which inputs, with which code."""

    name: str
    # The folder below ADC_HOME where people find the artefact.
    place: str
    settings: S
    # The upstream artefacts, with their settings where the stage declares that it reads these.
    inputs: Mapping[str, Artefact]
    upstream_settings: Mapping[str, Mapping[str, Any]]
    code_version: str
    store: Store
    tracking: Tracking
    engine: Engine
    context: Context
    # What the stage's `begin` has started ahead of this step.
    begun: Begun | None = None
    # Where a training of the stage runs.
    placement: Placement = field(default_factory=Placement)

    @property
    def plain_settings(self) -> dict[str, Any]:
        return asdict(self.settings)

    @property
    def digests(self) -> dict[str, str]:
        return {name: artefact.digest for name, artefact in self.inputs.items()}

    def upstream(self, name: str) -> Artefact:
        """Return an artefact that an input was made from, with the settings that the input was made by.

        Raise PipelineError if it is damaged.
        """
        digest = next(made.inputs[name] for made in self.inputs.values() if name in made.inputs)
        made = self.store.version(name, digest)
        refuse_damaged(made)
        return replace(made, settings=dict(self.upstream_settings[name]))

    def report(self, message: str) -> None:
        """Write a line to the run's log; end the step if a signal to do so was lost."""
        raise_again()
        self.context.log.info(printable(message, kept=NO_BREAK_SPACE))


@dataclass
class Making(Generic[S]):
    """An artefact being made in `folder`, recorded in the MLflow run `run`."""

    request: Request[S]
    folder: Path
    run: Run
    # What was read from outside ADC_HOME; compared by the next run.
    outside: dict[str, Any]
    counts: dict[str, float] = field(default_factory=dict)
    # What Dagster shows.
    metadata: dict[str, Any] = field(default_factory=dict)
    # The pictures among it, and the files in MLflow: paths in the folder, by name.
    pictures: dict[str, str] = field(default_factory=dict)
    # Additions to the row `settings` in Dagster, such as the detected format.
    found: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, str] = field(default_factory=dict)
    # The digest, if the content lies outside the folder.
    digest: str = ""

    @property
    def settings(self) -> S:
        return self.request.settings

    @property
    def inputs(self) -> Mapping[str, Artefact]:
        return self.request.inputs

    @property
    def engine(self) -> Engine:
        return self.request.engine

    @property
    def store(self) -> Store:
        return self.request.store

    def report(self, message: str) -> None:
        """Write a line to the run's log."""
        self.request.report(message)

    def warn(self, message: str) -> None:
        """Write a warning to the run's log."""
        self.request.context.log.warning(printable(message, kept=NO_BREAK_SPACE))

    def progress(self, what: str, done: int, total: int) -> None:
        """Write to the run's log how much of a step is done."""
        self.report(f"{what}: {done} of {total}")

    def count(self, counts: Mapping[str, float]) -> None:
        """Record counts in the manifest, in MLflow and in Dagster.

        MLflow's metrics have no counts by split: its record of the artefact has all counts.
        """
        self.counts |= counts
        self.run.metrics({name: count for name, count in counts.items() if name.rpartition(".")[2] not in SPLITS})

    def describe(self, facts: Mapping[str, float]) -> None:
        """Record numbers that settings and inputs fix: as counts, but as parameters in MLflow."""
        self.counts |= facts
        settings = self.request.plain_settings
        # MLflow has the settings as parameters already, and does not take another value.
        self.run.describe({name: fact for name, fact in facts.items() if name not in settings})

    def show(self, name: str, figure: "Figure") -> None:
        """Show a picture in MLflow and in Dagster. Rendering takes a second or so, so it is done once."""
        path = self.folder / SHOWN / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(png(figure))
        self.log_file(path)
        self.pictures[name] = str(path.relative_to(self.folder))

    def show_plots(self, folder: Path) -> None:
        """Show in Dagster the pictures in a folder of the artefact, under their file names, unlike the figures."""
        self.pictures |= {path.name: str(path.relative_to(self.folder)) for path in sorted(folder.glob("*.png"))}

    def log_files(self, folder: Path) -> None:
        """Log the files and folders in a folder of the artefact to MLflow."""
        for path in sorted(folder.iterdir()):
            if path.name != SHOWN:
                self.log_file(path)

    def log_file(self, path: Path) -> None:
        self.run.file(path)
        self.artifacts[path.name] = str(path.relative_to(self.folder))

    def previous(self) -> Artefact | None:
        """Return the current version if its parts can be reused: made by the same code, and intact."""
        made = self.store.intact(self.request.name)
        return made if made and made.code_version == self.request.code_version else None

    def updated(self) -> Artefact | None:
        """Return the current version if it can be updated by what has changed in the inputs (`corpus.changes`).

        It has the same settings, and each of its inputs is the version that this run's input was updated from.
        """
        made = self.previous()
        if made is None or made.settings != as_json(self.request.plain_settings):
            return None
        changes = {name: Changes.read(artefact.path) for name, artefact in self.inputs.items()}
        before = {name: each.previous for name, each in changes.items() if each}
        return made if before == made.inputs else None

    @contextmanager
    def unfinished(self, **others: str) -> Iterator[Path]:
        """Yield a folder for finished parts, which the next attempt at the same work reuses if this one fails.

        `others` names what the work is made of besides inputs, settings and code.
        """
        request = self.request
        work = {
            "inputs": request.digests,
            "upstream_settings": request.upstream_settings,
            "settings": request.plain_settings,
            "code": request.code_version,
            **others,
        }
        key = hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()[:16]
        with self.store.kept(request.name, key) as folder:
            yield folder
