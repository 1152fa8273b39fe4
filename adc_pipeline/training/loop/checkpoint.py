"""Checkpoints: everything that a rerun of the same job needs, written in one step.

`accelerator.save_state` holds weights, optimizer and random states. The place in the data is the number of steps, since
the order of the rows is a pure function of it. A work folder belongs to one fingerprint (settings, data, base model,
`REVISION`); what another job left there is removed. A checkpoint of the small model takes 10 ms.
"""

import dataclasses
import hashlib
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adc_pipeline.core.atomic import partial_of, remove_folder, replace_folder
from adc_pipeline.core.errors import PipelineError, first_line, is_refused_by_system
from adc_pipeline.core.named_files import file_problem
from adc_pipeline.core.records import read_record, sealed
from adc_pipeline.core.store.content import folder_digest
from adc_pipeline.training.loop.checksums import check_files, others
from adc_pipeline.training.settings import TrainingJob

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

    from adc_pipeline.training.rows.data import Layout

# What to do about a damaged checkpoint, behind "remove it, ".
GOES_ON = "and the next run goes on from the checkpoint before it, or begins again"

# Raise it when the same settings train something else, so that no run goes on from what an older version left.
REVISION = 2

# Settings that do not change the weights: how often something is written or looked at,
_WITHOUT_EFFECT = (
    "checkpoint_every",
    "keep_checkpoints",
    "log_every",
    "validate_every",
    "validation_tokens",
    "max_loss_jump",
    # and how the sums of a step are computed. A resumed run keeps the rows of its steps (see `rows.data.Layout`).
    "tokens_per_forward",
    "gradient_checkpointing",
    "compile",
)


def fingerprint(job: TrainingJob) -> str:
    """Return SHA-256 over what a run trains. Reads the data and the base model: 1 s a gigabyte."""
    settings = {name: value for name, value in dataclasses.asdict(job.settings).items() if name not in _WITHOUT_EFFECT}
    parts = [json.dumps(settings, sort_keys=True), folder_digest(job.dataset), folder_digest(job.base_model)]
    return hashlib.sha256("\n".join([str(REVISION), *parts]).encode()).hexdigest()


def claim(work: Path, mark: str) -> bool:
    """Make `work` the folder of the job with this fingerprint; return whether another job's work was removed."""
    check_regular(work)
    note = work / "fingerprint"
    other = note.exists() and note.read_text(errors="replace") != mark
    if not note.exists() or other:
        # First, so that a run of either job that finds half of the rest removes it as well.
        note.unlink(missing_ok=True)
        # By name, since the caller may keep files of its own here, such as the job's.
        for folder in ("checkpoints", "tokens"):
            shutil.rmtree(work / folder, ignore_errors=True)
        (work / "metrics.jsonl").unlink(missing_ok=True)
        work.mkdir(parents=True, exist_ok=True)
        note.write_text(mark)
    # What a killed run was writing or removing.
    for left in (work / "checkpoints").glob("*.partial"):
        shutil.rmtree(left)
    return other


def check_regular(work: Path) -> None:
    """Raise PipelineError if anything in a work folder is neither a folder nor a file that can be read.

    Libraries open what has the name of a file of theirs, and would wait for a FIFO without an end.
    """
    for folder, _, names in os.walk(work):
        for path in (Path(folder, name) for name in names):
            if problem := file_problem(path):
                left = path if path.parent == work else path.parent
                raise PipelineError(
                    f"{path} {problem.partition(':')[0]}: remove {left}, and the next run goes on from what is left."
                )


