"""The command `adc` and its subcommands.

Each imports what it needs when it is called, so that `adc --help` takes 0.1 s. `generate`, `lineage` and `study` are
also modules of their own (`python -m adc_pipeline.lineage`) and parse their arguments themselves.
"""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import click

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.named_files import refused_by_system
from adc_pipeline.core.refused_writes import reason
from adc_pipeline.core.signals import CANCELLED, handled
from adc_pipeline.core.terminal import prepare_streams, printable, show
from adc_pipeline.core.threads import wait_briefly

# A command that hands its arguments on as they are, `--help` included.
OWN_PARSER: dict[str, Any] = {
    "add_help_option": False,
    "context_settings": {"ignore_unknown_options": True, "allow_interspersed_args": False},
}
PORT = click.IntRange(1, 65535)
ARGUMENTS = click.argument("arguments", nargs=-1, type=click.UNPROCESSED)


@contextmanager
def printable_usage() -> Iterator[None]:
    """Escape the control characters of wrong arguments, which click repeats."""
    try:
        yield
    except click.UsageError as error:
        error.message = printable(error.message)  # type: ignore[misc]
        raise


class Commands(click.Group):
    """A group whose commands end in one sentence: exit status 2 where they raise PipelineError, 130 after a signal."""

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        with printable_usage():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        prepare_streams()
        wait_briefly()
        try:
            os.getcwd()
        except FileNotFoundError:
            click.echo("The working directory has been removed: change to another one.", err=True)
            ctx.exit(2)
        try:
            # As Ctrl+C. A command that has something to save sets handlers of its own.
            with handled(signal.default_int_handler, (signal.SIGTERM, signal.SIGHUP)), printable_usage():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            # The terminal may be closed.
            with suppress(OSError):
                click.echo("Cancelled.", err=True)
            ctx.exit(CANCELLED)
        except PipelineError as error:
            click.echo(error, err=True)
            ctx.exit(2)
        except OSError as error:
            why = reason(error.errno or 0)
            if not error.filename and not why:
                # Of a reader that has ended, as `head` does, click makes an exit status.
                raise
            sentence = refused_by_system(error) if error.filename else f"The output cannot be written {why}."
            click.echo(sentence, err=True)
            ctx.exit(2)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="adc-pipeline")
def main() -> None:
    """Datasets and language models that learn from the replies people rejected.

    Everything lies in ADC_HOME (default: .adc in the working directory).
    """


@main.command()
@click.argument("names", metavar="[JOB | ASSET...]", nargs=-1)
@click.option(
    "-c", "--config", metavar="FILE", help="Run configuration (YAML), or the name of a preset, such as gpu or released."
)
def run(names: tuple[str, ...], config: str | None) -> None:
    """Run a job: `adc` (everything, the default), `datasets`, `prune`, ...; or make assets, such as `top_2`, and what
    they need.

    Shows one line a step; the whole log is a file under ADC_HOME/logs. Exit status 1: the run failed. 2: it could not
    start. 130: it was cancelled.
    """
    from adc_pipeline.cli.run import run_job

    sys.exit(run_job(names or ["adc"], config))


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address that both pages are served at.")
@click.option("-p", "--port", type=PORT, help="Port of Dagster's page (default: the first free one from 3000).")
@click.option("--mlflow-port", type=PORT, help="Port of MLflow's page (default: the first free one from 5000).")
@click.option("--open/--no-open", "opens", default=None, help="Open the pages in a browser (default: at a terminal).")
def dev(host: str, port: int | None, mlflow_port: int | None, opens: bool | None) -> None:
    """Serve Dagster's and MLflow's pages until Ctrl+C, and run schedules, sensors and the queue meanwhile."""
    from adc_pipeline.cli.dev import serve

    sys.exit(serve(host, port, mlflow_port, opens))


@main.command()
@click.option("--open/--no-open", "opens", default=None, help="Open it in a browser (default: at a terminal).")
def report(opens: bool | None) -> None:
    """Print the path of the newest report, and open it in a browser if there is one."""
    from adc_pipeline.cli.browser import open_pages
    from adc_pipeline.core.store.artefacts import Store
    from adc_pipeline.evaluation.presentation.summary import command, newest_report, shown

    home = Store.from_environment().home
    found = newest_report(home)
    if found is None:
        raise PipelineError(f"There is no report in ADC_HOME = {home}: make one by `{command('run')}`.")
    show(shown(found))
    open_pages([found.resolve().as_uri()], opens)


