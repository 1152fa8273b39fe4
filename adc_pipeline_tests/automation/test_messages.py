"""Failed and late runs and checks that do not pass are told to a webhook and by e-mail, to receivers that run here."""

import json
import os
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import dagster as dg
import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.manifests import Artefact, read_making
from adc_pipeline.definitions import defs
from adc_pipeline.defs.automation.messages import messages
from adc_pipeline.defs.automation.settings import Automation, AutomationSettings
from adc_pipeline.defs.stage import STAGES
from adc_pipeline.defs.started_by import AUTOMATION_CONDITION
from adc_pipeline.defs.volume import volume_result
from adc_pipeline.lifecycle import messages as sending
from adc_pipeline.lifecycle.messages import Receivers

SECRET = "T0/s3cret"
BY_MAIL: dict[str, Any] = {
    "mail_to": ("team@example.org",),
    "mail_server": "MAIL_SERVER",
    "mail_password": "MAIL_PASSWORD",
}


class Webhook(BaseHTTPRequestHandler):
    """Keeps what is posted; answers by the path."""

    got: ClassVar[list[Any]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.got.append(json.loads(body)["text"])
        self.send_response({"/gone": 404, "/moved": 302}.get(self.path, 200))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


class Mail(socketserver.StreamRequestHandler):
    """A mail server without TLS that keeps what it is sent."""

    got: ClassVar[list[Any]] = []

    def handle(self) -> None:
        self.say("220 here")
        while line := self.rfile.readline().decode().strip():
            command = line.split()[0].upper()
            if command == "EHLO":
                self.say("250-here\r\n250 AUTH PLAIN")
            elif command == "AUTH":
                self.say("235 ok" if "wrong" not in line else "535 no")
            elif command == "DATA":
                self.say("354 go on")
                content = b"".join(iter(self.rfile.readline, b".\r\n"))
                self.got.append(message_from_bytes(content, policy=policy.default))
                self.say("250 kept")
            elif command == "QUIT":
                return self.say("221 bye")
            else:
                self.say("550 unknown" if "nobody" in line else "250 ok")

    def say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())


@pytest.fixture
def receivers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A webhook and a mail server, whose addresses are in the environment."""
    web, mail = HTTPServer(("127.0.0.1", 0), Webhook), socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mail)
    Webhook.got, Mail.got = [], []
    monkeypatch.setenv("HOOK", f"http://127.0.0.1:{web.server_address[1]}/{SECRET}")
    monkeypatch.setenv("MAIL_SERVER", f"smtp://adc%40example.org@127.0.0.1:{mail.server_address[1]}")
    monkeypatch.setenv("MAIL_PASSWORD", "pass-word")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for server in (web, mail):
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield
    for server in (web, mail):
        server.shutdown()
        server.server_close()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ADC_HOME", str(tmp_path))
    monkeypatch.delenv("ADC_CORPUS", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "automation.yaml").write_text(json.dumps({"webhook": "HOOK", **BY_MAIL}))
    return tmp_path


def test_a_message_reaches_both_receivers(receivers: None) -> None:
    Receivers("HOOK", **BY_MAIL).send("adc: run 1\n of x failed", "a reason\x1b[31m\nand é")
    assert Webhook.got == ["adc: run 1\\n of x failed\na reason\\x1b[31m\nand é"]
    (mail,) = Mail.got
    assert (mail["Subject"], mail["To"]) == ("adc: run 1\\n of x failed", "team@example.org")
    assert mail["From"] == "adc@example.org"
    assert mail.get_content().splitlines() == ["a reason\\x1b[31m", "and é"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"HOOK": ""}, "environment variable that `webhook` .* is not set"),
        ({"HOOK": "http://127.0.0.1:1/{secret}"}, r"webhook in HOOK cannot be reached \(ConnectionError\)"),
        ({"HOOK": "{secret}"}, r"webhook in HOOK cannot be reached \(MissingSchema\)"),
        ({"HOOK": "{here}/gone"}, "webhook in HOOK answered 404"),
        ({"HOOK": "{here}/moved"}, "webhook in HOOK answered 302"),
        ({"MAIL_SERVER": "smtp://adc@127.0.0.1:1"}, r"mail server in MAIL_SERVER cannot be reached"),
        ({"MAIL_SERVER": "mail.example.org"}, "mail server in MAIL_SERVER cannot be reached"),
        ({"MAIL_PASSWORD": ""}, "environment variable that `mail_password` .* is not set"),
    ],
)
def test_a_receiver_that_cannot_be_reached_is_named_without_its_address_and_the_other_gets_the_message(
    receivers: None, monkeypatch: pytest.MonkeyPatch, change: dict[str, str], expected: str
) -> None:
    here = os.environ["HOOK"].removesuffix(f"/{SECRET}")
    for name, value in change.items():
        monkeypatch.setenv(name, value.format(secret=SECRET, here=here))
    with pytest.raises(PipelineError, match=expected) as error:
        Receivers("HOOK", **BY_MAIL).send("subject", "text")
    assert SECRET not in str(error.value)
    assert "pass-word" not in str(error.value)
    assert len(Mail.got) == (0 if "mail" in expected.lower() else 1)
    assert [each for each in Webhook.got if each] or "HOOK" in change


class Endless(socketserver.StreamRequestHandler):
    """A receiver that never ends what it says: `begin`, then `more` again and again."""

    begin, more = b"", b""

    def handle(self) -> None:
        with suppress(OSError):
            self.wfile.write(self.begin)
            while True:
                self.wfile.write(self.more)
                time.sleep(0.01)


@pytest.fixture
def endless(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Receivers that begin to answer and never end."""
    begin, more = request.param
    with socketserver.ThreadingTCPServer(
        ("127.0.0.1", 0), type("Handler", (Endless,), {"begin": begin, "more": more})
    ) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("HOOK", f"http://127.0.0.1:{server.server_address[1]}/{SECRET}")
        monkeypatch.setenv("MAIL_SERVER", f"smtp://127.0.0.1:{server.server_address[1]}")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield
        server.shutdown()


