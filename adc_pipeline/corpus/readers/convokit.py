"""ConvoKit corpora on disk, in every spelling since 2019: a folder with `utterances.jsonl` beside some JSON.

DuckDB reads the JSON lines itself. `convokit.Corpus` would need about 5 KB of memory an utterance and a
hundred times the time. `conversations.json` is one JSON object as long as the corpus has conversations and
is read entry by entry, so that its size is no matter either.
"""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from adc_pipeline.core.engine import Report, no_report
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.corpus.readers import lines
from adc_pipeline.corpus.readers.rows import Rows

LINES = "utterances.jsonl"

# Spellings of the same key in the corpora ConvoKit has published. A line that is no JSON object, or none of
# this shape, arrives with every column null.
READ = """
SELECT id, coalesce(conversation_id, root) AS conversation_id, coalesce(reply_to, "reply-to") AS reply_to,
    coalesce(speaker, "user") AS speaker, text, seconds(timestamp) AS timestamp, whole(meta.score) AS score,
    try_cast(meta.stickied AS BOOLEAN) AS stickied, try_cast(meta.score_hidden AS BOOLEAN) AS score_hidden,
    meta.distinguished AS distinguished, NULL::VARCHAR AS title, meta.subreddit AS source
FROM read_json($lines, format = 'newline_delimited', ignore_errors = true, columns = {
    id: 'VARCHAR', conversation_id: 'VARCHAR', root: 'VARCHAR', reply_to: 'VARCHAR', "reply-to": 'VARCHAR',
    speaker: 'VARCHAR', "user": 'VARCHAR', text: 'VARCHAR', timestamp: 'VARCHAR',
    meta: 'STRUCT(score VARCHAR, stickied VARCHAR, score_hidden VARCHAR, distinguished VARCHAR, subreddit VARCHAR)'})
"""


def rows(corpus: Path, scratch: Path, report: Report = no_report, unpack: bool = False) -> Iterator[Rows]:
    """The utterances of a corpus, in its order; run each to its end before asking for the next.

    With `unpack` they go through `readers.lines`, which replaces the lines that DuckDB finds too long
    (`lines.is_too_long`). Raises PipelineError for a file that is cut off.
    """
    path = corpus / LINES
    if unpack or lines.has_mark(path):
        for chunk in lines.chunks(path, scratch, report):
            yield Rows(READ, {"lines": str(chunk)})
    else:
        lines.check_end(path)
        yield Rows(READ, {"lines": str(path)})


def corpus_name(corpus: Path, otherwise: str) -> str:
    """Return the name that `corpus.json` gives; `otherwise` where it gives none."""
    try:
        named = json.loads((corpus / "corpus.json").read_bytes())
    except FileNotFoundError:
        named = {}
    except ValueError as error:
        raise incomplete(corpus / "corpus.json") from error
    name = named.get("name") if isinstance(named, dict) else None
    return name if isinstance(name, str) and name else otherwise


# Title and subreddit of a conversation; older corpora put them beside `meta` rather than in it.
TITLES = """
SELECT id AS conversation_id, coalesce(entry.meta.title, entry.title) AS title,
    coalesce(entry.meta.subreddit, entry.subreddit) AS source, place
FROM read_json($lines, format = 'newline_delimited', ignore_errors = true, columns = {
    id: 'VARCHAR', place: 'BIGINT',
    entry: 'STRUCT(title VARCHAR, subreddit VARCHAR, meta STRUCT(title VARCHAR, subreddit VARCHAR))'})
WHERE id IS NOT NULL
"""


def write_conversations(corpora: Iterable[Path], lines: Path) -> None:
    """Write what corpora say of their conversations as JSON lines, for `TITLES` to read; the spelling stays."""
    place = 0
    with lines.open("w", encoding="utf-8") as file:
        for path in (corpus / "conversations.json" for corpus in corpora):
            for key, entry in entries(path) if path.exists() else ():
                # Between values only: inside a string it would be escaped.
                line = entry.replace("\n", " ").replace("\r", " ")
                file.write(f'{{"id": {key}, "place": {place}, "entry": {line}}}\n')
                place += 1


# What stands between two values of the object: its beginning, or a comma; then a key and its colon.
KEY = re.compile(r'\s*[{,]\s*("(?:[^"\\]|\\.)*")\s*:\s*(?=\S)', re.DOTALL)
DELIMITERS = tuple(" \t\r\n,}")
END = re.compile(r"\s*(?:\{\s*)?\}\s*\Z")


def entries(path: Path, step: int = 1 << 22) -> Iterator[tuple[str, str]]:
    """The keys and values, as they are spelt, of a file that holds one JSON object.

    `step` characters of it are in memory, or one value if that is longer. Raises PipelineError where the file is
    not whole.
    """
    decode = json.JSONDecoder().raw_decode
    with path.open(encoding="utf-8", errors="replace") as file:
        text, place = "", 0
        while True:
            key = KEY.match(text, place)
            if key:
                try:
                    _, end = decode(text, key.end())
                except ValueError:
                    end = len(text)
                # A value is whole where something follows it: 1 may yet become 12.
                if text[end : end + 1] in DELIMITERS:
                    yield key[1], text[key.end() : end]
                    place = end
                    continue
            read = file.read(max(step, len(text) - place))
            text, place = text[place:] + read, 0
            if not read:
                break
    if not END.match(text):
        raise incomplete(path)


def incomplete(path: Path) -> PipelineError:
    return PipelineError(f"{path} is not one whole JSON object, so the copy is incomplete: fetch the corpus again.")
