"""Text from corpora, models and file names on its way to a terminal or a log."""

import io
import os
import re
import sys

# With overrides of the direction of writing, which reorder what a line says, and with what names of files have in place
# of bytes that are no UTF-8, which no terminal takes.
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def without_controls(text: str) -> str:
    """Return a text of several lines with control characters and the like spelled as escapes; all others stay."""
    return CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def prepare_streams() -> None:
    """Let this process print whatever the locale's encoding lacks, and let closed streams lead nowhere.

    Python has no stream for one that is closed, as by `>&-` or by some schedulers, and the next file that a library
    opens would get what is printed there.
    """
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def show(text: str) -> None:
    """Print lines that hold names from outside, as those of files, of models and in somebody else's MLflow."""
    print(printable(text), flush=True)


def printable(text: str, kept: str = "\n\t") -> str:
    """Return a text with control characters, broken code points and invisible characters spelled as escapes.

    They would steer a terminal or forge lines of a log. Characters in `kept` stay.
    """
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each in kept else each.encode("unicode_escape", "backslashreplace").decode()
        for each in text
    )
