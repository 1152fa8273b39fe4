"""Hide secrets in texts that people read: sentences of errors, log lines, stack traces.

Libraries put addresses and headers into their errors as they are. Hidden wherever they stand: of an address the user,
the password and the query; parameters, headers and tokens whose name or shape tells that they are secret; and what an
environment variable holds whose name says that it is a secret, as `HF_TOKEN`, or the password in an address that a
variable holds, as in `HTTPS_PROXY`. Anything else cannot be recognised. Costs 0.1 ms a text.
"""

import os
import re
from collections.abc import Iterator
from functools import cache
from urllib.parse import quote, unquote

HIDDEN = "..."
# What sentences themselves give as an example.
EXAMPLES = ("user", "USER:PASSWORD", "HOST:PORT")
SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*://"
# An address in quotes may hold spaces; any other ends before the punctuation of a sentence.
QUOTED = re.compile(rf"(?P<quote>['\"`])(?P<scheme>{SCHEME})(?P<rest>.*?)(?=(?P=quote))", re.DOTALL)
PLAIN = re.compile(rf"(?P<scheme>{SCHEME})(?P<rest>[^\s'\"`<>]*[^\s'\"`<>.,:;)\]}}?])")
# Schemes but those of models and paths, in which an @ may stand.
OF_A_NETWORK = r"(?!(?:models|runs|file|sqlite|mlflow-artifacts|dbfs):)[A-Za-z][A-Za-z0-9+.-]{0,30}"
# A folder of a partitioned table, such as `token=7`.
PARTITION = re.compile(r"(?<=/)[\w.-]{1,100}=[^/?#&;@]*(?=/|$)")
WITH_USER = re.compile(rf"{SCHEME}(?P<user>\S+)@\S+")
# Names of parameters, keywords and arguments; not those of a vocabulary's tokens, whose values are such as <pad>.
KEYWORDS = ("token", "passwd", "password", "pwd", "secret", "signature", "sig", "credential", "key")
NAME = (
    r"(?:[\w-]{1,40}[_-])?"
    r"(?:token|passwd|password|pwd|secret|signature|sig|credential|(?:account|api|access|private|secret|shared)[_-]?key)"
)
# What libraries write of secrets that are no address of their own: words of which a text has one, and the pattern, of
# whose match the groups stay. Lengths are limited, so that a long line costs time in proportion.
FORMS = [
    (words, re.compile(pattern, re.IGNORECASE))
    for words, pattern in (
        (KEYWORDS, rf"(\b{NAME}\s?=\s?['\"]?)[^\s&;,'\"()<\[]+"),
        (KEYWORDS, rf"(['\"]{NAME}['\"]\s?:\s?['\"])[^'\"<\[]+"),
        (("authorization",), r"(\bauthorization['\"]?\s?[:=]\s?['\"]?(?:(?:bearer|basic|digest|token)\s)?)[^\s'\",]+"),
        (("cookie",), r"(\b(?:set-)?cookie['\"]?\s?:\s?['\"]?)[^'\"\n]+"),
        # urllib3 names an address without its host.
        (("with url: ",), r"(\bwith url: [^\s?]{0,2000}\?)[^\s)]+"),
        # libpq, of a password with an @.
        (("host name ", "server at "), r"(\b(?:host name|server at) ['\"])[^'\"\s]{0,200}(@)"),
        # User and password in an address with other signs than //, or behind a space in it.
        (("@",), r"((?<![\w:])[\w.+-]{1,100}:)(?!PASSWORD@)[^\s@/'\"`]{1,200}(@)(?=[\w\[])"),
        # One of the two alone, behind a misspelt or a missing scheme; not in names of models, nor in paths.
        (("/",), rf"((?<![\w:/\\])(?:{OF_A_NETWORK}:/|//))(?!user@)[^\s@/\\'\"`]{{1,200}}(@)(?=[\w\[])"),
        # The query of an address without a scheme.
        (("?",), rf"((?<![^\s'\"`(])(?!{SCHEME})[^\s?#'\"`(]{{1,2000}}\?)[\w.~%-]{{1,100}}=[^\s'\"`)]+"),
        (("%40",), r"(%3A%2F%2F)[^\s%]{0,200}(?:%(?!40)[^\s%]{0,200}){0,20}(%40)"),
        # Tokens of Hugging Face, GitHub, GitLab, AWS, Slack, OpenAI and those who copy its form, Anthropic, Google and
        # Databricks, and JSON web tokens.
        (("hf_",), r"()\bhf_\w{30,}"),
        (("gh", "glpat-"), r"()\b(?:gh[opsur]_\w{30,}|github_pat_\w{30,}|glpat-[\w-]{20,})"),
        (("akia", "asia"), r"()\b(?:AKIA|ASIA)[0-9A-Z]{16}"),
        (("xox",), r"()\bxox[abeprs]-[\w-]{10,}"),
        (("sk-",), r"()\bsk-(?:[a-z0-9]{40,}|(?:proj|svcacct|admin|ant|or)-[\w-]{24,})"),
        (("aiza",), r"()\bAIza[\w-]{35}"),
        (("dapi",), r"()\bdapi[0-9a-f]{32}(?:-\d)?"),
        (("eyj",), r"()\beyJ[\w-]{10,2000}\.[\w-]{10,}\.[\w-]*"),
    )
]
NAMES = re.compile(
    r"TOKEN|PASSW|PASSPHRASE|SECRET|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|CONNECTION_?STRING|COOKIE|WEBHOOK"
    r"|_(?:KEY|PASS|PWD|PAT|AUTH|DSN)$",
    re.IGNORECASE,
)
# Variables that name a place.
PLACES = re.compile(r"_(PATH|FILE|DIR|URI_FILE)$", re.IGNORECASE)
# A shorter value is a word of its own somewhere.
SHORTEST = 8


