"""The base model, and one fine-tuned model for each kind of walk, registered with MLflow."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from adc_pipeline.core.artefacts import Artefact, locked
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.defs.asset import declare
from adc_pipeline.defs.making import Making, Request
from adc_pipeline.defs.stage import Stage
from adc_pipeline.generation.registration import REGISTERED, register_model
from adc_pipeline.tracking.relay import relayed
from adc_pipeline.tracking.system import system_metrics
from adc_pipeline.training.checkpoint import claim, fingerprint
from adc_pipeline.training.figures import training_curves
from adc_pipeline.training.launch import launch_command
from adc_pipeline.training.origin import origin
from adc_pipeline.training.settings import BaseModelSettings, TrainingJob, TrainingSettings
from adc_pipeline.walks.kinds import KINDS, TOP_2, WalkKind
from adc_pipeline.walks.markers import FORMATS
from adc_pipeline.walks.texts import training_texts

# One training at a time, since two would share a GPU's memory. Dagster limits the pool in dagster.yaml.
TRAINING_POOL = "training"
# The training runs as a process by this name, so no import of ours leads to it.
TRAINING_CODE = "adc_pipeline.training.__main__"
# Bytes that writing a sentence needs, rounded up to what the file system allocates.
NO_ROOM = 64 << 10


def make_base_model(making: Making[BaseModelSettings]) -> None:
    from adc_pipeline.training.model import prepare_base_model

    walks, utterances = making.inputs[TOP_2.dataset], making.inputs["utterances"]
    texts = training_texts(utterances.path, walks.settings, making.folder / "spill", making.engine)
    model = making.folder / "model"
    facts = prepare_base_model(making.settings, FORMATS[walks.settings["format"]], texts, model)
    move_up(model)
    making.count({name: fact for name, fact in facts.items() if isinstance(fact, int | float)})
    making.metadata |= {name: str(fact) for name, fact in facts.items() if isinstance(fact, str)}


def base_model_source(request: Request[BaseModelSettings]) -> Mapping[str, Any]:
    return origin(request.settings)


def check_base_model(settings: BaseModelSettings) -> None:
    # Imports torch, which the small model does not need yet.
    if settings.name != "small":
        from adc_pipeline.training import model

        model.check_base_model(settings)


base_model = declare(
    Stage(
        name="base_model",
        place="models/base",
        group="training",
        description="What every fine-tune starts from and is compared with: a named model or a small new one, with"
        " markers. It takes the markers, the speakers and the split from top-2's settings.",
        settings=BaseModelSettings,
        make=make_base_model,
        code=(__name__, TRAINING_CODE),
        inputs=(TOP_2.dataset, "utterances"),
        kinds=("huggingface", "pytorch"),
        outside=base_model_source,
        check=check_base_model,
    )
)


def model_stage(kind: WalkKind) -> Stage[TrainingSettings]:
    """Return the stage of a model fine-tuned on one dataset, registered as `adc-KIND`."""

    def make(making: Making[TrainingSettings]) -> None:
        walks, base = making.inputs[kind.dataset], making.inputs["base_model"]
        check_same_markers(walks, making.store.version(TOP_2.dataset, base.inputs[TOP_2.dataset]))
        output, work = making.folder / "model", making.store.home / "work" / making.request.name
        fine_tune(making, TrainingJob(making.settings, walks.path, base.path, output, work))
        move_up(output)
        facts = json.loads((making.folder / "training.json").read_text())
        # Whoever talks with the model has to lay out speakers as the training did.
        facts["speakers"] = walks.settings["speakers"]
        (making.folder / "training.json").write_text(json.dumps(facts, indent=2) + "\n")
        making.count({name: fact for name, fact in facts.items() if isinstance(fact, int | float)})
        registered = register_model(making.run, making.folder, kind.registered)
        (making.folder / REGISTERED).write_text(json.dumps(registered) + "\n")
        making.metadata |= registered

    return Stage(
        name=kind.model,
        place=f"models/{kind.name}",
        group="training",
        description=f"The base model fine-tuned on {kind.name} walks, registered as {kind.registered}.",
        settings=TrainingSettings,
        make=make,
        code=(__name__, TRAINING_CODE),
        inputs=(kind.dataset, "base_model"),
        kinds=("pytorch", "huggingface", "mlflow"),
        unhashed=(REGISTERED, "training.json"),
        pool=TRAINING_POOL,
    )


def fine_tune(making: Making[TrainingSettings], job: TrainingJob) -> None:
    """Run a training job to its end, or resume it; relay its metrics and the machine's load to MLflow meanwhile."""
    job.work.mkdir(parents=True, exist_ok=True)
    with locked(job.work) as free:
        if not free:
            raise PipelineError(
                f"Another run is training {making.request.name} in ADC_HOME = {making.store.home}: wait for it to end,"
                " or give this run an ADC_HOME of its own."
            )
        # Before the relay starts, so that it sends no metrics of another job.
        if claim(job.work, fingerprint(job)):
            making.report("Settings, data or base model have changed: the training starts from the beginning.")
        (job.work / "job.json").write_text(job.to_json())
        with system_metrics(making.run), relayed(job.work / "metrics.jsonl", making.run):
            run_training(making.request.context, job.work / "job.json", making.settings.accelerate_config)
        making.show("training", training_curves(job.work / "metrics.jsonl"))


def run_training(context: dg.AssetExecutionContext, job: Path, accelerate_config: str) -> None:
    """Run the training process to its end; raise PipelineError with the sentence that it ended with."""
    try:
        dg.PipesSubprocessClient().run(context=context, command=launch_command(job, accelerate_config))
    except Exception as error:
        failure = job.with_name("failure.txt")
        if sentence := failure.read_text().strip() if failure.exists() else "":
            raise PipelineError(sentence) from error
        if shutil.disk_usage(job.parent).free < NO_ROOM:
            # Not even the sentence could be written.
            raise PipelineError(
                f"The disk of ADC_HOME is full, where {job.parent} lies: make room and run it again, which resumes from"
                " the last checkpoint."
            ) from error
        raise


def move_up(folder: Path) -> None:
    """Move a folder's files to its parent, where a reader of the artefact looks for them."""
    for path in folder.iterdir():
        path.rename(folder.parent / path.name)
    folder.rmdir()


def check_same_markers(walks: Artefact, tokenized_for: Artefact) -> None:
    """Raise PipelineError if a dataset spells its markers differently from the base model's tokenizer."""
    ours, theirs = walks.settings["format"], tokenized_for.settings["format"]
    if ours != theirs:
        raise PipelineError(
            f"{walks.name} has the markers of format {ours}, and {tokenized_for.name}, from which the base model has"
            f" its own, those of {theirs}: give both the same setting `format` and materialize them again."
        )


models = [declare(model_stage(kind)) for kind in KINDS.values()]
