"""Read ConvoKit corpora on disk, in every spelling since 2019: a folder with `utterances.jsonl` beside some JSON.

DuckDB reads the JSON lines. `convokit.Corpus` would need about 5 KB of memory an utterance and a hundred times the
time. `conversations.json` is one JSON object as long as the corpus has conversations and is read entry by entry, so
its size does not matter either.
"""

import codecs
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from adc_pipeline.core.engine import Report, no_report
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.named_files import SMALL_JSON, check_file, small_json
from adc_pipeline.corpus.opening.packings import Unpacked
from adc_pipeline.corpus.opening.recorded_files import UTTERANCES
from adc_pipeline.corpus.readers import json_lines, lines, small_files
from adc_pipeline.corpus.readers.carried import EMPTY, json_text, open_lines, selected
from adc_pipeline.corpus.readers.json_values import UNDECODED
from adc_pipeline.corpus.readers.rows import NAME_OF_FILE, READ_FILE_NUMBER, Rows

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# `root` and `reply-to` are older spellings in the corpora that ConvoKit has published. A line that is no JSON object,
# or none of this shape, has null in every column. A parent that is written like a missing value is one, unless the
# conversation has that name: early posts of Reddit are called "na" or "null".
UTTERANCES_OF = """
SELECT id, conversation_id,
    CASE WHEN strlen(parent) <= 4 AND is_nothing(parent) AND parent IS DISTINCT FROM conversation_id THEN NULL
         ELSE parent END AS reply_to,
    coalesce(speaker, "user") AS speaker, text, timestamp, score_number(meta.score) AS score,
    truth(meta.stickied) AS stickied, truth(meta.score_hidden) AS score_hidden,
    mark(meta.distinguished) AS distinguished, NULL::VARCHAR AS title, {source} AS source,
    recorded(timestamp, recording, after) AS recorded_at, NULL::VARCHAR AS kind, NULL::VARCHAR AS parent_kind,
    is_unreadable(timestamp, written_time) AS time_unreadable{carried}
FROM (
    SELECT * EXCLUDE (id, conversation_id, timestamp), text_id(id) AS id,
        text_id(coalesce(conversation_id, root)) AS conversation_id,
        text_parent(coalesce(reply_to, "reply-to")) AS parent,
        {times},
        CASE WHEN meta.retrieved_after IS NOT NULL THEN seconds(meta.retrieved_after) END AS after
    FROM {records}
)
"""
TIMES = """seconds(timestamp) AS timestamp, timestamp AS written_time,
        seconds(coalesce(meta.retrieved_utc, meta.retrieved_on)) AS recording"""
# Times as numbers, of which there are two in most lines. A missing recording may be 0.
COUNTED_TIMES = """counted_seconds(timestamp) AS timestamp, NULL::VARCHAR AS written_time,
        CASE WHEN meta.retrieved_utc IS NULL THEN counted_seconds(nullif(meta.retrieved_on, 0))
             ELSE seconds(meta.retrieved_utc) END AS recording"""
FIELDS = ("id", "conversation_id", "root", "reply_to", "reply-to", "speaker", "user", "text", "timestamp")
META = (
    "score", "stickied", "score_hidden", "distinguished", "subreddit", "retrieved_on", "retrieved_utc",
    "retrieved_after",
)  # fmt: skip
LINES = "read_json($lines, format = 'newline_delimited', ignore_errors = true, hive_partitioning = false, {options})"
# Raises an error where a line or a value cannot be read, instead of giving null.
STRICT_LINES = LINES.replace("ignore_errors = true, ", "")
COLUMNS_OF_LINES = "columns = {{{fields}, meta: 'STRUCT({meta})'}}".format(
    fields=", ".join(f"\"{name}\": 'VARCHAR'" for name in FIELDS), meta=", ".join(f"{name} VARCHAR" for name in META)
)
COUNTED_COLUMNS = COLUMNS_OF_LINES.replace("\"timestamp\": 'VARCHAR'", "\"timestamp\": 'DOUBLE'").replace(
    "retrieved_on VARCHAR", "retrieved_on DOUBLE"
)
READ = UTTERANCES_OF.format(
    source="meta.subreddit", records=LINES.format(options=COLUMNS_OF_LINES), times=TIMES, carried=""
)
QUICK = UTTERANCES_OF.format(
    source="meta.subreddit", records=STRICT_LINES.format(options=COUNTED_COLUMNS), times=COUNTED_TIMES, carried=""
)
READ_FOLDERS = UTTERANCES_OF.format(
    source=f"coalesce(meta.subreddit, {NAME_OF_FILE})",
    records=LINES.format(options=COLUMNS_OF_LINES.replace("{", "{" + READ_FILE_NUMBER, 1) + ", filename = true"),
    times=TIMES,
    carried="",
)


# Keeps views apart where one connection reads several corpora.
NUMBERS = count()


def rows(
    corpus: Path,
    connection: "DuckDBPyConnection",
    scratch: Path,
    report: Report = no_report,
    unpack: bool = False,
    others: Mapping[str, str] = EMPTY,
) -> Iterator[Rows]:
    """Yield the utterances of a corpus, in order; run each to its end before the next.

    With `unpack` they go through `readers.json_lines`, which replaces the lines that are too long for DuckDB. `others`
    are the fields of `meta` that are carried besides our columns (`readers.carried`). Raise PipelineError for a file
    that is truncated.
    """
    path = corpus / UTTERANCES
    if others:
        for chunk in json_lines.chunks(path, scratch, report, json_lines.mended_json_lines):
            yield Rows(select(chunk, others, connection), lines=[chunk])
    elif unpack or not json_lines.is_one_object_a_line(path):
        for chunk in json_lines.chunks(path, scratch, report):
            yield Rows(READ, {"lines": str(chunk)}, lines=[chunk], quick=QUICK)
    else:
        lines.check_end(path)
        yield Rows(READ, {"lines": str(path)}, lines=[path], quick=QUICK)


