"""`adc run`: a job, or some assets, in this process, with one line a step on the terminal and the whole log in a file.

All that Dagster, libraries and subprocesses print goes to ADC_HOME/logs/JOB.log. What is shown comes from the run's
own events, so that no library's output gets between.
"""

import gc
import io
import os
import re
import signal
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from adc_pipeline.cli.home import dagster_instance
from adc_pipeline.cli.progress import Progress
from adc_pipeline.core.errors import PipelineError, did_you_mean
from adc_pipeline.core.log_forwarding import forwarded
from adc_pipeline.core.named_files import read_mapping
from adc_pipeline.core.signals import CANCELLED, handled
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.home import check_home
from adc_pipeline.core.terminal import printable
from adc_pipeline.defs.failures import reason
from adc_pipeline.defs.presets import FILES

if TYPE_CHECKING:
    from dagster import Definitions, JobDefinition


def run_job(names: Sequence[str], file: str | None) -> int:
    """Run a job, or make some assets and what they need; each by its name.

    Return the exit status: 0, 1 where it failed, 130 where it was cancelled.
    """
    given = read_config(file) if file else {}
    store = Store.from_environment()
    check_home(store.home)
    log = store.home / "logs" / f"{names[0] if len(names) == 1 and names[0].isidentifier() else 'run'}.log"
    with printed_to(log) as screen:
        progress = Progress(screen)
        try:
            # As Ctrl+C. During the run, Dagster and `defs.interrupts` have handlers of their own.
            with handled(signal.default_int_handler, (signal.SIGTERM, signal.SIGHUP)):
                status = execute(store, names, given, progress)
        except KeyboardInterrupt:
            status = "CANCELED"
        finally:
            progress.clear()
    if status == "SUCCESS":
        return 0
    if status == "CANCELED":
        # The terminal may be closed.
        with suppress(OSError):
            print("Cancelled.", file=sys.stderr, flush=True)
        return CANCELLED
    for sentence in distinct(progress.sentences):
        print("\n".join(map(printable, sentence.splitlines())), file=sys.stderr)
    print(f"The whole log is in {log}.", file=sys.stderr)
    return 1


def distinct(sentences: Sequence[str]) -> list[str]:
    """Return the first of all sentences that differ in numbers only, as in what is left of a disk that fills up."""
    found: dict[str, str] = {}
    for sentence in sentences:
        found.setdefault(re.sub(r"\d+", "0", sentence), sentence)
    return list(found.values())


def execute(store: Store, names: Sequence[str], given: Mapping[str, Any], progress: Progress) -> str:
    """Run a job, or make assets, and return Dagster's status of the run; PipelineError where it cannot begin."""
    progress.status("Loading the pipeline ...")
    # Imports make much and leave no garbage; `definitions` sets the thresholds.
    gc.disable()
    from adc_pipeline.definitions import defs
    from adc_pipeline.defs.look_ahead import check_values, not_of

    gc.enable()
    job = find_job(defs, names)
    ops = {node.name for node in job.nodes}
    check_values(given, ops)
    if unused := not_of(ops, given):
        progress.line(f"This run does not make {', '.join(unused)}: these settings are not used.")
    run_id = str(uuid.uuid4())
    with ExitStack() as open_instance:
        with forwarded(lambda record: progress.line(record.getMessage())):
            instance = open_instance.enter_context(dagster_instance(store))
        instance.add_event_listener(run_id, progress.event)
        try:
            done = job.execute_in_process(given, instance=instance, raise_on_error=False, run_id=run_id)
        except KeyboardInterrupt:
            # Before Dagster captures signals, or after.
            if (run := instance.get_run_by_id(run_id)) and not run.is_finished:
                instance.report_run_canceled(run)
            raise
        if not progress.sentences:
            # An error of Dagster's between steps, as where its history takes no event, or of a resource.
            progress.sentences += [reason(event) for event in done.filter_events(lambda event: event.is_job_failure)]
        run = instance.get_run_by_id(run_id)
    return run.status.value if run else "FAILURE"


def find_job(defs: "Definitions", names: Sequence[str]) -> "JobDefinition":
    """Return a job by name, or one that makes assets by name, and what they need.

    Raise PipelineError where there is no such job or asset, or where it is one of a partition at a time.
    """
    from adc_pipeline.defs.automation.jobs import job_of_assets, makeable_assets

    jobs = {job.name: job for job in defs.resolve_all_job_defs() if not job.name.startswith("__")}
    if len(names) == 1 and (job := jobs.get(names[0])):
        if job.partitions_def:
            raise PipelineError(
                f"The job {job.name} makes one partition at a time: run `adc study`, or use Dagster's page."
            )
        return job
    assets = makeable_assets()
    for name in names:
        if name in jobs:
            raise PipelineError(f"{name} is a job, and a job runs by itself: name one job, or some assets.")
        if name not in assets:
            raise PipelineError(
                f"There is no job or asset {name}{did_you_mean(name, {*jobs, *assets})}: the jobs are"
                f" {', '.join(sorted(jobs))}, the assets {', '.join(assets)}."
            )
    return job_of_assets(names, defs)


def read_config(file: str) -> dict[str, Any]:
    """Read a run configuration, or the preset of that name; PipelineError where there is no such file."""
    preset = FILES / f"{file.removesuffix('.yaml')}.yaml"
    path = preset if preset.is_file() and not Path(file).exists() else Path(file)
    if not os.path.lexists(path):
        presets = ", ".join(sorted(each.stem for each in FILES.glob("*.yaml")))
        raise PipelineError(f"{file} does not exist: give a run configuration (a YAML file), or a preset ({presets}).")
    return read_mapping(path)


class LogFile(io.FileIO):
    """A file that loses what the system does not take, as on a full disk: a step says so, and a log must not."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except OSError:
            return len(data)


@contextmanager
def printed_to(log: Path) -> Iterator[TextIO]:
    """Send what this process and those it starts print to the file `log`; yield the original standard output."""
    log.parent.mkdir(exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    before = [os.dup(1), os.dup(2)]
    try:
        with (
            open(os.dup(before[0]), "w", encoding="utf-8", errors="replace") as screen,
            io.TextIOWrapper(
                io.BufferedWriter(LogFile(log, "w")), encoding="utf-8", errors="replace", line_buffering=True
            ) as file,
            redirect_stdout(file),
            redirect_stderr(file),
        ):
            for number in (1, 2):
                os.dup2(file.fileno(), number)
            yield screen
    finally:
        for number, copy in enumerate(before, start=1):
            os.dup2(copy, number)
            os.close(copy)
