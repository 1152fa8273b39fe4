"""A slow, obvious reference implementation of reading, ranking and the walks.

It follows the specification from top to bottom: how ids and times are written, which utterances take part, how siblings
are ranked, which path a walk takes, how its text is written, and last what the published generator does. It shares only
the settings classes with the pipeline; markers, coins and splits are implemented again. The path from every utterance
to its root is followed separately, which is quadratic in the depth of a thread, but simple: 13,720 utterances (24 deep)
take 1.2 s of CPU to load and 0.5 s for the walks.

Utterances are loaded through `convokit.Corpus`, which loses information. Of several rows with the same id it keeps the
last, so duplicates are tested without the oracle. On loading it moves a reply into its parent's conversation, so
conversation ids and titles are read from the files.
"""

import hashlib
import json
import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import convokit

    from adc_pipeline.ranking.settings import RankingSettings
    from adc_pipeline.walks.settings import WalkSettings

Kind = str
Row = dict[str, Any]

MARKERS = {
    "default": {"background": "<background>", "rejected": "<rejected>", "accepted": "<accepted>"},
    "released": {
        "background": "<BACKGROUND_INDEX_TOKEN>",
        "rejected": "<REJECTED_UTTERANCE>",
        "accepted": "<SELECTED_UTTERANCE>",
    },
}


@dataclass(frozen=True)
class Utterance:
    """A post or comment; `timestamp` is in seconds, `position` is the line in the source, from 0."""

    id: str
    conversation_id: str
    reply_to: str | None
    speaker: str
    text: str
    timestamp: int
    score: int | None
    position: int
    title: str
    source: str
    stickied: bool
    score_hidden: bool
    recorded_at: int | None = None


class Fault(NamedTuple):
    """Why an utterance is not used, and which of its ancestors is the cause (None: the utterance itself)."""

    reason: str
    because_of: str | None


# --- Reading ------------------------------------------------------------------------------------------


def decoded(text: str) -> str:
    """Return the text with each of five HTML entities replaced by its character, in one pass."""
    entities = {"&lt;": "<", "&gt;": ">", "&quot;": '"', "&#39;": "'", "&amp;": "&"}
    return re.sub("|".join(entities), lambda entity: entities[entity[0]], text)


SPACES = "".join(sign for sign in map(chr, range(0x3001)) if unicodedata.category(sign) in ("Zs", "Zl", "Zp"))
BLANKS = SPACES + "\t\n\r\x0b\x0c\x85\N{ZERO WIDTH SPACE}\N{BYTE ORDER MARK}"
NOTHING = ("", "na", "n/a", "#n/a", "none", "null", "nil", "nan", "nat", r"\n", "=")


def is_nothing(written: str) -> bool:
    """Whether a text stands for a missing value, with white space, brackets or quotes around it."""
    size = len(written.encode())
    whole = written[:1] >= "0" and written[:1] not in "<=[\\{" and written == without_spaces(written)
    return (size <= 4 or (size <= 32 and not whole)) and written.strip(BLANKS + "()[]<>{}\"'").lower() in NOTHING


def without_spaces(written: str) -> str:
    """An id without white space around it."""
    return written.strip(BLANKS)


def identifier(written: str | None) -> str | None:
    """An id as text: 7.0 is 7 as long as a float holds every whole number, any other text is itself.

    Of a number of twelve digits or more, Excel shows the first six, which is no id; with a comma nothing is one of
    what it shows so. It writes ="001" for a text.
    """
    if written and (quoted := re.fullmatch('="([^"]*)"', written)):
        return quoted[1] or None
    written = written and without_spaces(written)
    if written and re.fullmatch(r"-?\d+(\.(0*|\d+[eE]\+?\d+)|(,\d+)?[eE]\+\d+)", written, re.ASCII):
        if "," in written:
            return None
        number = float(written)
        if re.fullmatch(r"\d(\.\d{1,5})?E\+\d{2}", written) and number >= 1e11:
            return None
        return str(int(number)) if abs(number) < 2**53 and number == int(number) else None
    return written or None