@pytest.mark.parametrize(
    ("endless", "receiver"),
    [
        ((b"", b""), {"webhook": "HOOK"}),
        ((b"HTTP/1.1 200 OK\r\n", b"X"), {"webhook": "HOOK"}),
        ((b"", b"220-wait\r\n"), {"mail_to": ("team@example.org",), "mail_server": "MAIL_SERVER"}),
    ],
    indirect=["endless"],
)
def test_a_receiver_that_does_not_end_is_not_waited_for(
    endless: None, receiver: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "SECONDS_IN_ALL", 0.2)
    with pytest.raises(PipelineError, match=r"has not taken the message within 0\.2 s: check its address") as error:
        Receivers(**receiver).send("subject", "text")
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    "endless",
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", b"y" * 10_000),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nno gzip", b"y" * 10_000),
    ],
    indirect=True,
)
def test_what_a_webhook_answers_is_not_read(endless: None) -> None:
    Receivers("HOOK").send("subject", "text")


def test_no_password_is_sent_in_the_clear(receivers: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "is_loopback", lambda host: False)
    with pytest.raises(PipelineError, match="offers no TLS"):
        Receivers(**BY_MAIL).send("subject", "text")
    assert not Mail.got
    Receivers(mail_to=("team@example.org",), mail_server="MAIL_SERVER").send("subject", "text")
    assert len(Mail.got) == 1


def test_the_sensors_run_where_a_receiver_is_named() -> None:
    for settings, status in (
        (AutomationSettings(), dg.DefaultSensorStatus.STOPPED),
        (AutomationSettings(webhook="HOOK"), dg.DefaultSensorStatus.RUNNING),
        (AutomationSettings(**BY_MAIL), dg.DefaultSensorStatus.RUNNING),
    ):
        assert {each.default_status for each in messages(automation(settings))} == {status}


def automation(settings: AutomationSettings | None = None) -> Automation:
    return Automation(Path("home"), settings or AutomationSettings(), {})


def test_a_file_that_is_wrong_elsewhere_still_names_the_receivers(home: Path) -> None:
    for text in (
        "webhook: HOOK\nweekly: every monday",
        "webhook: HOOK\nlate_hour: 3",
        "webhook: HOOK\nrun_config: no.yaml",
    ):
        (home / "automation.yaml").write_text(text)
        loaded = Automation.load()
        assert loaded.problem
        assert loaded.settings.webhook == "HOOK"
        for each in messages(loaded):
            assert each.default_status == dg.DefaultSensorStatus.RUNNING
            assert loaded.problem in (each.description or "")
    for text in ("webhook: 3 HOOKs", "[", "webhook: [HOOK]"):
        (home / "automation.yaml").write_text(text)
        loaded = Automation.load()
        assert loaded.problem
        assert loaded.settings == AutomationSettings()
    (home / "automation.yaml").unlink()
    (home / "automation.yaml").symlink_to(home / "nowhere")
    assert "is a link to" in Automation.load().problem


def ask(name: str, instance: dg.DagsterInstance, run: str) -> str:
    """Return what the tick of a sensor shows when a run has ended."""
    sensor = next(each for each in messages(automation()) if each.name == name)
    ended = instance.get_run_by_id(run)
    assert ended is not None
    kind = dg.DagsterEventType.RUN_FAILURE if name == "failed_runs" else dg.DagsterEventType.RUN_SUCCESS
    event = next(entry.dagster_event for entry in instance.all_logs(run, of_type=kind))
    assert event is not None
    context = dg.build_run_status_sensor_context(name, event, instance, ended)
    skipped: Any = sensor(context.for_run_failure() if name == "failed_runs" else context)
    return str(skipped.skip_message)


