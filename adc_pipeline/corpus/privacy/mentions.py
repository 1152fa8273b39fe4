"""Replace names of users in texts: `u/NAME`, `/u/NAME`, `/user/NAME` and `@NAME`.

A name that stands in a text without such a prefix cannot be told from a word and stays. Names are compared without
case, and however Unicode composes a letter.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# An address of e-mail has a letter or a digit before its @, so it is no mention.
PREFIX = r"(?:/?\b(?:u|user)/|\B@)"
# A letter may be written as two characters, the second of which is a mark.
MENTION = rf"(?i)({PREFIX}[\pL\pN_-](?:[\pL\pM\pN_.-]*[\pL\pM\pN_-])?)"
# Of a mention by itself.
PARTS = r"(?i)^(/?(?:u|user)/|@)([\pL\pM\pN_.-]+)$"
# A source that is a person's own, as Reddit names it.
OWN_SOURCE = r"(?i)^(/?(?:r/)?u_|/?(?:u|user)/)(.+)$"

# Capitals are the same of letters that differ only in what is small, such as the two small sigmas.
# Each mention becomes an item of a list, and is looked up. A text that has the separator itself loses it.
MACROS = f"""
CREATE OR REPLACE TEMP MACRO name_key(name) AS lower(upper(nfc_normalize(trim(name))));
CREATE OR REPLACE TEMP MACRO renamed(mention, names, otherwise) AS
    regexp_extract(mention, '{PARTS}', 1) || coalesce(
        names[name_key(regexp_extract(mention, '{PARTS}', 2))], otherwise, regexp_extract(mention, '{PARTS}', 2)
    );
CREATE OR REPLACE TEMP MACRO with_mentions(content, names, otherwise) AS
CASE WHEN (contains(content, '/') OR contains(content, '@')) AND regexp_matches(content, '{MENTION}') THEN
    array_to_string(list_transform(
        string_split(regexp_replace(content, '{MENTION}', chr(1) || '\\1' || chr(1), 'g'), chr(1)),
        lambda part: CASE WHEN regexp_matches(part, '{PARTS}') THEN renamed(part, names, otherwise) ELSE part END
    ), '')
ELSE content END;
CREATE OR REPLACE TEMP MACRO without_owner(source, names, otherwise) AS
CASE WHEN regexp_matches(source, '{OWN_SOURCE}') THEN regexp_extract(source, '{OWN_SOURCE}', 1) || coalesce(
    names[name_key(regexp_extract(source, '{OWN_SOURCE}', 2))], otherwise, regexp_extract(source, '{OWN_SOURCE}', 2)
) ELSE source END
"""


def create_mention_macros(connection: "DuckDBPyConnection") -> None:
    """Create the macros `with_mentions(content, names, otherwise)` and `without_owner(source, names, otherwise)`.

    `names` maps the `name_key` of a user, by which names are compared, to what stands for it; other users become
    `otherwise`, or stay if that is null. `without_owner` is for a source that is named after a user, `u_NAME`.
    """
    connection.execute(MACROS)
