r"""How sources write numbers, times and ids: SQL macros that all readers share.

Values arrive as text, since a source may write a number either way, or as JSON, where a reader has to tell a number
from a string.

- A **time** is a number of seconds, milliseconds, microseconds or nanoseconds since 1970, which its size tells, or a
  date: ISO 8601 with or without a zone (UTC where it names none), or with the month's English name, as e-mails and
  people write it, and a clock of 12 hours or a zone of RFC 2822. Fractions of a second are dropped. Digits that are a
  date without separators, such as 20200913183332, are that date: as a number they would lie in 1970, 1976 or the year
  2610.
- A **score** is a whole number. Commas may separate its thousands, since of a table with such scores only the highest
  ones have commas. So may points where a table of texts tells that they do (`thousands_by_points`). Pages show the
  highest ones as 1.2k, and some say what they count (7 points).
- A **mark** (pinned, hidden, by a moderator) is also true as 1.0, and none where it is written like a missing value.
- An **id** is any text; white space around it is no part of it, nor what Excel puts around digits (="001"). A whole
  number keeps its id where a program wrote it as a float: pandas turns 7 into 7.0 where another row has no value. From
  2^53 on (2^24 for a float of four bytes), a float no longer holds every whole number and is no id. A number with a
  fraction is no id either; as text it is, since 7.5 may well be the fifth utterance of thread 7.
- A **parent** may be missing in several spellings (null, NA, nan, \N and others), in any case, also in brackets or
  quotes, as programs show it: (null), [NULL], <none>.

Each macro tests for the usual case by comparisons alone, of texts or of their lengths: they cost 1 to 3 ns a row, where
a function of texts (`contains`, `suffix`, a cast) costs 15 to 50, and reading a row of a corpus takes 2,000.

No macro may hold IN with more than a few constants: DuckDB makes a join of it, and rows lose their order.
"""

from typing import TYPE_CHECKING

from adc_pipeline.corpus.readers import inner_replies

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

POST, COMMENT = "t3_", "t1_"

# How pandas, R, SQL dumps and spreadsheets write a missing value as text: a parent or a time in any case, an id in
# these only, since `na` and `none` are ids of Reddit's first posts. Either may be enclosed; of Excel's ="" the sign of
# a formula is left.
NO_ID = ("", "NA", "N/A", "None", "NONE", "null", "Null", "NULL", "nan", "NaN", "NAN", "NaT", r"\N")
NOTHING = ("", "na", "n/a", "#n/a", "none", "null", "nil", "nan", "nat", r"\n", "=")
ENCLOSING = "()[]<>{}\"'"
# The longest text of which the ends are looked at.
LONGEST_NOTHING = 32
# White space, also in Python's sense, and marks without a width.
BLANKS = (
    " \t\n\r\x0b\x0c\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u200b\u2028\u2029"
    "\u202f\u205f\u3000\ufeff"
)

# How databases number what is not there, and how people and programs write that a root answers nothing. Unlike the
# above, these may be ids, which `corpus.keys` finds out.
PERHAPS_NOTHING = (
    *("0", "-1", "-", "--", "root", "Root", "ROOT", "undefined", "false", "False"),
    "00000000-0000-0000-0000-000000000000",
)


def stands_for_nothing(parent: str) -> str:
    """Return whether an expression in SQL is a parent that stands for none where no utterance has that id."""
    return "(" + " OR ".join(f"{parent} = '{word}'" for word in PERHAPS_NOTHING) + ")"


