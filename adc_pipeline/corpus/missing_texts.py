r"""Tell texts from what stands in their place: nothing, or a note that a text was deleted, removed or is unavailable.

`corpus.pieces` asks once for each text, when it is read, and stores the answer beside the text. A stage that filters
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
    r"(?:not|no longer) available|deleted|removed|unavailable|redacted|withdrawn|censored|erased"
    # What else sites say of an account or a text; people say it of much else.
    r"|(?:account|author|comment|content|message|post|profile|reply|submission|user)s?"
    r"(?:\s+(?:is|are|was|were|has|have|been|permanently|temporarily|currently))*"
    r"\s+(?:suspended|banned|deactivated|terminated|hidden|flagged|blocked|withheld|moderated)"
)
SAID_ELSEWHERE = (
    "gelöscht", "entfernt", "supprimé(e|s|es)?", "borrad[oa]s?", "eliminad[oa]s?", "removid[oa]s?", "exclu[ií]d[oa]s?",
    "apagad[oa]s?", "suprimid[oa]s?", "eliminat[oa]?", "rimoss[oa]", "cancellat[oa]", "esborrat", "suprimat",
    "effacé(e|s|es)?", "retiré(e|s|es)?", "verwijderd", "usunięt[aeoy]", "skasowan[aeoy]", "odstraněn[aoý]?",
    "odstránen[éýá]", "smaz[aá]n[aoý]?", "vymazan[ýéoá]", "zmazan[ýéoá]", "obrisan[oa]?", "izbrisan[oa]?",
    "uklonjen[oa]?", "silindi", "silinmiş", "kaldırıldı", "borttag(en|et)", "raderad", "slettet", "fjernet",
    "poistettu", "kustutatud", "dzēsts", "ištrint[ai]s?", "törölve", "törölt", "șters", "dihapus", "dipadam",
    "(đã |bị )xóa", "gỡ bỏ",
)  # fmt: skip
SAID_IN_OTHER_LETTERS = (
    "удал[её]н", "видалено", "изтрит", "обрисано", "избрисан", "διαγρ[άα]φ", "削除", "删除", "刪除", "移除", "삭제",
    "ลบแล้ว", "ถูกลบ", "हटाया", "हटा दिया", "حذف", "محذوف", "נמחק", "הוסר",
)  # fmt: skip
# Of what it says it, and who did it.
THINGS = (
    "account|answer|article|comment|content|data|file|image|item|link|media|message|page|photo|picture|post|question"
    "|reply|submission|text|thread|topic|user|username|video"
)
PEOPLE = "author|user|poster|op|creator|owner|moderator|mod|admin|administrator|staff|reddit|system|automoderator"
# A person tells what was removed, or when, or that it was not: "I removed the lid", "when it is removed".
TELLS = (
    rf"(?i)\b(i|me|my|we|our|you|your|he|she|if|when|once)\b.*\b({SAID})\b|\b(not|never)\s+(yet\s+|been\s+)?({SAID})\b"
)
# Behind the word a note ends, or gives a reason. A text goes on: "removed the lid", "the deleted scene".
GAP = r"[^\w\[\]]"
REST = (
    rf"(?:{GAP}+(?:(?:the|this|that|their|his|her|own|{THINGS})s?|automatically|permanently|temporarily|already|now|here"
    r"|again))*"
)
REASON = (
    rf"{GAP}*(?:[,;:.(/–—-]|\b(?:after|and|as|at|because|by|due|for|from|in|is|on|pending|per|since|to|under|until|via|was"
    r"|with)\b)"
)
SIGNS = r"[*_~`\\]"
# Few of the texts that may be notes by their first sign are enclosed by any.
ENCLOSED = r"(?s)[*_~`\\(<{&\[（【［〔].*[*_~`\\)>};.\]）】］〕]"
INSIDE = r"(?:[^\[\]]|\[[^\[\]]*\])*"
BRACKETED = (
    rf"(?is){SIGNS}*\[\[?{INSIDE}\b(?:{SAID})\b{REST}(?:{REASON}{INSIDE}|[^\pL\pN\[\]]*)\]\]?{SIGNS}*\.?{SIGNS}*"
)
BRACKETED_ELSEWHERE = rf"(?s){SIGNS}*\[{INSIDE}\][*_~`.]*"
# Only words are in any case: for the classes of letters, that would take 2 ms.
WORDS_ELSEWHERE = (
    rf"(?:^|[^\pL\pM\pN_])(?i:{'|'.join(SAID_ELSEWHERE)})(?:$|[^\pL\pM\pN_])|(?i:{'|'.join(SAID_IN_OTHER_LETTERS)})"
)
# People write remarks in other brackets and with emphasis, so that there a note has no word that it need not have.
ONLY = (
    rf"\s*(?:(?:(?:the|this|that|{THINGS}|{PEOPLE})(?:['’]?s)?|was|were|is|are|has|have|been|being|permanently"
    rf"|automatically)\s+)*(?:{SAID})(?:\s+(?:{THINGS})s?)?(?:\s+by\s+(?:the\s+|an?\s+)?(?:{PEOPLE})s?)?\s*\.?\s*"
)
IN_SIGNS = rf"(?is){SIGNS}*(?:\({ONLY}\)|<{ONLY}>|&lt;{ONLY}&gt;|\{{{ONLY}\}}){SIGNS}*\.?|{SIGNS}+{ONLY}{SIGNS}+\.?"
OTHER_BRACKETS = rf"[（【［〔](?:{INSIDE})(?:{'|'.join(SAID_IN_OTHER_LETTERS)})(?:{INSIDE})[）】］〕]"

# Stripping every text would take longer than parsing it. A blank text or a note begins with a character that is not
# visible ASCII, with emphasis, a backslash or a bracket (`[`, `\` and `_` lie between `[` and a backquote), or with the
# entity of one (& to + is one range). A text that begins with a small letter takes two comparisons, one with a capital
# letter six.
MACROS = r"""
-- A note in place of a text is short, and its first bracket is closed by its last; emphasis or a stop may be around it.
-- Reddit gives reasons, with links: [ Removed by Reddit on account of violating the [content policy](/help). ]
CREATE OR REPLACE TEMP MACRO is_note_of_removal(content) AS
CASE WHEN length(content) <= 150 AND regexp_full_match(content, '{enclosed}') THEN
    regexp_full_match(content, '{bracketed}') AND NOT regexp_matches(content, '{tells}')
    OR regexp_full_match(content, '{bracketed_elsewhere}') AND regexp_matches(content, '{words_elsewhere}')
    OR regexp_full_match(content, '{in_signs}') OR regexp_full_match(content, '{other_brackets}') ELSE false END;
