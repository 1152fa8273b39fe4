"""Turn the errors of MLflow, and of the libraries below it, into sentences.

These errors repeat the tracking address, and with it what may be a password, so the sentence replaces the error: it
repeats the error's own words only where nothing of the address stands in them, and does not chain it.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from adc_pipeline.core.errors import PipelineError, causes, first_line, is_disk_full
from adc_pipeline.tracking.address import shown, sqlite_file
from adc_pipeline.tracking.database import REPAIR, sentence

# Packages whose errors mean that MLflow could not do what it was asked to.
PACKAGES = {"alembic", "mlflow", "psycopg2", "pymysql", "requests", "sqlalchemy", "sqlite3", "urllib3"}


@contextmanager
def explained(uri: str, variable: str) -> Iterator[None]:
    """Raise PipelineError in place of what MLflow raises in the block; the arguments are those of `explanation`."""
    try:
        yield
    except Exception as error:
        found = explanation(error, uri, variable)
        if found is None:
            raise
        raise found from None


def explanation(error: BaseException, uri: str, variable: str) -> PipelineError | None:
    """Return the sentence for an error of MLflow's; None for an error of something else.

    `uri` is the tracking address, and `variable` the setting that gave it; empty for the database in ADC_HOME.
    """
    if type(error).__module__.partition(".")[0] not in PACKAGES and not is_missing_driver(error):
        return None
    if file := sqlite_file(uri):
        for cause in causes(error):
            if isinstance(cause, sqlite3.Error):
                return PipelineError(sentence(file, cause))
    if is_disk_full(error):
        return None
    if is_missing_driver(error) and variable:
        return PipelineError(
            f"{variable} = {shown(uri)} needs the Python package {getattr(error, 'name', '')}, which is"
            " not installed: install it (for PostgreSQL with `pip install 'adc-pipeline[deploy]'`), or unset the"
            " variable to use a database in ADC_HOME."
        )
    code, reason = getattr(error, "error_code", ""), words(error, [uri])
    if code and code not in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE"):
        return PipelineError(f"MLflow at {shown(uri)} refused a request ({code}: {reason}): see the log of its server.")
    if status := getattr(getattr(error, "response", None), "status_code", None):
        reason = f"HTTP status {status}"
    if variable:
        return PipelineError(
            f"MLflow does not answer at {variable} = {shown(uri)} ({reason}): start it{beside_proxy(uri)}, or unset the"
            " variable to use a database in ADC_HOME."
        )
    return PipelineError(f"The MLflow database at {shown(uri)} cannot be used ({reason}): {REPAIR}.")


def beside_proxy(uri: str) -> str:
    """Return what to do where the environment has a proxy asked for an address, as a part of a sentence; else empty.

    A company's proxy rarely knows servers of this machine or network, and answers for them with errors of its own.
    """
    parts = urlsplit(uri)
    host = parts.hostname or ""
    if parts.scheme not in getproxies() or proxy_bypass(host):
        return ""
    return f", add {host} to NO_PROXY if the proxy in {parts.scheme.upper()}_PROXY does not know it"


def is_missing_driver(error: BaseException) -> bool:
    """Return whether a database's driver is not installed."""
    return isinstance(error, ModuleNotFoundError) and error.name not in (None, "mlflow")


def words(error: BaseException, addresses: Sequence[str]) -> str:
    """Return the first line of an error, or only its type if the line holds a part of one of these addresses."""
    text = first_line(error)
    hidden = any(part in text for address in addresses for part in hidden_parts(address))
    return type(error).__name__ if hidden else text


def hidden_parts(address: str) -> set[str]:
    """Return the parts of an address that no message may show, as they are and decoded."""
    if sqlite_file(address):
        return set()
    parts = urlsplit(address)
    found = {parts.username, parts.password, parts.path.strip("/"), parts.query}
    found |= {value for pair in parts.query.split("&") for value in pair.split("=")[1:]}
    return {form for part in found if part for form in (part, unquote(part))}
