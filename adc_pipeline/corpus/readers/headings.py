"""Headers between the records of a table: joined files repeat theirs, and another table below brings its own."""

import re
from pathlib import Path

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.corpus.readers.dialects import COLUMN, LINES_LOOKED_AT, Record

# Names that tables of accounts, posts and replies often have, without the signs between their words.
USUAL_NAMES = {
    *("id", "name", "user", "username", "userid", "author", "authorid", "email", "mail", "joined"),
    *("date", "created", "createdat", "time", "timestamp", "title", "text", "body", "content", "message", "comment"),
    *("comments", "commentid", "post", "postid", "posts", "thread", "threadid", "topic", "topicid", "parent"),
    *("parentid", "replyto", "conversationid", "score", "likes", "votes", "ups", "points", "rank", "url", "link"),
    *("type", "status", "category", "forum"),
}
WHOLE_NUMBER = re.compile(r"\s*[+-]?\d+(?:\.\d+)?\s*")
# What may stand around the first name of a header in the middle of a file: nothing, a byte order mark, a space.
AROUND_NAMES = (("", ""), ("\ufeff", ""), (" ", ""), ("", " "))


class Headings:
    """Finds headers between the records of a table that was joined by hand.

    They may be spelled a little otherwise than the first. One of a table with other columns, or in another order, ends
    the reading, since what follows it would be read as what it is not.
    """

    # Columns that hold numbers, as the first records tell; none as long as there are no records.
    numbers: list[int] | None = None

    def __init__(self, path: Path, names: list[str]) -> None:
        self.path, self.names = path, [name.lower() for name in names]
        spellings = {spelling for name in names for spelling in (name, name.lower(), name.upper(), name.title())}
        self.first_cells = {before + spelling + behind for spelling in spellings for before, behind in AROUND_NAMES}

    def refuse_second_table(self, records: list[Record | None]) -> None:
        """Raise PipelineError for a record that is the header of another table, whose columns have other names.

        It has names, all of them different, where the records have numbers. Where two columns have numbers, two of the
        names have to be such as tables often have, in English; where only one has, half of them, as a reply may have a
        word in place of a score, too.
        """
        if self.numbers is None and records:
            self.numbers = number_columns([record for record in records[:LINES_LOOKED_AT] if record])
        if not self.numbers:
            return
        column = self.numbers[0]
        for record in [record for record in records if record and record[column][:1].isalpha()]:
            cells = [cell.strip().lower() for cell in record]
            if len(set(cells)) < len(cells) or not all(map(COLUMN.fullmatch, cells)):
                continue
            if any(any(map(str.isdigit, cells[number])) for number in self.numbers):
                continue
            usual = sum(re.sub(r"\W|_", "", cell) in USUAL_NAMES for cell in cells)
            if usual >= {1: len(cells) / 2, 2: 2}.get(len(self.numbers), 0):
                raise PipelineError(
                    f"{self.path.resolve()}, which the setting corpus names, has the header of another table among its"
                    f" rows ({', '.join(record)}): write what is below it to a file of its own."
                )

    def removed(self, records: list[Record | None]) -> list[Record | None]:
        """Return the records without headers; raise PipelineError for a header with other columns."""
        known = self.first_cells
        for record in [record for record in records if record and record[0] in known]:
            cells = [cell.strip(" \ufeff\"'").lower() for cell in record]
            if cells == self.names:
                records.remove(record)
            elif 2 * len(set(cells) & set(self.names)) > len(cells):
                raise PipelineError(
                    f"{self.path.resolve()}, which the setting corpus names, has a second header with other columns or"
                    f" in another order ({', '.join(cells)}): write what is below it to a file of its own."
                )
        return records


def number_columns(records: list[Record]) -> list[int]:
    """Return the places of the columns in which most cells of some records are whole numbers."""
    numbers = (sum(WHOLE_NUMBER.fullmatch(cell) is not None for cell in cells) for cells in zip(*records, strict=True))
    return [place for place, number in enumerate(numbers) if 2 * number > len(records)]
