"""Write Markdown: tables, code spans and escaped text.

Cells hold values from corpora, models, settings and file names, and Dagster, MLflow and the Hugging Face Hub render
what is written here. Escaping `|` alone is not enough: a line break in a value ends the table, `<img>` reaches the
browser, `](` makes a link. Every cell is therefore escaped unless it is marked as `Markdown`, as markupsafe does for
HTML; a value shows as its own characters and is never markup. An address in a value may still become a link, whose
text is then its target.
"""

import re
from collections.abc import Collection, Iterable, Sequence

from adc_pipeline.core.terminal import CONTROLS

# Line breaks and other white space, without the no-break space, which stands in intervals.
_WHITE_SPACE = re.compile("[ \t\n\v\f\r\x1c-\x1f\x85\u2028\u2029]+")
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
# Underscores inside a word are no emphasis, and brackets are no link without what follows them here: metric names and
# intervals stay readable in the source.
_MARKUP = re.compile(r"[&<>\\`*~$|]|(?<!\w)_+|_+(?!\w)|\](?=[(\[:])")

# Dagster shows so many characters of Markdown or more behind a click, and fewer in place.
LONG = 1000


class Markdown(str):
    """Text that is Markdown already: `table` and `escape` leave it as it is."""

    __slots__ = ()


def one_line(value: object) -> str:
    """Return `value` as one line of printable text: white space becomes a space, control characters U+FFFD."""
    return CONTROLS.sub("\N{REPLACEMENT CHARACTER}", _WHITE_SPACE.sub(" ", str(value)).strip(" "))


def escape(value: object) -> Markdown:
    """Return `value` as one line of inline Markdown that shows its own characters; not for the start of a line."""
    if isinstance(value, Markdown):
        return value

    def escaped(match: re.Match[str]) -> str:
        return _HTML.get(match[0]) or "".join(f"\\{character}" for character in match[0])

    return Markdown(_MARKUP.sub(escaped, one_line(value)))


def code(value: object) -> Markdown:
    """Return `value` as a code span, or as plain escaped text where a code span cannot hold it.

    A backtick would end the span, and a table takes `|` for a column even there.
    """
    line = one_line(value)
    return Markdown(f"`{line}`") if line and not {"`", "|"} & set(line) else escape(line)


def table(header: Sequence[object], rows: Iterable[Sequence[object]], right: Collection[int] = ()) -> Markdown:
    """Return a table with its final line break; the columns numbered `right`, from 0, are aligned to the right."""
    rule = [Markdown("---:" if column in right else "---") for column in range(len(header))]
    lines = ([escape(cell) for cell in cells] for cells in (header, rule, *rows))
    return Markdown("".join(f"| {' | '.join(cells)} |\n" for cells in lines))
