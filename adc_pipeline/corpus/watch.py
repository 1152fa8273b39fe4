"""Whether the corpus has changed: what the sensor asks at each tick, and what it remembers until the next.

Two looks at a corpus are compared by what differs cheaply (`corpus.source.observed`, and the versions that ConvoKit
publishes), never by times of the clock, which may jump. A change counts once two looks in a row have seen the same,
so that a dump that is still being copied starts nothing; and what was asked for once is not asked for again, even
if that run failed, until the corpus changes again.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from adc_pipeline.core.artefacts import Store, read_making
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.corpus.download import published_versions
from adc_pipeline.corpus.settings import CorpusSettings
from adc_pipeline.corpus.source import check_source, names, observed


@dataclass(frozen=True)
class Watch:
    """What is remembered between two looks; `handled` is what the last run that was asked for was to take in."""

    last: str = ""
    handled: str = ""
    # Of the runs asked for so far, so that a corpus that changes back is a change as well.
    key: str = ""
    versions: dict[str, int | None] = field(default_factory=dict)

    @classmethod
    def from_cursor(cls, cursor: str | None) -> "Watch":
        try:
            return cls(**json.loads(cursor or "{}"))
        except (ValueError, TypeError):
            # Of an earlier release: begin anew.
            return cls()

    def cursor(self) -> str:
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Look:
    """What a look has found: a reason to do nothing, or none, and what to remember."""

    watch: Watch
    skip: str = ""


def look(watch: Watch, settings: CorpusSettings, store: Store) -> Look:
    """Look at the corpus once more; a run is to be asked for, by the key in the new watch, where `skip` is empty.

    Never raises for a corpus that is missing or cannot be asked about: that is a reason to do nothing.
    """
    try:
        check_source(settings, contents=False)
        seen = observed(settings, store.home / "downloads")
    except (PipelineError, OSError, TypeError) as error:
        return Look(watch, str(error))
    asked = published_versions(names(settings))
    versions = {name: watch.versions.get(name) if version is None else version for name, version in asked.items()}
    silent = [name for name, version in asked.items() if version is None]
    seen |= {name: version for name, version in versions.items() if version is not None}
    now = digest({"settings": asdict(settings), "seen": seen})
    watch = replace(watch, versions=versions)
    if now == watch.handled or is_taken_in(settings, seen, store):
        unasked = f" ConvoKit did not say which version of {', '.join(silent)} it publishes." if silent else ""
        return Look(replace(watch, last=now, handled=now), f"The corpus {settings.corpus} has not changed.{unasked}")
    if now != watch.last:
        return Look(
            replace(watch, last=now), f"The corpus {settings.corpus} has changed: the next look tells if it is whole."
        )
    return Look(replace(watch, handled=now, key=digest([watch.key, now])))


def is_taken_in(settings: CorpusSettings, seen: Mapping[str, Any], store: Store) -> bool:
    """Whether the raw corpus in place was made of just this."""
    try:
        made = store.current("raw_corpus")
    except PipelineError:
        return False
    return made.settings == json.loads(json.dumps(asdict(settings))) and read_making(made)["outside"] == dict(seen)


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]
