"""The command, through a pipe and at a terminal."""

import io
import os
import pty
import select
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from adc_pipeline.generate import Screen, main, talk
from adc_pipeline.generation.conversation import Conversation
from adc_pipeline.generation.decoding import Sampling
from adc_pipeline.generation.replier import Replier, Reply

POST = "A title\nand a <rejected> text\n"
SHORT = ["--max-new-tokens", "20", "--seed", "1"]


def piped(monkeypatch: pytest.MonkeyPatch, post: bytes, *arguments: str) -> int:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(post)))
    return main(list(arguments))


@pytest.fixture(autouse=True)
def no_other_mlflow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ADC_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_a_post_in_and_one_reply_out(
    small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    rejected = tmp_path / "rejected.txt"
    rejected.write_text("this will not do")
    said = []
    for more in ([], [], ["--rejected", str(rejected)]):
        assert piped(monkeypatch, POST.encode() + b"\xff", "--model", str(small_model), *SHORT, *more) == 0
        out, _ = capfd.readouterr()
        said.append(out)
    assert said[0] == said[1] != said[2]
    assert all(text.strip() and text.endswith("\n") for text in said)
    assert piped(monkeypatch, POST.encode() + b"\xff", "--model", str(small_model), *SHORT, "--improve", "2") == 0
    said.append(capfd.readouterr()[0])
    first, second, third = said[3].split("\n\n")
    assert [text.partition("\n")[0] for text in (first, second, third)] == [
        "first reply:",
        "after 1 rejected:",
        "after 2 rejected:",
    ]
    # The first reply is the one that is written without `--improve`.
    assert first.endswith(said[0].rstrip())
    assert len({text.partition("\n")[2] for text in (first, second, third)}) == 3
    assert not any(marker in text for marker in ("<rejected>", "<accepted>", "<background>") for text in said)


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("/nowhere", "is a path without a folder"),
        ("", "is a path without a folder"),
        ("models:/adc-top-2@latest", "contains no MLflow database"),
        (".", "contains no model (no config.json)"),
    ],
)
def test_what_is_no_model_is_refused_in_one_sentence(
    model: str,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert piped(monkeypatch, POST.encode(), "--model", model) == 2
    out, said = capfd.readouterr()
    assert not out
    assert sentence in said
    assert said.count("\n") == 1


def test_an_empty_post_is_refused(
    small_model: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert piped(monkeypatch, b"\n", "--model", str(small_model)) == 2
    assert capfd.readouterr().err.startswith("The post is empty")


@pytest.mark.parametrize("closed", ["stdin", "stdout"])
def test_a_closed_stream_is_said_to_be(
    closed: str, small_model: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, closed, None)
    assert main(["--model", str(small_model)]) == 2
    assert capfd.readouterr().err.startswith("Standard input or output is closed")


def test_the_screen_shows_names_at_a_terminal_only() -> None:
    for heading, expected in ((True, "ann:\nred\ttext\n"), (False, "red\ttext\n")):
        out = io.StringIO()
        screen = Screen(out, speaks=True, heading=heading)
        for piece in ("a", "nn\nre", "d\t", "te", "xt"):
            screen.show(piece)
        screen.end()
        assert out.getvalue() == expected


def test_a_rejected_reply_is_a_regular_file(
    small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(SystemExit):
        piped(monkeypatch, POST.encode(), "--model", str(small_model), "--rejected", str(tmp_path / "fifo"))
    assert "is a FIFO and no regular file" in capfd.readouterr().err


def test_the_screen_shows_no_control_characters_of_a_model() -> None:
    out = io.StringIO()
    screen = Screen(out, speaks=False, heading=False)
    for piece in ("a\x1b", "]0;title\x07\x9b31m", "\tb\nc\r 👩‍👧"):
        screen.show(piece)
    assert out.getvalue() == "a\\x1b]0;title\\x07\\x9b31m\tb\nc\\r 👩‍👧"


def test_what_the_user_says_of_a_reply_stands_in_the_conversation(
    replier: Replier, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = iter(["A title", "and a text", "", "r", "a", "my own", "and more", "", "a", "", "q"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(typed))
    seen: list[Conversation] = []
    written: list[Reply] = []
    reply = Replier.reply

    def noted(self: Replier, conversation: Conversation, *rest: Any) -> Reply:
        seen.append(conversation)
        written.append(reply(self, conversation, *rest))
        return written[-1]

    monkeypatch.setattr(Replier, "reply", noted)
    talk(replier, Sampling(max_new_tokens=20, seed=0), "me")
    assert seen[-1].text(replier.tokenizer.markers) == (
        f"me\nA title\nand a text<background>{written[0].turn}<rejected>{written[1].turn}<accepted>"
        f"me\nmy own\nand more<accepted>{written[2].turn}<accepted>"
    )
    assert [len(conversation.turns) for conversation in seen] == [0, 1, 3, 4]


@pytest.mark.slow
def test_a_conversation_at_a_terminal(small_model: Path) -> None:
    """Rejecting, accepting, answering; the end of the input ends it politely."""
    script = [
        ("> ", "A title\n"),
        ("> ", "and a text\n"),
        ("> ", "\n"),
        ("[q]uit: ", "what?\n"),
        ("[q]uit: ", "r\n"),
        ("[q]uit: ", "a\n"),
        ("> ", "my own reply\n"),
        ("> ", "\n"),
        ("[q]uit: ", "a\n"),
        ("> ", "\n"),
        ("[q]uit: ", "\x04"),
    ]
    child, terminal = pty.fork()
    if child == 0:
        command = [sys.executable, "-m", "adc_pipeline.generate", "--model", str(small_model), *SHORT]
        os.execv(sys.executable, command)
    said, deadline = b"", time.monotonic() + 120

    def more() -> bytes:
        assert select.select([terminal], [], [], deadline - time.monotonic())[0], said.decode()
        try:
            return os.read(terminal, 4096)
        except OSError:  # Linux's way to say that the other side is closed
            return b""

    for prompt, answer in script:
        before = len(said)
        while prompt.encode() not in said[before:]:
            piece = more()
            assert piece, said.decode()
            said += piece
        os.write(terminal, answer.encode())
    while piece := more():
        said += piece
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    shown = said.decode(errors="replace")
    assert "Traceback" not in shown
    assert not any(marker in shown for marker in ("<rejected>", "<accepted>", "<background>"))
    assert shown.count("[q]uit: ") == 5
