r"""Tell texts from what stands in their place: nothing, or a note that a text was deleted, removed or is unavailable.

`corpus.sharding` asks once for each text, when it is read, and stores the answer beside the text. A stage that filters
by it need not read the texts.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# White space as in Python's str.strip, and the zero-width space.
BLANK = (
    " \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009"
    "\u200a\u200b\u2028\u2029\u202f\u205f\u3000"
)

# What such a note says, in some languages. Those of scripts without spaces or with cases stand inside longer words.
SAID = (
    "(not|no longer) available", "deleted|removed|unavailable", "gelöscht", "entfernt", "supprimé(e|s|es)?",
    "borrad[oa]s?", "eliminad[oa]s?", "removid[oa]s?", "exclu[ií]d[oa]s?", "apagad[oa]s?", "eliminat[oa]", "rimoss[oa]",
    "cancellat[oa]", "verwijderd", "usunięt[aey]", "silindi", "borttagen", "slettet", "poistettu",
)  # fmt: skip
SAID_IN_OTHER_LETTERS = ("удал[её]н", "видалено", "削除", "删除", "刪除", "삭제")
REMOVAL_WORDS = rf"(?i)(^|[^\pL\pM\pN_])({'|'.join(SAID)})($|[^\pL\pM\pN_])|{'|'.join(SAID_IN_OTHER_LETTERS)}"

# Stripping every text would take longer than parsing it. A blank text or a note begins with a character that is not
# visible ASCII, with emphasis, a backslash or a bracket (`[`, `\` and `_` lie between `[` and a backquote). A text that
# begins with a small letter takes two comparisons, one with a capital letter four.
MACROS = r"""
-- A note in place of a text is short, and its first bracket is closed by its last; emphasis or a stop may be around it.
-- Reddit gives reasons, with links: [ Removed by Reddit on account of violating the [content policy](/help). ]
CREATE OR REPLACE TEMP MACRO is_note_of_removal(content) AS
CASE WHEN length(content) <= 150 THEN
    regexp_full_match(content, '(?s)[*_~`\\]*\[([^\[\]]|\[[^\[\]]*\])*\][*_~`.]*')
    AND regexp_matches(content, '{said}') ELSE false END;
CREATE OR REPLACE TEMP MACRO missing_text(content) AS
CASE WHEN content > '~'
        OR content < 'a' AND (content >= '[' OR content < ',' AND (content >= '*' OR content < '!')) THEN
    CASE WHEN content = '' THEN 'empty' WHEN content IN ('[deleted]', '[removed]') THEN 'deleted'
         WHEN trim(content, getvariable('blank')) = '' THEN 'empty'
         WHEN is_note_of_removal(trim(content, getvariable('blank'))) THEN 'deleted' END END;
"""


def create_text_macros(connection: "DuckDBPyConnection") -> None:
    """Create, for the life of the connection, `is_note_of_removal` of a stripped text and `missing_text` of any.

    The latter is 'empty', 'deleted' or, where there is a text, null.
    """
    connection.execute("SET VARIABLE blank = $1", [BLANK])
    connection.execute(MACROS.replace("{said}", REMOVAL_WORDS))