CREATE OR REPLACE TEMP MACRO missing_text(content) AS
CASE WHEN content >= '{'
        OR content < 'a' AND (content >= '[' OR content < '=' AND (content >= '<' OR content < ',' AND
            (content >= '&' OR content < '!'))) THEN
    CASE WHEN content = '' THEN 'empty' WHEN content IN ('[deleted]', '[removed]') THEN 'deleted'
         WHEN trim(content, getvariable('blank')) = '' THEN 'empty'
         -- 150 characters, and blanks around them.
         WHEN strlen(content) <= 700 AND is_note_of_removal(trim(content, getvariable('blank'))) THEN 'deleted' END END;
"""
PATTERNS = {
    "{enclosed}": ENCLOSED,
    "{bracketed}": BRACKETED,
    "{tells}": TELLS,
    "{bracketed_elsewhere}": BRACKETED_ELSEWHERE,
    "{words_elsewhere}": WORDS_ELSEWHERE,
    "{in_signs}": IN_SIGNS,
    "{other_brackets}": OTHER_BRACKETS,
}


def create_text_macros(connection: "DuckDBPyConnection") -> None:
    """Create, for the life of the connection, `is_note_of_removal` of a stripped text and `missing_text` of any.

    The latter is 'empty', 'deleted' or, where there is a text, null.
    """
    connection.execute("SET VARIABLE blank = $1", [BLANK])
    macros = MACROS
    for name, pattern in PATTERNS.items():
        macros = macros.replace(name, pattern.replace("'", "''"))
    connection.execute(macros)
