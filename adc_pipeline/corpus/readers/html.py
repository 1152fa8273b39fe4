"""Turn the HTML of a post into plain text: paragraphs, line breaks and code stay, tags go, list items get a dash.

Written for what forums publish, which is cleaned and well formed.
"""

import re
from html import unescape

PRE = re.compile(r"(?is)(<pre\b.*?</pre\s*>)")
TAG = re.compile(r"(?s)<!--.*?-->|</?([a-zA-Z][a-zA-Z0-9]*)\b[^<>]*>")
SPACE = re.compile(r"\s+")
BLOCKS = ("p", "div", "pre", "blockquote", "ul", "ol", "table", "tr", "h1", "h2", "h3", "h4", "h5", "h6", "hr")
MARKS = {**dict.fromkeys(BLOCKS, "\n\n"), "br": "\n", "td": " ", "th": " "}


def html_to_text(html: str) -> str:
    """Return the text of an HTML fragment; a text without markup stays as it is."""
    if "<" not in html:
        return unescape(html)
    pieces = PRE.split(html)
    pieces[::2] = [SPACE.sub(" ", piece) for piece in pieces[::2]]
    text = TAG.sub(_mark, "".join(pieces))
    lines = [line.rstrip() for line in text.split("\n")]
    return unescape(re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip())


def _mark(tag: re.Match[str]) -> str:
    name = (tag[1] or "").lower()
    if name == "li":
        return "" if tag[0].startswith("</") else "\n- "
    return MARKS.get(name, "")
