"""The base model, and one fine-tuned model for each kind of walk, registered with MLflow."""

import json
import math
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.records import read_record, write_record
from adc_pipeline.core.settings import with_defaults
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.manifests import Artefact
from adc_pipeline.defs.asset import declare
from adc_pipeline.defs.making import Making, Request
from adc_pipeline.defs.registration import register
from adc_pipeline.defs.stage import INPUT_OF_TRAINING, TRAINING_POOL, Stage, kind_priority
from adc_pipeline.generation.chat_template import MODEL_CARD, write_chat_template
from adc_pipeline.generation.registration import (
    REGISTERED,
    describe_version,
    is_registered,
    read_registered,
    share_weights,
)
from adc_pipeline.tracking.relay import relayed
from adc_pipeline.tracking.run import Run
from adc_pipeline.tracking.system import system_metrics
from adc_pipeline.training.architectures.origin import origin
from adc_pipeline.training.launching.process import TrainingProcess
from adc_pipeline.training.launching.tools import check_tools, files_of
from adc_pipeline.training.loop.figures import training_curves
from adc_pipeline.training.settings import BaseModelSettings, TrainingJob, TrainingSettings, uses_one_core
from adc_pipeline.training.texts.facts import FACTS
from adc_pipeline.walks.kinds import KINDS, TOP_2, WalkKind
from adc_pipeline.walks.markers import FORMATS
from adc_pipeline.walks.texts import training_texts

T = TypeVar("T", bound=TrainingSettings)

# Training is a process of its own that runs this module, so this module does not import it.
TRAINING_CODE = "adc_pipeline.training.__main__"
# Facts of a training that its settings and data fix; the others are measured.
CONSTANTS = ("steps", "tokens", "parameters", "trained_parameters", "processes")


def make_base_model(making: Making[BaseModelSettings]) -> None:
    from adc_pipeline.training.model import prepare_base_model

    # Ends the step if a signal came during the import, which swallows it.
    making.report(f"Preparing the base model {making.settings.name}")
    walks = making.request.upstream_settings[TOP_2.dataset]
    texts = training_texts(making.inputs["utterances"].path, walks, making.folder / "spill", making.engine)
    model = making.folder / "model"
    facts = prepare_base_model(making.settings, FORMATS[walks["format"]], texts, model)
    move_files(model, making.folder)
    making.describe({name: fact for name, fact in facts.items() if isinstance(fact, int | float)})
    making.metadata |= {name: str(fact) for name, fact in facts.items() if isinstance(fact, str)}


def base_model_source(request: Request[BaseModelSettings]) -> Mapping[str, Any]:
    return origin(request.settings)


def check_base_model(settings: BaseModelSettings) -> None:
    # The check imports torch, which costs seconds, and the small model needs no check.
    if settings.name != "small":
        from adc_pipeline.training import model

        model.check_base_model(settings)


base_model = declare(
    Stage(
        name="base_model",
        place="models/base",
        group="training",
        description="The model that every fine-tuning starts from and is compared with: a named or a small new one,"
        f" with marker tokens. Markers, speakers and splits are those of the settings `format`, `speakers`, `mentions`"
        f" and `shares` of {TOP_2.dataset}.",
        settings=BaseModelSettings,
        make=make_base_model,
        code=(__name__, TRAINING_CODE),
        inputs=("utterances",),
        follows={TOP_2.dataset: ("format", "speakers", "mentions", "shares")},
        kinds=("huggingface", "pytorch"),
        outside=base_model_source,
        check=check_base_model,
        priority=INPUT_OF_TRAINING,
    )
)


