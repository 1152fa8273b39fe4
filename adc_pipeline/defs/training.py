"""Dagster's view of the training: the base model, and a fine-tune of it on each dataset.

The fine-tune runs as a child process (`adc_pipeline.training`), since only a process of its own can be several,
through `accelerate launch`, on several GPUs or machines, and gives all its memory back.
"""

import json
import shutil
from pathlib import Path

import dagster as dg

from adc_pipeline.core.artefacts import Artefact, locked
from adc_pipeline.core.code_version import code_version
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.defs.corpus import utterances
from adc_pipeline.defs.run_config import SettingsConfig
from adc_pipeline.defs.walks import random_walk, top_2
from adc_pipeline.defs.workspace import Materialization, Workspace
from adc_pipeline.generation.registration import REGISTERED, register_model
from adc_pipeline.tracking.relay import relayed
from adc_pipeline.tracking.system import system_metrics
from adc_pipeline.training.checkpoint import claim, fingerprint
from adc_pipeline.training.figures import training_curves
from adc_pipeline.training.launch import launch_command
from adc_pipeline.training.origin import origin
from adc_pipeline.training.settings import BaseModelSettings, TrainingJob, TrainingSettings
from adc_pipeline.walks.coins import WalkKind
from adc_pipeline.walks.markers import FORMATS
from adc_pipeline.walks.texts import training_texts

# One training at a time, since two would share a GPU's memory: a pool of Dagster, whose limit is in dagster.yaml.
TRAINING_POOL = "training"
# Bytes: what a sentence needs, with what the system rounds it up to.
NO_ROOM = 64 << 10


@dg.asset(
    group_name="training",
    deps=[utterances, top_2],
    kinds={"huggingface", "pytorch"},
    code_version=code_version("adc_pipeline.defs.training", "adc_pipeline.training.__main__"),
)
def base_model(
    context: dg.AssetExecutionContext, config: SettingsConfig[BaseModelSettings], workspace: Workspace
) -> dg.MaterializeResult:
    """What both fine-tunes start from and are compared with: a named model or a small new one, with markers.

    It takes the markers, the speakers and the split from top-2's settings.
    """
    with workspace.materializing(context, config) as making:
        walks = making.input("top_2")
        read = making.input("utterances", walks.inputs["utterances"])
        if making.unchanged(origin(making.settings)):
            return making.result()
        from adc_pipeline.training.model import prepare_base_model

        texts = training_texts(read.path, walks.settings, making.folder / "spill", making.engine)
        model = making.folder / "model"
        facts = prepare_base_model(making.settings, FORMATS[walks.settings["format"]], texts, model)
        lift(model)
        making.count({name: fact for name, fact in facts.items() if isinstance(fact, int | float)})
        making.metadata |= {name: str(fact) for name, fact in facts.items() if isinstance(fact, str)}
    return making.result()


def model_asset(kind: WalkKind, dataset: dg.AssetsDefinition) -> dg.AssetsDefinition:
    """The asset of a model fine-tuned on one dataset, and registered with MLflow as `adc-KIND`."""
    source = dataset.key.to_user_string()

    @dg.asset(
        name=f"{source}_model",
        description=f"The base model fine-tuned on {kind} walks, registered as adc-{kind}.",
        group_name="training",
        deps=[dataset, base_model],
        kinds={"pytorch", "huggingface", "mlflow"},
        code_version=code_version("adc_pipeline.defs.training", "adc_pipeline.training.__main__"),
        pool=TRAINING_POOL,
    )
    def model(
        context: dg.AssetExecutionContext,
        config: SettingsConfig[TrainingSettings],
        workspace: Workspace,
        pipes: dg.PipesSubprocessClient,
    ) -> dg.MaterializeResult:
        with workspace.materializing(context, config) as making:
            walks, base = making.input(source), making.input("base_model")
            if making.unchanged():
                return making.result()
            check_same_markers(walks, workspace.store.version("top_2", base.inputs["top_2"]))
            output, work = making.folder / "model", workspace.store.home / "work" / making.name
            fine_tune(context, pipes, making, TrainingJob(making.settings, walks.path, base.path, output, work))
            lift(output)
            facts = json.loads((making.folder / "training.json").read_text())
            # How posts are spelt, which whoever talks with the model has to know.
            facts["speakers"] = walks.settings["speakers"]
            (making.folder / "training.json").write_text(json.dumps(facts, indent=2) + "\n")
            making.count({name: fact for name, fact in facts.items() if isinstance(fact, int | float)})
            registered = register_model(making.run, making.folder, f"adc-{kind}")
            (making.folder / REGISTERED).write_text(json.dumps(registered) + "\n")
            making.metadata |= registered
        return making.result()

    return model


def fine_tune(
    context: dg.AssetExecutionContext,
    pipes: dg.PipesSubprocessClient,
    making: Materialization[TrainingSettings],
    job: TrainingJob,
) -> None:
    """Run a training job to its end, or go on with it; its figures and the machine's load go to MLflow meanwhile."""
    job.work.mkdir(parents=True, exist_ok=True)
    with locked(job.work) as free:
        if not free:
            raise PipelineError(
                f"Another run is training {making.name} in ADC_HOME = {making.store.home}: wait for it to end, or give"
                " this run an ADC_HOME of its own."
            )
        # Before anything is relayed, so that no figure of another job is.
        if claim(job.work, fingerprint(job)):
            context.log.info("Settings, data or base model have changed: starting anew.")
        (job.work / "job.json").write_text(job.to_json())
        with system_metrics(making.run), relayed(job.work / "metrics.jsonl", making.run):
            run_training(context, pipes, job.work / "job.json", making.settings.accelerate_config)
        making.show("training", training_curves(job.work / "metrics.jsonl"))


def run_training(
    context: dg.AssetExecutionContext, pipes: dg.PipesSubprocessClient, job: Path, accelerate_config: str
) -> None:
    """Run the training process to its end; a fault it has a sentence for is raised with that sentence."""
    try:
        pipes.run(context=context, command=launch_command(job, accelerate_config))
    except Exception as error:
        failure = job.with_name("failure.txt")
        if said := failure.read_text().strip() if failure.exists() else "":
            raise PipelineError(said) from error
        if shutil.disk_usage(job.parent).free < NO_ROOM:
            # Not even the sentence could be written.
            raise PipelineError(
                f"The disk of ADC_HOME is full, where {job.parent} lies: make room and run it again, which goes on from"
                " the last checkpoint."
            ) from error
        raise


def lift(folder: Path) -> None:
    """Move the files of a folder one up, to where a reader of the artefact looks for them."""
    for path in folder.iterdir():
        path.rename(folder.parent / path.name)
    folder.rmdir()


def check_same_markers(walks: Artefact, tokenized_for: Artefact) -> None:
    """Raise PipelineError if a dataset spells its markers otherwise than the base model's tokenizer."""
    ours, theirs = walks.settings["format"], tokenized_for.settings["format"]
    if ours != theirs:
        raise PipelineError(
            f"{walks.name} has the markers of format {ours} and top_2, from which the base model has its own, those"
            f" of {theirs}: give both the same setting format and materialize them again."
        )


top_2_model = model_asset("top-2", top_2)
random_walk_model = model_asset("random-walk", random_walk)
