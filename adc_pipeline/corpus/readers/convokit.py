"""ConvoKit corpora on disk, in every spelling since 2019: a folder with `utterances.jsonl` beside some JSON.

DuckDB reads the JSON lines itself. `convokit.Corpus` would need about 5 KB of memory an utterance and a
hundred times the time. `conversations.json` is one JSON object as long as the corpus has conversations and
is read entry by entry, so that its size is no matter either.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from adc_pipeline.corpus.readers import lines
from adc_pipeline.corpus.readers.rows import Rows
from adc_pipeline.engine import Report, unheard
from adc_pipeline.errors import PipelineError

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


def rows(corpus: Path, scratch: Path, report: Report = unheard, unpack: bool = False) -> Iterator[Rows]:
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


def corpus_name(corpus: Path) -> str:
    """What the corpus calls itself, or else its folder's name."""
    try:
        named = json.loads((corpus / "corpus.json").read_bytes())
    except FileNotFoundError:
        named = {}
    except ValueError as error:
        raise incomplete(corpus / "corpus.json") from error
    name = named.get("name") if isinstance(named, dict) else None
    return name if isinstance(name, str) and name else corpus.resolve().name


def titles(corpus: Path) -> Iterator[tuple[str, str | None, str | None]]:
    """Id, title and subreddit of every conversation; older corpora put them beside `meta` rather than in it."""
    path = corpus / "conversations.json"
    if not path.exists():
        return
    for conversation, entry in entries(path):
        meta = entry.get("meta", entry) if isinstance(entry, dict) else None
        if isinstance(meta, dict):
            title, subreddit = meta.get("title"), meta.get("subreddit")
            yield (
                conversation,
                title if isinstance(title, str) else None,
                subreddit if isinstance(subreddit, str) else None,
            )


# What stands between two values of the object: its beginning, or a comma; then a key and its colon.
KEY = re.compile(r'\s*[{,]\s*("(?:[^"\\]|\\.)*")\s*:\s*(?=\S)', re.DOTALL)
DELIMITERS = tuple(" \t\r\n,}")
END = re.compile(r"\s*(?:\{\s*)?\}\s*\Z")


def entries(path: Path, step: int = 1 << 22) -> Iterator[tuple[str, object]]:
    """The entries of a file that holds one JSON object, of which `step` characters or one entry are in memory."""
    decode = json.JSONDecoder().raw_decode
    with path.open(encoding="utf-8", errors="replace") as file:
        text, place = "", 0
        while True:
            key = KEY.match(text, place)
            if key:
                try:
                    value, end = decode(text, key.end())
                except ValueError:
                    end = len(text)
                # A value is whole where something follows it: 1 may yet become 12.
                if text[end : end + 1] in DELIMITERS:
                    yield json.loads(key[1]) if "\\" in key[1] else key[1][1:-1], value
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
