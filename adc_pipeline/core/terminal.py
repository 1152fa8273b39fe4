"""Text of the world on its way to a terminal."""


def printable(text: str) -> str:
    """Return a text in which characters that steer a terminal, or that nobody sees, are replaced by `?`.

    Line breaks and tabs stay.
    """
    return "".join(character if character.isprintable() or character in "\n\t" else "?" for character in text)
