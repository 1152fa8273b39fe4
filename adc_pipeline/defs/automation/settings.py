"""The settings of schedules and sensors, in `ADC_HOME/automation.yaml` if it exists, and what their runs use.

A time zone belongs to an installation and not to a run, so it cannot be run configuration; environment variables set
places only. These settings therefore live in a file under `ADC_HOME`. The file also names the run configuration of
scheduled runs, which the command line takes as `-c`.

The file is read when Dagster loads the code, for hours and descriptions, and again at each tick. If it is wrong, every
tick is skipped with the sentence, which the descriptions show too; everything else works.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import dagster as dg
from dagster._utils.schedules import is_valid_cron_schedule

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.named_files import named_path, read_mapping
from adc_pipeline.core.run_configuration import configured, merged
from adc_pipeline.core.settings import Settings, as_shown, setting
from adc_pipeline.core.spellings import read_settings
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.terminal import printable
from adc_pipeline.corpus.settings import CorpusSettings
from adc_pipeline.corpus.source import check_source
from adc_pipeline.defs.assets.corpus import raw_corpus, with_corpus
from adc_pipeline.defs.automation.jobs import assets_of_jobs
from adc_pipeline.defs.look_ahead import check_values
from adc_pipeline.defs.presets import preset_config
from adc_pipeline.defs.stage import SETTINGS
from adc_pipeline.defs.started_by import Going, overwritten, started_by

FILE = "automation.yaml"
MESSAGES = ("webhook", "mail_to", "mail_from", "mail_server", "mail_password", "late_hours")
# Characters of the settings in a description.
LONGEST = 600
NOT_ENDED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
CORPUS = raw_corpus.key.to_user_string()
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class AutomationSettings(Settings):
    """Settings in `automation.yaml`."""

    time_zone: str = setting("UTC", "Time zone of all schedules, such as Europe/Berlin.")
    weekly: str = setting("0 3 * * 1", "Cron expression of the schedule that rebuilds everything.")
    # After the hours that daylight saving skips or repeats.
    nightly: str = setting("0 4 * * *", "Cron expression of the schedule that rebuilds the datasets.")
    prune: str = setting("0 6 * * 1", "Cron expression of the schedule that runs the job prune.")
    rebuild: Literal["adc", "datasets"] = setting(
        "adc", "Job that a changed corpus starts: adc (everything) or datasets."
    )
    run_config: str = setting("", "Run configuration file of these runs; a relative path starts at ADC_HOME.")
    webhook: str = setting(
        "",
        "Environment variable that holds the address to which messages are posted as JSON, `{text: ...}`.",
        hidden=True,
    )
    mail_to: tuple[str, ...] = setting((), "Addresses to which messages are sent by e-mail.")
    mail_from: str = setting("", "Address of the sender; by default the user of the mail server.")
    mail_server: str = setting(
        "",
        "Environment variable that holds the mail server, as `smtp://user@host:587` or `smtps://user@host`.",
        hidden=True,
    )
    mail_password: str = setting(
        "", "Environment variable that holds the user's password at the mail server.", hidden=True
    )
    late_hours: float | None = setting(
        24.0, "Hours after which a run that has not ended is reported; ~ reports none.", more_than=0, maximum=1_000_000
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("weekly", "nightly", "prune"):
            if not is_valid_cron_schedule(getattr(self, name)):
                raise PipelineError(
                    f"`{name}` is {as_shown(getattr(self, name))}, which is not a cron expression: use one such"
                    " as 0 3 * * 1."
                )
        try:
            ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise PipelineError(
                f"`time_zone` is {as_shown(self.time_zone)}, which is not a time zone: use one such as UTC or"
                " Europe/Berlin."
            ) from error
        for name in ("webhook", "mail_server", "mail_password"):
            # The value is not shown: it may be the secret itself.
            if getattr(self, name) and not VARIABLE.fullmatch(getattr(self, name)):
                raise PipelineError(
                    f"`{name}` is no name of an environment variable: put the value into one, and name it."
                )
        if self.mail_to and not self.mail_server:
            raise PipelineError("`mail_to` needs `mail_server`: name the environment variable that holds the server.")


@dataclass(frozen=True)
class Automation:
    """The settings of schedules and sensors, the run configuration of their runs, and what is wrong with either."""

    home: Path
    settings: AutomationSettings
    run_config: Mapping[str, Any]
    problem: str = ""

    @classmethod
    def load(cls) -> "Automation":
        """Read the files of ADC_HOME; what is wrong with one is in `problem`, and defaults are in its place.

        The settings of messages count as long as they themselves are right: somebody should hear of failures.
        """
        home = Store.from_environment().home
        settings = message_settings(home)
        try:
            settings = read_automation(home)
            found = cls(home, settings, read_run_config(home, settings))
            # ADC_CORPUS may be wrong as well, and must not keep the definitions from loading.
            _ = found.corpus
            return found
        except PipelineError as error:
            return cls(home, settings, {}, str(error))

    @property
    def corpus(self) -> CorpusSettings:
        """The corpus of these runs; raise PipelineError if its settings are wrong."""
        return with_corpus(
            read_settings(CorpusSettings, configured(self.run_config, "ops", "raw_corpus"), "raw_corpus")
        )

    def hindrance(self, instance: dg.DagsterInstance) -> str:
        """Return why no run may be started now, whatever it makes; empty if one may be.

        Of an ADC_HOME that is gone or empty, as that of a disk that is not mounted, the settings are gone too: a run
        would build the sample in its place.
        """
        bring_back = "bring it back, such as by mounting its disk, or start Dagster with another ADC_HOME"
        if not self.home.is_dir():
            return f"ADC_HOME = {self.home} is no folder any more: {bring_back}."
        if not any(Store(self.home).versions()) and instance.get_latest_materialization_event(raw_corpus.key):
            return (
                f"ADC_HOME = {self.home} holds nothing of what Dagster has recorded: {bring_back}, or fill it anew by"
                " a run of your own."
            )
        return self.problem

    def describe(self, assets: Collection[str]) -> str:
        """Return which corpus and settings a run of `assets` would use; Dagster's page shows it as plain text."""
        if self.problem:
            return f"Every tick is skipped until this is corrected: {self.problem}"
        corpus = printable(self.corpus.corpus)
        if not self.settings.run_config:
            return f"Uses the corpus {corpus} and default settings ({FILE} names no `run_config`)."
        given = {name: configured(self.run_config, "ops", name) or {} for name in assets}
        chosen = ", ".join(
            f"{name}: {key} {value!r}" for name, values in given.items() for key, value in values.items()
        )
        shown = f": {printable(chosen[:LONGEST])}" if chosen else ", which sets nothing of these assets"
        return f"Uses the corpus {corpus} and the settings of {self.settings.run_config}{shown}."

    def refusal(self, assets: Collection[str], instance: dg.DagsterInstance) -> str:
        """Return why a run of `assets` must not be started; empty if it may be."""
        if hindrance := self.hindrance(instance):
            return hindrance
        named = self.settings.run_config
        try:
            if CORPUS in assets:
                check_source(self.corpus, contents=False)
            # Not the time of automation.yaml, which a person saves to change an hour or an address too.
            saved = modified(self.run_config_file) if named else 0.0
            runs = instance.get_runs(dg.RunsFilter(statuses=NOT_ENDED))
            going = [going_run(run) for run in runs if not started_by(run.tags)]
            found = list(overwritten(Store(self.home), assets, self.run_config, saved, going))
        except PipelineError as error:
            return str(error)
        if not found:
            return ""
        do = (
            f"save {self.run_config_file} again"
            if named
            else f"name a file with the settings to use as `run_config` in {FILE}"
        )
        return f"This run would undo what a person made: {'; '.join(found)}. To let it, {do}."

    @property
    def run_config_file(self) -> Path:
        return self.home / named_path(self.settings.run_config)


