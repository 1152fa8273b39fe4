"""The base model, and one fine-tuned model for each kind of walk, registered with MLflow."""

import json
import re
import shutil
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg

from adc_pipeline.core.artefacts import Artefact, Store, locked
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.settings import with_defaults
from adc_pipeline.defs.asset import declare
from adc_pipeline.defs.making import Context, Making, Request
from adc_pipeline.defs.registration import register
from adc_pipeline.defs.stage import Stage
from adc_pipeline.generation.chat_template import MODEL_CARD, write_chat_template
from adc_pipeline.generation.registration import (
    REGISTERED,
    describe_version,
    is_registered,
    read_registered,
)
from adc_pipeline.tracking.relay import relayed
from adc_pipeline.tracking.runs import Run
from adc_pipeline.tracking.system import system_metrics
from adc_pipeline.training.checkpoint import claim, fingerprint
from adc_pipeline.training.figures import training_curves
from adc_pipeline.training.launch import launch_command
from adc_pipeline.training.origin import origin
from adc_pipeline.training.settings import BaseModelSettings, TrainingJob, TrainingSettings
from adc_pipeline.training.tools import check_tools
from adc_pipeline.walks.kinds import KINDS, TOP_2, WalkKind
from adc_pipeline.walks.markers import FORMATS
from adc_pipeline.walks.texts import training_texts

T = TypeVar("T", bound=TrainingSettings)

# One training at a time, since two would share a GPU's memory. Dagster limits the pool in dagster.yaml.
TRAINING_POOL = "training"
# How long an interrupted training may take to save its checkpoint before it is abandoned.
SECONDS_TO_SAVE = 600
# Training is a process of its own that runs this module, so this module does not import it.
TRAINING_CODE = "adc_pipeline.training.__main__"
# Facts of a training that its settings and data fix; the others are measured.
CONSTANTS = ("steps", "tokens", "parameters", "trained_parameters", "processes")
# With fewer free bytes than this, a process may fail to write even its error message.
NO_ROOM = 64 << 10
# How Dagster states that SIGKILL ended a process, directly or below a shell.
KILLED = re.compile(r"failed with code (-9|137)\b")


def make_base_model(making: Making[BaseModelSettings]) -> None:
    from adc_pipeline.training.model import prepare_base_model

    # Ends the step if a signal came during the import, which swallows it.
    making.report(f"Preparing the base model {making.settings.name}")
    walks = making.request.upstream_settings[TOP_2.dataset]
    texts = training_texts(making.inputs["utterances"].path, walks, making.folder / "spill", making.engine)
    model = making.folder / "model"
    facts = prepare_base_model(making.settings, FORMATS[walks["format"]], texts, model)
    move_up(model)
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
    )
)


def model_stage(kind: WalkKind) -> Stage[TrainingSettings]:
    """Return the stage of a model fine-tuned on one dataset, registered as `adc-KIND`."""

    def make(making: Making[TrainingSettings]) -> None:
        walks, base = making.inputs[kind.dataset], making.inputs["base_model"]
        check_same_markers(walks, making.store, base)
        output, work = making.folder / "model", making.store.home / "work" / making.request.name
        fine_tune(making, TrainingJob(making.settings, walks.path, base.path, output, work))
        move_up(output)
        facts = json.loads((making.folder / "training.json").read_text())
        # Generation renders speakers as in the training data.
        facts["speakers"] = walks.settings["speakers"]
        (making.folder / "training.json").write_text(json.dumps(facts, indent=2, allow_nan=False) + "\n")
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
        """Register the model again if its version, or the version's files, are gone from MLflow."""
        registered = read_registered(made.path)
        name = request.tracking.model_name(kind.name)
        if registered["registered_model"] != name or not is_registered(run, registered):
            registered = register(run, made.path, name)
            describe_version(run, registered, request.inputs)
            request.store.amend(made, REGISTERED, json.dumps(registered, allow_nan=False) + "\n")
            request.report(
                f"{kind.model} is registered again, as version {registered['registered_version']} of {name}: MLflow"
                " does not have it under this name."
            )
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
        unhashed=(REGISTERED, "training.json", MODEL_CARD),
        restore=restore,
        check=check_tools,
        pool=TRAINING_POOL,
    )


def record_training(making: Making[T], facts: Mapping[str, Any]) -> None:
    """Record a training's facts: what settings and data fix as parameters in MLflow, what was measured as metrics."""
    numbers = {name: fact for name, fact in facts.items() if isinstance(fact, int | float)}
    making.describe({name: fact for name, fact in numbers.items() if name in CONSTANTS})
    # The frame measures the seconds of the asset, which are those of the training and of the model's registration.
    making.count({name: fact for name, fact in numbers.items() if name not in CONSTANTS})


def fine_tune(making: Making[T], job: TrainingJob, logged: bool = True) -> None:
    """Run or resume a training job; if `logged`, log its metrics and the machine's load to MLflow while it runs."""
    job.work.mkdir(parents=True, exist_ok=True)
    with locked(job.work) as free:
        if not free:
            raise PipelineError(
                f"Another run is training {making.request.name} in ADC_HOME = {making.store.home}: wait for it to end,"
                " or give this run an ADC_HOME of its own."
            )
        # Before the relay starts, so that it sends no metrics of another job.
        if claim(job.work, fingerprint(job)):
            making.report("Settings, data or base model have changed: training starts from the beginning.")
        (job.work / "job.json").write_text(job.to_json())
        with ExitStack() as logging:
            if logged:
                logging.enter_context(system_metrics(making.run))
                logging.enter_context(relayed(job.work / "metrics.jsonl", making.run))
            run_training(making.request.context, job)
        making.show("training", training_curves(job.work / "metrics.jsonl"))


def run_training(context: Context, job: TrainingJob) -> None:
    """Run the process of a job whose `job.json` is written, to its end; raise PipelineError if it fails.

    The message is the process's own. A process that the system kills leaves none.
    """
    # Dagster's own client of this class uses a function that Dagster announces as a preview.
    warnings.filterwarnings("ignore", "Function `PipesMessageReader.expected_writer_count`", dg.PreviewWarning)
    try:
        dg.PipesSubprocessClient(termination_timeout_seconds=SECONDS_TO_SAVE).run(
            context=context, command=launch_command(job.work / "job.json", job.settings.accelerate_config)
        )
    except Exception as error:
        failure = job.work / "failure.txt"
        if message := failure.read_text().strip() if failure.exists() else "":
            raise PipelineError(message) from error
        if shutil.disk_usage(job.work).free < NO_ROOM:
            # The process could not even write its error message.
            raise PipelineError(
                f"The disk of ADC_HOME is full ({job.work}): make room and run again to resume from the last"
                " checkpoint."
            ) from error
        if KILLED.search(str(error)):
            # Imported here because it imports torch, which Dagster's definitions do without.
            from adc_pipeline.training.stopping import memory_advice

            raise PipelineError(
                "The training process was killed, as Linux does when the machine has no memory left;"
                f" {memory_advice(job.settings)}."
            ) from error
        raise


def move_up(folder: Path) -> None:
    """Move a folder's files to its parent, the artefact's own folder."""
    for path in folder.iterdir():
        path.rename(folder.parent / path.name)
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