def parent(written: str | None, id: str, conversation_id: str) -> str | None:
    """What an utterance answers: nothing if that is written so, or if it is the utterance itself."""
    if written is None or (is_nothing(written) and without_spaces(written) != conversation_id):
        return None
    answered = identifier(written) or without_spaces(written) or None
    return None if answered == id else answered


def compact(written: str) -> datetime | None:
    """The date from 1970 to 2099 that 8, 12 or 14 digits name; None if they name none."""
    form = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}.get(len(written))
    if not form or not (written.isascii() and written.isdigit() and "1970" <= written < "21"):
        return None
    try:
        return datetime.strptime(written, form).replace(tzinfo=UTC)
    except ValueError:
        return None


def seconds(written: str) -> int | None:
    """A time in seconds since 1970, UTC: a number of any unit, told by its size, or a date; None if it is neither."""
    if moment := compact(written):
        return int(moment.timestamp())
    try:
        number = Fraction(written.strip())
    except ValueError:
        return date_seconds(written.strip())
    for unit, year in ((10**6, 1601), (10**7, 1601), (10**7, 1)):
        # Counts from another year, where they name one from 1970 to 2099.
        begin = int((datetime(1970, 1, 1) - datetime(year, 1, 1)).total_seconds())
        end = int((datetime(2100, 1, 1) - datetime(year, 1, 1)).total_seconds())
        if begin * unit <= number <= end * unit:
            return math.floor(number / unit) - begin
    for unit, least in ((10**9, 10**17), (10**6, 10**14), (1000, 10**11)):
        if abs(number) >= least:
            return math.floor(number / unit)
    return math.floor(number)


def date_seconds(written: str) -> int | None:
    """Seconds of an ISO 8601 date, or one as in an e-mail; UTC where it names no zone."""
    found = re.fullmatch(
        r"(\d{4})[-/](\d\d?)[-/](\d\d?)(?:[Tt ]\s*(\d\d?):(\d\d)(?::(\d\d))?(?:[.,]\d+)?)?\s*"
        r"(?:Z|z|UTC|GMT|([+-])([01]\d|2[0-3])(?::?([0-5]\d))?)?",
        written,
    )
    if ticks := re.fullmatch(r"/Date\((-?\d+)([+-]\d{4})?\)/", written):
        return int(ticks[1]) // 1000
    try:
        if not found:
            return int(parsedate_to_datetime(written).timestamp())
        year, month, day, hour, minute, second = (int(part or 0) for part in found.group(1, 2, 3, 4, 5, 6))
        local = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    sign = {"+": 1, "-": -1, None: 0}[found[7]]
    return int(local.timestamp()) - sign * 60 * (60 * int(found[8] or 0) + int(found[9] or 0))


def load(directory: Path) -> list[Utterance]:
    """Return the utterances of a ConvoKit directory in the file's order, with HTML entities decoded."""
    import convokit

    corpus = convokit.Corpus(filename=str(directory))
    conversation_ids = {}
    for line in (directory / "utterances.jsonl").read_text("utf-8").split("\n"):
        if line:
            row = json.loads(line)
            conversation_ids[row["id"]] = row.get("conversation_id", row.get("root"))
    conversations = json.loads((directory / "conversations.json").read_text("utf-8"))
    name = corpus.meta.get("name") or directory.name

    utterances = []
    for position, utterance in enumerate(corpus.iter_utterances()):
        conversation_id = conversation_ids[utterance.id]
        conversation = conversations.get(conversation_id, {})
        conversation = conversation.get("meta", conversation)
        utterances.append(
            Utterance(
                id=utterance.id,
                conversation_id=conversation_id,
                reply_to=parent(utterance.reply_to, utterance.id, conversation_id),
                speaker=utterance.speaker.id,
                text=decoded(utterance.text),
                timestamp=utterance.timestamp,
                score=utterance.meta.get("score"),
                position=position,
                title=decoded(conversation.get("title") or ""),
                source=conversation.get("subreddit") or utterance.meta.get("subreddit") or name,
                stickied=bool(utterance.meta.get("stickied")),
                score_hidden=bool(utterance.meta.get("score_hidden")),
                recorded_at=utterance.meta.get("retrieved_on"),
            )
        )
    return utterances


