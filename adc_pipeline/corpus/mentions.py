"""Replace names of users in texts: `u/NAME`, `/u/NAME`, `/user/NAME` and `@NAME`.

A name that stands in a text without such a prefix cannot be told from a word and stays.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# An address of e-mail has a letter or a digit before its @, so it is no mention.
PREFIX = r"(?:/?\b(?:u|user)/|\B@)"
MENTION = rf"(?i)({PREFIX}[\pL\pN_-](?:[\pL\pN_.-]*[\pL\pN_-])?)"
# Of a mention by itself.
PARTS = r"(?i)^(/?(?:u|user)/|@)([\pL\pN_.-]+)$"

# Each mention becomes an item of a list, and is looked up. A text that has the separator itself loses it.
MACROS = f"""
CREATE OR REPLACE TEMP MACRO renamed(mention, names, otherwise) AS
    regexp_extract(mention, '{PARTS}', 1)
    || coalesce(names[lower(regexp_extract(mention, '{PARTS}', 2))], otherwise, regexp_extract(mention, '{PARTS}', 2));
CREATE OR REPLACE TEMP MACRO with_mentions(content, names, otherwise) AS
CASE WHEN (contains(content, '/') OR contains(content, '@')) AND regexp_matches(content, '{MENTION}') THEN
    array_to_string(list_transform(
        string_split(regexp_replace(content, '{MENTION}', chr(1) || '\\1' || chr(1), 'g'), chr(1)),
        lambda part: CASE WHEN regexp_matches(part, '{PARTS}') THEN renamed(part, names, otherwise) ELSE part END
    ), '')
ELSE content END
"""


def create_mention_macros(connection: "DuckDBPyConnection") -> None:
    """Create the macro `with_mentions(content, names, otherwise)`.

    `names` maps the lower-case name of a user to what stands for it; other users become `otherwise`, or stay if that is
    null.
    """
    connection.execute(MACROS)
