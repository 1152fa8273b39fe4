"""Text from corpora, models and file names on its way to a terminal or a log."""


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