# --- Taking part --------------------------------------------------------------------------------------


def by_conversation(utterances: Iterable[Utterance]) -> dict[str, dict[str, Utterance]]:
    """Return the utterances as a mapping: conversation id -> utterance id -> utterance."""
    conversations: dict[str, dict[str, Utterance]] = defaultdict(dict)
    for utterance in utterances:
        conversations[utterance.conversation_id][utterance.id] = utterance
    return conversations


def root_of(conversation: dict[str, Utterance], adopt_roots: bool = True) -> Utterance | None:
    """Return the utterance without `reply_to`; in an excerpt, the only one whose parent is outside; else None."""
    first = [u for u in conversation.values() if u.reply_to is None]
    if first:
        named = [u for u in first if u.id == u.conversation_id]
        return named[0] if named else min(first, key=lambda u: (u.timestamp, u.id))
    adopted = [u for u in conversation.values() if u.reply_to not in conversation]
    return adopted[0] if adopt_roots and len(adopted) == 1 else None


def ancestors(utterance: Utterance, conversation: dict[str, Utterance]) -> Iterator[Utterance]:
    """Yield the parent, its parent and so on inside the conversation; follow a loop once."""
    seen = {utterance.id}
    parent = conversation.get(utterance.reply_to or "")
    while parent is not None:
        yield parent
        if parent.id in seen:
            return
        seen.add(parent.id)
        parent = conversation.get(parent.reply_to or "")


def set_aside(utterances: list[Utterance], adopt_roots: bool = True) -> dict[str, Fault]:
    """Return a fault, by utterance id, for each utterance that cannot be reached from its conversation's root."""
    everywhere = {u.id for u in utterances}
    faults: dict[str, Fault] = {}
    for conversation in by_conversation(utterances).values():
        root = root_of(conversation, adopt_roots)
        own: dict[str, str] = {}
        for utterance in conversation.values():
            if utterance is root:
                continue
            if utterance.reply_to is None:
                own[utterance.id] = "second_root"
            elif utterance.score is None:
                own[utterance.id] = "no_score"
            elif utterance.reply_to not in everywhere:
                own[utterance.id] = "missing_parent" if root else "root_outside"
            elif utterance.reply_to not in conversation:
                own[utterance.id] = "other_conversation"
        lost = with_subtrees(own, conversation)
        for utterance in conversation.values():
            # A loop has no single cause: its utterances and those below it have no fault of their own, but no root.
            if utterance.id not in lost and root not in [utterance, *ancestors(utterance, conversation)]:
                lost[utterance.id] = Fault("loop", None)
        faults |= lost
    return faults


def with_subtrees(own: dict[str, str], conversation: dict[str, Utterance]) -> dict[str, Fault]:
    """Return the faults of the utterances in `own` and of those below them, caused by their nearest faulty ancestor."""
    faults = {}
    for utterance in conversation.values():
        if utterance.id in own:
            faults[utterance.id] = Fault(own[utterance.id], None)
            continue
        for ancestor in ancestors(utterance, conversation):
            if ancestor.id in own:
                faults[utterance.id] = Fault(own[ancestor.id], ancestor.id)
                break
    return faults


# --- Ranking ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ranking:
    """Roots, replies by parent id (best first), dropped utterances, utterances set aside, and those that take part."""

    roots: list[Utterance]
    replies: dict[str, list[Utterance]]
    dropped: dict[str, Fault]
    set_aside: dict[str, Fault]
    taking_part: dict[str, Utterance]


def stripped(text: str) -> str:
    """Return the text without surrounding white space and without the zero-width space of Reddit's editors."""
    return text.strip("\u200b" + "".join(char for char in text if char.isspace()))


