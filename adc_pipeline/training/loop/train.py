"""The training loop, from the job to the folder of the fine-tuned model.

Accelerate provides devices, mixed precision and processes. The loop is our own because a packed step has to be
normalised over all its tokens, resumed to the bit and started quickly (importing transformers' Trainer alone takes
seconds). `preparation` has the steps before the first update, `run` the steps of the loop.
"""

from typing import Any

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.training.export.sameness import check_adapters
from adc_pipeline.training.export.writing import export_model
from adc_pipeline.training.loop import devices
from adc_pipeline.training.loop.checkpoint import checkpoints
from adc_pipeline.training.loop.preparation import check_devices, load_base, load_data, prepare_work
from adc_pipeline.training.loop.progress import Progress, duration
from adc_pipeline.training.loop.run import Run, auxiliary_loss
from adc_pipeline.training.loop.signals import StopSignal
from adc_pipeline.training.loop.stopping import translated_errors
from adc_pipeline.training.settings import TrainingJob, uses_one_core
from adc_pipeline.training.texts.tokens import MarkerTokenizer


def train(job: TrainingJob) -> dict[str, Any]:
    """Run a job, or resume it; return the facts that `training.json` in the output contains.

    Raises PipelineError for an empty training split, pieces longer than the model's context, a loss that is not finite
    or jumps, too little memory or disk, and, after a checkpoint, for a signal to stop.
    """
    with translated_errors(job):
        return _train(job)


def _train(job: TrainingJob) -> dict[str, Any]:
    accelerator = devices.start()
    check_devices(job.settings, accelerator)
    tokenizer = MarkerTokenizer.load(job.base_model)
    base = load_base(job, accelerator)
    if uses_one_core(job.settings, base.num_parameters()):
        devices.use_one_core(accelerator)
    auxiliary = auxiliary_loss(base)
    restarted = prepare_work(job, tokenizer, accelerator)
    data = load_data(job, base, accelerator)
    if job.settings.lora_rank and accelerator.is_main_process and not checkpoints(job.work):
        check_adapters(job, tokenizer.marker_ids)
    run = Run(job, accelerator, base, tokenizer, data, auxiliary)
    run.resume()
    with (
        Progress(job.work, run.position.step, data.steps, accelerator.is_main_process) as progress,
        StopSignal() as stop,
    ):
        announce(progress, run, restarted)
        for step in range(run.position.step + 1, data.steps + 1):
            stopping = run.update(step, stop.received)
            progress.advance()
            if run.is_due(step, stopping):
                run.check_steps(step)
                run.report(step, progress)
            if run.saves(step, stopping) or step == data.steps:
                run.check_weights(step)
            if run.saves(step, stopping):
                run.save()
            if stopping and step < data.steps:
                raise PipelineError(
                    f"Stopped by {stop.name} after step {step} of {data.steps}, which is saved in `work` {job.work};"
                    " run the same job again to resume from there."
                )
        facts = run.facts()
        export_model(accelerator, run.model, tokenizer, job, facts, run.read_text())
        done = f"{data.steps} steps, {run.position.tokens:,} tokens in {duration(run.position.seconds)}"
        progress.say(f"{done}: {job.output} is written.")
    accelerator.end_training()
    return facts


def announce(progress: Progress, run: Run, restarted: bool) -> None:
    """Say what a person wants to know before the first step."""
    data, split = run.data, run.data.train
    if restarted:
        other = "other settings, data or base model, or another version of this package"
        progress.say(f"{run.job.work} belonged to another job ({other}): starting over.")
    if run.position.step:
        progress.say(f"Resuming after step {run.position.step} of {data.steps}.")
    progress.say(
        f"{split.split.walks:,} walks, {len(split.split.ids):,} tokens: {data.steps} steps of"
        f" {data.layout.rows_per_step} x {split.row} tokens, {split.fill:.1%} of them filled, on"
        f" {devices.device_name(run.accelerator)}."
    )
    lost = split.split.unreadable
    if "share" in lost:
        named = " ".join(lost["characters"])
        progress.say(f"The tokenizer does not know {lost['share']:.2%} of the characters, such as {named}.")
    if "changed" in lost:
        progress.say(
            f"The tokenizer changes {lost['changed']:.2%} of the texts ({', '.join(lost['changes'])}): the model learns"
            " and writes them so."
        )
    if run.adapted:
        progress.say(str(run.adapted))
    if run.auxiliary_loss:
        progress.say(f"Auxiliary loss of the routers, which the base model asks for: {run.auxiliary_loss}.")
    if split.separation == "passes":
        progress.say(
            "The base model cannot keep packed walks apart, so each walk has a forward pass of its own: slower."
        )
    counts = split.pieces.counts
    if counts["walks_cut"]:
        progress.say(
            f"{counts['walks_cut']:,} walks are longer than `sequence_length` {run.settings.sequence_length} and were"
            f" cut; {counts['background_tokens_left_out']:,} tokens of overlong backgrounds are excluded."
        )