@dataclass(frozen=True)
class Position:
    """How far a run is: steps, tokens and seconds so far, its last figures, and the losses that the watch compares."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)
    recent_losses: list[float] = field(default_factory=list)


POSITION: dict[str, Any] = {"step": int, "tokens": int, "seconds": int | float, "figures": dict, "recent_losses": list}


def checkpoints(work: Path) -> list[Path]:
    """Return the complete checkpoints of a work folder, oldest first."""
    return sorted(path for path in (work / "checkpoints").glob("step-*") if not path.suffix)


def save_checkpoint(accelerator: "Accelerator", work: Path, position: Position, layout: "Layout", keep: int) -> None:
    """Save the state with its position and layout, and remove all but the newest `keep` checkpoints.

    If that fails, as on a full disk, what was written is removed and the earlier checkpoints stay.
    """
    folder = work / "checkpoints" / f"step-{position.step:09d}"
    partial = partial_of(folder)
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
    accelerator.wait_for_everyone()
    try:
        accelerator.save_state(str(partial), safe_serialization=False)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            noted = {**dataclasses.asdict(position), "layout": dataclasses.asdict(layout), "files": others(partial)}
            (partial / "position.json").write_text(sealed(noted))
    except (OSError, RuntimeError):
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if accelerator.is_main_process:
        replace_folder(partial, folder)
        for old in checkpoints(work)[:-keep]:
            remove_folder(old)


def latest_layout(work: Path) -> "Layout | None":
    """Return the layout of the newest checkpoint."""
    found = checkpoints(work)
    return _noted(found[-1]).layout if found else None


def drop_other_layouts(work: Path, layout: "Layout") -> None:
    """Remove the checkpoints of other layouts, in which the number of a step means another place in the data."""
    for folder in checkpoints(work):
        if _noted(folder).layout != layout:
            remove_folder(folder)


@dataclass(frozen=True)
class _Noted:
    """The record of a checkpoint; `files` has the SHA-256 of those that have no checksum of their own."""

    position: Position
    layout: "Layout"
    files: dict[str, str]


def _noted(folder: Path) -> _Noted:
    """Return the record of a checkpoint; raise PipelineError if it is damaged."""
    from adc_pipeline.training.rows.data import Layout

    record = read_record(folder / "position.json", remedy=f"remove {folder}, {GOES_ON}", **POSITION, layout=dict)
    layout = Layout(**{name: record["layout"].get(name) for name in ("row", "rows_per_step", "processes")})
    # An earlier version of this package recorded no files.
    return _Noted(Position(**{name: record[name] for name in POSITION}), layout, record.get("files", {}))


def keep_trained_weights_only(accelerator: "Accelerator") -> None:
    """Exclude frozen weights from checkpoints; `load_checkpoint` then has to be called with `in_part`.

    The names are those of the models that Accelerate gives: what wraps a model for several processes renames all.
    """
    from accelerate.utils import MODEL_NAME

    def drop_others(models: list["torch.nn.Module"], weights: list[dict[str, Any]], folder: str) -> None:
        for number, model in enumerate(models):
            weights[number] = {name: weights[number][name] for name in trained(model)}

    def check_complete(models: list["torch.nn.Module"], folder: str) -> None:
        import torch

        (model,) = models
        stored = torch.load(Path(folder, f"{MODEL_NAME}.bin"), map_location="meta", weights_only=True)
        # Those that are missing would be what they are before the first step, without a word.
        if missing := [name for name in trained(model) if name not in stored]:
            raise ValueError(f"{len(missing)} of the trained weights are missing, such as {missing[0]}")

    accelerator.register_save_state_pre_hook(drop_others)
    accelerator.register_load_state_pre_hook(check_complete)


def trained(model: "torch.nn.Module") -> list[str]:
    """Return the names of the weights of a model that are trained."""
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def load_checkpoint(accelerator: "Accelerator", work: Path, in_part: bool = False) -> Position:
    """Restore the newest checkpoint and return its position, or the beginning if there is none.

    With `in_part`, the checkpoint holds some of the weights, and the others stay as they are.
    """
    found = checkpoints(work)
    if not found:
        return Position()
    noted = _noted(found[-1])
    try:
        if accelerator.is_main_process:
            check_files(found[-1], noted.files)
        accelerator.load_state(str(found[-1]), **({"strict": False} if in_part else {}))
    except Exception as error:
        # Imported here because it imports torch, which Dagster's definitions do without.
        from adc_pipeline.training.architectures.memory import is_out_of_memory

        if is_refused_by_system(error) or is_out_of_memory(error):
            raise
        raise PipelineError(
            f"The checkpoint {found[-1]} cannot be loaded ({first_line(error)}): remove it, {GOES_ON}."
        ) from error
    return noted.position
