"""Run a fine-tune as a process: `python -m adc_pipeline.training JOB.json` on one device.

On several devices: `accelerate launch --config_file FILE -m adc_pipeline.training JOB.json`. `TrainingJob.to_json`
writes JOB.json. An error that the user can fix ends the process with code 2 and one sentence, on the error stream and
in `failure.txt` in the work folder.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path

from adc_pipeline.core.arguments import ArgumentParser
from adc_pipeline.core.ends_with_parent import end_with_parent
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.threads import wait_briefly
from adc_pipeline.training.launching.launch import END_WITH_PARENT
from adc_pipeline.training.loop.signals import end_at_once
from adc_pipeline.training.settings import TrainingJob


def main() -> int:
    parser = ArgumentParser(prog="python -m adc_pipeline.training", description="Fine-tune a model.")
    parser.add_argument("job", type=Path, help="the JSON file that TrainingJob.to_json wrote")
    parser.add_argument(END_WITH_PARENT, action="store_true", help="end when the process that started this one ends")
    given = parser.parse_args()
    try:
        job = TrainingJob.from_json(given.job.read_text())
    except (PipelineError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    if given.end_with_parent or "ACCELERATE_MIXED_PRECISION" in os.environ:
        end_with_parent()
    wait_briefly()
    failure = job.work / "failure.txt"
    failure.unlink(missing_ok=True)
    end_at_once(failure)
    # Imported here: a job that cannot be read is refused without waiting for torch.
    from transformers.utils.logging import disable_progress_bar

    from adc_pipeline.training.launching.tools import check_tools
    from adc_pipeline.training.loop.train import train

    disable_progress_bar()
    try:
        check_tools(job.settings)
        train(job)
    except PipelineError as error:
        # On a full disk not even this may fit; the parent process detects that by itself.
        with suppress(OSError):
            job.work.mkdir(parents=True, exist_ok=True)
            failure.write_text(f"{error}\n")
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
