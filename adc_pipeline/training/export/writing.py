"""Export the fine-tuned model: a folder with plain weights, the tokenizer, and `training.json` with the facts."""

from typing import TYPE_CHECKING, Any

import torch

from adc_pipeline.core.atomic import atomic_folder
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.records import write_record
from adc_pipeline.training.architectures.adapters import merged
from adc_pipeline.training.architectures.loading import load_model
from adc_pipeline.training.architectures.precision import broken_tensor, convert, stored_type
from adc_pipeline.training.export.earlier_readers import spell_for_transformers_4
from adc_pipeline.training.export.sameness import ReadText, check_written
from adc_pipeline.training.settings import TrainingJob
from adc_pipeline.training.texts.facts import FACTS
from adc_pipeline.training.texts.tokens import MarkerTokenizer

if TYPE_CHECKING:
    from accelerate import Accelerator

# TokenLosses prefixes the names of the model's weights with this.
PREFIX = "model."


def export_model(
    accelerator: "Accelerator",
    model: torch.nn.Module,
    tokenizer: MarkerTokenizer,
    job: TrainingJob,
    facts: dict[str, Any],
    trained: ReadText,
) -> None:
    """Write `job.output` in one step; every process calls it, since FSDP gathers the weights from all.

    The weights are loaded into the base model, read again on the CPU: whatever devices, shards, adapters and compiled
    blocks were used, the saved model is plain. What was written has to give the text `trained` its losses. This takes
    the time of reading the model twice and as much memory again.
    """
    gathered = accelerator.get_state_dict(model)
    if accelerator.is_main_process:
        weights = {name.removeprefix(PREFIX): tensor for name, tensor in gathered.items()}
        plain = load_model(job.base_model)
        if job.settings.lora_rank:
            plain = merged(plain, job.settings, tokenizer.marker_ids, weights)
        else:
            plain.load_state_dict(weights)
        del gathered, weights
        stored = stored_type(str(job.base_model), local_files_only=True)
        convert(plain, stored)
        if broken := broken_tensor(plain):
            raise PipelineError(f"The trained weights are not finite ({broken}); lower `learning_rate`.")
        with atomic_folder(job.output) as partial:
            plain.save_pretrained(partial)
            del plain
            half = stored != torch.float32 or accelerator.mixed_precision != "no"
            check_written(partial, trained, half)
            tokenizer.tokenizer.save_pretrained(partial)
            spell_for_transformers_4(partial)
            write_record(partial / FACTS, facts)
    accelerator.wait_for_everyone()
