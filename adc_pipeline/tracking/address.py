"""Accept a tracking address, and show no more of it than anybody may read.

An address can hold a secret in its user and password, its path or its query, and MLflow and the libraries below it put
addresses into errors and logs as they are. Two rules keep secrets in:

- `accepted` refuses an address whose parts cannot be told apart for certain. The user and password of a server go where
  MLflow looks for them, so that the address that MLflow knows has neither.
- `shown` returns scheme, host and port, or the path of an SQLite file. Every message, tag and artefact uses it.
"""

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.secrets import HIDDEN

SERVERS = ("http", "https")
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
HOST = re.compile(r"[\w.-]+")
SQLITE = re.compile(r"sqlite(\+\w+)?:///(?P<path>[^?]+)")
# What MLflow's library reads as another path than the one that is written, or a shell would have.
REWRITTEN = re.compile(r"~|file:|.*%[0-9A-Fa-f]{2}")


def shown(address: str) -> str:
    """Return what a message may show of an address: scheme, host and port, or the path of an SQLite file."""
    if found := SQLITE.match(address):
        return f"sqlite:///{found['path']}"
    scheme, separator, _ = address.partition("://")
    if not separator or (scheme.lower() not in SERVERS and scheme.partition("+")[0].lower() not in DATABASES):
        return HIDDEN
    host = "" if refusal(address) else urlsplit(address).netloc.rpartition("@")[2]
    return f"{scheme.lower()}://{host or HIDDEN}"


def accepted(address: str, variable: str) -> str:
    """Return a tracking address as MLflow is to know it: that of a server without user and password.

    These go to MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD. Raises PipelineError for a malformed address;
    `variable` is the setting that gave it.
    """
    if reason := refusal(address):
        raise PipelineError(
            f"{variable} = {shown(address)} cannot be used: {reason}. Give an MLflow server (http://HOST:PORT) or a"
            " database (postgresql://USER:PASSWORD@HOST/NAME)."
        )
    parts = urlsplit(address)
    user, at, host = parts.netloc.rpartition("@")
    if parts.scheme not in SERVERS:
        return address
    if at:
        name, _, password = user.partition(":")
        os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(name)
        os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(password)
    return urlunsplit(parts._replace(netloc=host))


def refusal(address: str) -> str:
    """Return why an address is refused; empty if it is accepted."""
    if CONTROL.search(unquote(address)):
        return "it contains a line break or another control character"
    try:
        parts = urlsplit(address)
        scheme, server = parts.scheme, parts.scheme in SERVERS
        kind = scheme if server else scheme.partition("+")[0]
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return "its host or port cannot be read (write @, :, / and ? in a password as %40, %3A, %2F and %3F)"
    if (kind not in DATABASES and not server) or "://" not in address:
        return "it begins with none of " + ", ".join(f"{name}://" for name in SERVERS + DATABASES)
    if kind == "sqlite":
        if ":memory:" in address or "mode=memory" in address:
            return "a database in memory ends with its process, and other processes do not see it"
        found = SQLITE.match(address)
        if found and REWRITTEN.match(found["path"]):
            return "the path of an SQLite file is written in full and as it is, without ~, file: and signs such as %20"
        return "" if found else "an SQLite file is written sqlite:///PATH"
    if " " in address:
        return "it contains a space"
    if "@" in parts.path + parts.query + parts.fragment or parts.netloc.count("@") > 1:
        return "it contains an @ that does not follow user and password (write it as %40)"
    if server and not host:
        return "it names no host"
    if "\\" in parts.netloc or (host and ":" not in host and not HOST.fullmatch(host)):
        return "its host contains a character that no host's name has"
    if parts.fragment or (server and parts.query):
        return "a server's address has no query and no fragment" if server else "a database's address has no fragment"
    return ""


def sqlite_file(address: str) -> Path | None:
    """Return the file of an SQLite database, or None for any other address."""
    found = SQLITE.match(address)
    return Path(found["path"]) if found else None


def page_address(address: str, variable: str) -> str:
    """Return an address that people open without user, password and query; PipelineError for another address."""
    if refusal(address) or urlsplit(address).scheme not in SERVERS:
        raise PipelineError(f"{variable} is no address of a web page: write it as https://HOST/PATH.")
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")).rstrip("/")