def is_note_of_removal(text: str) -> bool:
    """Return whether a text is one pair of brackets, 150 characters at most, that says what became of the text.

    Signs of emphasis around the pair do not count, nor does a stop behind it. In brackets that are not square, and with
    emphasis alone, a note is what became of what, and by whom.
    """
    bare = text.lstrip("*_~`\\").rstrip("*_~`\\.")
    if len(text) > 150 or not bare:
        return False
    for begin, end in BRACKETS:
        if bare.startswith(begin) and bare.endswith(end):
            return (begin >= "\u2000" and any(word in bare for word in OTHER_LETTERS)) or (
                begin < "\u2000" and says_only_removal(bare[len(begin) : -len(end)])
            )
    if bare[0] != "[":
        return text[0] in "*_~`\\" and text.rstrip(".")[-1] in "*_~`\\" and says_only_removal(bare)
    depth = 0
    for place, character in enumerate(bare):
        depth += {"[": 1, "]": -1}.get(character, 0)
        # Reddit's reasons hold links, and no brackets in brackets of these.
        if depth > 2 or (depth < 1 and place < len(bare) - 1):
            return False
    words = re.findall(r"\w+|[^\w\s]", bare.lower()[1:-1])
    return depth == 0 and (
        bool(set(words) & WORDS_ELSEWHERE)
        or any(word in bare.lower() for word in OTHER_LETTERS)
        or (not says_no_removal(words) and any(says_removal(words[:at], words[at:]) for at in range(len(words))))
    )


def says_no_removal(words: list[str]) -> bool:
    """Whether the words say that something was not removed."""
    behind = [words[place + 1 :] for place, word in enumerate(words) if word in ("not", "never")]
    behind += [words[1:] for words in behind if words[:1] in (["yet"], ["been"])]
    return any(words and removal_words(words) for words in behind)


def removal_words(words: list[str]) -> int:
    """How many of the first words say that something was removed."""
    if words[0] in ("deleted", "removed", "unavailable", "redacted", "withdrawn", "censored", "erased"):
        return 1
    if words[0].removesuffix("s") in NAMED_BY_SITES.split():
        between = next((place for place, word in enumerate(words[1:], 1) if word not in STATES.split()), len(words))
        if words[between : between + 1] and words[between] in SAID_BY_SITES.split():
            return between + 1
    return 2 if words[:2] == ["not", "available"] else 3 if words[:3] == ["no", "longer", "available"] else 0


def says_removal(before: list[str], words: list[str]) -> bool:
    """Whether the words say that something was removed, and then nothing, or why, or when; not who removed what."""
    length = removal_words(words)
    if not length or set(before) & set(TELLS.split()):
        return False
    for word in words[length:]:
        if word in REASONS.split() or word in ",;:.(/–—-":
            return True
        if word.removesuffix("s") not in THINGS and word not in ALONG.split() and word.isalnum():
            return False
    return True


def says_only_removal(content: str) -> bool:
    words = re.findall(r"[^\W_]+", content.lower().replace("'s", "").replace("’s", ""))
    first = next((place for place in range(len(words)) if removal_words(words[place:])), None)
    if first is None or re.search(r"[^\w\s.'’]|\.\s*\w", content):
        return False
    before, rest = words[:first], words[first + removal_words(words[first:]) :]
    if not set(before) <= THINGS | PEOPLE | set(BETWEEN.split()):
        return False
    rest = rest[1:] if rest and rest[0].removesuffix("s") in THINGS else rest
    named = [word for word in rest[1:] if word not in ("the", "a", "an")]
    return not rest or (rest[0] == "by" and len(named) == 1 and named[0].removesuffix("s") in PEOPLE)