def model_stage(kind: WalkKind) -> Stage[TrainingSettings]:
    """Return the stage of a model fine-tuned on one dataset, registered as `adc-KIND`."""

    def training_job(request: Request[TrainingSettings]) -> TrainingJob:
        walks, base = request.inputs[kind.dataset], request.inputs["base_model"]
        check_same_markers(walks, request.store, base)
        work = request.store.home / "work" / request.name
        return TrainingJob(request.settings, walks.path, base.path, work / "output", work)

    def begin(request: Request[TrainingSettings]) -> TrainingProcess | None:
        """Start the training ahead of its step if it uses one core; others run one at a time on this machine.

        On a cluster each waits for what it asks for.
        """
        parameters = request.inputs["base_model"].counts.get("parameters", math.inf)
        if not request.placement.on_cluster and not uses_one_core(request.settings, parameters):
            return None
        return TrainingProcess(training_job(request), request.name, request.placement)

    def make(making: Making[TrainingSettings]) -> None:
        walks, job = making.inputs[kind.dataset], training_job(making.request)
        fine_tune(making, job)
        move_files(job.output, making.folder)
        # Generation renders speakers as in the training data.
        facts = read_record(making.folder / FACTS) | {"speakers": walks.settings["speakers"]}
        write_record(making.folder / FACTS, facts)
        record_training(making, facts)
        if not write_chat_template(making.folder):
            making.request.report(
                "The model has no chat template: its tokenizer, or its objective, does not let one render its texts."
            )
        registered = register(making.run, making.folder, making.request.tracking.model_name(kind.name))
        describe_version(making.run, registered, making.inputs)
        (making.folder / REGISTERED).write_text(json.dumps(registered, allow_nan=False) + "\n")
        making.metadata |= registered

    def restore(request: Request[TrainingSettings], made: Artefact, run: Run) -> Mapping[str, Any]:
        """Register the model again if its version, or the version's files, are gone from MLflow; describe it anew."""
        registered = read_registered(made.path)
        name = request.tracking.model_name(kind.name)
        if registered["registered_model"] != name or not is_registered(run, registered):
            registered = register(run, made.path, name)
            request.store.amend(made, REGISTERED, json.dumps(registered, allow_nan=False) + "\n")
            request.report(
                f"{kind.model} is registered again, as version {registered['registered_version']} of {name}: MLflow"
                " does not have it under this name."
            )
        describe_version(run, registered, request.inputs)
        return registered

    return Stage(
        name=kind.model,
        place=f"models/{kind.name}",
        group="training",
        description=f"The base model fine-tuned on {kind.name} walks, registered as {kind.registered}.",
        settings=with_defaults(TrainingSettings, epochs=kind.epochs),
        make=make,
        code=(__name__, TRAINING_CODE),
        inputs=(kind.dataset, "base_model"),
        reads=(kind.dataset,),
        kinds=("pytorch", "huggingface", "mlflow"),
        unhashed=(REGISTERED, FACTS, MODEL_CARD),
        restore=restore,
        placed=share_with_version,
        outside=lambda request: files_of(request.settings),
        check=check_tools,
        begin=begin,
        pool=TRAINING_POOL,
        priority=kind_priority(kind),
    )


def share_with_version(made: Artefact, run: Run) -> None:
    """Link MLflow's weights to those in place, which a training to the same content has not written itself."""
    model = run.client.get_logged_model(read_registered(made.path)["logged_model_id"])
    share_weights(made.path, model.artifact_location)


def record_training(making: Making[T], facts: Mapping[str, Any]) -> None:
    """Record a training's facts: what settings and data fix as parameters in MLflow, what was measured as metrics."""
    numbers = {name: fact for name, fact in facts.items() if isinstance(fact, int | float)}
    making.describe({name: fact for name, fact in numbers.items() if name in CONSTANTS})
    # The frame measures the seconds of the asset, which are those of the training and of the model's registration.
    making.count({name: fact for name, fact in numbers.items() if name not in CONSTANTS})


def fine_tune(making: Making[T], job: TrainingJob, logged: bool = True) -> None:
    """Run or resume a training job; if `logged`, log its metrics and the machine's load to MLflow while it runs.

    A process that was started for this job before its step is awaited.
    """
    begun = making.request.begun
    process = begun if isinstance(begun, TrainingProcess) else None
    if process and (process.awaited or process.job != job):
        # An earlier attempt at this step has taken what it wrote.
        process.close()
        process = None
    process = process or TrainingProcess(job, making.request.name, making.request.placement)
    with ExitStack() as held:
        held.callback(process.close)
        if process.restarted:
            making.report("Settings, data or base model have changed: training starts from the beginning.")
        if logged:
            held.enter_context(system_metrics(making.run))
            held.enter_context(relayed(job.work / "metrics.jsonl", making.run))
        process.wait(making.report)
    making.show("training", training_curves(job.work / "metrics.jsonl"))


def move_files(folder: Path, to: Path) -> None:
    """Move the files of a folder to another one, which may be on another disk, and remove it."""
    for path in folder.iterdir():
        shutil.move(path, to / path.name)
    folder.rmdir()


def check_same_markers(walks: Artefact, store: Store, base: Artefact) -> None:
    """Raise PipelineError if a dataset spells its markers differently from the base model's tokenizer."""
    ours, theirs = walks.settings["format"], store.settings_above(base, TOP_2.dataset)["format"]
    if ours != theirs:
        raise PipelineError(
            f"{walks.name} has the setting `format` {ours}, but the base model has the markers of {TOP_2.dataset},"
            f" whose `format` is {theirs}: give both the same `format` and materialize the datasets and"
            " base_model again."
        )


models = [declare(model_stage(kind)) for kind in KINDS.values()]
