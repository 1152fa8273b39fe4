"""Which utterances an id is unique among: Reddit's everywhere, any other only in its source.

Two forums both number their posts from 1, so in one run their ids must not meet. Each source that numbers its own
utterances has a namespace, a short prefix of its keys (`corpus.keys`). Reddit's ids are the same in every dump and
every corpus, so that overlapping downloads meet. A run with one kind of ids needs no prefix: keys are the ids.

A table without any root cannot stand alone: named beside others of its folder (`posts.csv,comments.csv`), it holds the
replies of the site whose file was named before it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from adc_pipeline.core.named_files import named_path
from adc_pipeline.corpus.opening.recorded_files import UTTERANCES
from adc_pipeline.corpus.parts import Part
from adc_pipeline.corpus.recognition.file_fields import first_lines, known_fields

REDDIT = ""
# A comment or a post, as Reddit refers to it.
REFERENCE = re.compile(r"\bt[13]_[0-9a-z]{2,}\b")
ROWS_LOOKED_AT = 1000


def part_namespaces(parts: Sequence[Part], columns: Mapping[str, str]) -> list[str]:
    """Return the namespace of each part; `columns` is the setting of that name."""
    if len({part.source for part in parts}) < 2:
        return [""] * len(parts)
    shared = [has_reddit_ids(part, columns) for part in parts]
    own = list(dict.fromkeys(part.source for part, reddit in zip(parts, shared, strict=True) if not reddit))
    if len(own) + any(shared) < 2:
        return [""] * len(parts)
    return [REDDIT if reddit else f"{own.index(part.source) + 1}:" for part, reddit in zip(parts, shared, strict=True)]


def join_sites(parts: Sequence[Part], namespaces: Sequence[str], has_roots: Callable[[Part], bool]) -> list[str]:
    """Return the namespaces, with that of a site for files of its folder that hold no root.

    The site is the last one with roots that is named before such a file, or else the first after it.
    """
    folders: dict[str, Path] = {}
    for part, namespace in zip(parts, namespaces, strict=True):
        if namespace != REDDIT:
            folders.setdefault(namespace, named_path(part.source).resolve().parent)
    joined: dict[str, str] = {}
    for folder in dict.fromkeys(folders.values()):
        sites = [namespace for namespace, its_folder in folders.items() if its_folder == folder]
        if len(sites) < 2:
            continue
        rooted = [
            site
            for site in sites
            if any(has_roots(part) for part, namespace in zip(parts, namespaces, strict=True) if namespace == site)
        ]
        for place, site in enumerate(sites):
            if site not in rooted and rooted:
                before = [other for other in sites[:place] if other in rooted]
                joined[site] = before[-1] if before else rooted[0]
    found = [joined.get(namespace, namespace) for namespace in namespaces]
    return found if len(set(found)) > 1 else [""] * len(found)


def has_reddit_ids(part: Part, columns: Mapping[str, str]) -> bool:
    """Return whether the ids of a part are Reddit's, as far as its beginning tells."""
    match part.what.kind, part.what.container:
        case "submissions" | "comments", _:
            return True
        case "convokit", _:
            return "meta.subreddit" in known_fields(part.path / UTTERANCES, "lines")
        case "table", "csv" | "lines":
            return any(REFERENCE.search(line.decode(errors="replace")) for line in first_lines(part.path))
        case "table", "parquet":
            return any(map(REFERENCE.fullmatch, parquet_references(part, columns)))
        case _:
            return False


def parquet_references(part: Part, columns: Mapping[str, str]) -> list[str]:
    """Return the first references to conversations and parents of a Parquet file."""
    import pyarrow.parquet as pq

    with part.path.open("rb") as source:
        file = pq.ParquetFile(source)
        wanted = {columns.get(name, name) for name in ("conversation_id", "reply_to")} & set(file.schema_arrow.names)
        batch = next(file.iter_batches(ROWS_LOOKED_AT, columns=sorted(wanted)), None)
        values = [value for column in batch.columns for value in column.to_pylist()] if batch else []
    return [value for value in values if isinstance(value, str)]
