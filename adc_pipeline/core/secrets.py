"""Hide secrets in texts that people read: sentences of errors, log lines, stack traces.

Libraries put addresses and headers into their errors as they are. Two things are hidden wherever they stand: of an
address the user, the password and the query; and what an environment variable holds whose name says that it is a
secret, as `HF_TOKEN`, or the password in an address that a variable holds, as in `HTTPS_PROXY`. What is no address and
in no such variable cannot be recognised. Costs 0.1 ms a text.
"""

import os
import re
from collections.abc import Iterator
from urllib.parse import quote, unquote

HIDDEN = "..."
# What sentences themselves give as an example.
EXAMPLES = ("user", "USER:PASSWORD", "HOST:PORT")
SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*://"
# An address in quotes may hold spaces; any other ends before the punctuation of a sentence.
QUOTED = re.compile(rf"(?P<quote>['\"`])(?P<scheme>{SCHEME})(?P<rest>.*?)(?=(?P=quote))", re.DOTALL)
PLAIN = re.compile(rf"(?P<scheme>{SCHEME})(?P<rest>[^\s'\"`<>]*[^\s'\"`<>.,:;)\]}}?])")
WITH_USER = re.compile(rf"{SCHEME}(?P<user>\S+)@\S+")
NAMES = re.compile(r"TOKEN|PASSW|SECRET|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|WEBHOOK", re.IGNORECASE)
# Variables that name a place.
PLACES = re.compile(r"_(PATH|FILE|DIR|URI_FILE)$", re.IGNORECASE)
# A shorter value is a word of its own somewhere.
SHORTEST = 8


def masked(text: str) -> str:
    """Return a text with `...` in place of every secret."""
    for secret in secrets():
        text = text.replace(secret, HIDDEN)
    if "://" not in text:
        return text
    text = QUOTED.sub(lambda found: found["quote"] + without_credentials(found["scheme"], found["rest"]), text)
    return PLAIN.sub(lambda found: without_credentials(found["scheme"], found["rest"]), text)


def has_credentials(text: str) -> bool:
    """Return whether a text holds an address with a user, a password or a query."""
    return "://" in text and any(
        without_credentials(found["scheme"], found["rest"]) != found["scheme"] + found["rest"]
        for each in (QUOTED, PLAIN)
        for found in each.finditer(text)
    )


def without_credentials(scheme: str, rest: str) -> str:
    """Return an address without user, password and query; `scheme` ends in `://`.

    A part whose limits are not certain is hidden: a password may hold any character, written as it is.
    """
    user, at, host = rest.rpartition("@")
    if rest.startswith("/") and scheme.lower().startswith(("file", "sqlite")):
        # A path, as of a home that has the user's whole name.
        pass
    elif at and user not in EXAMPLES:
        rest = f"{HIDDEN}@{host}"
    else:
        server = re.split("[/?#]", rest, maxsplit=1)[0]
        name, colon, port = server.rpartition(":")
        # A password whose address was cut off before the @; brackets are those of IPv6.
        if colon and not at and not port.isdigit() and "[" not in server and server not in EXAMPLES:
            rest = f"{name}:{HIDDEN}"
    before, _, query = rest.partition("?")
    # What follows # is not sent to a server: MLflow's pages are named by it.
    return scheme + (f"{before}?{HIDDEN}" if query and "#" not in before else rest)


def secrets() -> Iterator[str]:
    """Yield what is secret in the environment, in the spellings in which errors have it, longest first."""
    found: set[str] = set()
    for name, value in os.environ.items():
        if found_address := WITH_USER.fullmatch(value.strip()):
            value = found_address["user"].partition(":")[2]
        elif not is_secret(name):
            continue
        # A line break within a header is what such an error is about.
        for part in (value, *value.split()):
            found |= {part, unquote(part), quote(part, safe="")}
    yield from sorted((each for each in found if len(each) >= SHORTEST), key=len, reverse=True)


def is_secret(variable: str) -> bool:
    """Return whether the name of an environment variable says that it holds a secret."""
    return bool(NAMES.search(variable)) and not PLACES.search(variable)
