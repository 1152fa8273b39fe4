"""Declare an asset once.

`asset.declare(Stage(...))` makes the Dagster asset and registers the stage in `STAGES`; `declare_for_job` does so for
an asset that only a job makes. Everything that has to know an asset reads it there: the frame (`frame.py`), the check
of settings at a run's start (`look_ahead.py`), the views of `adc.duckdb` (`database.py`), the definitions and the docs.
A stage's own work is a plain function of a `Making`; what stands around it (lock, temporary folder, MLflow run, cache
check, metadata) is the frame's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import dagster as dg

from adc_pipeline.core.ahead import Begun
from adc_pipeline.core.errors import PipelineError, did_you_mean
from adc_pipeline.core.settings import Settings
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.manifests import Artefact
from adc_pipeline.defs.making import Context, Making, Request
from adc_pipeline.tracking.run import Run
from adc_pipeline.walks.kinds import KINDS, WalkKind

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Stage(Generic[S]):
    """One asset: its artefact, what it is made from, and the function that makes it."""

    name: str
    # The folder below ADC_HOME where people find the current version.
    place: str
    group: str
    description: str
    settings: type[S]
    make: Callable[[Making[S]], None]
    # Modules whose code, with all that they import, decides the content; see `core.code_version`.
    code: tuple[str, ...]
    # Upstream assets, in the order in which `Store.inputs` finds the versions that fit together.
    inputs: tuple[str, ...] = ()
    # Upstream assets, direct or not, whose settings decide the content besides their files. A stage is given the
    # settings of no other, and is made again when one of them changes.
    reads: tuple[str, ...] = ()
    # Settings of assets that are not upstream, by asset, which decide the content too: those that an asset has in the
    # run, or else of its current version. A change of them makes this stage stale, and the asset's files do not.
    follows: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    kinds: tuple[str, ...] = ()
    # Returns the Parquet files of the asset's table in its folder, whose columns and rows Dagster and MLflow show.
    table: Callable[[Path], Sequence[str]] | None = None
    # Names of files that describe the making rather than the content; the digest leaves them out.
    unhashed: tuple[str, ...] = ()
    # Creates the artefact's views in `adc.duckdb` from its folder.
    view: "Callable[[DuckDBPyConnection, Path], None] | None" = None
    # Completes settings that depend on the environment or on the partition, given as its key.
    complete: Callable[[S, str | None], S] | None = None
    # The settings that `complete` gives if neither a run nor the environment sets any, where the environment counts.
    unset: S | None = None
    # Returns what is read from outside ADC_HOME, as JSON; None as a value stands for what cannot be known now.
    outside: Callable[[Request[S]], Mapping[str, Any]] | None = None
    # Chooses the artefacts to read where they are not simply those of `inputs`.
    choose: Callable[[Store], Mapping[str, Artefact]] | None = None
    # Brings back what a reused artefact has outside its folder, beside its MLflow run and that run's files; returns
    # what of it Dagster shows.
    restore: Callable[[Request[S], Artefact, Run], Mapping[str, Any]] | None = None
    # Called once an artefact that was made is in place, which may be a version that was there with the same content.
    placed: Callable[[Artefact, Run], None] | None = None
    # Raises PipelineError at the start of a run for settings that cannot work; may look at files and the network.
    check: Callable[[S], None] | None = None
    # The count that the check `volume` compares with that of the last version; without one there is no check.
    volume: str = ""
    # Starts work of the stage that may run beside the making of other assets, once the run has made the inputs; None if
    # it is not to. The stage's own step finds it as `Request.begun`.
    begin: Callable[[Request[S]], Begun | None] | None = None
    # A run makes assets of a higher priority first, of those whose inputs are there.
    priority: int = 0
    # Dagster's queue starts one run at a time with an asset of a pool (dagster.yaml), however the run was started.
    pool: str = "places"
    # Who is asked about the asset, as Dagster's pages show it.
    owner: str = "team:data"
    partitions: dg.PartitionsDefinition | None = None
    partition_name: Callable[[str], str] | None = None

    def artefact_name(self, context: Context) -> str:
        """Return the artefact's name: the asset's, and for a partition `ASSET/PARTITION`.

        Raise PipelineError if a run of a partitioned asset names no partition, or one that the asset does not have.
        """
        if self.partitions is None or self.partition_name is None:
            return self.name
        # Dagster's pages offer those that there are, and its commands take any text.
        key = context.partition_key if context.has_partition_key else ""
        if not self.partitions.has_partition_key(key):
            keys = self.partitions.get_partition_keys()
            wrong = f"names {key}, which is none{did_you_mean(key, keys)}" if key else "names none"
            raise PipelineError(
                f"A run makes one partition of {self.name}, and this one {wrong}: choose it in Dagster's page, or by"
                f""" --tags '{{"dagster/partition": "{keys[0]}"}}' of the command."""
            )
        return f"{self.name}/{self.partition_name(key)}"

    def defaults(self, partition: str | None = None) -> S:
        """Return the settings of the asset, or of a partition given as its key, if nobody sets any."""
        if self.unset is not None:
            return self.unset
        if self.complete is None or (self.partitions and partition is None):
            return self.settings()
        return self.complete(self.settings(), partition)

    def read(self, store: Store) -> Mapping[str, Artefact]:
        """Return the artefacts that this stage reads if it is made now."""
        return self.choose(store) if self.choose else store.inputs(self.inputs)


# One run that trains at a time, since two would share a GPU's memory. Dagster limits the pool in dagster.yaml.
TRAINING_POOL = "training"
# The priority of what every training reads, so that trainings begin before other assets are made.
INPUT_OF_TRAINING = 1


def kind_priority(kind: WalkKind) -> int:
    """Return the priority of a kind's model and its evaluation: the longest training comes last.

    Trainings of small models run beside the steps of the run, so the evaluations of the others fill its time.
    """
    return -1 - sorted(KINDS.values(), key=lambda each: each.epochs).index(kind)


# Every declared stage, by name.
STAGES: dict[str, Stage[Any]] = {}
# The settings of every asset and op, by name.
SETTINGS: dict[str, type[Settings]] = {}