def masked(text: str) -> str:
    """Return a text with `...` in place of every secret."""
    for secret in secrets():
        text = text.replace(secret, HIDDEN)
    return masked_by_form(text)


def masked_by_form(text: str) -> str:
    """Return a text with `...` in place of what looks like a secret, whatever the environment holds."""
    if "://" in text:
        text = QUOTED.sub(lambda found: found["quote"] + without_credentials(found["scheme"], found["rest"]), text)
        text = PLAIN.sub(lambda found: without_credentials(found["scheme"], found["rest"]), text)
    lower = text.lower()
    for words, form in FORMS:
        if any(word in lower for word in words):
            text = form.sub(lambda found: HIDDEN.join([*found.groups(), ""][:2]), text)
    return text


def has_credentials(text: str) -> bool:
    """Return whether a text holds anything that looks like a secret, such as an address with a user or a query.

    What a sentence would hide is what no setting accepts and no history keeps, however the address is spelt.
    """
    text = PARTITION.sub("", text)
    return masked_by_form(text) != text


def without_credentials(scheme: str, rest: str) -> str:
    """Return an address without user, password and query; `scheme` ends in `://`.

    A part whose limits are not certain is hidden: a password may hold any character, written as it is.
    """
    user, at, host = rest.rpartition("@")
    if rest.startswith("/") and scheme.lower().startswith(("file", "sqlite")):
        # A path, as of a home that has the user's whole name.
        pass
    elif at and user not in EXAMPLES:
        rest = f"{HIDDEN}@{host}"
    else:
        server = re.split("[/?#]", rest, maxsplit=1)[0]
        name, colon, port = server.rpartition(":")
        # A password whose address was cut off before the @; brackets are those of IPv6.
        if colon and not at and not port.isdigit() and "[" not in server and server not in EXAMPLES:
            rest = f"{name}:{HIDDEN}"
    before, _, query = rest.partition("?")
    # What follows # is not sent to a server: MLflow's pages are named by it.
    return scheme + (f"{before}?{HIDDEN}" if query and "#" not in before else rest)


def secrets() -> Iterator[str]:
    """Yield what is secret in the environment, in the spellings in which errors have it, longest first."""
    found: set[str] = set()
    for name, value in os.environ.items():
        if "@" in value and (found_address := WITH_USER.fullmatch(value.strip())):
            value = found_address["user"].partition(":")[2]
        elif not is_secret(name):
            continue
        # A line break within a header is what such an error is about.
        for part in (value, *value.split()):
            found |= {part, unquote(part), quote(part, safe="")}
    yield from sorted((each for each in found if len(each) >= SHORTEST), key=len, reverse=True)


@cache
def is_secret(variable: str) -> bool:
    """Return whether the name of an environment variable says that it holds a secret."""
    return bool(NAMES.search(variable)) and not PLACES.search(variable)