# Casting through DOUBLE costs as much as the rest of a row, so a test for a fraction or an exponent comes first; and
# DuckDB's cast to BIGINT would round 7.5 to 8.
NUMBERS = r"""
CREATE OR REPLACE TEMP MACRO is_plain(written) AS
    NOT (contains(written, '.') OR contains(written, 'e') OR contains(written, 'E'));
-- Three characters without a point are too few for a fraction.
CREATE OR REPLACE TEMP MACRO whole_number(written) AS
    CASE WHEN strlen(written) <= 3 AND NOT contains(written, '.') THEN try_cast(written AS BIGINT)
         WHEN is_plain(written) THEN try_cast(written AS BIGINT)
         WHEN try_cast(written AS DOUBLE) = floor(try_cast(written AS DOUBLE))
             THEN try_cast(try_cast(written AS DOUBLE) AS BIGINT) END;
-- A score as a page shows it: what it counts behind it, thousands parted, a true minus sign, or only its first digits.
CREATE OR REPLACE TEMP MACRO shown_score(written) AS regexp_replace(regexp_replace(
    replace(lower(written), chr(8722), '-'),
    '^[\s\x{a0}]+|[\s\x{a0}]*(?:(?:point|pt|vote|upvote|like)s?)?[\s\x{a0}]*$', '', 'g'),
    '(\d)[ ''\x{2019}\x{a0}\x{2009}\x{202f}](\d{3})', '\1,\2', 'g');
CREATE OR REPLACE TEMP MACRO shown_number(shown) AS
    CASE WHEN regexp_full_match(shown, '[+-]?\d{1,3}(,\d{3})+(\.0*)?') THEN whole_number(replace(shown, ',', ''))
         WHEN regexp_full_match(shown, '[+-]?\d+(,0{1,2})?') THEN whole_number(regexp_extract(shown, '[+-]?\d+'))
         WHEN regexp_full_match(shown, '[+-]?\d+([.,]\d{1,3})? ?[km]')
             THEN CAST(round(try_cast(replace(regexp_extract(shown, '[^ km]+'), ',', '.') AS DECIMAL(18, 3))
                 * CASE WHEN suffix(shown, 'k') THEN 1000 ELSE 1000000 END) AS BIGINT) END;
-- Nearly all scores are whole numbers as they stand.
CREATE OR REPLACE TEMP MACRO score_number(written) AS coalesce(whole_number(written),
    CASE WHEN written IS NOT NULL
             THEN list_transform([shown_score(written)], lambda shown: shown_number(shown))[1] END);
-- Programs that keep what is missing among numbers write true and false as 1.0 and 0.0, and spreadsheets write them in
-- the language of their menus.
CREATE OR REPLACE TEMP MACRO truth(written) AS coalesce(try_cast(written AS BOOLEAN), whole_number(written) <> 0,
    CASE WHEN written IS NOT NULL THEN
        CASE WHEN list_contains(['wahr', 'vrai', 'verdadero', 'verdadeiro', 'vero', 'waar', 'prawda', 'истина'],
                 lower(written)) THEN true
             WHEN list_contains(['falsch', 'faux', 'falso', 'onwaar', 'fałsz', 'ложь'], lower(written)) THEN false END
    END);
-- A mark such as moderator; what stands for none is none.
CREATE OR REPLACE TEMP MACRO mark(written) AS
    CASE WHEN written IS NOT NULL AND NOT is_nothing(written) AND coalesce(truth(written), true) THEN written END;
-- Whether the points in a column of texts part thousands (1.000 or 1.234): all of them may, and some numbers have none,
-- which a program would write as 12.000 beside the fraction 1.000.
CREATE OR REPLACE TEMP MACRO thousands_by_points(written) AS
    bool_and(NOT contains(written, '.') OR regexp_full_match(written, '\s*[+-]?[1-9]\d{0,2}(\.\d{3})+\s*'))
        AND bool_or(regexp_full_match(written, '\s*[+-]?\d+\s*')) AND bool_or(contains(written, '.'));
"""