def select(chunk: Path, others: Mapping[str, str], connection: "DuckDBPyConnection") -> str:
    """Return the query of our columns and `others` over lines; its view stays for the life of the connection."""
    from duckdb import CoalesceOperator, ColumnExpression, ConstantExpression, FunctionExpression

    records = open_lines(chunk, dict.fromkeys(FIELDS, "VARCHAR") | {"meta": "JSON"}, connection)
    meta = ColumnExpression("meta")
    known = ConstantExpression(json.dumps(dict.fromkeys(META, "VARCHAR")))
    chosen = [FunctionExpression("json_transform", meta, known).alias("meta"), *map(ColumnExpression, FIELDS)]
    for number, field in enumerate(others.values()):
        key = field.removeprefix("meta.")
        found = CoalesceOperator(json_text(meta, [key]), json_text(meta, key.split(".")))
        chosen.append(found.alias(f"carried_{number}"))
    view = f"convokit_{next(NUMBERS)}"
    records.select(*chosen).create_view(view)
    return UTTERANCES_OF.format(source="meta.subreddit", records=view, times=TIMES, carried=selected(others))


def rows_of_folders(corpora: Sequence[Path], names: Sequence[str], scratch: Path) -> Iterator[Rows]:
    """Yield the utterances of many small corpora, in order, by one query; `names` as in `Rows`."""
    scratch.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=scratch) as folder:
        own = [corpus_name(corpus, name) for corpus, name in zip(corpora, names, strict=True)]
        files = dict(small_files.plain_files([corpus / UTTERANCES for corpus in corpora], own, Path(folder)))
        yield Rows(READ_FOLDERS, {"lines": list(map(str, files)), "names": list(files.values())}, lines=list(files))


def corpus_name(corpus: Path, otherwise: str) -> str:
    """Return the name that `corpus.json` gives; `otherwise` where it gives none."""
    path = (corpus / "corpus.json").resolve()
    if not path.exists():
        return otherwise
    check_file(path, "corpus")
    with path.open("rb") as file:
        content = small_json(Unpacked(file, path).read(SMALL_JSON + 1), path, "corpus")
    name = content.get("name") if isinstance(content, dict) else None
    return name if isinstance(name, str) and name else otherwise


class Title(NamedTuple):
    """What a corpus says of a conversation; null where it says nothing."""

    conversation_id: str
    title: str | None
    source: str | None


def titles(corpus: Path) -> Iterator[Title | None]:
    """Yield the entries of `conversations.json`, if there is one; None for one that is no JSON object.

    Before an entry with bytes that are no UTF-8, which become U+FFFD, comes None as well.

    Older corpora put title and subreddit beside `meta` rather than in it. Only these two are kept, so an entry may be
    of any size.
    """
    path = (corpus / "conversations.json").resolve()
    for key, entry in entries(path) if path.exists() else ():
        if not isinstance(entry, dict):
            yield None
            continue
        meta = entry.get("meta")
        nested = meta if isinstance(meta, dict) else {}
        title, source = nested.get("title"), nested.get("subreddit")
        title = entry.get("title") if title is None else title
        source = entry.get("subreddit") if source is None else source
        if any(isinstance(text, str) and UNDECODED.search(text) for text in (key, title, source)):
            yield None
        yield Title(sound_text(key), as_text(title), as_text(source))


def as_text(value: Any) -> str | None:
    """Return a JSON value as text: a string as it is, null as None, anything else in JSON's notation."""
    if value is None:
        return None
    return sound_text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def sound_text(text: str) -> str:
    """Return the text with U+FFFD for each half of a surrogate pair, which may stand for a byte that is no UTF-8."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


# What stands before a value of the object: its beginning or a comma, then a key and a colon.
KEY = re.compile(r'\s*[{,]\s*("(?:[^"\\]|\\.)*")\s*:\s*(?=\S)', re.DOTALL)
DELIMITERS = tuple(" \t\r\n,}")
END = re.compile(r"\s*(?:\{\s*)?\}\s*\Z")


def entries(path: Path, step: int = 1 << 22) -> Iterator[tuple[str, Any]]:
    """Yield the keys and decoded values of a file that holds one JSON object, packed or not.

    `step` bytes of it are in memory, or one value if that is longer. Raise PipelineError for a file that is
    damaged or truncated.
    """
    decode = json.JSONDecoder(strict=False).raw_decode
    utf8 = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    with path.open("rb") as file:
        unpacked, text, place = Unpacked(file, path), "", 0
        while True:
            key = KEY.match(text, place)
            if key:
                try:
                    value, end = decode(text, key.end())
                except ValueError:
                    end = len(text)
                except RecursionError as error:
                    raise PipelineError(
                        f"{path}, which the setting corpus names, nests its values too deeply: correct it."
                    ) from error
                # A value is complete where something follows it: 1 may yet become 12.
                if text[end : end + 1] in DELIMITERS:
                    yield decode(key[1])[0], value
                    place = end
                    continue
            read = unpacked.read(max(step, len(text) - place))
            text, place = text[place:] + utf8.decode(read, final=not read), 0
            if not read:
                break
    if not END.match(text):
        raise incomplete(path)


def incomplete(path: Path) -> PipelineError:
    return PipelineError(f"{path} is not one whole JSON object, so the copy is incomplete: fetch the corpus again.")