def going_run(run: dg.DagsterRun) -> Going:
    """Return what a run makes; a command may give no configuration to a job that has that of a preset."""
    chosen = {key.to_user_string() for key in run.asset_selection or ()}
    assets = assets_of_jobs().get(run.job_name, frozenset(chosen))
    return Going(assets & chosen if chosen else assets, merged(preset_config(run.job_name), run.run_config))


def modified(file: Path) -> float:
    return file.stat().st_mtime if file.exists() else 0.0


def read_automation(home: Path) -> AutomationSettings:
    """Return the settings of an ADC_HOME; raise PipelineError if the file is invalid."""
    values = read_mapping(home / FILE, missing_ok=True)
    return read_settings(AutomationSettings, values, str(home / FILE))


def message_settings(home: Path) -> AutomationSettings:
    """Return the settings of messages in a file whose other settings may be wrong; defaults if these are wrong too."""
    try:
        values = read_mapping(home / FILE, missing_ok=True)
        own = {name: values[name] for name in MESSAGES if name in values}
        return read_settings(AutomationSettings, own, str(home / FILE))
    except PipelineError:
        return AutomationSettings()


def read_run_config(home: Path, settings: AutomationSettings) -> dict[str, Any]:
    """Return the run configuration of every job; raise PipelineError if the file has none that works."""
    if not settings.run_config:
        return {}
    file = home / named_path(settings.run_config)
    values = read_mapping(file)
    try:
        check_values(values, SETTINGS)
    except PipelineError as error:
        raise PipelineError(f"{file}: {error}") from error
    return values
