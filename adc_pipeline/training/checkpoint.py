"""Checkpoints: everything a rerun needs, whole or not there, and only for the very same job.

`accelerator.save_state` holds weights, optimizer and random states; the place in the data is the number
of steps, because the order is a pure function of it. A checkpoint is written aside and then renamed. A
work folder belongs to one fingerprint (settings, data, base model); what another job left there is
cleared away. The small model's takes 10 ms.
"""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adc_pipeline.core.artefacts import folder_digest
from adc_pipeline.training.settings import TrainingJob

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

# How often something is written down or looked at does not change the weights.
_WITHOUT_EFFECT = (
    "checkpoint_every",
    "keep_checkpoints",
    "log_every",
    "validate_every",
    "validation_tokens",
    "max_loss_jump",
    # The same sums in another order.
    "gradient_checkpointing",
    "compile",
)


def fingerprint(job: TrainingJob) -> str:
    """SHA-256 over what decides the final weights. Reads the data and the base model: 1 s a gigabyte."""
    settings = {name: value for name, value in dataclasses.asdict(job.settings).items() if name not in _WITHOUT_EFFECT}
    parts = [json.dumps(settings, sort_keys=True), folder_digest(job.dataset), folder_digest(job.base_model)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def claim(work: Path, mark: str) -> bool:
    """Make `work` the folder of the job with this fingerprint; whether another job's work had to go."""
    note = work / "fingerprint"
    other = note.exists() and note.read_text() != mark
    if not note.exists() or other:
        # By name, because the caller may keep things of its own here, such as the job's file.
        for folder in ("checkpoints", "tokens"):
            shutil.rmtree(work / folder, ignore_errors=True)
        (work / "metrics.jsonl").unlink(missing_ok=True)
    work.mkdir(parents=True, exist_ok=True)
    note.write_text(mark)
    return other


def checkpoints(work: Path) -> list[Path]:
    """The whole checkpoints of a work folder, oldest first."""
    return sorted(path for path in (work / "checkpoints").glob("step-*") if not path.suffix)


def save_checkpoint(accelerator: "Accelerator", work: Path, position: dict[str, Any], keep: int) -> None:
    """Save the state and its `position` (JSON, with `step`), and remove all but the newest `keep`.

    Where that fails, as on a full disk, what was written is removed and the checkpoints before it stay.
    """
    folder = work / "checkpoints" / f"step-{position['step']:09d}"
    partial = folder.with_suffix(".partial")
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
    accelerator.wait_for_everyone()
    try:
        accelerator.save_state(str(partial), safe_serialization=False)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            (partial / "position.json").write_text(json.dumps(position))
    except (OSError, RuntimeError):
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if accelerator.is_main_process:
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
        for old in checkpoints(work)[:-keep]:
            shutil.rmtree(old)


def drop_other_layouts(work: Path, layout: list[int]) -> None:
    """Remove checkpoints of other rows: `layout` is the length of a row and the number of rows in a step.

    Both depend on devices and processes, and among other rows a step's number means another place.
    """
    for folder in checkpoints(work):
        if json.loads((folder / "position.json").read_text())["layout"] != layout:
            shutil.rmtree(folder)


def keep_trained_weights_only(accelerator: "Accelerator", model: "torch.nn.Module") -> None:
    """Leave frozen weights out of the checkpoints to come; `load_checkpoint` is to be told."""
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}

    def drop_others(models: list["torch.nn.Module"], weights: list[dict[str, Any]], folder: str) -> None:
        weights[:] = [{name: one for name, one in state.items() if name in trained} for state in weights]

    accelerator.register_save_state_pre_hook(drop_others)


def load_checkpoint(accelerator: "Accelerator", work: Path, in_part: bool = False) -> dict[str, Any]:
    """Restore the newest checkpoint and return its position; the beginning where there is none.

    With `in_part`, the checkpoint holds some of the weights, and the others stay as they are.
    """
    found = checkpoints(work)
    if not found:
        return {"step": 0, "tokens": 0, "seconds": 0.0, "figures": {}}
    accelerator.load_state(str(found[-1]), **({"strict": False} if in_part else {}))
    return dict(json.loads((found[-1] / "position.json").read_text()))