BRACKETS = [*zip("(<{（【［〔", ")>}）】］〕", strict=True), ("&lt;", "&gt;")]
THINGS_NAMED = (
    "account answer article comment content data file image item link media message page photo picture post question"
    " reply submission text thread topic user username video"
)
PEOPLE_NAMED = "author user poster op creator owner moderator mod admin administrator staff reddit system automoderator"
THINGS, PEOPLE = set(THINGS_NAMED.split()), set(PEOPLE_NAMED.split())
NAMED_BY_SITES = "account author comment content message post profile reply submission user"
STATES = "is are was were has have been permanently temporarily currently"
SAID_BY_SITES = "suspended banned deactivated terminated hidden flagged blocked withheld moderated"
TELLS = "i me my we our you your he she if when once"
BETWEEN = "the this that was were is are has have been being permanently automatically"
ALONG = "the this that their his her own automatically permanently temporarily already now here again"
REASONS = "after and as at because by due for from in is on pending per since to under until via was with"
OTHER_LETTERS = ("удален", "удалён", "видалено", "削除", "删除", "刪除", "삭제")
WORDS_ELSEWHERE = {
    *("gelöscht", "entfernt", "supprimé", "supprimée", "supprimés", "borrado"),
    *("borrada", "borrados", "borradas", "eliminado", "eliminada", "eliminados", "eliminadas", "removido", "removida"),
    *("removidos", "removidas", "excluído", "excluída", "excluído", "excluidos", "excluido", "excluida", "excluídos"),
    *("excluídas", "excluidas", "apagado", "apagada", "apagados", "apagadas", "eliminato", "eliminata", "rimosso"),
    *("rimossa", "cancellato", "cancellata", "verwijderd", "usunięta", "usunięte", "usunięty", "silindi", "borttagen"),
    *("slettet", "poistettu"),
}


def filtered(reply: Utterance, settings: "RankingSettings") -> str | None:
    """Return the name of the first filter that drops this reply, or None."""
    assert reply.score is not None
    if settings.deleted and is_note_of_removal(stripped(reply.text)):
        return "deleted"
    if settings.empty and not stripped(reply.text):
        return "empty"
    if reply.speaker in settings.speakers:
        return "speaker"
    if settings.stickied and reply.stickied:
        return "stickied"
    if settings.score_hidden and reply.score_hidden:
        return "score_hidden"
    age = math.inf if reply.recorded_at is None else reply.recorded_at - reply.timestamp
    if settings.min_age_hours is not None and age < 3600 * settings.min_age_hours:
        return "min_age_hours"
    if settings.min_score is not None and reply.score < settings.min_score:
        return "min_score"
    return None


def ranked(siblings: list[Utterance], root: Utterance, order: str) -> list[Utterance]:
    """Return siblings in rank order, best first."""
    if order == "score":
        return sorted(siblings, key=lambda u: (-(u.score or 0), u.timestamp, u.id))
    if siblings[0].reply_to == root.id:
        return sorted(siblings, key=lambda u: (-(u.score or 0), u.position))
    return sorted(siblings, key=lambda u: u.position)


def rank(utterances: list[Utterance], settings: "RankingSettings", adopt_roots: bool = True) -> Ranking:
    """Rank the siblings of every conversation; a dropped utterance takes its subtree with it."""
    aside = set_aside(utterances, adopt_roots)
    ranking = Ranking([], {}, {}, aside, {u.id: u for u in utterances if u.id not in aside})
    for conversation in by_conversation(ranking.taking_part.values()).values():
        root = root_of(conversation)
        assert root is not None
        ranking.roots.append(root)

        sign = -1 if settings.score_order == "lower" else 1
        replies = [replace(u, score=sign * (u.score or 0)) for u in conversation.values() if u is not root]
        own = {u.id: reason for u in replies if (reason := filtered(u, settings))}
        for siblings in sibling_groups(u for u in replies if u.id not in own):
            if settings.min_score_gap is not None and gap(siblings) < settings.min_score_gap:
                own |= dict.fromkeys([u.id for u in siblings], "min_score_gap")

        dropped = with_subtrees(own, conversation)
        ranking.dropped.update(dropped)
        for siblings in sibling_groups(u for u in replies if u.id not in dropped):
            ranking.replies[siblings[0].reply_to or ""] = ranked(siblings, root, settings.order)
    return ranking


def sibling_groups(replies: Iterable[Utterance]) -> list[list[Utterance]]:
    """Return the replies grouped by parent."""
    groups = defaultdict(list)
    for reply in replies:
        groups[reply.reply_to].append(reply)
    return list(groups.values())