@pytest.mark.slow
def test_runs_tell_and_record_who_started_them(home: Path, receivers: None) -> None:
    """A run that fails, a rebuild that loses most of its rows, and runs of a schedule and of `stale_assets`."""
    job = defs.resolve_job_def("datasets")
    selection = [dg.AssetKey("raw_corpus"), dg.AssetKey("utterances")]
    with dg.DagsterInstance.ephemeral() as instance:

        def run(tags: dict[str, str] | None = None, selected: list[dg.AssetKey] = selection, **config: Any) -> str:
            ops = {name: {"config": values} for name, values in config.items()}
            done = job.execute_in_process(
                {"ops": ops}, instance=instance, tags=tags, asset_selection=selected, raise_on_error=False
            )
            return done.run_id

        failed = run(raw_corpus={"corpus": str(home / "missing.csv")})
        assert "Told HOOK and team@example.org" in ask("failed_runs", instance, failed)
        assert Webhook.got[-1].startswith(f"adc: run {failed[:8]} of datasets failed\nraw_corpus: ")
        assert "missing.csv" in Webhook.got[-1]
        assert "missing.csv" in Mail.got[-1].get_content()

        store = Store(home)
        first = run({"dagster/schedule_name": "nightly"}, raw_corpus={"sample_conversations": 120})
        assert ask("warned_runs", instance, first) == "Every check passed."
        assert read_making(store.current("utterances"))["by"] == "schedule nightly"
        smaller = run(raw_corpus={"sample_conversations": 20}, utterances={"max_set_aside": 0.4})
        assert "warns" in ask("warned_runs", instance, smaller)
        assert "volume of utterances: read of utterances fell from " in Webhook.got[-1]
        assert "changed settings: max_set_aside" in Webhook.got[-1]
        assert read_making(store.current("utterances"))["by"] == ""
        # Nothing new is no news.
        again = run(raw_corpus={"sample_conversations": 20}, utterances={"max_set_aside": 0.4})
        assert ask("warned_runs", instance, again) == "Every check passed."
        # A run of `stale_assets` has no configuration.
        before = store.current("utterances")
        run({"dagster/sensor_name": "stale_assets", AUTOMATION_CONDITION: "true"}, selection[1:])
        assert store.current("utterances") == before
        run(None, selection[1:])
        assert store.current("utterances").settings != before.settings


def test_a_late_run_is_told_once(home: Path, receivers: None, monkeypatch: pytest.MonkeyPatch) -> None:
    (late_runs,) = [each for each in messages(automation()) if each.name == "late_runs"]
    with dg.DagsterInstance.ephemeral() as instance:
        waiting = instance.add_run(dg.DagsterRun(job_name="adc", status=dg.DagsterRunStatus.STARTED)).run_id
        instance.add_run(dg.DagsterRun(job_name="adc", status=dg.DagsterRunStatus.SUCCESS))
        cursor, told = None, []
        for hours in (24, 1e-9, 1e-9):
            (home / "automation.yaml").write_text(json.dumps({"webhook": "HOOK", "late_hours": hours}))
            with dg.build_sensor_context(instance, cursor=cursor) as context:
                late_runs(context)
                cursor = context.cursor
            told.append(len(Webhook.got))
    assert told == [0, 1, 1]
    assert f"run {waiting[:8]} of adc: STARTED since 0 hours" in Webhook.got[0]


@pytest.mark.parametrize(
    ("before", "now", "limit", "said"),
    [
        (100, 100, 0.5, ""),
        (100, 50, 0.5, ""),
        (100, 49, 0.5, "walks of top_2 fell from 100 to 49 (-51%)."),
        (100, 151, 0.5, "walks of top_2 grew from 100 to 151 (+51%)."),
        (1000, 0, 0.5, "walks of top_2 fell from 1,000 to 0 (-100%)."),
        (100, 99, 0.0, "walks of top_2 fell from 100 to 99 (-1%)."),
        (0, 7, 0.5, ""),
        (None, 7, 0.5, ""),
    ],
)
def test_a_count_that_changes_sharply_warns(before: int | None, now: int, limit: float, said: str) -> None:
    made = Artefact("top_2", Path(), "d", counts={"walks": now})
    last = {} if before is None else {"counts": {"walks": before}, "settings": {}}
    result = volume_result(STAGES["top_2"], made, last, limit)
    assert (result.description or "", result.passed) == (said, not said)
    assert result.severity == dg.AssetCheckSeverity.WARN
