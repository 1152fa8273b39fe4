"""Personal data in texts, found by patterns alone."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from adc_pipeline.corpus.settings import UtteranceSettings
from adc_pipeline.corpus.utterances import write_utterances
from adc_pipeline_tests.stages import utterance_records

pytest.importorskip("presidio_analyzer")
# Importing spaCy, which Presidio does, takes seconds.
pytestmark = pytest.mark.slow

TEXTS = {
    "Mail bob.smith+x@example.co.uk or bob@example.org.": "Mail [email] or [email].",
    "See https://example.com/a?b=c, www.foo.org/bar, and [here](http://example.net/~bob).":
        "See [link], [link], and [here]([link]).",
    "Call +1 (415) 555-2671 or 020 7946 0958": "Call [phone] or [phone]",
    "at 192.168.0.12 and 2001:db8::ff00:42:8329": "at [ip] and [ip]",
    "card 4111 1111 1111 1111, iban DE89370400440532013000": "card [card], iban [iban]",
    "main.py, e.g. foo.bar, 3 cats, 20.50, 911, in 2018-09-01; and/or": None,
    "card 4111 1111 1111 1112": None,
}  # fmt: skip


def test_what_is_found_is_replaced_and_counted_without_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    rows = [
        {"id": f"a{number}", "conversation_id": "a0", "reply_to": "a0" if number else None, "speaker": "ann",
         "text": text, "title": "x@example.com", "score": 1, "timestamp": number}
        for number, text in enumerate(TEXTS)
    ]  # fmt: skip
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = UtteranceSettings(replace_personal_data=True, shards=2)
    counts = write_utterances(tmp_path / "all.jsonl", tmp_path / "out", settings)
    found = utterance_records(tmp_path / "out")
    assert {each["text"] for each in found} == {replaced or text for text, replaced in TEXTS.items()}
    assert found[0]["title"] == "[email]"
    kinds = {name.removeprefix("personal_data."): count for name, count in counts.items() if "personal" in name}
    expected = {"email_address": 2 + len(TEXTS), "url": 3, "phone_number": 2, "ip_address": 2, "credit_card": 1}
    assert kinds == {**expected, "iban_code": 1}