def gap(siblings: list[Utterance]) -> float:
    """Return the best score minus the second-best; infinity for a single reply, whose gap is never too small."""
    scores = sorted((u.score or 0 for u in siblings), reverse=True)
    return scores[0] - scores[1] if len(scores) > 1 else math.inf


# --- The walks ----------------------------------------------------------------------------------------


def coin(seed: int, kind: Kind, walk: int, utterance_id: str) -> bool:
    """Return whether MD5 of ``SEED:KIND:WALK:UTTERANCE``, as a fraction, is below 1/2 (random-walk) or 2/3 (top-2)."""
    numerator, denominator = (1, 2) if kind == "random-walk" else (2, 3)
    return int(digest(seed, kind, walk, utterance_id), 16) < 16**32 * numerator // denominator


def digest(seed: int, kind: Kind, walk: int, utterance_id: str) -> str:
    """Return MD5 of ``SEED:KIND:WALK:UTTERANCE`` in hexadecimal."""
    return hashlib.md5(f"{seed}:{kind}:{walk}:{utterance_id}".encode()).hexdigest()


class Turn(NamedTuple):
    """A shown sibling on a walk's path."""

    utterance: Utterance
    verdict: str
    rank: int
    siblings: int


def walk_down(root: Utterance, replies: dict[str, list[Utterance]], kind: Kind, seed: int, walk: int) -> list[Turn]:
    """Return the turns of one walk, from the root's replies to an utterance without replies."""
    turns = []
    current = root
    while siblings := replies.get(current.id, []):
        shown = {"top-2": top_2, "random-walk": random_walk, "ascending": ascending}[kind](
            current, siblings, seed, walk
        )
        turns += [
            Turn(u, "accepted" if u is shown[-1] else "rejected", siblings.index(u) + 1, len(siblings)) for u in shown
        ]
        current = shown[-1]
    return turns


def top_2(current: Utterance, siblings: list[Utterance], seed: int, walk: int) -> list[Utterance]:
    """Return the best reply, two times in three after the second-best; the last one is accepted."""
    if len(siblings) > 1 and coin(seed, "top-2", walk, current.id):
        return [siblings[1], siblings[0]]
    return [siblings[0]]


def random_walk(current: Utterance, siblings: list[Utterance], seed: int, walk: int) -> list[Utterance]:
    """Return siblings in rank order up to the first whose coin does not reject it, or to the last."""
    shown = []
    for sibling in siblings:
        shown.append(sibling)
        if not coin(seed, "random-walk", walk, sibling.id):
            break
    return shown


def ascending(current: Utterance, siblings: list[Utterance], seed: int, walk: int) -> list[Utterance]:
    """Return the siblings that outrank all before them in the order of their digests; the last one is the best."""
    shown: list[Utterance] = []
    for sibling in sorted(siblings, key=lambda u: digest(seed, "ascending", walk, u.id)):
        if not shown or siblings.index(sibling) < siblings.index(shown[-1]):
            shown.append(sibling)
    return shown


# --- Writing a walk -----------------------------------------------------------------------------------


def neutral(text: str, format: str) -> str:
    """Return the text with ‹word› where a user wrote a marker; the format `released` leaves texts unchanged."""
    if format == "released":
        return text
    for marker in MARKERS[format].values():
        text = text.replace(marker, f"‹{marker[1:-1]}›")
    return text


def pseudonyms(root: Utterance, conversation: Iterable[Utterance]) -> dict[str, str]:
    """Return pseudonyms by speaker: user1 for the root's, then in the order of their first utterance taking part."""
    speakers = [u.speaker for u in sorted(conversation, key=lambda u: (u.timestamp, u.id))]
    return {speaker: f"user{n}" for n, speaker in enumerate(dict.fromkeys([root.speaker, *speakers]), 1)}