@main.command()
def relocate() -> None:
    """Correct the addresses in MLflow's database and in adc.duckdb after ADC_HOME was moved or copied."""
    import adc_pipeline.definitions  # noqa: F401, declares the stages
    from adc_pipeline.core.store.artefacts import Store
    from adc_pipeline.defs.database import renew_database
    from adc_pipeline.tracking.relocation import relocate

    store = Store.from_environment()
    home = store.home
    changed = relocate(home)
    for column, number in changed.items():
        show(f"{column}: {number} corrected")
    show(f"MLflow's addresses lead to ADC_HOME = {home}.")
    renew_database(store, ())


@main.command()
def repair() -> None:
    """Replace damaged databases of MLflow and Dagster, and show what is lost.

    End `adc dev` and other programs that use ADC_HOME first.
    """
    from adc_pipeline.cli.repair import repair
    from adc_pipeline.core.store.artefacts import Store

    repair(Store.from_environment(), show)


@main.command()
@click.option("--delete", is_flag=True, help="Remove what is listed (default: only list it).")
@click.option("--current", is_flag=True, help="Remove current versions too, which the next run builds again.")
def removed(delete: bool, current: bool) -> None:
    """List what was built of people and utterances in ADC_HOME/removed.txt, and remove it.

    Finds versions in the store, runs, artifacts and registered models in MLflow, and runs in Dagster. Exit status 1:
    something is left.
    """
    from adc_pipeline.cli.removed import removed
    from adc_pipeline.core.store.artefacts import Store

    sys.exit(removed(Store.from_environment(), delete, current, show))


@main.command()
@click.argument("name")
@click.argument("version")
@click.option(
    "--pin/--no-pin", help="Keep it champion whatever later versions achieve (default: until a newer one is better)."
)
@click.option("--reason", default="", metavar="TEXT", help="Why; it is written to the version.")
def promote(name: str, version: str, pin: bool, reason: str) -> None:
    """Make VERSION, a number or an alias, the champion of the registered model NAME, or go back to it."""
    import getpass
    import socket

    from adc_pipeline.core.store.artefacts import Store
    from adc_pipeline.lifecycle.registry import promote
    from adc_pipeline.tracking.failures import explained
    from adc_pipeline.tracking.lineage import Records
    from adc_pipeline.tracking.runs import Tracking

    tracking = Tracking.from_environment(Store.from_environment().home)
    tracking.check()
    user = "somebody"
    # A container may have no name for its user.
    with suppress(KeyError, OSError):
        user = printable(getpass.getuser(), kept="")
    with explained(tracking.uri, tracking.variable):
        number = promote(Records([tracking.client()]), name, version, pin, f"{user} on {socket.gethostname()}", reason)
    show(f"Version {number} of {name} is the champion{', pinned' if pin else ''}.")


@main.command(**OWN_PARSER)
@ARGUMENTS
def generate(arguments: Sequence[str]) -> None:
    """Talk with a model, or answer one post."""
    from adc_pipeline.generate import main

    sys.exit(main(list(arguments), "adc generate"))


@main.command()
@click.option("--model", default="models:/adc-top-2@latest", show_default=True, help="As for `adc generate`.")
@click.argument("file", type=click.File(encoding="utf-8-sig", errors="replace"), default="-")
def score(model: str, file: Any) -> None:
    """Rank candidate replies by a model.

    FILE, or standard input, has lines of JSON such as {"post": "A title\\nand a text", "candidates": ["This one.", "Or
    this?"]}. Optional are `title`, `speaker` and `turns`, a list of {"text", "verdict", "speaker"} before the
    candidates. Each line is answered by one: `candidates` with `p_accepted`, `rank` and `margin`, the log-odds above
    those of the next one.
    """
    import json

    from adc_pipeline.evaluation.scoring.candidates import Ranker

    wrong = 0
    for answer in Ranker.load(model).answers(file):
        wrong += "error" in answer
        click.echo(json.dumps(answer))
    if wrong:
        raise PipelineError(f"{wrong} of the lines could not be read; each has an `error` in its place.")


@main.command(**OWN_PARSER)
@ARGUMENTS
def lineage(arguments: Sequence[str]) -> None:
    """Show what a model was made from, or what was made from a corpus."""
    from adc_pipeline.lineage import main

    sys.exit(main(list(arguments), "adc lineage"))


@main.command(**OWN_PARSER)
@ARGUMENTS
def study(arguments: Sequence[str]) -> None:
    """Train and evaluate a grid of variants and seeds."""
    from adc_pipeline.cli.home import use_dagster_home
    from adc_pipeline.core.store.artefacts import Store
    from adc_pipeline.study.__main__ import main

    use_dagster_home(Store.from_environment())
    sys.exit(main(list(arguments), "adc study"))