# Seconds reach to the year 5138; milliseconds begin in 1973. Counts from another year than 1970 are told by their size,
# too, for the years 1970 to 2099: microseconds from 1601 (WebKit), and tenths of them from 1601 (Windows' FILETIME) and
# from the year 1 (.NET's ticks). As counts from 1970 they would be of 2339 or later, of 1973 and 1974, and of 1990.
TIMES = r"""
SET TimeZone = 'UTC';
CREATE OR REPLACE TEMP MACRO whole_units(number, unit) AS (number - ((number % unit) + unit) % unit) // unit;
CREATE OR REPLACE TEMP MACRO number_seconds(number) AS
    CASE WHEN number BETWEEN -99999999999 AND 99999999999 THEN number
         WHEN number BETWEEN -99999999999999 AND 99999999999999 THEN whole_units(number, 1000)
         WHEN number BETWEEN 11644473600000000 AND 15746918400000000
             THEN whole_units(number, 1000000) - 11644473600
         WHEN number BETWEEN 116444736000000000 AND 157469184000000000
             THEN whole_units(number, 10000000) - 11644473600
         WHEN number BETWEEN 621355968000000000 AND 662380416000000000
             THEN whole_units(number, 10000000) - 62135596800
         WHEN number BETWEEN -99999999999999999 AND 99999999999999999 THEN whole_units(number, 1000000)
         ELSE whole_units(number, 1000000000) END;
CREATE OR REPLACE TEMP MACRO date_parts(written) AS regexp_extract(written,
    '^\s*(\d{4})[-/](\d{1,2})[-/](\d{1,2})(?:[Tt ]\s*(\d{1,2}:\d{2}(?::\d{2})?)(?:[.,]\d+)?)?\s*'
        || '(?:Z|z|UTC|GMT|([+-])([01]\d|2[0-3])(?::?([0-5]\d))?)?\s*$',
    ['year', 'month', 'day', 'clock', 'sign', 'hours', 'minutes']);
CREATE OR REPLACE TEMP MACRO parts_seconds(parts) AS
    epoch(try_cast(concat(parts.year, '-', parts.month, '-', parts.day, ' ',
            coalesce(nullif(replace(parts.clock, ':60', ':59'), ''), '00:00')) AS TIMESTAMP))
        - CASE parts.sign WHEN '+' THEN 60 WHEN '-' THEN -60 ELSE 0 END
            * (60 * coalesce(try_cast(parts.hours AS BIGINT), 0) + coalesce(try_cast(parts.minutes AS BIGINT), 0));
-- Dates as people, e-mails and C's ctime write them: the English name of the month or the year first, a clock of 12 or
-- 24 hours, the zones that RFC 2822 names. Other names of zones mean several (IST, BST), and so do numbers in another
-- order.
CREATE OR REPLACE TEMP MACRO tidied(written) AS regexp_replace(
    lower(trim(replace(regexp_replace(written, '[\s\x{a0}\x{202f}]+', ' ', 'g'), chr(8722), '-'))),
    '^(mon|tue|wed|thu|fri|sat|sun)[a-z]*[.,]? ', '');
CREATE OR REPLACE TEMP MACRO year_first(tidy) AS regexp_replace(regexp_replace(regexp_replace(tidy,
    '^([a-z]{3} \d{1,2}) (\d{1,2}:[\d:]+(?: ?[+-][\d:]+| [a-z]+)?) (\d{4})$', '\1 \3 \2'),
    '^([a-z]{3,9}\.?) (\d{1,2})(?:st|nd|rd|th)?,? (\d{4})', '\2 \1 \3'),
    '^(\d{1,2})(?:st|nd|rd|th)?[-. ]+([a-z]{3,9})[-., ]+(\d{4})', '\3-\2-\1');
CREATE OR REPLACE TEMP MACRO spelled_parts(tidy) AS regexp_extract(tidy,
    '^(\d{4})[-/.](\d{1,2}|jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?'
        || '|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)[-/.](\d{1,2})'
        || '(?:(?:[t ]|, ?|,? at )(\d{1,2})(:\d{2}(?::\d{2})?)(?:[.,]\d+)?(?: ?([ap])\.?m\.?)?)?'
        || '(?:(?: ?\[?(z|utc?|gmt|[ecmp][sd]t)\]?| ?(?:utc|gmt)?([+-])([01]?\d|2[0-3])(?::?([0-5]\d))?)'
        || '(?: [a-z]{1,5}| ?\[[^\]]*\]| ?\([^()]*\))?)?$',
    ['year', 'month', 'day', 'hour', 'minute', 'half', 'zone', 'sign', 'hours', 'minutes']);
CREATE OR REPLACE TEMP MACRO spelled_month(month) AS coalesce(try_cast(month AS BIGINT),
    (position(left(month, 3) IN 'janfebmaraprmayjunjulaugsepoctnovdec') + 2) // 3);
CREATE OR REPLACE TEMP MACRO spelled_hour(hour, half) AS
    CASE WHEN half = '' THEN coalesce(nullif(hour, ''), '00:00')
         WHEN CAST(hour AS BIGINT) BETWEEN 1 AND 12
             THEN CAST(CAST(hour AS BIGINT) % 12 + CASE half WHEN 'p' THEN 12 ELSE 0 END AS VARCHAR) END;
CREATE OR REPLACE TEMP MACRO spelled_seconds(parts) AS
    epoch(try_cast(concat(parts.year, '-', spelled_month(parts.month), '-', parts.day, ' ',
            spelled_hour(parts.hour, parts.half), replace(parts.minute, ':60', ':59')) AS TIMESTAMP))
        - CASE WHEN substr(parts.zone, 2) IN ('st', 'dt')
                   THEN 3600 * (CASE parts.zone[2] WHEN 'd' THEN 1 ELSE 0 END - 4 - position(parts.zone[1] IN 'ecmp'))
               ELSE CASE parts.sign WHEN '+' THEN 60 WHEN '-' THEN -60 ELSE 0 END
                   * (60 * coalesce(try_cast(parts.hours AS BIGINT), 0)
                       + coalesce(try_cast(parts.minutes AS BIGINT), 0)) END;
-- DuckDB writes an argument out wherever a macro uses it, and planning a statement with seven copies of the pattern
-- took 0.04 s. A lambda takes it once.
CREATE OR REPLACE TEMP MACRO date_seconds(written) AS coalesce(
    list_transform([date_parts(written)], lambda parts: parts_seconds(parts))[1],
    -- ASP.NET's JSON: the offset is that of the writer, and does not change the moment.
    floor(try_cast(regexp_extract(written, '^\s*/Date\((-?\d+)(?:[+-]\d{4})?\)/\s*$', 1) AS BIGINT) / 1000),
    -- The commonest dates for people, in a third of the time, and dates without separators. Those with an offset are
    -- apart: in one list, DuckDB 2.0.1 gives the offset of the row before to a date that has none.
    epoch(try_strptime(written, ['%a, %d %b %Y %H:%M:%S GMT', '%Y%m%dT%H%M%SZ', '%Y%m%dT%H%M%S', '%Y%m%dT%H%M',
        '%Y%m%d%H%M%SZ', '%Y%m%d %H:%M:%S'])),
    epoch(try_strptime(written, ['%a, %d %b %Y %H:%M:%S %z', '%a %b %d %H:%M:%S %z %Y', '%Y%m%dT%H%M%S%z'])),
    list_transform([spelled_parts(year_first(tidied(written)))], lambda parts: spelled_seconds(parts))[1]);
CREATE OR REPLACE TEMP MACRO any_seconds(written) AS coalesce(
    try_cast(list_transform([CASE WHEN is_plain(written) THEN CAST(try_cast(written AS BIGINT) AS HUGEINT)
        ELSE try_cast(floor(try_cast(written AS DOUBLE)) AS HUGEINT) END], lambda number: number_seconds(number))[1]
        AS BIGINT),
    try_cast(date_seconds(written) AS BIGINT));
-- The time that ten characters name, from 2001 to 2137; null for any other. A number so large has no fraction in ten
-- characters, even with a point and an exponent. Nearly all rows need no other macro.
CREATE OR REPLACE TEMP MACRO ten_digits(written) AS
    CASE WHEN strlen(written) = 10
             THEN try_cast(try_cast(written AS BIGINT) - 1000000000 AS UINTEGER) + CAST(1000000000 AS BIGINT) END;
-- Eight, twelve or fourteen digits that are a day of the calendar from 1970 to 2099, such as 20200913183332.
CREATE OR REPLACE TEMP MACRO compact_seconds(written) AS
    CASE WHEN (strlen(written) = 8 OR strlen(written) = 12 OR strlen(written) = 14) AND written BETWEEN '1970' AND '21'
             AND regexp_full_match(written, '\d+')
             THEN try_cast(epoch(try_strptime(written, ['%Y%m%d', '%Y%m%d%H%M', '%Y%m%d%H%M%S'])) AS BIGINT) END;
CREATE OR REPLACE TEMP MACRO seconds(written) AS coalesce(ten_digits(written), compact_seconds(written),
    CASE WHEN strlen(written) <= 11 AND NOT (contains(written, '.') OR contains(written, '-') OR contains(written, '/')
            OR contains(written, ' ') OR contains(lower(written), 'e'))
             THEN try_cast(written AS BIGINT)
         WHEN written IS NOT NULL THEN any_seconds(written) END);
-- A time that was read as a number: what `seconds` gives for the same number as text, or an error, where its size does
-- not show at once that it counts seconds. Reading and testing a number takes a third of what its text takes.
CREATE OR REPLACE TEMP MACRO counted_seconds(number) AS
    CASE WHEN number BETWEEN 1000000000 AND 5294967295 THEN CAST(floor(number) AS BIGINT)
         WHEN number IS NOT NULL THEN error('a number that may not count seconds') END;
-- `after` (seconds) is the least time of the recording, or how long after the writing it was.
CREATE OR REPLACE TEMP MACRO recorded(created, recording, after) AS
    CASE WHEN recording > 0 THEN recording
         WHEN after IS NOT NULL THEN after + CASE WHEN after < created THEN created ELSE 0 END END;
"""

