"""Text from corpora, models and file names on its way to a terminal or a log."""

import re

CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def without_controls(text: str) -> str:
    """Return a text of several lines with control characters spelled as escapes; all other characters stay."""
    return CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


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
