"""Detect a changed corpus for the sensor that starts rebuilds: compare the corpus at each tick with the last tick.

The comparison uses file sizes and times, the recorded versions and the versions that ConvoKit publishes, never the
system clock, which may jump. The first tick only remembers what it sees. A change counts once two consecutive ticks
have seen the same state, so a dump that is still being copied starts no run. A file of which only the time differs from
that of the last build is read, and is no change if its content is the same. Each change requests one run; if that run
fails, only the next change requests another.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.content import file_digest
from adc_pipeline.core.store.manifests import read_making
from adc_pipeline.corpus.files.download import published_versions
from adc_pipeline.corpus.opening.recorded_files import recorded_links
from adc_pipeline.corpus.opening.remote import asked_once
from adc_pipeline.corpus.parts import recorded_archives
from adc_pipeline.corpus.settings import CorpusSettings
from adc_pipeline.corpus.source import check_source, convokit_names, corpus_state

# Read in some ten seconds at most, the time that Dagster gives a tick being a minute.
MOST_COMPARED = 10 * 2**30


@dataclass(frozen=True)
class Watch:
    """The sensor's cursor: the state at the last tick, and the state for which a run was last requested."""

    last: str = ""
    handled: str = ""
    # A hash chain over all requested runs, so that a corpus that changes back also requests a run.
    key: str = ""
    versions: dict[str, int | None] = field(default_factory=dict)

    @classmethod
    def from_cursor(cls, cursor: str | None) -> "Watch":
        try:
            return cls(**json.loads(cursor or "{}"))
        except (ValueError, TypeError):
            # The cursor was written by another release.
            return cls()

    def cursor(self) -> str:
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Tick:
    """The result of one comparison: the new cursor, and the reason to request no run (empty: request one)."""

    watch: Watch
    skip: str = ""


def check_for_change(watch: Watch, settings: CorpusSettings, store: Store) -> Tick:
    """Compare the corpus with the last tick; if `skip` is empty, a run with the new cursor's key is requested.

    A corpus that is missing or cannot be read is a reason to request no run, never an error.
    """
    try:
        with asked_once():
            check_source(settings, contents=False)
            state = corpus_state(settings, store.home / "downloads")
    except (PipelineError, OSError, TypeError) as error:
        return Tick(watch, str(error))
    published = published_versions(convokit_names(settings))
    versions = {name: watch.versions.get(name) if version is None else version for name, version in published.items()}
    unknown = [name for name, version in published.items() if version is None]
    state |= {name: version for name, version in versions.items() if version is not None}
    now = digest({"settings": asdict(settings), "seen": state})
    watch = replace(watch, versions=versions)
    if not watch.last:
        seen = f"The corpus {settings.corpus} is remembered: a change from now on starts a run."
        return Tick(replace(watch, last=now, handled=now), seen)
    if now == watch.handled or is_current(settings, state, store):
        note = f" ConvoKit did not say which version of {', '.join(unknown)} it publishes." if unknown else ""
        return Tick(replace(watch, last=now, handled=now), f"The corpus {settings.corpus} has not changed.{note}")
    if now != watch.last:
        return Tick(
            replace(watch, last=now),
            f"The corpus {settings.corpus} has changed: the next tick checks whether it is still changing.",
        )
    return Tick(replace(watch, handled=now, key=digest([watch.key, now])))


def is_current(settings: CorpusSettings, state: Mapping[str, Any], store: Store) -> bool:
    """Return whether the current raw corpus is up to date: made from this state of the sources, with these settings."""
    made = store.intact("raw_corpus")
    if made is None or made.settings != json.loads(json.dumps(asdict(settings))):
        return False
    seen = read_making(made)["outside"]
    return seen == dict(state) or only_times_differ(seen, state, made.path / "corpus")


def only_times_differ(before: Mapping[str, Any], now: Mapping[str, Any], corpus: Path) -> bool:
    """Return whether two states have the same files with the same content, as recorded for the raw corpus `corpus`.

    A file or an archive that was touched, or got another mode or a hard link, is read once. Nobody waits for more than
    `MOST_COMPARED` bytes of them: these count as changed.
    """
    changed = [name for name in before.keys() | now.keys() if before.get(name) != now.get(name)]
    recorded, read = recorded_links(corpus) | recorded_archives(corpus), 0
    for name in changed:
        was, found, known = before.get(name), now.get(name), recorded.get(Path(name))
        if known is None or not isinstance(was, dict) or not isinstance(found, dict):
            return False
        if not was.get("bytes") == found.get("bytes") == known["bytes"]:
            return False
        read += int(known["bytes"])
    if read > MOST_COMPARED:
        return False
    return all(file_digest(Path(name)) == recorded[Path(name)]["sha256"] for name in changed)


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]