IDS = r"""
-- Whether a text begins with one of "#'(<=[ or a sign beside these, and whether it has white space around it, or a sign
-- beyond ASCII at an end.
CREATE OR REPLACE TEMP MACRO may_be_enclosed(written) AS
    (written >= '"' AND written < '*') OR (written >= '<' AND written < '>') OR (written >= '[' AND written < '\')
        OR (written >= '{' AND written < '|');
CREATE OR REPLACE TEMP MACRO is_padded(written) AS
    (written < '!' OR written > '~' OR written[-1] NOT BETWEEN '!' AND '~');
CREATE OR REPLACE TEMP MACRO is_nothing(written) AS
    CASE WHEN written IS NULL THEN true
         WHEN strlen(written) > {longest} AND (strlen(written) > {longest_enclosed}
                 OR NOT (written < '0' OR may_be_enclosed(written) OR is_padded(written))) THEN false
         ELSE list_contains([{nothing}], lower(trim(written, {blanks} || {enclosing}))) END;
CREATE OR REPLACE TEMP MACRO is_no_id(written) AS
    CASE WHEN written IS NULL THEN true WHEN may_be_enclosed(written) THEN is_nothing(written)
         WHEN strlen(written) > {longest} THEN false
         ELSE list_contains([{no_id}], trim(written, {blanks})) END;
CREATE OR REPLACE TEMP MACRO is_unreadable(value, written) AS
    CASE WHEN value IS NULL THEN CASE WHEN NOT is_nothing(written) THEN true END END;
CREATE OR REPLACE TEMP MACRO number_id(written) AS
    CASE WHEN is_plain(written) AND try_cast(written AS HUGEINT) IS NOT NULL THEN written
         WHEN abs(try_cast(written AS DOUBLE)) < 9007199254740992
             AND try_cast(written AS DOUBLE) = floor(try_cast(written AS DOUBLE))
             THEN CAST(CAST(try_cast(written AS DOUBLE) AS BIGINT) AS VARCHAR) END;
-- A float of four bytes holds every whole number up to 2^24.
CREATE OR REPLACE TEMP MACRO short_number_id(written) AS
    CASE WHEN abs(try_cast(written AS DOUBLE)) < 16777216 THEN number_id(written) END;
-- Of a number of twelve digits or more, Excel shows the first six, which several ids may share: 1.23457E+12, or with a
-- comma where decimals have one.
CREATE OR REPLACE TEMP MACRO bare_id(written) AS
    CASE WHEN (contains(written, '.') OR contains(written, '+'))
             AND regexp_full_match(written, '-?\d+(\.(0*|\d+[eE]\+?\d+)|(,\d+)?[eE]\+\d+)')
             THEN CASE WHEN NOT regexp_full_match(written, '\d(\.\d{1,5})?E\+(1[1-9]|[2-9]\d)')
                           THEN number_id(written) END
         ELSE nullif(written, '') END;
-- Few ids have white space around them, and the others cost no copy. A tab beside digits makes Excel keep them as they
-- are.
CREATE OR REPLACE TEMP MACRO without_spaces(written) AS
    CASE WHEN is_padded(written) THEN trim(written, {blanks}) ELSE written END;
-- Excel's formula for digits that are to stay a text: ="001". '#' follows the quotation mark.
CREATE OR REPLACE TEMP MACRO other_text(written) AS
    CASE WHEN written >= '="' AND written < '=#' THEN nullif(regexp_replace(written, '^="([^"]*)"$', '\1'), '')
         ELSE written END;
-- What is empty or begins with a space, a sign or a digit sorts before a colon. Anything else is no number. The
-- argument of `bare_id` is written out many times, so that it is a column, or taken once by a lambda.
CREATE OR REPLACE TEMP MACRO text_id(written) AS
    CASE WHEN is_padded(written)
             THEN list_transform([trim(written, {blanks})],
                 lambda trimmed: CASE WHEN trimmed < ':' THEN bare_id(trimmed) ELSE other_text(trimmed) END)[1]
         WHEN written < ':' THEN bare_id(written) ELSE other_text(written) END;
-- A parent that is no id stays as it is written: its row is no root, but answers something that is not there.
CREATE OR REPLACE TEMP MACRO text_parent(written) AS
    CASE WHEN is_padded(written) OR (written < ':' AND (contains(written, '.') OR contains(written, '+')))
             THEN coalesce(text_id(written), nullif(trim(written, {blanks}), ''))
         ELSE other_text(written) END;
-- Texts and ids that a file declares as bytes, such as a UUID's.
CREATE OR REPLACE TEMP MACRO text_of_bytes(content) AS coalesce(TRY(decode(content)), lower(hex(content)));
CREATE OR REPLACE TEMP MACRO json_text(value) AS
    CASE WHEN starts_with(value, '"') THEN value ->> '$' ELSE CAST(value AS VARCHAR) END;
-- Reddit's names of things: t1_ comment, t2_ account, t3_ post, t4_ message, t5_ subreddit, t6_ award.
CREATE OR REPLACE TEMP MACRO kind_of(name) AS
    CASE WHEN prefix(name, 't1_') THEN 't1_' WHEN prefix(name, 't3_') THEN 't3_'
         WHEN prefix(name, 't') AND substr(name, 2, 2) BETWEEN '1_' AND '6_' AND substr(name, 3, 1) = '_'
             THEN left(name, 3) END;
CREATE OR REPLACE TEMP MACRO without_kind(name) AS
    nullif(CASE WHEN prefix(name, 't1_') OR prefix(name, 't3_') THEN substr(name, 4) ELSE name END, '');
"""


def create_macros(connection: "DuckDBPyConnection") -> None:
    """Create the macros for the life of the connection."""
    connection.execute(NUMBERS)
    connection.execute(TIMES)
    ids = IDS.replace("{longest}", str(max(map(len, NOTHING)))).replace("{longest_enclosed}", str(LONGEST_NOTHING))
    texts = {"nothing": NOTHING, "no_id": NO_ID, "blanks": [BLANKS], "enclosing": [ENCLOSING]}
    for name, words in texts.items():
        ids = ids.replace(f"{{{name}}}", ", ".join("'" + word.replace("'", "''") + "'" for word in words))
    connection.execute(ids)
    connection.execute(inner_replies.MACROS)