def written(
    root: Utterance,
    turns: list[Turn],
    walk: int,
    conversation: dict[str, Utterance],
    settings: "WalkSettings",
) -> Row:
    """Return a record of a dataset; `conversation` has the utterances that take part."""
    markers = MARKERS[settings.format]
    names = pseudonyms(root, conversation.values())

    def speaker_of(utterance: Utterance) -> str | None:
        if settings.speakers == "none":
            return None
        if settings.speakers == "pseudonyms":
            return names[utterance.speaker]
        return neutral(utterance.speaker, settings.format)

    def speaker_line(utterance: Utterance) -> str:
        speaker = speaker_of(utterance)
        return "" if speaker is None else speaker + "\n"

    text = speaker_line(root) + neutral(root.title, settings.format) + "\n"
    text += neutral(root.text, settings.format) + markers["background"]
    records = []
    for utterance, verdict, place, siblings in turns:
        text += speaker_line(utterance)
        start = len(text)
        text += neutral(utterance.text, settings.format)
        records.append(
            {
                "utterance_id": utterance.id,
                "speaker": speaker_of(utterance),
                "verdict": verdict,
                "score": utterance.score,
                "rank": place,
                "siblings": siblings,
                "start": start,
                "end": len(text),
            }
        )
        text += markers[verdict]
    return {
        "text": text,
        "conversation_id": root.conversation_id,
        "walk": walk,
        "source": root.source,
        "turns": records,
    }


def split(conversation_id: str, shares: tuple[int, ...]) -> str:
    """Return the split: the first 32 bits of MD5 of ``split:CONVERSATION``, as a fraction, against the shares."""
    place = int(hashlib.md5(f"split:{conversation_id}".encode()).hexdigest()[:8], 16)
    train, validation, _ = shares
    if place < 16**8 * train // 100:
        return "train"
    return "validation" if place < 16**8 * (train + validation) // 100 else "test"


def walks(kind: Kind, ranking: Ranking, settings: "WalkSettings") -> dict[tuple[str, int], Row]:
    """Return records by conversation id and walk number, for every conversation with ranked replies."""
    conversations = by_conversation(ranking.taking_part.values())
    records: dict[tuple[str, int], Row] = {}
    for root in ranking.roots:
        conversation = conversations[root.conversation_id]
        earlier: set[str] = set()
        for walk in range(settings.walks_per_conversation):
            turns = walk_down(root, ranking.replies, kind, settings.seed, walk)
            if not turns:
                continue
            row = written(root, turns, walk, conversation, settings)
            if not settings.exclude_repeats or row["text"] not in earlier:
                records[root.conversation_id, walk] = row
                earlier.add(row["text"])
    return records


# --- The published generator --------------------------------------------------------------------------


def published_walk(conversation: "convokit.Conversation", kind: Kind, seed: int) -> str | None:
    """Return the text that the public datasets' generator makes of a conversation, with our coins as its randomness.

    Only the replies to the root are sorted by score, with ties in the corpus' order; deeper groups are not sorted.
    Return None if there is no root or no reply to it.
    """
    markers = MARKERS["released"]
    replies = defaultdict(list)
    root = None
    for utterance in conversation.iter_utterances():
        if utterance.reply_to is None:
            root = utterance
        else:
            replies[utterance.reply_to].append(utterance)
    if root is None or not replies[root.id]:
        return None

    text = f"{root.speaker.id}\n{conversation.meta['title']}\n{root.text}{markers['background']}"
    current, siblings = root, sorted(replies[root.id], key=lambda u: u.meta["score"], reverse=True)
    while siblings:
        if kind == "top-2":
            pair = len(siblings) > 1 and coin(seed, kind, 0, current.id)
            rejected, accepted = ([siblings[1]] if pair else []), siblings[0]
        else:
            coins = [coin(seed, kind, 0, u.id) for u in siblings[:-1]] + [False]
            rejected, accepted = siblings[: coins.index(False)], siblings[coins.index(False)]
        for utterance in rejected:
            text += f"{utterance.speaker.id}\n{utterance.text}{markers['rejected']}"
        text += f"{accepted.speaker.id}\n{accepted.text}{markers['accepted']}"
        current, siblings = accepted, replies[accepted.id]
    return text
