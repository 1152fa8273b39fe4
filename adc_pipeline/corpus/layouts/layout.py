"""What a layout of posts and comments is, and how its entries are written.

A layout is recognised by its fields, whatever container they come in: JSON lines, CSV, Parquet, Arrow or XML, packed
or not. Each of our columns is an SQL expression over the file's fields in braces, which stand for text, or null where
the file has no such field. A dot leads into an object, and names match in any case. `{field:id}` and `{field:parent}`
read an id and a reference to a parent (`readers.values`), `{field:number}` a number that may be missing;
`html_text()` takes tags off. Where a site numbers posts and comments apart, `kind` and `parent_kind` tell which an id
names, as Reddit's t3_ and t1_ do. `{root}` is the first utterance of a thread, where a site names no conversation.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

ScoreOrder = Literal["higher", "lower"]

# In `Layout.inside`: a record is itself one of those that are read.
ITSELF = "."


@dataclass(frozen=True)
class Layout:
    """One kind of record; the module's text explains the expressions."""

    name: str
    # A file has the layout where one of its records has all of these; `a|b` asks for one of the two.
    fields: tuple[str, ...]
    columns: Mapping[str, str] = field(default_factory=dict)
    # Whether a higher or a lower score is better; a lower one is read as its negative, so that higher is better.
    score_order: ScoreOrder = "higher"
    # Files with roots are read first.
    has_roots: bool = True
    # Where a record holds the records that are read (`ITSELF`: it is one of them); which of its own values they take
    # over; the keys of the replies that they hold in turn; and which field of a reply is which of what it answers, if
    # it does not say so itself.
    inside: str = ""
    # Further records stand there.
    beside: str = ""
    around: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    answers: tuple[str, str] = ("", "")
    # Why such a file is not read and what to do, as the end of a sentence.
    refused: str = ""
    # Often lies beside a corpus and holds no utterances: left out of a folder instead of ending the run.
    companion: bool = False

    def fits(self, keys: Collection[str]) -> bool:
        """Return whether a record with these keys (in lower case, dotted where nested) has this layout."""
        return all(any(name in keys for name in wanted.lower().split("|")) for wanted in self.fields)
