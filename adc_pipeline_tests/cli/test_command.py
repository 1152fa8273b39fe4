"""The command `adc`: its help is light, and the older commands behave the same below it."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from adc_pipeline import generate, lineage
from adc_pipeline.cli.main import main
from adc_pipeline.core.terminal import without_controls
from adc_pipeline.evaluation.presentation.summary import newest_report
from adc_pipeline.study import __main__ as study

HEAVY = {"dagster", "mlflow", "torch", "transformers", "datasets", "duckdb", "numpy", "pyarrow", "yaml"}


def adc(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "adc_pipeline", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **variables})


def test_the_help_names_every_command_and_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from adc_pipeline.cli.main import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "print(*sorted(sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for name in ("run", "dev", "report", "generate", "lineage", "study"):
        assert f"\n  {name} " in done.stdout
    assert not HEAVY & set(done.stderr.split())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "module", "wrong"),
    [("generate", generate, ["--temperature", "hot"]), ("lineage", lineage, []), ("study", study, ["--seeds", "x"])],
)
def test_a_command_takes_the_same_options_as_its_module(
    name: str, module: object, wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        module.main(wrong)  # type: ignore[attr-defined]
    assert refused.value.code == 2
    expected = capsys.readouterr().err
    done = adc(name, *wrong, ADC_HOME="/nowhere/at/all" if name != "study" else os.environ.get("ADC_HOME", ".adc"))
    assert done.returncode == 2
    assert expected.splitlines()[-1].partition(": error: ")[2] in done.stderr
    assert f"adc {name}: error: " in done.stderr


@pytest.mark.slow
def test_the_newest_report_is_printed(tmp_path: Path) -> None:
    missing = adc("report", ADC_HOME=str(tmp_path))
    assert (missing.returncode, missing.stdout) == (2, "")
    assert missing.stderr.startswith(f"There is no report in ADC_HOME = {tmp_path}")
    for seconds, name in enumerate(("evaluations/comparison", "study/result", "evaluations/top-2")):
        report = tmp_path / name / "report.html"
        report.parent.mkdir(parents=True)
        report.touch()
        os.utime(report, (seconds, seconds))
    newest = tmp_path / "evaluations/top-2/report.html"
    assert newest_report(tmp_path) == newest
    assert adc("report", ADC_HOME=str(tmp_path)).stdout == f"{newest}\n"


@pytest.mark.parametrize("arguments", [["run", "\x1b]0;y\x07", "x"], ["lineage", "--\x1b]0;y\x07"], ["--\x1b]0;y\x07"]])
def test_wrong_arguments_cannot_steer_a_terminal(arguments: list[str]) -> None:
    done = adc(*arguments)
    assert done.returncode == 2
    assert "\\x1b]0;y\\x07" in done.stderr
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("command", ["repair", "removed"])
def test_what_a_command_reports_cannot_steer_a_terminal(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(f"adc_pipeline.cli.{command}.{command}", lambda *given: given[-1]("store: \x1b]0;y\x07\u202e"))
    with pytest.raises(SystemExit):
        main([command])
    assert capsys.readouterr().out == "store: \\x1b]0;y\\x07\\u202e\n"


def test_a_models_text_cannot_steer_a_terminal() -> None:
    assert without_controls("a\x1b[31m\r\u202e\tb\nc") == "a\\x1b[31m\\r\\u202e\tb\nc"


def test_a_working_directory_that_is_gone_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(SystemExit) as ended:
        main(["report"])
    assert ended.value.code == 2
    assert "The working directory has been removed" in capsys.readouterr().err


def test_a_full_disk_below_the_output_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(home: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("adc_pipeline.tracking.relocation.relocate", full)
    done = CliRunner().invoke(main, ["relocate"])
    sentence = "The output cannot be written (No space left on device): make room on the disk.\n"
    assert (done.exit_code, done.output) == (2, sentence)


@pytest.mark.parametrize(
    ("prefix", "shown"), [("exec >&- 2>&-;", ""), ("export PYTHONIOENCODING=latin-1;", "\\u2502 \\x1b é")]
)
def test_output_that_is_closed_or_has_no_such_character_ends_nothing(prefix: str, shown: str, tmp_path: Path) -> None:
    code = (
        "import os; from adc_pipeline.core.terminal import prepare_streams, show; prepare_streams();"
        "opened = os.open(os.devnull, os.O_RDONLY); show('\u2502 \x1b é'); assert opened > 2; open('done', 'w')"
    )
    command = ["bash", "-c", f'{prefix} exec "$@"', "bash", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, cwd=tmp_path, check=True)
    assert done.stdout.decode("latin-1").strip() == shown
    assert (tmp_path / "done").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_any_command_with_one_line(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(number)
    monkeypatch.setattr("adc_pipeline.tracking.relocation.relocate", lambda home: os.kill(os.getpid(), number))
    done = CliRunner().invoke(main, ["relocate"])
    assert (done.exit_code, done.output) == (130, "Cancelled.\n")
    assert signal.getsignal(number) is before
